"""The append-only log of one process: what is appended survives `kill -9` before an answer leaves."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Literal

import msgspec

from turnout import logs
from turnout.errors import BudgetUnavailable, ConfigError
from turnout.storage.frames import framed
from turnout.storage.keeper import Keeper, Limits
from turnout.storage.progress import Progress
from turnout.storage.segments import Lock, Spool, segment_number
from turnout.storage.tail import Disk
from turnout.storage.writer import Writer
from turnout.types import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from turnout.clock import Clock
    from turnout.types import Event

PATIENCE = 2.0
"""Seconds that an answer waits at most for its record to be as safe as `durability` asks."""
FLUSH_SECONDS = 1.0
"""What a power cut takes under `process` and `store`."""
CLOSING = 5.0
"""Seconds that closing waits for the disk."""
HELD_BYTES = 16 << 20
"""What may wait in memory for a disk that takes nothing."""


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the journal is doing."""

    owner: str
    spool_bytes: int
    """Everybody's segments, measured within the last second."""
    max_bytes: int
    queued_bytes: int
    """Waiting in memory for the disk."""
    oldest_seconds: float | None
    """Age of this process's oldest record that is not in the tables; `None`: all are."""
    dropped: int
    """Events that found no room, since the process began."""
    unconfirmed: int
    """Answers that left before their record was as safe as `durability` asks."""
    slow: bool
    """A write took more than 20 ms within the last second."""
    error: str | None
    """Why the disk takes nothing just now."""
    last_error: str | None


