"""A number that threads move forward and coroutines wait for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Generic, TypeVar

Mark = TypeVar("Mark", int, tuple[int, int])


class Progress(Generic[Mark]):
    """How far something has come."""

    def __init__(self, start: Mark) -> None:
        self.value: Mark = start
        self._mutex = threading.Lock()
        self._waiting: list[tuple[Mark, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def advance(self, to: Mark) -> None:
        """Move forward and wake whom it concerns; from any thread. Backwards changes nothing."""
        with self._mutex:
            if to <= self.value:
                return
            self.value = to
            arrived = [entry for entry in self._waiting if entry[0] <= to]
            if arrived:
                self._waiting = [entry for entry in self._waiting if entry[0] > to]
        for _, loop, future in arrived:
            with contextlib.suppress(RuntimeError):  # that loop has ended, and its waiters with it
                loop.call_soon_threadsafe(_arrive, future)

    async def reach(self, target: Mark, within: float) -> bool:
        """Wait until it is there, at most so many seconds; whether it is."""
        if self.value >= target:
            return True
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        entry = (target, loop, future)
        with self._mutex:
            if self.value >= target:
                return True
            self._waiting.append(entry)
        try:
            await asyncio.wait_for(future, within)
        except TimeoutError:
            return bool(self.value >= target)
        finally:
            if not future.done() or future.cancelled():
                with self._mutex, contextlib.suppress(ValueError):
                    self._waiting.remove(entry)
        return True


def _arrive(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
