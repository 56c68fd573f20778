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
    CLOCK,
    FaultyDisk,
    Stall,
    calls,
    end,
    fill,
    journal,
    kept,
    no_space,
    note,
    rotate,
    segments,
    start,
    until,
    write,
)
from turnout.errors import BudgetUnavailable
from turnout.storage import journal as journal_module
from turnout.storage.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from turnout.types import Event


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


async def test_a_disk_that_stops_while_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stops for 2 s during a flush, writes and all, stalls the loop by less than 50 ms; order is kept."""
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.0)
    disk, stall, stopped = FaultyDisk(), Stall(2), threading.Event()

    def fault(name: str, n: int) -> None:
        if stopped.is_set() or (name == "sync" and n == 3):
            stopped.set()
            stall()
            stopped.clear()

    disk.fault = fault
    with journal(tmp_path, disk=disk) as opened:
        ids: list[str] = []
        async with watched() as stalls:
            while not stall.begun.is_set() or stopped.is_set():
                ids += await serve_one_call(opened)
            assert stalls.end() < 0.05
        await opened.durable()
        assert opened.status().slow
        assert kept(tmp_path) == ids


@pytest.mark.parametrize("blocks", [1, 20])
async def test_a_write_that_blocks_out_of_the_blue(tmp_path: Path, blocks: int) -> None:
    """Not even the very first write stalls the loop by 50 ms when it blocks for 2 s, nor a later one; order is kept."""
    disk, stall = FaultyDisk(), Stall(2)
    disk.fault = lambda name, n: stall() if (name, n) == ("write", blocks) else None
    with journal(tmp_path, disk=disk) as opened:
        ids: list[str] = []
        async with watched() as stalls:
            while disk.count["write"] <= blocks:
                ids += await serve_one_call(opened)
            assert stalls.end() < 0.05
        await opened.durable()
        assert kept(tmp_path) == ids


def test_well_again(tmp_path: Path) -> None:
    """A write of more than 20 ms makes the disk slow for a second; nothing is lost or reordered by it."""
    disk, short = FaultyDisk(), Stall(0.03)
    disk.fault = lambda name, n: short() if (name, n) == ("write", 2) else None
    with journal(tmp_path, disk=disk) as opened:
        ids = write(opened, calls(1))
        ids += write(opened, calls(1))
        assert opened.status().slow
        until(lambda: not opened.status().slow)
        ids += write(opened, calls(1))
        assert kept(tmp_path) == ids


@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("name", ["create", "write", "sync", "folder"])
@pytest.mark.parametrize("durability", ["process", "power"])
async def test_every_nth_operation_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, durability: str, *, truncates: bool
) -> None:
    """Whichever one create, write or fsync fails, half done or not at all, no event is lost and no call fails."""
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.0)
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
            rotate(opened)  # nobody has flushed it, and it is no longer the one being written
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
        write(opened, running)
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
    """A failed flush is over with the next that works, a segment that could not be begun with the next that can.

    Neither keeps anybody from waiting until his line is written, which the old segment still takes.
    """
    disk, fails = FaultyDisk(), {"sync": 1, "create": 3}

    def fault(name: str, n: int) -> None:
        if fails.get(name) == n:
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, rotate_seconds=3_600.0) as opened:
        assert opened._keeper.stop(5)
        writer = opened._keeper._writer
        write(opened, [note()])
        writer.flush()
        assert "No space left" in str(opened.status().error)
        rotate(opened)
        writer.flush()
        assert opened.status().error is None
        writer.rotate()
        until(lambda: "No space left" in str(opened.status().error))
        write(opened, [note()])
        rotate(opened)
        until(lambda: opened.status().error is None)
        assert "No space left" in str(opened.status().last_error)


class Hands(FaultyDisk):
    """Knows which threads came to the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {name: set() for name in self.count}

    def _before(self, name: str) -> None:
        self.seen[name].add(threading.current_thread().name)
        super()._before(name)


async def test_who_touches_the_disk(tmp_path: Path) -> None:
    """One thread writes, one flushes; whoever appends or waits, in a coroutine or a thread, never does either."""
    disk = Hands()
    with journal(tmp_path, disk=disk, durability="power") as opened:
        fill(opened, calls(2))
        await opened.written()
        rotate(opened)
        await asyncio.to_thread(write, opened, calls(2))
        await opened.durable()
    me = threading.current_thread().name
    writes, flushes = {"turnout-journal-writer"}, {"turnout-journal-keeper"}
    assert disk.seen == {"create": {me} | writes, "write": writes, "sync": flushes, "folder": flushes}
    assert disk.count["create"] == 2


