"""Trouble with the disk: it stops, it is slow, it refuses, it is full."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.storage.journals import (
    FaultyDisk,
    Stall,
    calls,
    end,
    fill,
    journal,
    kept,
    no_space,
    note,
    segments,
    start,
    until,
)
from turnout.errors import BudgetUnavailable
from turnout.storage import health as health_module
from turnout.storage import journal as journal_module
from turnout.storage import writer as writer_module

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from turnout.storage.journal import Journal


class Stalls:
    """The longest time for which a running event loop did not get its turn, beside that of a thread of its own.

    What a busy machine does to both is not the journal's doing.
    """

    def __init__(self) -> None:
        self.loop = self.machine = 0.0
        self._over = False

    async def watch_loop(self) -> None:
        """Look every millisecond."""
        last = time.monotonic()
        while not self._over:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            self.loop, last = max(self.loop, now - last), now

    def watch_machine(self) -> None:
        """The same, where no event loop is."""
        last = time.monotonic()
        while not self._over:
            time.sleep(0.001)
            now = time.monotonic()
            self.machine, last = max(self.machine, now - last), now

    def end(self) -> float:
        """Stop watching; seconds of the longest stall beyond the machine's own."""
        if not self._over:
            print(f"\nlongest stall: loop {self.loop * 1e3:.0f} ms, machine {self.machine * 1e3:.0f} ms")
        self._over = True
        return self.loop - self.machine


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Stalls]:
    """A watch on the running loop; it ends with the block at the latest."""
    stalls = Stalls()
    task = asyncio.create_task(stalls.watch_loop())
    thread = threading.Thread(target=stalls.watch_machine)
    thread.start()
    try:
        yield stalls
    finally:
        stalls.end()
        await task
        thread.join()


async def serve_one_call(opened: Journal) -> list[str]:
    """Start and end of a call, with a wait after each, as a provider's answer has it."""
    ids = []
    for event in calls(1):
        ids += fill(opened, [event])
        await asyncio.sleep(0.001)
    return ids


@pytest.mark.parametrize("direct", [True, False])
async def test_a_disk_that_stops_while_flushing(tmp_path: Path, *, direct: bool) -> None:
    """A disk that stops for 2 s during a flush, writes and all, stalls the loop by less than 50 ms; order is kept."""
    disk, stall, stopped = FaultyDisk(), Stall(2), threading.Event()

    def fault(name: str, n: int) -> None:
        if stopped.is_set() or (name == "sync" and n == 3):
            stopped.set()
            stall()
            stopped.clear()

    disk.fault = fault
    with journal(tmp_path, disk=disk, direct=direct) as opened:
        ids: list[str] = []
        async with watched() as stalls:
            while not stall.begun.is_set() or stopped.is_set():
                ids += await serve_one_call(opened)
            assert stalls.end() < 0.05
        assert opened.status().slow
        await opened.durable()
        assert kept(tmp_path) == ids


async def test_a_write_that_blocks_out_of_the_blue(tmp_path: Path) -> None:
    """Through the thread (`direct=False`) not even the first write that blocks for 2 s stalls the loop by 50 ms."""
    disk, stall = FaultyDisk(), Stall(2)
    disk.fault = lambda name, n: stall() if (name, n) == ("write", 20) else None
    with journal(tmp_path, disk=disk, direct=False) as opened:
        ids: list[str] = []
        async with watched() as stalls:
            while disk.count["write"] < 21:
                ids += await serve_one_call(opened)
            assert stalls.end() < 0.05
        await opened.durable()
        assert kept(tmp_path) == ids


async def test_only_the_first_slow_write_is_felt(tmp_path: Path) -> None:
    """Once one append took 30 ms, writes that block for 2 s no longer reach the loop, and `durable` waits for them."""
    disk, short, long = FaultyDisk(), Stall(0.03), Stall(2)
    slow = {("write", 20): short, ("write", 21): long}
    disk.fault = lambda name, n: slow[name, n]() if (name, n) in slow else None
    with journal(tmp_path, disk=disk) as opened:
        ids: list[str] = []
        async with watched() as stalls:
            while not long.begun.is_set():
                ids += await serve_one_call(opened)
            ids += fill(opened, calls(1))
            assert len(kept(tmp_path)) < len(ids)
            await opened.durable()
            assert kept(tmp_path) == ids
            assert stalls.end() < 0.05


def test_well_again(tmp_path: Path) -> None:
    """After a second without trouble the disk counts as well again, and nothing was lost or reordered."""
    disk, short = FaultyDisk(), Stall(0.03)
    disk.fault = lambda name, n: short() if (name, n) == ("write", 2) else None
    with journal(tmp_path, disk=disk) as opened:
        ids = fill(opened, calls(1))
        assert opened.status().slow
        until(lambda: not opened.status().slow)
        ids += fill(opened, calls(1))
        until(lambda: kept(tmp_path) == ids)


