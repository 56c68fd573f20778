"""The journal: append, rotation, durability, room, the end, forks."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.storage.journals import (
    CLOCK,
    ROOT,
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
from tests.storage.test_ledger import Record
from turnout.errors import BudgetUnavailable, ConfigError
from turnout.storage import journal as journal_module
from turnout.storage import keeper as keeper_module
from turnout.storage.journal import Journal
from turnout.storage.segments import Spool
from turnout.types import Kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_written_and_durable(tmp_path: Path, durability: str) -> None:
    """Every event is in the segment, in order, when `written` or `durable` returns, or `settled` in a thread."""
    with journal(tmp_path, durability=durability) as opened:
        ids: list[str] = []
        for wait in (opened.written, opened.durable):
            for event in [*calls(20), note(), *calls(3)]:
                ids += fill(opened, [event])
                await wait()
                assert kept(tmp_path) == ids
        for event in calls(20):
            ids += fill(opened, [event])
            assert opened.settled()
            assert kept(tmp_path) == ids


def test_modes(tmp_path: Path) -> None:
    """Segments and lock are the user's alone."""
    with journal(tmp_path / "spool") as opened:
        opened.append(note())
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()}
        assert ((tmp_path / "spool").stat().st_mode & 0o777, modes) == (0o700, {0o600})


def test_rotation_while_appending(tmp_path: Path) -> None:
    """Four threads append over many segments: each event is there, and only open starts are there more than once."""
    with journal(tmp_path, rotate_bytes=4_000) as opened:
        lists = [calls(300) for _ in range(4)]
        threads = [threading.Thread(target=fill, args=(opened, events)) for events in lists]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: len(segments(tmp_path)) > 1 and not opened.status().queued_bytes)
        found = kept(tmp_path)
        ends = {event.id for events in lists for event in events if event.kind == Kind.LLM_CALL_END}
        assert set(found) == {event.id for events in lists for event in events}
        assert sum(found.count(one) for one in ends) == len(ends)


def test_open_calls_are_carried_forward(tmp_path: Path) -> None:
    """When every complete segment is deleted, the starts of all open calls are still there."""
    with journal(tmp_path, rotate_bytes=2_000) as opened:
        still_open = [start() for _ in range(5)]
        fill(opened, still_open)
        before = opened.current
        for _ in range(3):
            fill(opened, calls(10))
            until(lambda before=before: opened.current != before)
            before = opened.current
        assert before
        spool = Spool(tmp_path)
        spool.remove(path for path in spool.mine(opened.owner) if path.name < before.name)
        assert {event.id for event in still_open} <= set(kept(tmp_path))


def test_an_old_segment_is_completed_without_traffic(tmp_path: Path) -> None:
    """A segment ends when it is old, also when nothing more is appended; an empty one does not."""
    with journal(tmp_path, rotate_seconds=0.1) as opened:
        first = opened.current
        opened.append(note())
        until(lambda: opened.current != first)
        second = opened.current
        opened.append(start())
        until(lambda: opened.current != second)
        assert first
        assert first.stat().st_size > 0


def test_wake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ingests is told that there is something new, also after a pause in which everything slept."""
    monkeypatch.setattr(keeper_module, "IDLE_AFTER", 0.1)
    told = threading.Event()
    with journal(tmp_path) as opened:
        opened.wake = told.set
        opened.append(note())
        assert told.wait(10)
        until(lambda: opened._keeper.parked)
        told.clear()
        opened.append(note())
        assert told.wait(10)


async def test_process_waits_for_no_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `process` an answer leaves when its record is written, even while the disk is flushing for ever."""
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.0)
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, _n: stall() if name == "sync" else None
    with journal(tmp_path, disk=disk) as opened:
        opened.append(note())
        await asyncio.to_thread(stall.begun.wait, 10)
        opened.append(note())
        await asyncio.wait_for(opened.durable(), 0.5)
        assert len(kept(tmp_path)) == 2
        stall.over.set()


async def test_power_waits_for_the_flush(tmp_path: Path) -> None:
    """With `power` answers leave only after the fsync, and one fsync serves all that wait."""
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, _n: stall() if name == "sync" else None
    with journal(tmp_path, disk=disk, durability="power") as opened:
        opened.append(note())
        first = asyncio.create_task(opened.durable())
        await asyncio.to_thread(stall.begun.wait, 10)
        others = []
        for _ in range(50):
            opened.append(note())
            others.append(asyncio.create_task(opened.durable()))
        done, _ = await asyncio.wait([first, *others], timeout=0.05, return_when="FIRST_COMPLETED")
        assert not done
        syncs = disk.count["sync"]
        stall.over.set()
        await asyncio.gather(first, *others)
        assert disk.count["sync"] - syncs <= 2
        assert disk.count["folder"] == 1
        assert opened.status().unconfirmed == 0