def test_a_disk_that_stops_while_a_segment_begins(tmp_path: Path) -> None:
    """While the head of a new segment is stuck in the disk, callers leave their lines and go on at once."""
    disk, stall = FaultyDisk(), Stall(8)
    with journal(tmp_path, disk=disk, rotate_seconds=3_600.0) as opened:
        ids = write(opened, [start()])
        disk.fault = lambda name, n: stall() if (name, n) == ("write", 2) else None
        opened._keeper._writer.rotate()
        assert stall.begun.wait(10)
        began = time.monotonic()
        ids += fill(opened, calls(1))
        assert time.monotonic() - began < 1
        stall.over.set()
        assert opened.settled(10)
        assert set(kept(tmp_path)) == set(ids)


def test_a_broken_disk_is_not_hammered(tmp_path: Path) -> None:
    """A disk that refuses is tried again after 20, 40, 80 ms, however much comes meanwhile, and nothing is lost."""
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
    with journal(tmp_path, disk=disk) as opened:
        ids = fill(opened, [note()])
        until(lambda: "No space left" in str(opened.status().error))
        while not enough.wait(0.005):
            ids += fill(opened, [note()])
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
        ids = write(opened, calls(3))
        full.set()
        during = calls(100)
        ids += fill(opened, during)
        until(lambda: opened.status().error)
        status = opened.status()
        assert status.dropped == 206 - len(ids) > 0
        assert "No space left" in (status.error or "")
        await asyncio.wait_for(opened.durable(), 0.5)
        assert opened.status().unconfirmed == 1
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
        write(opened, [running])
        full.set()
        assert opened.append(note())
        until(lambda: opened.status().error)
        with pytest.raises(BudgetUnavailable, match="No space left") as caught:
            opened.append(start())
        assert "doctor" in caught.value.hint
        assert opened.append(end(running))
        full.clear()
        until(lambda: opened.status().error is None)
        assert opened.append(start())
        until(lambda: not opened.status().queued_bytes)
        assert len(kept(tmp_path)) == 4


async def test_one_write_for_all(tmp_path: Path) -> None:
    """A hundred coroutines that append in the same turn of their loop share one write, and all are woken by it."""
    disk = FaultyDisk()
    with journal(tmp_path, disk=disk) as opened:

        async def one(event: Event) -> None:
            opened.append(event)
            await opened.written()
            assert event.id in kept(tmp_path)

        await asyncio.gather(*(one(event) for event in calls(50)))
        assert disk.count["write"] == 1


async def test_whoever_waits_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that has stopped every answer leaves after the patience, whenever it came, and is counted."""
    monkeypatch.setattr(journal_module, "PATIENCE", 0.5)
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, n: stall() if (name, n) == ("write", 1) else None
    with journal(tmp_path, disk=disk) as opened:
        ids: list[str] = []

        async def answer(after: float) -> float:
            await asyncio.sleep(after)
            ids.extend(fill(opened, [note()]))
            began = time.monotonic()
            await opened.durable()
            return time.monotonic() - began

        took = await asyncio.gather(*(answer(number * 0.02) for number in range(40)))
        assert 0.39 < min(took) <= max(took) < 0.8
        assert opened.status().unconfirmed == 40
        stall.over.set()
        await opened.durable()
        assert opened.status().unconfirmed == 40
        assert kept(tmp_path) == ids


async def test_waiting_for_a_disk_that_refuses(tmp_path: Path) -> None:
    """One refusal is waited out; after the second answers leave and are counted, and then nobody waits at all."""
    disk, refused = FaultyDisk(), {1}

    def fault(name: str, n: int) -> None:
        if name == "write" and n in refused:
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk) as opened:
        ids = fill(opened, [note()])
        await opened.durable()
        assert (kept(tmp_path), opened.status().unconfirmed) == (ids, 0)
        refused.update(range(100))
        ids += fill(opened, [note()])
        await asyncio.wait_for(opened.durable(), 1)
        assert opened.status().unconfirmed == 1
        began = time.monotonic()
        for _ in range(50):
            ids += fill(opened, [note()])
            await opened.durable()
        assert time.monotonic() - began < 1
        assert opened.status().unconfirmed == 51
        refused.clear()
        until(lambda: not opened.status().queued_bytes)
        assert kept(tmp_path) == ids


def test_two_loops(tmp_path: Path) -> None:
    """Calls of two event loops and a plain thread share a journal whose disk stops: all go on when it does."""
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, n: stall() if (name, n) == ("write", 3) else None
    with journal(tmp_path, disk=disk) as opened:
        written: list[list[str]] = [[], [], []]

        async def call(ids: list[str]) -> None:
            for event in calls(100):
                ids += fill(opened, [event])
                await opened.durable()

        def plain() -> None:
            for event in calls(100):
                written[2] += write(opened, [event])

        threads = [threading.Thread(target=lambda ids=ids: asyncio.run(call(ids))) for ids in written[:2]]
        threads.append(threading.Thread(target=plain))
        for thread in threads:
            thread.start()
        assert stall.begun.wait(10)
        stall.over.set()
        for thread in threads:
            thread.join()
        found = kept(tmp_path)
        assert [[id_ for id_ in found if id_ in set(ids)] for ids in written] == written
        assert (len(found), opened.status().unconfirmed) == (600, 0)


@pytest.mark.parametrize("next_one", ["nobody", "another", "settled", "close"])
@pytest.mark.parametrize("parked", [True, False])
def test_a_loop_that_stops_at_once(tmp_path: Path, next_one: str, *, parked: bool) -> None:
    """A line whose loop never turns again is written soon, with anybody's next, when it is asked for, or at the end."""
    loop = asyncio.new_event_loop()
    opened, ids = Journal(tmp_path, CLOCK), []
    try:
        if parked:
            opened._keeper._busy_at -= 60
            opened._keeper.bell.set()
            until(lambda: opened._keeper.parked)
        loop.call_soon(lambda: ids.extend(fill(opened, [note()])))
        loop.call_soon(loop.stop)
        loop.run_forever()
        if next_one == "nobody":
            until(lambda: kept(tmp_path) == ids)
        elif next_one == "another":
            ids += fill(opened, [note()])
            until(lambda: kept(tmp_path) == ids)
        elif next_one == "settled":
            assert opened.settled(10)
            assert kept(tmp_path) == ids
    finally:
        opened.close()
        loop.close()
    assert kept(tmp_path) == ids