@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("name", ["create", "write", "sync", "folder"])
@pytest.mark.parametrize("durability", ["process", "power"])
async def test_every_nth_operation_fails(
    tmp_path: Path, name: str, durability: str, *, truncates: bool
) -> None:
    """Whichever one create, write or fsync fails, half done or not at all, no event is lost and no call fails."""
    for failing in range(2 if name == "create" else 1, 7 if name in {"write", "sync"} else 5):
        folder, disk = tmp_path / f"{failing}", FaultyDisk()
        disk.most, disk.truncates = 150, truncates

        def fault(kind: str, n: int, failing: int = failing) -> None:
            if (kind, n) == (name, failing):
                raise no_space()

        disk.fault = fault
        with journal(folder, disk=disk, rotate_bytes=1_500, durability=durability) as opened:
            ids = []
            while disk.count[name] < failing + 2:
                ids += fill(opened, calls(1))
                await opened.durable()
                await asyncio.sleep(0.001)
            until(lambda opened=opened: not opened.status().queued_bytes)
            assert (opened.status().dropped, opened.status().last_error is not None) == (0, True)
            assert set(kept(folder)) == set(ids)


async def test_lines_of_a_failed_fsync_are_written_again(tmp_path: Path) -> None:
    """With `power` what a failed fsync may have lost goes into a new segment, and only then does the answer leave."""
    disk = FaultyDisk()

    def fault(name: str, n: int) -> None:
        if (name, n) == ("sync", 1):
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, durability="power") as opened:
        first = opened.current
        ids = fill(opened, calls(2))
        await opened.durable()
        assert first != opened.current
        assert opened.status().unconfirmed == 0
        assert first
        first.unlink()
        assert set(kept(tmp_path)) == set(ids)


@pytest.mark.parametrize("complete", [True, False])
async def test_a_segment_that_never_reaches_the_medium(tmp_path: Path, *, complete: bool) -> None:
    """A segment whose every fsync fails, from the start or once it is complete, is written again once, not for ever."""
    sick: set[int] = set()

    class SickDisk(FaultyDisk):
        def sync(self, fd: int) -> None:
            if os.fstat(fd).st_ino in sick:
                raise no_space()
            super().sync(fd)

    with journal(tmp_path, disk=SickDisk(), durability="power", rotate_bytes=500) as opened:
        first = opened.current
        assert first
        if complete:
            opened._keeper._writer.rotate()  # nobody has flushed it, and it is no longer the one being written
        sick.add(first.stat().st_ino)
        ids = fill(opened, calls(1))
        await opened.durable()
        for _ in range(5):
            ids += fill(opened, calls(1))
            await opened.durable()
        assert opened.status().unconfirmed == 0
        assert len(segments(tmp_path)) <= 12
        first.unlink()
        assert set(kept(tmp_path)) == set(ids)


def test_two_rotations_at_once(tmp_path: Path) -> None:
    """A segment that was made before the one now being written is taken away, not gone back to."""
    with journal(tmp_path) as opened:
        writer = opened._keeper._writer
        opened.append(start())
        early = writer._new_tail()
        writer.rotate()
        current = opened.current
        writer._switch(early)
        assert opened.current == current
        assert not early.path.exists()


