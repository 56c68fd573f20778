"""A process that journals calls, with or without a ledger: `python -m tests.storage.worker HOME CALLS SEED [now|late]`.

It prints the id of each attempt whose end is safe in the journal, then `done`, and waits for its stdin to close;
a `late` ledger begins with the first line there.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from tests.storage.calls import many
from turnout.clock import Clock
from turnout.storage import address
from turnout.storage.journal import Journal
from turnout.storage.ledger import Ledger
from turnout.storage.segments import Spool
from turnout.types import Event


async def main(home: Path, calls: int, seed: int, *, begins: str | None) -> None:
    """Journal the calls; every tenth never ends."""
    where = address.read(None, home)
    folder = home / "spool" / where.spool_id
    clock = Clock()
    journal = Journal(folder, clock, rotate_bytes=20_000)
    ledger = Ledger(journal, Spool(folder), lambda: _open(where), clock)
    journal.wake = ledger.wake
    if begins == "now":
        ledger.start()
    for number, (start, end) in enumerate(many(calls, seed=seed)):
        journal.append(msgspec.json.decode(start, type=Event))
        if number % 10 == 9:
            continue
        event = msgspec.json.decode(end, type=Event)
        journal.append(event)
        await journal.durable()
        print(event.span, flush=True)
    print("done", flush=True)
    if begins == "late" and sys.stdin.readline():
        ledger.start()
    sys.stdin.read()
    ledger.close()
    journal.close()


def _open(where: address.Address):  # type: ignore[no-untyped-def]
    from turnout.storage.store import Store  # noqa: PLC0415

    return Store(where)


if __name__ == "__main__":
    asyncio.run(
        main(
            Path(sys.argv[1]),
            int(sys.argv[2]),
            int(sys.argv[3]),
            begins=sys.argv[4] if len(sys.argv) > 4 else None,
        )
    )