async def test_nobody_else_is_waited_for(tmp_path: Path) -> None:
    """Who has appended nothing waits for what others have, and for nothing when that is written."""
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, n: stall() if (name, n) == ("write", 2) else None
    with journal(tmp_path, disk=disk) as opened:
        await asyncio.to_thread(write, opened, [note()])
        await asyncio.wait_for(opened.written(), 0.1)
        await asyncio.to_thread(opened.append, note())
        waiter = asyncio.create_task(opened.written())
        assert await asyncio.to_thread(stall.begun.wait, 10)
        assert not waiter.done()
        stall.over.set()
        await waiter
        assert len(kept(tmp_path)) == 2


async def test_two_seconds_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slow write has taken of an answer's patience the flush behind it does not get again."""
    monkeypatch.setattr(journal_module, "PATIENCE", 0.6)
    disk, write_stalls, sync_stalls = FaultyDisk(), Stall(0.4), Stall(10)
    stalls = {"write": write_stalls, "sync": sync_stalls}
    disk.fault = lambda name, _n: stalls[name]() if name in stalls else None
    with journal(tmp_path, disk=disk, durability="power") as opened:
        opened.append(note())
        began = time.monotonic()
        await opened.durable()
        assert 0.55 < time.monotonic() - began < 0.9
        assert opened.status().unconfirmed == 1
        sync_stalls.over.set()


def test_a_complete_segment_whose_flush_fails(tmp_path: Path) -> None:
    """With `power` the lines of a complete segment that did not reach the medium are written again, then confirmed."""
    disk = FaultyDisk()

    def fault(name: str, n: int) -> None:
        if (name, n) == ("sync", 1):
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, durability="power", rotate_seconds=3_600.0) as opened:
        assert opened._keeper.stop(5)
        writer, first = opened._keeper._writer, opened.current
        assert first
        ids = write(opened, [note()])
        rotate(opened)
        writer.flush()
        assert writer.synced.value == 0
        ids += write(opened, [note()])
        writer.flush()
        assert writer.synced.value == writer.done.value
        first.unlink()
        assert kept(tmp_path) == ids


def test_a_flush_that_fails_while_a_segment_begins(tmp_path: Path) -> None:
    """With `power` what a flush loses while the next segment is being begun is not taken for safe with that one's."""
    disk, stall = FaultyDisk(), Stall(10)
    with journal(tmp_path, disk=disk, durability="power", rotate_seconds=3_600.0) as opened:
        assert opened._keeper.stop(5)
        writer, first = opened._keeper._writer, opened.current
        assert first
        ids = write(opened, [start(), note()])

        def fault(name: str, n: int) -> None:
            if name == "write":
                stall()
            if (name, n) == ("sync", 1):
                raise no_space()

        disk.fault = fault
        writer.rotate()
        assert stall.begun.wait(10)
        writer.flush()
        stall.over.set()
        until(lambda: opened.current != first)
        writer.flush()
        assert writer.synced.value == 0
        ids += write(opened, [note()])
        writer.flush()
        assert writer.synced.value == writer.done.value
        first.unlink()
        assert set(kept(tmp_path)) == set(ids)