async def test_store_waits_for_the_commit(tmp_path: Path) -> None:
    """With `store` an answer leaves when the ledger says that it has committed that far, and not before."""
    with journal(tmp_path, durability="store") as opened:
        told = threading.Event()
        opened.wake = told.set
        opened.append(note())
        answer = asyncio.create_task(opened.durable())
        await asyncio.to_thread(told.wait, 10)
        path = opened.current
        assert path
        opened.committed(path, path.stat().st_size - 1)
        opened.committed(path.with_name("other.00000009.jnl"), 1 << 30)
        done, _ = await asyncio.wait([answer], timeout=0.05)
        assert not done
        opened.committed(path, path.stat().st_size)
        await asyncio.wait_for(answer, 1)
        assert opened.status().oldest_seconds is None


async def test_a_segment_that_begins_before_the_answer_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `store` an answer whose line is in the tables leaves, though an empty segment has begun meanwhile."""
    monkeypatch.setattr(journal_module, "PATIENCE", 10.0)
    record = Record(tmp_path)
    try:
        await asyncio.to_thread(write, record.journal, [note()])
        rotate(record.journal)
        record.ledger.start()
        await record.journal.durable()
        assert record.journal.status().unconfirmed == 0
    finally:
        record.close()


async def test_an_answer_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that does not come holds an answer for the patience only, and is counted."""
    monkeypatch.setattr(journal_module, "PATIENCE", 0.05)
    with journal(tmp_path, durability="store") as opened:
        opened.append(note())
        await opened.durable()
        assert opened.status().unconfirmed == 1


@pytest.mark.parametrize("on_full", ["refuse", "drop"])
def test_a_full_spool(tmp_path: Path, on_full: str) -> None:
    """At `max_bytes` new calls are refused or dropped, running ones still end, and freed room is found."""
    with journal(tmp_path, max_bytes=20_000, on_full=on_full) as opened:
        running = start()
        opened.append(running)
        kept_notes = [opened.append(note("x" * 1_000)) for _ in range(30)]
        assert kept_notes == sorted(kept_notes, reverse=True)
        assert not kept_notes[-1]
        until(lambda: opened.status().spool_bytes > 15_000)
        while opened.append(note()):
            pass
        before = opened.status().dropped
        if on_full == "refuse":
            with pytest.raises(BudgetUnavailable, match="20000 bytes"):
                opened.append(start())
        else:
            assert not opened.append(start())
            assert opened.status().dropped == before + 1
        assert opened.append(end(running))
        assert opened.settled()
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= 20_000 * 9 // 8
        for path in segments(tmp_path):
            os.truncate(path, 0)
        until(lambda: opened.append(note()))
        assert opened.append(start())


def test_the_reserve_for_ends_is_bounded(tmp_path: Path) -> None:
    """In a full spool calls still end, within an eighth more than `max_bytes`; what comes then is dropped."""
    with journal(tmp_path, max_bytes=40_000) as opened:
        assert opened._keeper.stop(5)  # measured anew in between, the bound would be that of one event more
        running = [start() for _ in range(60)]
        fill(opened, running)
        while opened.append(note()):
            pass
        ended = write(opened, [end(one) for one in running])
        assert 0 < len(ended) < len(running)
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= 40_000 * 9 // 8


