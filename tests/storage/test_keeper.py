"""The keeper's decisions: when a segment ends, how much room there is, how old the oldest line is."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.storage.journals import (
    CLOCK,
    FaultyDisk,
    Stall,
    fill,
    journal,
    no_space,
    note,
    rotate,
    segments,
    start,
    until,
    write,
)
from turnout.storage import journal as journal_module
from turnout.storage.keeper import Keeper, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout.storage.journal import Journal

LATER = 3_600.0


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Journal]:
    """A journal whose segments end after an hour, and whose keeper's thread has ended."""
    with journal(tmp_path, rotate_seconds=LATER) as made:
        assert made._keeper.stop(5)
        yield made


class Pauses(threading.Event):
    """An event that notes for how long it was waited, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        """See `threading.Event`."""
        self.asked.append(timeout)
        return self.is_set()


def due(keeper: Keeper, *, after: float, rotate_bytes: int = 1 << 20) -> bool:
    """Whether the segment ends so many seconds after it began."""
    keeper._limits = msgspec.structs.replace(keeper._limits, rotate_bytes=rotate_bytes)
    keeper._begun_at = 0.0  # exact, as a sum and a difference are not
    return keeper._rotation_is_due(after)


def test_when_a_segment_ends(opened: Journal) -> None:
    """A segment ends when it is old or large, what it began with not counted, or spoilt; an empty one never."""
    keeper, writer = opened._keeper, opened._keeper._writer
    assert not due(keeper, after=LATER)
    write(opened, [start()])
    assert due(keeper, after=LATER)
    assert not due(keeper, after=LATER - 1)
    rotate(opened)
    assert writer.tail.head > 0
    assert not due(keeper, after=LATER)
    write(opened, [note()])
    fresh = writer.tail.size - writer.tail.head
    assert due(keeper, after=LATER)
    assert due(keeper, after=0, rotate_bytes=fresh)
    assert not due(keeper, after=0, rotate_bytes=fresh + 1)
    writer.tail.spoilt = True
    assert due(keeper, after=0)


def test_a_segment_that_was_too_old(opened: Journal) -> None:
    """After one that was too old the next has all its time."""
    keeper, first = opened._keeper, opened.current
    write(opened, [note()])
    keeper._begun_at -= LATER
    keeper._tick()
    until(lambda: opened.current != first)
    second = opened.current
    write(opened, [note()])
    keeper._tick()
    write(opened, [note()])
    assert opened.current == second


def test_measured_once_a_second(opened: Journal) -> None:
    """What others write is found a second after the last measure, and at once when there seems to be no room."""
    keeper, other = opened._keeper, opened._folder / "other.00000001.jnl"
    keeper._tick()
    other.write_bytes(b"x" * 500)
    keeper._measured_at -= 1.0
    keeper._tick()
    assert opened.status().spool_bytes == 500
    other.write_bytes(b"x" * 700)
    keeper.room = -1
    keeper._tick()
    assert opened.status().spool_bytes == 700


def test_what_waits_takes_room_too(tmp_path: Path) -> None:
    """What the disk has not taken yet counts as if it were in the spool, where it is going to be."""
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, _n: stall() if name == "write" else None
    with journal(tmp_path, disk=disk, max_bytes=6_000) as opened:
        assert opened._keeper.stop(5)
        assert len(fill(opened, [note("x" * 1_000) for _ in range(9)])) == 5
        opened._keeper._measure()
        assert opened.status().spool_bytes == opened.status().queued_bytes > 5_000
        assert not opened.append(note("x" * 1_000))
        stall.over.set()


def test_age_of_the_oldest_line(opened: Journal) -> None:
    """A mark a second is kept until the tables have reached it, and the oldest of them tells the age."""
    keeper, begun = opened._keeper, opened._clock.monotonic()
    assert keeper.oldest_seconds() is None
    for second in (0.0, 0.5, 1.0, 1.5, 2.0):
        write(opened, [note()])
        keeper._mark(begun - 100 + second)
    reaches = [reach for reach, _ in keeper._marks]
    assert [at for _, at in keeper._marks] == [begun - 100, begun - 99, begun - 98]
    assert keeper.oldest_seconds() == pytest.approx(100, abs=5)
    current = opened.current
    assert current
    opened.committed(current, reaches[0][1])
    assert keeper.oldest_seconds() == pytest.approx(99, abs=0.9)
    keeper._mark(begun - 97.5)
    assert [reach for reach, _ in keeper._marks] == reaches[1:]
    opened.committed(current, current.stat().st_size)
    assert keeper.oldest_seconds() is None


def test_room_is_measured_at_once(tmp_path: Path) -> None:
    """What others left in the spool counts from the first event on."""
    (tmp_path / "other.00000001.jnl").write_bytes(b"x" * 5_000)
    with journal(tmp_path, max_bytes=4_000) as opened:
        assert opened.status().spool_bytes == 5_000
        assert not opened.append(note())


def test_a_spool_that_cannot_be_measured(opened: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """A spool folder that is gone is logged, and the last measure stands."""
    room = opened._keeper.room
    shutil.rmtree(opened._folder)
    with caplog.at_level(logging.WARNING, "turnout"):
        opened._keeper._measure()
    assert [record.getMessage() for record in caplog.records] == ["spool_not_measured"]
    assert opened._keeper.room == room


def test_a_bell_is_heard_once(tmp_path: Path) -> None:
    """The keeper does not go round for ever after one ring."""
    with journal(tmp_path) as opened:
        opened._keeper.bell.set()
        until(lambda: not opened._keeper.bell.is_set())


def test_nobody_stays_for_the_journal(tmp_path: Path) -> None:
    """A process can end while a thread of the journal is within a disk that has stopped."""
    others = set(threading.enumerate())
    with journal(tmp_path):
        mine = [thread for thread in set(threading.enumerate()) - others if "turnout-journal" in thread.name]
        assert [thread.daemon for thread in mine] == [True, True]


def test_what_the_documentation_promises(tmp_path: Path) -> None:
    """Without choices: a spool of 1 GiB, segments of 8 MiB or 10 s, a flush a second, 16 MiB held in memory."""
    with journal(tmp_path) as opened:
        assert opened._limits == Limits(
            max_bytes=1 << 30, rotate_bytes=8 << 20, rotate_seconds=10.0, flush_seconds=1.0
        )
        assert journal_module.HELD_BYTES == 16 << 20
        status = opened.status()
        assert (status.spool_bytes, status.queued_bytes, status.dropped, status.unconfirmed) == (0, 0, 0, 0)


def test_no_descriptor_stays(tmp_path: Path) -> None:
    """Of complete segments that were flushed, and of a closed journal, no descriptor stays open."""
    with journal(tmp_path, rotate_bytes=1) as opened:
        for _ in range(3):
            before = opened.current
            opened.append(note())
            until(lambda before=before: opened.current != before)
        until(lambda: open_files(tmp_path, ".jnl") == [str(opened.current)])
    assert open_files(tmp_path, "") == []


@pytest.mark.parametrize("durability", ["process", "power"])
def test_no_descriptor_stays_of_what_cannot_be_flushed(tmp_path: Path, durability: str) -> None:
    """While every flush fails, of the segments that were given up no more than the last stays open."""
    disk = FaultyDisk()

    def fault(name: str, _n: int) -> None:
        if name == "sync":
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, durability=durability, rotate_seconds=LATER) as opened:
        assert opened._keeper.stop(5)
        writer = opened._keeper._writer
        for _ in range(10):
            write(opened, [note()])
            writer.flush()
            assert len(open_files(tmp_path, ".jnl")) <= 2
            assert len(writer._retired) <= 1
        assert len(segments(tmp_path)) == 10


def test_a_segment_that_could_not_be_begun(tmp_path: Path) -> None:
    """It is tried again with the next tick: a failure that passes refuses no call for longer."""
    disk = FaultyDisk()

    def fault(name: str, n: int) -> None:
        if (name, n) == ("create", 2):
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, on_full="refuse", rotate_seconds=LATER) as opened:
        write(opened, [note()])
        opened._keeper._writer.rotate()
        until(lambda: disk.count["create"] == 2)
        until(lambda: opened.status().error is None, 1)
        assert opened.append(start())
        assert opened.status().last_error


def open_files(folder: Path, suffix: str) -> list[str]:
    """The files in a folder that this process has open, with this ending."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(fd.readlink()))
    return sorted(name for name in found if name.startswith(f"{folder}/") and name.endswith(suffix))