class Journal:
    """One process's append-only log in a spool folder.

    `durability`: an answer leaves after one write (`process`), after an fsync (`power`), or after the commit
    (`store`). `max_bytes` bounds the spool; beyond it, and beyond what waits in memory while the disk is broken,
    `on_full` decides: `drop` counts what is lost and goes on, `refuse` lets no new call begin.

    Append from any thread; the disk is a thread's business alone, and no stall of it reaches a caller. A forked child
    gets an owner and segments of its own with its first append. Raises `ConfigError` when the folder cannot be used.
    """

    def __init__(  # noqa: PLR0913 (each a choice of whoever runs the process)
        self,
        spool: Path,
        clock: Clock,
        *,
        durability: Literal["process", "power", "store"] = "process",
        max_bytes: int = 1 << 30,
        rotate_bytes: int = 8 << 20,
        rotate_seconds: float = 10.0,
        on_full: Literal["refuse", "drop"] = "drop",
        disk: Disk | None = None,
    ) -> None:
        self.durability = durability
        self.owner = ""
        """UUIDv7 of this incarnation of this process."""
        self.dropped = 0
        self.unconfirmed = 0
        self._folder = spool
        self._clock = clock
        self._limits = Limits(
            max_bytes=max_bytes,
            rotate_bytes=rotate_bytes,
            rotate_seconds=rotate_seconds,
            flush_seconds=0.0 if durability == "power" else FLUSH_SECONDS,
        )
        self._refuses = on_full == "refuse"
        self._disk = disk or Disk()
        self._wake: Callable[[], None] | None = None
        self._closed = False
        self._opening = threading.RLock()
        self._beginning = False
        self._writer: Writer | None = None
        try:
            self._begin()
        except OSError as error:
            raise ConfigError(
                f"the journal cannot be written in {spool}: {error}",
                hint="make the folder writable, or point TURNOUT_HOME at one that is",
            ) from error
        _journals.add(self)

    def _begin(self) -> Writer:
        """Become a new owner: lock first, then segments. Raises `OSError`."""
        self._spool = Spool(self._folder)
        self.owner = self._clock.new_id()
        self._lock: Lock = self._spool.enter(self.owner)
        self._committed: Progress[tuple[int, int]] = Progress((0, 0))
        try:
            writer = Writer(
                self._folder,
                self.owner,
                self._disk,
                self._clock,
                power=self.durability == "power",
                held_bytes=HELD_BYTES,
            )
        except OSError:
            self._lock.remove()
            raise
        self._keeper = Keeper(writer, self._spool, self._clock, self._limits, self._committed)
        self._keeper.wake = self._wake
        self._writer = writer
        return writer

    # -- the hot path

    def append(self, event: Event) -> bool:
        """Have one event written; false when it had to be dropped. Never waits for the disk.

        It gets into the file within moments, in its order: `written`, `durable` and `settled` say when. Raises
        `BudgetUnavailable` for LLM_CALL_START under `on_full="refuse"`, and nothing else.
        """
        data = framed(event)
        writer = self._writer or self._again()
        if writer is None:
            return self._drop(
                event, "the journal is closed" if self._closed else "no journal can be begun in this process"
            )
        keeper = self._keeper
        keeper.room -= len(data)
        if (keeper.room < 0 or self._refuses) and not self._admits(event, writer, len(data)):
            return False
        if not writer.put(data, event.kind, event.span):
            return self._drop(event, "the disk takes nothing and memory for it is used up")
        if keeper.parked:
            keeper.bell.set()
        return True

    def _admits(self, event: Event, writer: Writer, size: int) -> bool:
        """There is room for it: the end of a call may use a reserve of an eighth, so that what it cost is known."""
        keeper = self._keeper
        reserve = self._limits.max_bytes // 8 if event.kind == Kind.LLM_CALL_END else 0
        if keeper.room < -reserve:
            keeper.room += size
            keeper.bell.set()
            return self._drop(event, f"the spool has reached its {self._limits.max_bytes} bytes")
        if self._refuses and event.kind == Kind.LLM_CALL_START and (error := writer.health.error) is not None:
            keeper.room += size
            return self._drop(event, error)
        return True

    def _drop(self, event: Event, why: str) -> bool:
        if self._refuses and event.kind == Kind.LLM_CALL_START and not self._closed:
            raise BudgetUnavailable(
                f"{why}, so what the call costs could not be kept",
                hint="see `turnout doctor`; free disk space in the data folder, or set on_full to drop",
            )
        self.dropped += 1
        if (
            self.dropped & (self.dropped - 1) == 0
        ):  # the 1st, 2nd, 4th, 8th...: a full disk is not filled with logs
            logs.event(logging.WARNING, "journal_dropped", event.trace, why=why, dropped=self.dropped)
        return False

    async def written(self) -> None:
        """Wait until everything appended so far, by anybody, is in a segment; two seconds at most.

        While the disk refuses there is nothing to wait for.
        """
        if self._writer is not None:
            await _written(self._writer)

    async def durable(self) -> None:
        """Wait until everything appended so far is as safe as `durability` asks; two seconds at most.

        Then, or while the disk refuses, it is counted as unconfirmed.
        """
        writer = self._writer
        if writer is None:
            return
        if self.durability == "process":
            safe = await _written(writer)
        else:
            safe = await self._confirmed(writer)
        if not safe:
            self.unconfirmed += 1

    async def _confirmed(self, writer: Writer) -> bool:
        began, due = self._clock.monotonic(), writer.due
        if not await _written(writer):
            return False
        patience = PATIENCE - (self._clock.monotonic() - began)
        if self.durability == "power":
            self._keeper.bell.set()
            return await writer.flushed(due, patience)
        tail = writer.tail
        if self._wake:
            self._wake()
        return await self._committed.reach((tail.number, tail.size), patience)

    def settled(self, within: float = PATIENCE) -> bool:
        """As `written`, for a thread that may block; whether it came to that."""
        writer = self._writer
        if writer is None or writer.done.value >= (due := writer.due):
            return True
        writer.hurry()
        return not writer.refusing and writer.done.wait(due, within)

    # -- for the ledger

    @property
    def current(self) -> Path | None:
        """The segment being written; those of this owner with smaller names are complete. `None`: all are."""
        return self._writer.tail.path if self._writer else None

    def committed(self, path: Path, end: int) -> None:
        """Everything of this owner up to here is in the tables; from any thread."""
        if path.name.startswith(self.owner):
            self._committed.advance((segment_number(path), end))

    @property
    def wake(self) -> Callable[[], None] | None:
        """Called, from a thread of the journal's, when there is something new to read: at most every 50 ms."""
        return self._wake

    @wake.setter
    def wake(self, call: Callable[[], None] | None) -> None:
        self._wake = self._keeper.wake = call

    def status(self) -> JournalStatus:
        """How it is doing."""
        writer = self._writer
        return JournalStatus(
            owner=self.owner,
            spool_bytes=self._limits.max_bytes - self._keeper.room,
            max_bytes=self._limits.max_bytes,
            queued_bytes=writer.queued_bytes if writer else 0,
            oldest_seconds=self._keeper.oldest_seconds(),
            dropped=self.dropped,
            unconfirmed=self.unconfirmed,
            slow=bool(writer and writer.health.slow),
            error=writer.health.error if writer else None,
            last_error=writer.health.last_error if writer else None,
        )

    # -- the end, and forks

    def close(self) -> None:
        """Write what waits and let go of the lock; five seconds at most.

        Segments stay for the next process unless all of them are committed and no call is open.
        """
        with self._opening:
            self._closed = True
            writer, self._writer = self._writer, None
        _journals.discard(self)
        if writer is None:
            return
        ended = writer.stop(CLOSING) and self._keeper.stop(CLOSING)
        self.dropped += writer.queued
        if writer.queued:
            logs.event(
                logging.ERROR, "journal_dropped", "", why="the disk takes nothing", dropped=writer.queued
            )
        if not ended:
            return  # a thread is within the disk: its lock ends with the process
        writer.close()
        with contextlib.suppress(OSError):
            self._leave(writer)
        self._lock.release()

    def _leave(self, writer: Writer) -> None:
        mine = self._spool.mine(self.owner)
        all_in = (writer.tail.number, writer.tail.size) <= self._committed.value
        if not writer.holds_open_calls and (all_in or not any(path.stat().st_size for path in mine)):
            self._spool.remove(mine)
            self._lock.remove()

    def _again(self) -> Writer | None:
        """A new owner for a forked child; `None` when closed, or when it cannot be one."""
        with self._opening:
            # while it begins the collector may end a coroutine that appends: one of the parent's, not of the child's
            if self._closed or self._beginning or self._writer is not None:
                return self._writer
            self._beginning = True
            try:
                return self._begin()
            except OSError as error:
                logs.event(logging.ERROR, "journal_not_begun", "", error=str(error))
                return None
            finally:
                self._beginning = False

    def forget(self) -> None:
        """In a forked child: leave the parent's files and lock alone; the next append begins anew."""
        writer, self._writer = self._writer, None
        self._opening, self._beginning = threading.RLock(), False
        self._lock.forget()
        self._wake = None
        self.dropped = self.unconfirmed = 0
        if writer is not None:
            writer.forget()


async def _written(writer: Writer) -> bool:
    due = writer.due
    if writer.done.value >= due:
        return True
    return not writer.refusing and await writer.done.reach(due, PATIENCE)


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forked() -> None:
    for journal in list(_journals):
        journal.forget()


def _settle() -> None:
    until = time.monotonic() + PATIENCE
    for journal in list(_journals):
        journal.settled(max(0.0, until - time.monotonic()))


atexit.register(_settle)
os.register_at_fork(after_in_child=_forked)
