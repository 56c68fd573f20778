"""One coarse timer for every deadline of a loop: a scan each tick instead of a timer per read."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

TICK = 0.025
"""Seconds between two scans; a deadline fires at most this late."""


class Expiring(Protocol):
    """Something that must not wait forever."""

    due: float
    """No deadline passes before this moment of `time.monotonic`."""

    def expire(self, now: float) -> None:
        """Fail if a deadline has passed, or else move `due` to the next one."""
        ...


class Deadlines:
    """The deadlines of one loop. Its timer runs only while something is waiting."""

    __slots__ = ("_timer", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[Expiring, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, waiting: Expiring) -> None:
        """Call `waiting.expire` whenever its `due` has passed, until it is forgotten."""
        self._waiting[waiting] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def forget(self, waiting: Expiring) -> None:
        """Its deadlines matter no longer."""
        self._waiting.pop(waiting, None)

    def _tick(self) -> None:
        now = monotonic()
        for late in [waiting for waiting in self._waiting if waiting.due <= now]:
            if late in self._waiting:
                late.expire(now)
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick) if self._waiting else None