def test_what_waits_goes_together(tmp_path: Path) -> None:
    """Lines that waited for the disk go in few writes, of 256 KiB at most each."""
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, n: stall() if (name, n) == ("write", 1) else None
    with journal(tmp_path, disk=disk) as opened:
        fill(opened, [note()])
        assert stall.begun.wait(10)
        fill(opened, [note() for _ in range(50)])
        stall.over.set()
        until(lambda: not opened.status().queued_bytes)
        assert disk.count["write"] == 2
        stall.over.clear()
        stall.begun.clear()
        disk.fault = lambda name, n: stall() if (name, n) == ("write", 3) else None
        fill(opened, [note()])
        assert stall.begun.wait(10)
        fill(opened, [note("x" * 100_000) for _ in range(5)])
        stall.over.set()
        until(lambda: not opened.status().queued_bytes)
        assert disk.count["write"] == 6


def pause(keeper: Keeper) -> float | None:
    """For how long it would sleep now."""
    bell = Pauses()
    keeper.bell = bell
    keeper._sleep()
    (asked,) = bell.asked
    return asked


def test_how_long_it_sleeps(opened: Journal) -> None:
    """50 ms while there is work; at rest until the segment is too old, or until the bell when that is empty."""
    keeper, writer = opened._keeper, opened._keeper._writer
    assert pause(keeper) == 0.05
    keeper._busy_at -= 2.1
    assert pause(keeper) is None
    write(opened, [note()])
    assert pause(keeper) == 0.05
    keeper._tick()
    assert pause(keeper) == 0.05
    keeper._busy_at -= 2.1
    assert pause(keeper) == 0.05, "it has not been flushed"
    writer.flush()
    assert pause(keeper) == LATER
    assert not keeper.parked


