"""CPU time per attempt of putting the journal into the tables, by engine and by batch.

    python -m benchmarks.ledger [--attempts 20000] [--rounds 3] [--postgres URL]

`together`: start and end arrive in one batch, as of short calls; `apart`: the end comes a batch later, so the attempt
is reserved first and settled then, as of long ones. User and system time of the posting thread; a server's is its own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.storage.calls import NOON, many
from turnout.storage import address
from turnout.storage.store import Mark, Store

MARK = Mark(owner="benchmark", host="", boot="", spool="", at=NOON)


def batches(pairs: list[tuple[bytes, bytes]], size: int, *, apart: bool) -> list[list[bytes]]:
    """The payloads as they would be read from segments."""
    found = []
    for begin in range(0, len(pairs) + (size if apart else 0), size):
        now = pairs[begin : begin + size]
        ended = pairs[max(0, begin - size) : begin] if apart else now
        found.append([start for start, _ in now] + [end for _, end in ended])
    return found


def measure(url: str | None, work: list[list[bytes]], attempts: int) -> float:
    """Microseconds of CPU per attempt, on an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(address.read(url, Path(folder)))
        store.open()
        began = time.thread_time()
        for payloads in work:
            store.post(payloads, MARK)
        spent = time.thread_time() - began
        if url:
            with store.write() as connection:
                connection.exec_driver_sql("TRUNCATE cost_records, events, traces, usage_days, rollup_hours")
        store.close()
    return spent / attempts * 1e6


def main() -> None:
    """Print a line per engine, way and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", help="address of an empty database")
    options = parser.parse_args()
    pairs = list(many(options.attempts, seed=1))
    print(f"{'store':12}{'arrive':10}{'batch':>6}{'us/attempt':>12}")
    for url in (None, *([options.postgres] if options.postgres else [])):
        for apart in (False, True):
            for size in (10, 100, 1_000):
                work = batches(pairs, size, apart=apart)
                figures = [measure(url, work, len(pairs)) for _ in range(options.rounds)]
                name = "postgresql" if url else "sqlite"
                print(
                    f"{name:12}{'apart' if apart else 'together':10}{size:6}{statistics.median(figures):12.1f}"
                )


if __name__ == "__main__":
    main()
