"""`kill -9`: whatever was acknowledged is in the segments, once, and the next process finds it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.storage.journals import ROOT
from turnout.storage.segments import Spool, read
from turnout.types import Closed, Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = 20261125
KILLS = 25


class Appender:
    """The process that forks the ones that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout

    def run(
        self, folder: Path, sort: str = "-", nth: int = 0, *, most: int = 1 << 30, acks: int = 0
    ) -> set[str]:
        """Let one append, kill it after so many acknowledgements if it does not itself; the ids it acknowledged."""
        self._in.write(f"{folder} {sort} {nth} {most}\n")
        self._in.flush()
        pid = int(self._out.readline().split()[1])
        seen: set[str] = set()
        for line in self._out:
            word, value = line.split()
            if word == "ended":
                assert int(value) == signal.SIGKILL
                break
            seen.add(value)
            if acks and len(seen) == acks:
                os.kill(pid, signal.SIGKILL)
        return seen


@pytest.fixture(scope="module")
def appender() -> Iterator[Appender]:
    """One of them for all tests."""
    command = [sys.executable, "-m", "tests.storage.appender"]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield Appender(process)
        assert process.stdin
        process.stdin.close()


def adopted(folder: Path) -> list[Event]:
    """Everything that the dead one left, as the next process finds it; the folder is empty afterwards."""
    events = []
    for dead in Spool(folder).dead():
        for segment in dead.segments:
            offset = 0
            while (batch := read(segment, offset)).events:
                assert not batch.damaged
                events += batch.events
                offset = batch.end
        dead.close()
    assert list(folder.iterdir()) == []
    return events


def check(acknowledged: set[str], events: list[Event]) -> None:
    """Nothing acknowledged is missing; ends are there once, starts again only as copies; at most 4 others."""
    times = Counter(event.id for event in events)
    assert acknowledged <= set(times)
    assert len(set(times) - acknowledged) <= 4
    ends = [event for event in events if event.kind == Kind.LLM_CALL_END]
    assert all(times[event.id] == 1 for event in ends)
    assert all(msgspec.convert(event.facts, Closed).attempt.cost_nano == 700 for event in ends)


def test_killed_at_random(tmp_path: Path, appender: Appender) -> None:
    """Killed from outside after a random number of events, 25 times: no acknowledged event is lost or doubled."""
    chance, total = random.Random(SEED), 0  # noqa: S311
    for number in range(KILLS):
        folder = tmp_path / f"{number}"
        acknowledged = appender.run(folder, acks=chance.randrange(1, 400))
        check(acknowledged, adopted(folder))
        total += len(acknowledged)
    print(f"\nseed {SEED}: {KILLS} kills, {total} acknowledged, 0 lost, 0 doubled")


@pytest.mark.parametrize("most", [1 << 30, 120])
@pytest.mark.parametrize("sort", ["create", "write", "sync"])
def test_killed_within_the_disk(tmp_path: Path, appender: Appender, sort: str, most: int) -> None:
    """Killed at each of the first file operations of a sort, also between two halves of a record: nothing is lost."""
    for nth in range(1, 9):
        folder = tmp_path / f"{nth}"
        acknowledged = appender.run(folder, sort, nth, most=most)
        check(acknowledged, adopted(folder))