def test_a_disk_that_fails_is_tried_ever_more_rarely(opened: Journal) -> None:
    """While the disk refuses, the pauses double up to a second; once it takes lines again they are short."""
    keeper = opened._keeper
    keeper._writer.health.failed("flush", no_space())
    keeper._busy_at -= 2.1
    assert [pause(keeper) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    keeper._writer.health.worked("flush")
    keeper._busy_at += 2.1
    assert pause(keeper) == 0.05
    keeper._writer.health.failed("flush", no_space())
    assert pause(keeper) == 0.1
    keeper._writer.health.worked("flush")


def test_who_sleeps_is_rung(tmp_path: Path) -> None:
    """A keeper at rest ends when it is told to, and begins anew with the next line, which it tells the ledger of."""
    with journal(tmp_path) as opened:
        keeper, told = opened._keeper, threading.Event()
        opened.wake = told.set
        keeper._busy_at -= 60.0
        keeper.bell.set()
        until(lambda: keeper.parked)
        opened.append(note())
        assert told.wait(5)
        until(lambda: not keeper._writer.unflushed)
        keeper._busy_at -= 60.0
        keeper.bell.set()
        until(lambda: keeper.parked)
        assert keeper.stop(5)


def test_what_a_tick_tells(opened: Journal) -> None:
    """The ledger is told of new lines once, whatever else there is to do."""
    keeper, told = opened._keeper, []
    keeper.wake = lambda: told.append(opened.current)
    keeper._tick()
    assert told == []
    write(opened, [note(), note()])
    keeper._tick()
    keeper._tick()
    assert told == [opened.current]


@pytest.mark.parametrize(("durability", "seconds"), [("process", 1.0), ("store", 1.0), ("power", 0.0)])
def test_when_it_flushes(tmp_path: Path, durability: str, seconds: float) -> None:
    """Once a second, so that a power cut takes no more than that; with `power` in each tick, for somebody waits."""
    with journal(tmp_path, durability=durability) as opened:
        keeper = opened._keeper
        assert keeper.stop(5)
        write(opened, [note()])
        keeper._flushed_at = CLOCK.monotonic() + 0.5 - seconds
        keeper._tick()
        early = keeper._writer.unflushed
        keeper._flushed_at -= 100
        keeper._tick()
        assert (early, keeper._writer.unflushed) == (True, False)
        assert keeper._flushed_at == pytest.approx(CLOCK.monotonic(), abs=5)


def test_no_room_is_not_negative_room(opened: Journal) -> None:
    """A spool that is just full is measured when its second is over, not before."""
    keeper = opened._keeper
    keeper.room = 0
    keeper._tick()
    assert keeper.room == 0
    keeper._measured_at -= 0.9
    keeper._tick()
    assert keeper.room == 0
