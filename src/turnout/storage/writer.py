"""Lines into segments, in order: by the caller itself while the disk is quick, by a thread when it is not.

A write blocks where a flush is under way, or where the disk has stopped. So the caller writes only while no flush
is; otherwise a thread writes and the caller waits for it, 20 ms at most. Whoever waited in vain has found a slow
disk: from then on callers leave their lines with the thread, until the disk has been well for a second.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from turnout.storage.health import SLOW, WELL_AFTER, Health
from turnout.storage.progress import Progress
from turnout.storage.segments import segment_name
from turnout.storage.tail import Tail
from turnout.types import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.clock import Clock
    from turnout.storage.tail import Disk

BATCH_BYTES = 256 << 10


class _Line(NamedTuple):
    data: bytes
    kind: Kind
    span: str | None
    written: threading.Lock
    """Held until the line is."""


class Writer:
    """The one hand that writes an owner's segments. Raises `OSError` when the first cannot be made."""

    def __init__(
        self,
        folder: Path,
        owner: str,
        disk: Disk,
        clock: Clock,
        *,
        direct: bool,
        power: bool,
        held_bytes: int,
    ) -> None:
        self.written = 0
        """Lines in segments so far."""
        self.drained: Progress[int] = Progress(0)
        """Lines in segments when the thread last wrote: what waits for the queue waits for this."""
        self.synced: Progress[int] = Progress(0)
        """Lines on the medium."""
        self.health = Health(clock)
        self._folder, self._owner, self._disk, self._clock = folder, owner, disk, clock
        self._direct = direct
        self._held_bytes = held_bytes
        self._numbers = itertools.count(1)
        self._file = threading.Lock()
        """Whoever holds it may write."""
        self._flushing = False
        self._queue: deque[_Line] = deque()
        self._queued = 0
        self._mutex = threading.Lock()
        """Over the queue and its figures; never held while the disk works."""
        self._open: dict[str, bytes] = {}
        self._unsynced: deque[tuple[int, bytes]] | None = deque() if power else None
        self._retired: list[Tail] = []
        self._ring = threading.Event()
        self._closing = False
        self.tail = self._new_tail()
        self._thread = threading.Thread(target=self._run, name="turnout-journal-writer", daemon=True)
        self._thread.start()

    # -- callers

    def put(self, data: bytes, kind: Kind, span: str | None) -> bool:
        """Write a line, or leave it with the thread; false when the thread holds as much as it may."""
        well = self._direct and not self.health.slow and not self._queue
        if well and self._file.acquire(blocking=False):
            try:
                if not self._flushing:
                    return self._write(data, kind, span)
            finally:
                self._file.release()
        return self._leave(data, kind, span)

    def pending(self) -> int:
        """The line to wait for when everything put so far is to be in a segment; 0 when it is."""
        with self._mutex:
            return self.written + len(self._queue) if self._queue else 0

    @property
    def queued_bytes(self) -> int:
        """Held in memory because the disk does not take it."""
        return self._queued

    def _write(self, data: bytes, kind: Kind, span: str | None) -> bool:
        began = self._clock.monotonic()
        try:
            self.tail.write(data)
        except OSError as error:
            self.health.failed("write", error)
            return self._leave(data, kind, span)
        self._note(data, kind, span)
        if (took := self._clock.monotonic() - began) > SLOW:
            self.health.took(took)
        return True

    def _leave(self, data: bytes, kind: Kind, span: str | None) -> bool:
        written = threading.Lock()
        written.acquire()
        with self._mutex:
            # what a call has cost is worth a reserve that its further events may not use up
            room = self._held_bytes * (5 if kind == Kind.LLM_CALL_END else 4) // 4
            if self._closing or self._queued + len(data) > room:
                return False
            self._queue.append(_Line(data, kind, span, written))
            self._queued += len(data)
        self._ring.set()
        if not self.health.slow and not written.acquire(timeout=SLOW):
            self.health.took(2 * SLOW)
        return True

    def _note(self, data: bytes, kind: Kind, span: str | None) -> None:
        self.written += 1
        if self._unsynced is not None:
            self._unsynced.append((self.written, data))
        if span is not None:
            if kind == Kind.LLM_CALL_START:
                self._open[span] = data
            elif kind == Kind.LLM_CALL_END:
                self._open.pop(span, None)

    # -- the thread

    def _run(self) -> None:
        pause = SLOW
        while not self._closing or self._queue:
            if not self._queue:
                self._ring.wait()
                self._ring.clear()
            elif self._drain():
                pause = SLOW
            elif self._closing:
                return
            else:
                self._ring.clear()
                self._ring.wait(pause)
                pause = min(2 * pause, WELL_AFTER)

    def _drain(self) -> bool:
        """Write what waits; false when the disk refuses."""
        while self._queue:
            with self._file:
                batch = self._next()
                began = self._clock.monotonic()
                try:
                    if self.tail.spoilt:
                        self._switch(self._new_tail())
                    self.tail.write(b"".join(line.data for line in batch))
                except OSError as error:
                    self.health.failed("write", error)
                    return False
                with self._mutex:
                    for line in batch:
                        self._queue.popleft()
                        self._queued -= len(line.data)
                        self._note(line.data, line.kind, line.span)
            for line in batch:
                line.written.release()
            self.drained.advance(self.written)
            self.health.worked("write")
            self.health.took(self._clock.monotonic() - began)
        return True

    def _next(self) -> list[_Line]:
        batch: list[_Line] = []
        size = 0
        with self._mutex:
            for line in self._queue:
                size += len(line.data)
                if batch and size > BATCH_BYTES:
                    break
                batch.append(line)
        return batch

    # -- flushing and rotation, for the keeper's thread

    def flush(self) -> None:
        """Bring every line that is in a segment to the medium; a failure is noted, and the segment given up."""
        with self._file:  # from here on no caller writes by itself
            self._flushing = True
        upto, current = self.written, self.tail
        tails = [*self._retired, current]
        try:
            for tail in tails:
                if not tail.spoilt:
                    tail.sync()
        except OSError as error:
            current.spoilt = True
            self.health.failed("flush", error)
            return
        finally:
            self._flushing = False
        for tail in tails[:-1]:
            self._retired.remove(tail)
            with contextlib.suppress(OSError):
                tail.close()
        if not current.spoilt:
            self.health.worked("flush")
            self._confirm(upto)

    def _confirm(self, upto: int) -> None:
        if self._unsynced is not None:
            with self._file:
                while self._unsynced and self._unsynced[0][0] <= upto:
                    self._unsynced.popleft()
        self.synced.advance(upto)

    @property
    def unflushed(self) -> bool:
        """There is something to flush."""
        return self.written > self.synced.value or bool(self._retired)

    def rotate(self) -> None:
        """Begin a new segment with a copy of every open call; the old one is complete from then on."""
        try:
            fresh = self._new_tail()
            with self._file:
                self._switch(fresh)
        except OSError as error:
            self.health.failed("write", error)

    def _new_tail(self) -> Tail:
        number = next(self._numbers)
        return Tail(self._folder / segment_name(self._owner, number), number, self._disk)

    def _switch(self, fresh: Tail) -> None:
        """Go on in a new segment; one that cannot be begun is taken away again. The caller holds the file."""
        unsure = self._unsynced if self.tail.spoilt and self._unsynced else ()
        head = b"".join(itertools.chain(self._open.values(), (line for _, line in unsure)))
        try:
            if fresh.number < self.tail.number:  # the other thread has begun a later one
                fresh.drop()
                return
            fresh.begin(head)
        except OSError:
            fresh.drop()
            raise
        self._retired.append(self.tail)
        self.tail = fresh

    # -- the end

    def stop(self, within: float) -> bool:
        """Write what waits, for so many seconds at most; whether the thread has ended."""
        with self._mutex:
            self._closing = True
        self._ring.set()
        self._thread.join(within)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close the files, after the threads have ended."""
        with self._file:
            for tail in (*self._retired, self.tail):
                with contextlib.suppress(OSError):
                    tail.close()

    @property
    def holds_open_calls(self) -> bool:
        """Some call has begun and not ended: its segment is still needed."""
        return bool(self._open)

    @property
    def queued(self) -> int:
        """Lines that wait for the disk."""
        return len(self._queue)

    def forget(self) -> None:
        """Close the inherited descriptors in a forked child; the parent writes what waits."""
        for tail in (*self._retired, self.tail):
            tail.forget()