async def test_who_comes_after_one_refusal(tmp_path: Path) -> None:
    """A line that comes between a refusal and the next try is waited for, by coroutines and threads."""
    disk, stall = FaultyDisk(), Stall(10)

    def fault(name: str, n: int) -> None:
        if (name, n) == ("write", 1):
            raise no_space()
        if (name, n) == ("write", 2):
            stall()

    disk.fault = fault
    with journal(tmp_path, disk=disk) as opened:
        ids = fill(opened, [note()])
        assert await asyncio.to_thread(stall.begun.wait, 10)
        assert opened.status().error
        ids += fill(opened, [note()])
        waiters = [
            asyncio.create_task(asyncio.to_thread(opened.settled, 10)),
            asyncio.create_task(opened.durable()),
        ]
        done, _ = await asyncio.wait(waiters, timeout=0.05)
        assert not done
        stall.over.set()
        settled, _ = await asyncio.gather(*waiters)
        assert (settled, opened.status().unconfirmed) == (True, 0)
        assert kept(tmp_path) == ids


async def test_closing_lets_go_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a disk that refuses is let go when the journal is closed, not when his patience ends."""
    monkeypatch.setattr(journal_module, "PATIENCE", 60.0)
    disk, stall = FaultyDisk(), Stall(10)

    def fault(name: str, _n: int) -> None:
        if name == "write":
            stall()
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk) as opened:
        writer = opened._keeper._writer
        fill(opened, [note()])
        answer = asyncio.create_task(opened.durable())
        assert await asyncio.to_thread(stall.begun.wait, 10)
        closing = asyncio.create_task(asyncio.to_thread(opened.close))
        assert await asyncio.to_thread(writer._over.wait, 10)
        stall.over.set()
        await asyncio.wait_for(answer, 10)
        await closing
        assert (opened.status().unconfirmed, opened.status().dropped) == (1, 1)


async def test_much_in_one_turn(tmp_path: Path) -> None:
    """Six hundred lines of 60 KB from one turn of a loop, more than memory may hold, are written while they come."""
    with journal(tmp_path, rotate_bytes=1 << 30) as opened:
        assert opened._keeper.stop(5)
        for _ in range(600):
            assert opened.append(note("x" * 60_000))
            until(lambda: opened.status().queued_bytes <= 8 << 20)
        assert opened.status().dropped == 0


def test_a_line_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line larger than all that may wait is taken when nothing else waits, and refused when something does."""
    monkeypatch.setattr(journal_module, "HELD_BYTES", 8_000)
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, _n: stall() if name == "write" else None
    with journal(tmp_path, disk=disk) as opened:
        ids = fill(opened, [note("x" * 20_000)])
        assert not opened.append(note("x" * 20_000))
        stall.over.set()
        assert opened.settled(10)
        assert (kept(tmp_path), len(ids)) == (ids, 1)


@pytest.mark.parametrize("failing", [1, 2])
async def test_what_waits_for_a_flush_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """With `power` memory holds so much to write again; what is older is unconfirmed if its flush fails, not else."""
    monkeypatch.setattr(journal_module, "HELD_BYTES", 8_000)
    disk = FaultyDisk()

    def fault(name: str, n: int) -> None:
        if (name, n) == ("sync", failing):
            raise no_space()

    disk.fault = fault
    with journal(tmp_path, disk=disk, durability="power", rotate_seconds=3_600.0) as opened:
        assert opened._keeper.stop(5)
        writer, dues, ids = opened._keeper._writer, [], []
        for _ in range(20):
            ids += write(opened, [note("x" * 1_000)])
            dues.append(writer.due)
        for _ in range(2):
            writer.flush()
            ids += write(opened, [note()])
            dues.append(writer.due)
        writer.flush()
        assert writer.synced.value == writer.due
        confirmed = [await writer.flushed(due, 1) for due in dues]
        again = len(kept(tmp_path)) - len(ids)
        if failing == 1:
            assert 7 <= again <= 8
            assert confirmed == [False] * (20 - again) + [True] * (again + 2)
        else:
            assert (again, confirmed) == (1, [True] * 22)
        assert set(kept(tmp_path)) == set(ids)