def test_drops_are_logged_ever_more_rarely(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first, second, fourth and eighth event that is dropped is logged, with how many there were and why."""
    opened = Journal(tmp_path, CLOCK)
    opened.close()
    with caplog.at_level(logging.WARNING, "turnout"):
        assert fill(opened, [note() for _ in range(9)]) == []
    assert [record.getMessage() for record in caplog.records] == ["journal_dropped"] * 4
    told = [record.__dict__["facts"] for record in caplog.records]
    assert told == [{"why": "the journal is closed", "dropped": count} for count in (1, 2, 4, 8)]


async def test_who_waits_for_the_commit_wakes_the_ledger(tmp_path: Path) -> None:
    """With `store` the ledger is told by the one who waits, not at the keeper's next round."""
    with journal(tmp_path, durability="store") as opened:
        opened._keeper.stop(5)
        write(opened, [note()])

        def commit() -> None:
            path = opened.current
            assert path
            opened.committed(path, path.stat().st_size)

        opened.wake = commit
        await opened.durable()
        assert opened.status().unconfirmed == 0


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """A spool that cannot be made is an error of the configuration that says what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        Journal(tmp_path / "file" / "spool", CLOCK)
    assert "TURNOUT_HOME" in caught.value.hint


def test_no_first_segment(tmp_path: Path) -> None:
    """A journal that cannot make its first segment leaves no lock behind."""
    disk = FaultyDisk()

    def fault(_name: str, _n: int) -> None:
        raise no_space()

    disk.fault = fault
    with pytest.raises(ConfigError, match="No space left"):
        Journal(tmp_path, CLOCK, disk=disk)
    assert list(tmp_path.iterdir()) == []


def test_close_leaves_what_is_not_in_the_tables(tmp_path: Path) -> None:
    """After closing, the segments can be adopted, and an event that comes late is counted."""
    opened = Journal(tmp_path, CLOCK)
    ids = fill(opened, calls(2))
    opened.close()
    opened.close()
    assert not opened.append(note())
    assert (opened.status().dropped, opened.current) == (1, None)
    (dead,) = Spool(tmp_path).dead()
    assert (dead.owner, kept(tmp_path)) == (opened.owner, ids)
    dead.close()


@pytest.mark.parametrize("still_open", [True, False])
def test_close_takes_away_what_is(tmp_path: Path, *, still_open: bool) -> None:
    """After closing, a journal that is in the tables to its end leaves nothing, unless a call is open."""
    opened = Journal(tmp_path, CLOCK)
    write(opened, [*calls(2), *([start()] if still_open else [])])
    path = opened.current
    assert path
    opened.committed(path, path.stat().st_size)
    opened.close()
    assert bool(list(tmp_path.iterdir())) == still_open


def test_closing_an_unused_journal_leaves_nothing(tmp_path: Path) -> None:
    """A journal to which nothing was appended leaves an empty folder."""
    Journal(tmp_path, CLOCK).close()
    assert list(tmp_path.iterdir()) == []


def test_close_does_not_wait_for_a_dead_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing on a disk that has stopped gives up, counts what is lost, and keeps the lock while a thread is in it."""
    monkeypatch.setattr(journal_module, "CLOSING", 0.1)
    disk, stall = FaultyDisk(), Stall(10)
    disk.fault = lambda name, _n: stall() if name == "write" else None
    opened = Journal(tmp_path, CLOCK, disk=disk)
    fill(opened, calls(2))
    opened.close()
    assert opened.status().dropped == 4
    assert list(Spool(tmp_path).dead()) == []
    stall.over.set()
    opened._keeper._writer._thread.join()
    opened._lock.release()


FORKS = """
import asyncio, multiprocessing, os, sys, threading
from pathlib import Path
from tests.storage.journals import CLOCK, kept, note, start
from turnout.storage.journal import Journal
from turnout.storage.segments import Spool

folder = Path(sys.argv[1])
parent = Journal(folder, CLOCK)
assert parent.append(start())
owner, path = parent.owner, parent.current
inherited = parent._writer
parent.wake = lambda: None

def child():
    assert parent.current is None
    assert all(parent.append(note()) for _ in range(10))
    assert parent.owner != owner
    assert [d.owner for d in Spool(folder).dead()] == []
    assert parent.status().dropped == 0
    assert parent.wake is None
    inherited.hurry()  # as a loop would that goes on in the child
    assert not any(os.path.samestat(os.fstat(fd), os.stat(path)) for fd in open_fds())
    parent.close()

def open_fds():
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue
        yield int(name)

def ended(status):
    assert status == 0, status

held, over = threading.Event(), threading.Event()

def hold():
    with inherited._mutex:
        held.set()
        over.wait()

holder = threading.Thread(target=hold)  # it is not in the child
holder.start()
held.wait()
if sys.argv[2] == "fork":
    pid = os.fork()
    if not pid:
        try:
            child()
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended(os.waitpid(pid, 0)[1])
else:
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start(); process.join(); ended(process.exitcode)

over.set()
holder.join()
assert parent.append(note())
asyncio.run(parent.durable())
(left,) = Spool(folder).dead()
assert left.owner != owner, "the parent's lock was lost"
assert len(kept(folder)) == 12
left.close()
assert parent.owner == owner and len(kept(folder)) == 2
parent.close()
"""


ADOPTER_FORKS = """
import os, sys
from pathlib import Path
from turnout.storage.segments import Spool

spool = Spool(Path(sys.argv[1]))
spool.enter("owner").release()
(dead,) = spool.dead()
begun, begins = os.pipe()
over, ends = os.pipe()
pid = os.fork()
if not pid:
    os.close(ends)
    os.write(begins, b".")
    os.read(over, 1)
    os._exit(0)
os.read(begun, 1)
dead.release()
(again,) = spool.dead()
again.close()
os.close(ends)
os.waitpid(pid, 0)
"""


def test_an_adopter_forks(tmp_path: Path) -> None:
    """A child forked while its parent adopts does not keep the dead owner's lock."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", ADOPTER_FORKS, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_forks(tmp_path: Path, how: str) -> None:
    """A forked child writes segments of its own, and the parent's lock and segments stay the parent's."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", FORKS, str(tmp_path), how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
