"""CPU time of an append to the journal, START and END of each call, and reading them back.

    python -m benchmarks.journal [--rounds 7] [--calls 5000] [--loop asyncio] [--folder DIR]

`N in flight`: so many coroutines each append and wait until it is written; `nobody waits`: only the appends. `caller`
is the event loop's thread, `process` all threads together, both user and system time; the longest append is wall
time, and what an append that waits takes as well.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from turnout.clock import Clock
from turnout.storage.journal import Journal
from turnout.storage.segments import Spool, read
from turnout.types import Attempt, Closed, Event, Kind, Opened, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class Round(NamedTuple):
    """Of each append, in microseconds; the longest in milliseconds."""

    caller: float
    process: float
    wait: float
    read: float
    longest: float


async def _append(journal: Journal, events: list[Event], in_flight: int) -> float:
    """Append them all, and wait for each unless nobody does; seconds of the longest append."""
    longest, queue = 0.0, iter(events)

    def one(event: Event) -> None:
        nonlocal longest
        began = time.perf_counter()
        journal.append(event)
        longest = max(longest, time.perf_counter() - began)

    async def worker(mine: Iterator[Event]) -> None:
        for event in mine:
            one(event)
            await journal.written()

    if in_flight:
        await asyncio.gather(*(worker(queue) for _ in range(in_flight)))
    for event in queue:
        one(event)
    return longest


def _round(folder: Path, calls: int, in_flight: int, loop: Callable[[], asyncio.AbstractEventLoop]) -> Round:
    events = [event for _ in range(calls) for event in _call()]
    journal = Journal(folder, CLOCK)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.sleep(0))
        before = time.thread_time(), time.process_time(), time.perf_counter()
        longest = runner.run(_append(journal, events, in_flight))
        after = time.thread_time(), time.process_time(), time.perf_counter()
    journal.close()
    caller, process, wall = (
        (end - begin) * 1e6 / len(events) for begin, end in zip(before, after, strict=True)
    )
    return Round(
        caller, process, wall * max(1, in_flight), _read(folder, journal.owner, len(events)), longest * 1e3
    )


def _read(folder: Path, owner: str, expected: int) -> float:
    before, found = time.process_time(), 0
    for path in Spool(folder).mine(owner):
        offset = 0
        while (batch := read(path, offset)).events:
            found += len(batch.events)
            offset = batch.end
    took = time.process_time() - before
    if found < expected:
        raise RuntimeError(f"{expected} events appended, {found} read")
    for dead in Spool(folder).dead():
        dead.close()
    return took * 1e6 / found


def main() -> None:
    """Measure, report."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--calls", type=int, default=5_000)
    options.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options.add_argument(
        "--folder", type=Path, help="on the disk to be measured; default: the temporary folder"
    )
    chosen = options.parse_args()
    factory = asyncio.new_event_loop
    if chosen.loop == "uvloop":
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    print(
        f"{'us, median of rounds':<22}{'caller':>9}{'process':>9}{'wait':>9}{'read':>9}{'longest append, ms':>20}"
    )
    for in_flight in (0, 1, 32, 200):
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            rounds = [
                _round(Path(folder) / "spool", chosen.calls, in_flight, factory)
                for _ in range(chosen.rounds + 1)
            ][1:]
        name = f"{in_flight} in flight" if in_flight else "nobody waits"
        middle = Round(*(statistics.median(column) for column in zip(*rounds, strict=True)))
        longest = max(one.longest for one in rounds)
        print(
            f"{name:<22}{middle.caller:>9.1f}{middle.process:>9.1f}{middle.wait:>9.1f}{middle.read:>9.1f}{longest:>20.1f}"
        )


if __name__ == "__main__":
    main()
