"""What the journal's tests share: events, a disk that fails on demand, and a reader of whole spools."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.clock import Clock
from turnout.storage.journal import Journal
from turnout.storage.segments import read
from turnout.storage.tail import Disk
from turnout.types import Attempt, Closed, Event, Kind, Opened, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOCK = Clock()
ROOT = Path(__file__).parents[2]
"""Where a child process finds these modules."""


def _as_read(facts: object) -> dict[str, Any]:
    read_back: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(facts))
    return read_back


def start(span: str | None = None) -> Event:
    """LLM_CALL_START of one attempt."""
    opened = Opened(call=CLOCK.new_id(), number=1, model="m", provider="p", hold_nano=1_000, input_tokens=9)
    return Event(
        id=CLOCK.new_id(),
        trace=opened.call,
        kind=Kind.LLM_CALL_START,
        at=CLOCK.now(),
        span=span or CLOCK.new_id(),
        facts=_as_read(opened),
    )


def end(started: Event) -> Event:
    """LLM_CALL_END of the same."""
    attempt = Attempt(
        id=started.span or "", model="m", provider="p", started_at=started.at, seconds=0.5, outcome="ok",
        usage=Usage(input_tokens=9, output_tokens=3), cost_nano=700,
    )  # fmt: skip
    closed = Closed(opened=msgspec.convert(started.facts, Opened), attempt=attempt, finish_reason="stop")
    return msgspec.structs.replace(
        started, id=CLOCK.new_id(), kind=Kind.LLM_CALL_END, at=CLOCK.now(), facts=_as_read(closed)
    )


def note(text: str = "") -> Event:
    """An event that belongs to no call."""
    return Event(id=CLOCK.new_id(), trace="t", kind=Kind.USER_INPUT, at=CLOCK.now(), facts={"text": text})


def segments(folder: Path) -> list[Path]:
    """Everybody's segments, an owner's oldest first."""
    return sorted(folder.glob("*.jnl"))


def kept(folder: Path) -> list[str]:
    """The ids of all events in all segments, oldest segment first; fails on damage."""
    ids = []
    for path in segments(folder):
        offset = 0
        while True:
            batch = read(path, offset)
            assert not batch.damaged
            ids += [event.id for event in batch.events]
            if batch.end == offset:
                break
            offset = batch.end
    return ids


class FaultyDisk(Disk):
    """The real file layer, with a fault before the n-th operation of a sort, n counted from 1."""

    def __init__(self) -> None:
        self.count = {"create": 0, "write": 0, "sync": 0, "folder": 0}
        self.fault: Callable[[str, int], None] = lambda _name, _n: None
        self.most = 1 << 30
        """Bytes that one write takes."""
        self.truncates = True

    def _before(self, name: str) -> None:
        self.count[name] += 1
        self.fault(name, self.count[name])

    def create(self, path: Path) -> int:
        """See `Disk`."""
        self._before("create")
        return super().create(path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """See `Disk`."""
        self._before("write")
        return super().write(fd, data[: self.most])

    def sync(self, fd: int) -> None:
        """See `Disk`."""
        self._before("sync")
        super().sync(fd)

    def sync_folder(self, folder: Path) -> None:
        """See `Disk`."""
        self._before("folder")
        super().sync_folder(folder)

    def truncate(self, fd: int, size: int) -> None:
        """See `Disk`."""
        if not self.truncates:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().truncate(fd, size)


def no_space() -> OSError:
    """What a full disk says."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Stall:
    """A disk that has stopped: whoever comes waits until `end`, or so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()
        self._seconds = seconds

    def __call__(self) -> None:
        """Wait it out."""
        self.begun.set()
        self.over.wait(self._seconds)


@contextlib.contextmanager
def journal(folder: Path, **choices: Any) -> Iterator[Journal]:
    """A journal, closed in the end."""
    opened = Journal(folder, CLOCK, **choices)
    try:
        yield opened
    finally:
        opened.close()


def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait for what another thread will do; fails after so many seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.002)


def calls(count: int) -> list[Event]:
    """So many calls, start and end."""
    return [event for _ in range(count) for started in [start()] for event in (started, end(started))]


def fill(opened: Journal, events: list[Event]) -> list[str]:
    """Append them all; the ids of those that were kept."""
    return [event.id for event in events if opened.append(event)]


def rotate(opened: Journal) -> None:
    """Have a new segment begun, and wait for it."""
    before = opened.current
    opened._keeper._writer.rotate()
    until(lambda: opened.current != before)


def write(opened: Journal, events: list[Event]) -> list[str]:
    """The same; then all of them are in segments."""
    ids = fill(opened, events)
    assert opened.settled(10)
    return ids