def test_the_reserve_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a broken disk what calls have cost may wait in a quarter more memory than anything else, and no more."""
    monkeypatch.setattr(journal_module, "HELD_BYTES", 8_000)
    disk, full = FaultyDisk(), threading.Event()

    def fault(name: str, _n: int) -> None:
        if full.is_set() and name != "sync":
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk) as opened:
        running = [start() for _ in range(20)]
        fill(opened, running)
        full.set()
        while opened.append(note()):
            pass
        assert 7_000 < opened.status().queued_bytes <= 8_000
        ended = fill(opened, [end(one) for one in running])
        assert 0 < len(ended) < len(running)
        assert 8_000 < opened.status().queued_bytes <= 10_000
        full.clear()
        until(lambda: not opened.status().queued_bytes)
        assert set(ended) <= set(kept(tmp_path))


def test_trouble_ends_with_what_works(tmp_path: Path) -> None:
    """A failed flush is over with the next that works, a segment that could not be begun with the next write."""
    disk, fails = FaultyDisk(), {"sync": 1, "create": 3}

    def fault(name: str, n: int) -> None:
        if fails.get(name) == n:
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, rotate_seconds=3_600.0) as opened:
        assert opened._keeper.stop(5)
        writer = opened._keeper._writer
        opened.append(note())
        writer.flush()
        assert "No space left" in str(opened.status().error)
        writer.rotate()
        writer.flush()
        assert (opened.status().error, opened.status().slow) == (None, True)
        writer.rotate()
        assert "No space left" in str(opened.status().error)
        opened.append(note())
        until(lambda: opened.status().error is None)


class Hands(FaultyDisk):
    """Knows which threads wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.wrote: list[str] = []

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """See `Disk`."""
        self.wrote.append(threading.current_thread().name)
        return super().write(fd, data)


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine, nothing is found slow."""
    monkeypatch.setattr(writer_module, "SLOW", 5.0)
    monkeypatch.setattr(health_module, "SLOW", 5.0)


@pytest.mark.usefixtures("_patient")
def test_who_writes(tmp_path: Path) -> None:
    """The caller writes by itself, but while a flush is under way the thread does; afterwards the caller again."""
    disk, stall = Hands(), Stall(10)
    disk.fault = lambda name, n: stall() if (name, n) == ("sync", 1) else None
    with journal(tmp_path, disk=disk, rotate_seconds=3_600.0) as opened:
        assert opened._keeper.stop(5)
        writer = opened._keeper._writer
        opened.append(note())
        flush = threading.Thread(target=writer.flush)
        flush.start()
        assert stall.begun.wait(10)
        opened.append(note())
        stall.over.set()
        flush.join()
        opened.append(note())
        me = threading.current_thread().name
        assert disk.wrote == [me, "turnout-journal-writer", me]
        assert not writer._flushing
        assert writer.written == 3


@pytest.mark.usefixtures("_patient")
def test_a_quick_thread_is_not_slow(tmp_path: Path) -> None:
    """A line that the thread wrote in time says nothing against the disk."""
    disk = Hands()
    with journal(tmp_path, disk=disk, direct=False) as opened:
        ids = fill(opened, calls(2))
        assert kept(tmp_path) == ids
        assert set(disk.wrote) == {"turnout-journal-writer"}
        assert not opened.status().slow


def test_a_disk_that_stops_while_a_segment_begins(tmp_path: Path) -> None:
    """While the head of a new segment is stuck in the disk, callers leave their lines with the thread and go on."""
    disk, stall = FaultyDisk(), Stall(8)
    with journal(tmp_path, disk=disk, rotate_seconds=3_600.0) as opened:
        assert opened._keeper.stop(5)
        ids = fill(opened, [start()])
        disk.fault = lambda name, n: stall() if (name, n) == ("write", 2) else None
        rotation = threading.Thread(target=opened._keeper._writer.rotate)
        rotation.start()
        assert stall.begun.wait(10)
        began = time.monotonic()
        ids += fill(opened, calls(1))
        assert time.monotonic() - began < 4
        stall.over.set()
        rotation.join()
        until(lambda: not opened.status().queued_bytes)
        assert set(kept(tmp_path)) == set(ids)


def test_a_broken_disk_is_not_hammered(tmp_path: Path) -> None:
    """The thread tries a disk that refuses again after 20, 40, 80 ms, says why it waits, and loses nothing."""
    tries: list[float] = []
    enough = threading.Event()
    disk = FaultyDisk()

    def fault(name: str, _n: int) -> None:
        if name == "write" and not enough.is_set():
            tries.append(time.monotonic())
            if len(tries) == 4:
                enough.set()
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, direct=False) as opened:
        ids = fill(opened, [note()])
        until(lambda: "No space left" in str(opened.status().error))
        assert opened.status().slow
        assert enough.wait(10)
        gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
        assert all(gap >= 0.019 * 2**number for number, gap in enumerate(gaps))
        until(lambda: not opened.status().queued_bytes)
        assert kept(tmp_path) == ids


async def test_a_full_disk_and_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is full events wait in memory, then are dropped and counted; all that were kept arrive."""
    monkeypatch.setattr(journal_module, "HELD_BYTES", 20_000)
    disk, full = FaultyDisk(), threading.Event()

    def fault(name: str, _n: int) -> None:
        if full.is_set() and name != "sync":
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk) as opened:
        ids = fill(opened, calls(3))
        full.set()
        during = calls(100)
        ids += fill(opened, during)
        status = opened.status()
        assert status.dropped == 206 - len(ids) > 0
        assert "No space left" in (status.error or "")
        await asyncio.wait_for(opened.durable(), 0.5)
        full.clear()
        until(lambda: opened.status().error is None)
        ids += fill(opened, calls(1))
        await opened.durable()
        assert kept(tmp_path) == ids


def test_a_full_disk_refuses_new_calls(tmp_path: Path) -> None:
    """With `refuse` no call begins while the disk takes nothing, the ends of those that run wait, and it recovers."""
    disk, full = FaultyDisk(), threading.Event()

    def fault(name: str, _n: int) -> None:
        if full.is_set() and name == "write":
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, on_full="refuse") as opened:
        running = start()
        opened.append(running)
        full.set()
        assert opened.append(note())
        with pytest.raises(BudgetUnavailable, match="No space left") as caught:
            opened.append(start())
        assert "doctor" in caught.value.hint
        assert opened.append(end(running))
        full.clear()
        until(lambda: opened.status().error is None)
        assert opened.append(start())
        until(lambda: not opened.status().queued_bytes)
        assert len(kept(tmp_path)) == 4
