"""The journal's own thread: flushes in the background, begins new segments, measures the spool."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import msgspec

from turnout import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.clock import Clock
    from turnout.storage.progress import Progress
    from turnout.storage.segments import Spool
    from turnout.storage.writer import Writer

TICK = 0.05
IDLE_AFTER = 2.0
MEASURE_EVERY = 1.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How large and how old things may grow."""

    max_bytes: int
    """All segments of the spool together."""
    rotate_bytes: int
    """Of one segment, more or less."""
    rotate_seconds: float
    flush_seconds: float
    """From one flush to the next: what a power cut takes. 0: whenever there is something to flush."""


class Keeper:
    """Ticks every 50 ms while there is something to do, or at once when its bell is rung."""

    def __init__(
        self, writer: Writer, spool: Spool, clock: Clock, limits: Limits, committed: Progress[tuple[int, int]]
    ) -> None:
        self.wake: Callable[[], None] | None = None
        """Called when there are new lines in the segments, once a tick at most, from this thread."""
        self.bell = threading.Event()
        self.parked = False
        """It sleeps until the bell is rung."""
        self.room = limits.max_bytes
        """Bytes that the spool may still grow; callers count it down between two measurements."""
        self._writer, self._spool, self._clock, self._limits = writer, spool, clock, limits
        self._committed = committed
        self._seen = 0
        self._flushed_at = clock.monotonic()
        self._patience = TICK
        self._busy_at = self._begun_at = self._measured_at = clock.monotonic()
        self._marks: list[tuple[tuple[int, int], float]] = []
        self._closing = False
        self._measure()
        self._thread = threading.Thread(target=self._run, name="turnout-journal-keeper", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            self._sleep()
            self._tick()
        if self._writer.unflushed:
            self._writer.flush()

    def _sleep(self) -> None:
        self._patience = min(2 * self._patience, MEASURE_EVERY) if self._writer.health.error else TICK
        pause: float | None = self._patience
        if not self._writer.health.error and self._clock.monotonic() - self._busy_at > IDLE_AFTER:
            tail = self._writer.tail
            pause = self._limits.rotate_seconds if tail.size > tail.head else None
            self.parked = True
            if self._is_behind or self._writer.unflushed:
                pause = TICK
        self.bell.wait(pause)
        self.parked = False
        self.bell.clear()

    @property
    def _is_behind(self) -> bool:
        """There are lines it has not told the ledger of, in segments or before."""
        return self._writer.due > self._seen or self._writer.done.value != self._seen

    def _tick(self) -> None:
        now, writer = self._clock.monotonic(), self._writer
        writer.hurry()
        if (done := writer.done.value) != self._seen:
            self._seen, self._busy_at = done, now
            self._mark(now)
            if self.wake:
                self.wake()
        if self._rotation_is_due(now):
            writer.rotate()
            self._begun_at = now
        if writer.unflushed and now - self._flushed_at >= self._limits.flush_seconds:
            writer.flush()
            self._flushed_at = now
        if now - self._measured_at >= MEASURE_EVERY or self.room < 0:
            self._measure()

    def _rotation_is_due(self, now: float) -> bool:
        tail = self._writer.tail
        if tail.spoilt:
            return True
        fresh = tail.size - tail.head
        old = now - self._begun_at >= self._limits.rotate_seconds
        again = self._writer.health.cannot_begin
        return fresh >= self._limits.rotate_bytes or ((old or again) and fresh > 0)

    def _measure(self) -> None:
        try:
            # before the size: what is written in between may count twice, but not never
            waiting = self._writer.queued_bytes
            self.room = self._limits.max_bytes - waiting - self._spool.size()
        except OSError as error:
            logs.event(logging.WARNING, "spool_not_measured", "", error=str(error))
        self._measured_at = self._clock.monotonic()

    def _mark(self, now: float) -> None:
        """Remember how far the segments reach now, once a second, until the tables reach as far."""
        marks = [mark for mark in self._marks if mark[0] > self._committed.value]
        if not marks or now - marks[-1][1] >= 1.0:
            tail = self._writer.tail
            marks.append(((tail.number, tail.size), now))
        self._marks = marks

    def oldest_seconds(self) -> float | None:
        """Age of the oldest line that is not known to be in the tables, to a second."""
        waiting = [at for reach, at in self._marks if reach > self._committed.value]
        return self._clock.monotonic() - waiting[0] if waiting else None

    def stop(self, within: float) -> bool:
        """Flush once more and end, for so many seconds at most; whether it has ended."""
        self._closing = True
        self.bell.set()
        self._thread.join(within)
        return not self._thread.is_alive()
