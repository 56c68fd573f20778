"""A process that appends until it is killed: `python -m tests.storage.appender`.

For each line `FOLDER SORT N MOST` on stdin it forks a child that appends calls to a journal in FOLDER and says
`ack ID` for each event once it is durable. The child kills itself before the N-th file operation of that SORT, a
write taking at most MOST bytes; N = 0 leaves the killing to whoever reads. Lines out: `pid P`, `ack ID`, `ended S`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.storage.journals import CLOCK, FaultyDisk, end, start
from turnout.storage import journal as journal_module
from turnout.storage.journal import Journal


def say(line: str) -> None:
    """One line in one write."""
    os.write(1, f"{line}\n".encode())


async def append_calls(folder: Path, sort: str, nth: int, most: int) -> None:
    """Append calls for ever, four at a time in flight."""
    disk = FaultyDisk()
    disk.most = most

    def fault(name: str, number: int) -> None:
        if (name, number) == (sort, nth):
            os.kill(os.getpid(), signal.SIGKILL)

    disk.fault = fault
    journal_module.FLUSH_SECONDS = 0.0
    journal = Journal(folder, CLOCK, rotate_bytes=3_000, disk=disk)

    async def call() -> None:
        while True:
            started = start()
            journal.append(started)
            await journal.durable()
            say(f"ack {started.id}")
            await asyncio.sleep(0)
            ended = end(started)
            journal.append(ended)
            await journal.durable()
            say(f"ack {ended.id}")

    await asyncio.gather(*(call() for _ in range(4)))


def main() -> None:
    """Serve the lines of stdin."""
    for line in sys.stdin:
        folder, sort, nth, most = line.split()
        pid = os.fork()
        if not pid:
            say(f"pid {os.getpid()}")
            asyncio.run(append_calls(Path(folder), sort, int(nth), int(most)))
        say(f"ended {os.waitpid(pid, 0)[1]}")


if __name__ == "__main__":
    main()
