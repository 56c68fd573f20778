"""CPU time of an append to the journal: START and END of each call, and reading them back.

    python -m benchmarks.journal [--rounds 7] [--calls 10000] [--folder DIR]

What counts is the user and system time of the whole process, its threads included; the longest append is wall time.
`direct` is the default; `thread` is `direct=False`, which no stall of the disk reaches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from turnout.clock import Clock
from turnout.storage.journal import Journal
from turnout.storage.segments import Spool, read
from turnout.types import Attempt, Closed, Event, Kind, Opened, Usage

CLOCK = Clock()


def _call() -> tuple[Event, Event]:
    price = "deepseek-chat@2026-09-01"
    opened = Opened(
        call=CLOCK.new_id(),
        number=1,
        model="deepseek-chat",
        provider="deepseek",
        hold_nano=1_834_000,
        input_tokens=903,
        price_id=price,
    )
    attempt = Attempt(
        id=CLOCK.new_id(),
        model="deepseek-chat",
        provider="deepseek",
        started_at=CLOCK.now(),
        seconds=0.812,
        outcome="ok",
        status=200,
        upstream_model="deepseek-chat",
        usage=Usage(input_tokens=903, cached_input_tokens=512, output_tokens=211),
        cost_nano=213_400,
        price_id=price,
    )
    start = Event(
        id=CLOCK.new_id(),
        trace=opened.call,
        kind=Kind.LLM_CALL_START,
        at=CLOCK.now(),
        span=attempt.id,
        agent="debugger",
        user="alice",
        session="s1",
        facts=msgspec.to_builtins(opened),
    )
    closed = msgspec.to_builtins(Closed(opened=opened, attempt=attempt, finish_reason="stop"))
    return start, msgspec.structs.replace(start, id=CLOCK.new_id(), kind=Kind.LLM_CALL_END, facts=closed)


def _round(folder: Path, calls: int, *, direct: bool) -> tuple[float, float, float]:
    """Microseconds of CPU per append and per event read; milliseconds of the longest append."""
    events = [event for _ in range(calls) for event in _call()]
    journal = Journal(folder, CLOCK, direct=direct)
    longest, last = 0.0, time.perf_counter()
    before = time.process_time()
    for event in events:
        journal.append(event)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    appended = time.process_time() - before
    journal.close()
    before, found = time.process_time(), 0
    for path in Spool(folder).mine(journal.owner):
        offset = 0
        while (batch := read(path, offset)).events:
            found += len(batch.events)
            offset = batch.end
    consumed = time.process_time() - before
    if found < len(events):
        raise RuntimeError(f"{len(events)} events appended, {found} read")
    for dead in Spool(folder).dead():
        dead.close()
    return appended * 1e6 / len(events), consumed * 1e6 / found, longest * 1e3


def main() -> None:
    """Measure, report."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--calls", type=int, default=10_000)
    options.add_argument(
        "--folder", type=Path, help="on the disk to be measured; default: the temporary folder"
    )
    chosen = options.parse_args()
    print(f"{'us of CPU':<12}{'append, median':>16}{'min':>8}{'max':>8}{'read':>8}{'longest append, ms':>21}")
    for name, direct, calls in (("direct", True, chosen.calls), ("thread", False, chosen.calls // 10)):
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            rounds = [_round(Path(folder) / "spool", calls, direct=direct) for _ in range(chosen.rounds + 1)]
        appends, reads, longest = (list(column) for column in zip(*rounds[1:], strict=True))
        print(
            f"{name:<12}{statistics.median(appends):>16.1f}{min(appends):>8.1f}{max(appends):>8.1f}"
            f"{statistics.median(reads):>8.1f}{max(longest):>21.1f}"
        )


if __name__ == "__main__":
    main()
