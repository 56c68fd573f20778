"""Lines into segments, in order, by a thread: whoever appends leaves a line with it and never meets the disk.

Group commit: the thread takes everything that has come since it last looked, a round, writes it with one call, and
says how many rounds are done. Queue, bell and number of the round change together under one mutex, so every line is
in exactly one round, and whoever reads `due` after leaving a line waits for that round or a later one.

Coroutines have the thread woken by their loop's next turn: it would contend for the interpreter with those that are
about to append, and so one round takes what all of them have left. Anybody else wakes it at once, and the keeper does
within a tick where a loop is busy with something else, or has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING

from turnout.storage.health import SLOW, WELL_AFTER, Health
from turnout.storage.progress import Progress
from turnout.storage.segments import segment_name
from turnout.storage.tail import Tail, Unsynced
from turnout.types import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.clock import Clock
    from turnout.storage.tail import Disk

    Line = tuple[bytes, Kind, str | None]
    """The bytes, what they tell, and of which attempt."""

BATCH_BYTES = 256 << 10
"""What goes in one write."""


class Writer:
    """The one hand that writes an owner's segments. Raises `OSError` when the first cannot be made."""

    def __init__(
        self, folder: Path, owner: str, disk: Disk, clock: Clock, *, power: bool, held_bytes: int
    ) -> None:
        self.due = 0
        """The round with which everything that was put so far is in a segment."""
        self.done: Progress[int] = Progress(0)
        """Rounds in segments."""
        self.synced: Progress[int] = Progress(0)
        """Rounds on the medium."""
        self.health = Health(clock)
        self.refusing = False
        """The disk has refused twice running: nobody waits for it before it takes something again."""
        self._folder, self._owner, self._disk, self._clock = folder, owner, disk, clock
        self._held_bytes = held_bytes
        self._numbers = itertools.count(1)
        self._mutex = threading.RLock()
        """Over what callers and the two threads share; never held while the disk works.

        The collector may end a coroutine in the middle of an append, and that one appends too: hence it is reentrant.
        """
        self._queue: deque[Line] = deque()
        self._hand: deque[Line] = deque()
        """The round being written."""
        self._held = 0
        self._taken = 0
        self._bell = threading.Lock()
        """Open when it has been rung; a lock opens and closes with less work than any other signal of Python's."""
        self._bell.acquire()
        self._rung = False
        self._promised: asyncio.AbstractEventLoop | None = None
        """The loop that is going to ring."""
        self._aged = False
        self._closing = False
        self._over = threading.Event()
        self._open: dict[str, bytes] = {}
        self._unsynced = Unsynced(held_bytes) if power else None
        self._retired: list[Tail] = []
        self.tail = self._new_tail()
        self._thread = threading.Thread(target=self._run, name="turnout-journal-writer", daemon=True)
        self._thread.start()

    # -- from any thread

    def put(self, data: bytes, kind: Kind, span: str | None) -> bool:
        """Leave a line with the thread; false when it holds as much as it may."""
        size, loop = len(data), _running_loop()
        with self._mutex:
            # what a call has cost is worth a reserve that its further events may not use up
            most = self._held_bytes * 5 // 4 if kind == Kind.LLM_CALL_END else self._held_bytes
            if self._closing or (self._held and self._held + size > most):
                return False
            self._queue.append((data, kind, span))
            self._held += size
            self.due = self._taken + 1
            if loop is None or self._held > BATCH_BYTES:
                self._ring()
            elif self._promised is not loop and not self._rung:
                self._promised = loop
                loop.call_soon(self.hurry)
        return True

    def hurry(self) -> None:
        """Have what waits written now."""
        with self._mutex:
            if self._queue:
                self._ring()

    def rotate(self) -> None:
        """Have a new segment begun with a copy of every open call; the old one is complete from then on."""
        with self._mutex:
            self._aged = True
            self._ring()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.release()

    @property
    def queued(self) -> int:
        """Lines that wait for the disk."""
        return len(self._queue) + len(self._hand)

    @property
    def queued_bytes(self) -> int:
        """Held in memory until the disk takes it."""
        return self._held

    @property
    def holds_open_calls(self) -> bool:
        """Some call has begun and not ended: its segment is still needed."""
        return bool(self._open)

    # -- the thread

    def _run(self) -> None:
        last = False
        while not last:
            self._bell.acquire()
            with self._mutex:
                self._rung, self._promised = False, None
                self._hand, self._queue = self._queue, self._hand
                self._taken += 1
                aged, self._aged = self._aged, False
                last = self._closing
            if aged:
                self._rotate()
            if not self._drain():
                return
            self.done.advance(self._taken)

    def _drain(self) -> bool:
        """Write the round; false when the disk refuses and the journal is being closed."""
        pause = SLOW
        while self._hand:
            if self._write():
                pause = SLOW
                continue
            over = self._over.is_set()
            if over or pause > SLOW:  # it was no accident
                self.refusing = True
                self.done.give_up()
            if over:
                return False
            self._over.wait(pause)
            pause = min(2 * pause, WELL_AFTER)
        return True

    def _write(self) -> bool:
        count, data = self._batch()
        began = self._clock.monotonic()
        try:
            if self.tail.spoilt:
                self._switch(self._new_tail())
            self.tail.write(data)
        except OSError as error:
            self.health.failed("write", error)
            return False
        took = self._clock.monotonic() - began
        for _ in range(count):
            self._note(*self._hand.popleft())
        with self._mutex:
            self._held -= len(data)
        self.refusing = False
        self.health.took(took)
        self.health.worked("write")
        return True

    def _batch(self) -> tuple[int, bytes]:
        """The next lines of the round, as many as go in one write."""
        lines: list[bytes] = []
        size = 0
        for data, _, _ in self._hand:
            size += len(data)
            if lines and size > BATCH_BYTES:
                break
            lines.append(data)
        return len(lines), b"".join(lines)

    def _note(self, data: bytes, kind: Kind, span: str | None) -> None:
        if self._unsynced is not None:
            self._unsynced.add(self._taken, data)
        if span is not None:
            if kind == Kind.LLM_CALL_START:
                self._open[span] = data
            elif kind == Kind.LLM_CALL_END:
                self._open.pop(span, None)

    def _rotate(self) -> None:
        try:
            self._switch(self._new_tail())
        except OSError as error:
            self.health.failed("begin", error)

    def _new_tail(self) -> Tail:
        number = next(self._numbers)
        return Tail(self._folder / segment_name(self._owner, number), number, self._disk)

    def _switch(self, fresh: Tail) -> None:
        """Go on in a new segment; one that cannot be begun is taken away again. Raises `OSError`."""
        with self._mutex:
            spoilt = self.tail.spoilt
            unsure = self._unsynced.again() if spoilt and self._unsynced else []
        try:
            fresh.begin(b"".join((*self._open.values(), *unsure)))
        except OSError:
            fresh.drop()
            raise
        with self._mutex:
            # its predecessor's flush failed meanwhile: what is unsure is not in this head, so it is given up too
            fresh.spoilt = self.tail.spoilt and not spoilt
            self._retired.append(self.tail)
            self.tail = fresh
        self.health.worked("begin")

    # -- flushing, for the keeper's thread

    def flush(self) -> None:
        """Bring every round that is done to the medium; a failure is noted, and the segment given up."""
        with self._mutex:
            upto = self.done.value
            useless = [tail for tail in self._retired if tail.spoilt]
            self._retired = [tail for tail in self._retired if not tail.spoilt]
            retired, current = list(self._retired), self.tail
        for tail in useless:
            with contextlib.suppress(OSError):
                tail.close()
        try:
            for tail in (*retired, current):
                if not tail.spoilt:
                    tail.sync()
        except OSError as error:
            self.health.failed("flush", error)
            # whichever it is by now: what is unsure is written again with its successor
            with self._mutex:
                self.tail.spoilt = True
            return
        for tail in retired:
            with contextlib.suppress(OSError):
                tail.close()
        with self._mutex:
            self._retired = [tail for tail in self._retired if tail not in retired]
            if current.spoilt:
                return
            if self._unsynced:
                self._unsynced.reached(upto)
        self.health.worked("flush")
        self.synced.advance(upto)

    async def flushed(self, due: int, within: float) -> bool:
        """Wait until this round is on the medium, at most so many seconds; whether all of it is."""
        there = await self.synced.reach(due, within)
        return there and (self._unsynced is None or due > self._unsynced.lost)

    @property
    def unflushed(self) -> bool:
        """There is something to flush."""
        return self.done.value > self.synced.value or bool(self._retired)

    # -- the end

    def stop(self, within: float) -> bool:
        """Write what waits, for so many seconds at most; whether the thread has ended."""
        with self._mutex:
            self._closing = True
            self._ring()
        self._over.set()
        self._thread.join(within)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close the files, after the threads have ended."""
        for tail in (*self._retired, self.tail):
            with contextlib.suppress(OSError):
                tail.close()

    def forget(self) -> None:
        """Close the inherited descriptors in a forked child; the parent writes what waits."""
        self._mutex = threading.RLock()
        for tail in (*self._retired, self.tail):
            tail.forget()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
