"""A number that threads move forward, and that coroutines and threads wait for.

Coroutines of one loop that wait for the same mark form a cohort: one call into their loop wakes them all, and one
timer ends their patience. So a wait costs a future, and a move forward what the loops cost that wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Mark = TypeVar("Mark", int, tuple[int, int])
JOINS_WITHIN = 0.1
"""Seconds by which the patience of whoever joins a cohort may be cut short."""


class _Cohort(Generic[Mark]):
    """Coroutines of one loop that wait for one mark, and came at about the same time."""

    def __init__(self, mark: Mark, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self.mark: Mark = mark
        self.loop = loop
        self.until = until
        """In the loop's time."""
        self.waiters: list[asyncio.Future[bool]] = []
        self.timer: asyncio.TimerHandle | None = None

    def takes(self, mark: Mark, loop: asyncio.AbstractEventLoop, until: float) -> bool:
        """Somebody who waits for this fits in."""
        return self.mark == mark and self.loop is loop and 0 <= until - self.until <= JOINS_WITHIN

    def end(self, *, arrived: bool) -> None:
        """Wake everybody, in the loop's own thread."""
        if self.timer is not None:
            self.timer.cancel()
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(arrived)


class Progress(Generic[Mark]):
    """How far something has come."""

    def __init__(self, start: Mark) -> None:
        self.value: Mark = start
        self._mutex = threading.RLock()
        """Reentrant: the collector may end a coroutine under it that comes here too."""
        self._moved = threading.Condition(self._mutex)
        self._cohorts: list[_Cohort[Mark]] = []
        self._given_up = 0

    def advance(self, to: Mark) -> None:
        """Move forward and wake whom it concerns; from any thread. Backwards changes nothing."""
        with self._mutex:
            if to <= self.value:
                return
            self.value = to
            self._moved.notify_all()
            arrived = self._leave(lambda cohort: cohort.mark <= to)
        _tell(arrived, arrived=True)

    def give_up(self) -> None:
        """Tell all who wait now not to; from any thread."""
        with self._mutex:
            self._given_up += 1
            self._moved.notify_all()
            left = self._leave(lambda _: True)
        _tell(left, arrived=False)

    async def reach(self, mark: Mark, within: float) -> bool:
        """Wait until it is there, at most so many seconds; whether it is."""
        if self.value >= mark:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        with self._mutex:
            if self.value >= mark:
                return True
            self._cohort(mark, loop, loop.time() + within).waiters.append(waiter)
        return await waiter

    def wait(self, mark: Mark, within: float) -> bool:
        """The same for a thread: it blocks."""
        with self._moved:
            so_far = self._given_up
            self._moved.wait_for(lambda: self.value >= mark or self._given_up != so_far, within)
            return self.value >= mark

    def _cohort(self, mark: Mark, loop: asyncio.AbstractEventLoop, until: float) -> _Cohort[Mark]:
        for cohort in reversed(self._cohorts):
            if cohort.takes(mark, loop, until):
                return cohort
        cohort = _Cohort(mark, loop, until)
        cohort.timer = loop.call_at(until, self._expire, cohort)
        self._cohorts.append(cohort)
        return cohort

    def _expire(self, late: _Cohort[Mark]) -> None:
        with self._mutex:
            left = self._leave(lambda cohort: cohort is late)
        for cohort in left:
            cohort.end(arrived=False)

    def _leave(self, goes: Callable[[_Cohort[Mark]], bool]) -> list[_Cohort[Mark]]:
        """Those that wait no longer. The caller holds the mutex."""
        if not self._cohorts:
            return []
        left = [cohort for cohort in self._cohorts if goes(cohort)]
        if left:
            self._cohorts = [cohort for cohort in self._cohorts if cohort not in left]
        return left


def _tell(cohorts: list[_Cohort[Mark]], *, arrived: bool) -> None:
    for cohort in cohorts:
        with contextlib.suppress(RuntimeError):  # that loop has ended, and its waiters with it
            cohort.loop.call_soon_threadsafe(partial(cohort.end, arrived=arrived))
