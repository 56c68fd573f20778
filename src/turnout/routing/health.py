"""This process's memory of its providers, told by `attempt.py`: who is well, who rests, who is busy, and until when."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from turnout.routing.base import upstream
from turnout.routing.keys import Keys
from turnout.routing.target import ModelHealth, Permit, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.clock import Clock
    from turnout.routing.base import Obstacle, Upstream
    from turnout.types import Model

__all__ = ["Health", "Keys", "ModelHealth", "Permit"]

PATIENCE = 10.0
"""Seconds an attempt must have been given for its timeout to count: a caller in a hurry ejects nobody."""
ALL_WELL: Mapping[Upstream, Obstacle] = MappingProxyType({})


class Health:
    """Of every upstream that was asked so far. Any thread and any event loop may ask and tell.

    `patience` is the time in seconds an attempt must have been given for its timeout to count.
    """

    def __init__(self, clock: Clock, patience: float = PATIENCE) -> None:
        self._clock = clock
        self._patience = patience
        self._targets: dict[Upstream, Target] = {}
        self._unwell: dict[Upstream, Target] = {}

    def enter(self, model: Model, seconds: float = math.inf) -> Permit:
        """An attempt begins now, whatever stands against it; `seconds` is the time it is given."""
        return self._target(model).enter(seconds)

    def admit(self, model: Model, seconds: float) -> Permit | None:
        """An attempt begins now, unless so many are in flight that it has to wait for its `turn`."""
        return self._target(model).admit(seconds)

    async def turn(self, model: Model, seconds: float) -> Permit:
        """An attempt begins as soon as the model's concurrency limit lets it, first come, first served.

        `seconds` are for the waiting and the attempt together. Raises `RateLimited` when they pass first.
        """
        return await self._target(model).turn(seconds)

    def obstacle(self, model: Model) -> Obstacle | None:
        """What speaks against asking the model now; `None` in good times."""
        target = self._unwell.get(upstream(model)) if self._unwell else None
        return None if target is None else target.obstacle(self._clock.monotonic())

    def snapshot(self) -> Mapping[Upstream, Obstacle]:
        """Everybody that `obstacle` would speak against, for `Facts`."""
        if not self._unwell:
            return ALL_WELL
        now = self._clock.monotonic()
        read = {name: target.obstacle(now) for name, target in tuple(self._unwell.items())}
        return {name: obstacle for name, obstacle in read.items() if obstacle is not None}

    def of(self, model: Model) -> ModelHealth:
        """How the model's upstream is."""
        name = upstream(model)
        target = self._targets.get(name)
        return target.read() if target is not None else ModelHealth(provider=name[0], model=name[1])

    def report(self) -> list[ModelHealth]:
        """How everybody is that was asked so far, by provider and name."""
        return [target.read() for _, target in sorted(self._targets.items())]

    def _target(self, model: Model) -> Target:
        name = upstream(model)
        found = self._targets.get(name)
        if found is None:
            fresh = Target(name, self._clock, self._patience, self._unwell)
            found = self._targets.setdefault(name, fresh)
        return found
