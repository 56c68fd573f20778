"""One plan: each model in order until one answers. One retry loop, under one absolute deadline."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from turnout.errors import AllProvidersFailed, ProviderError, ProviderTimeout, Verdict
from turnout.grant import Grant, Outcome
from turnout.types import Attempt, Model, Reason

Got = TypeVar("Got")

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnout.clock import Clock
    from turnout.providers.base import Timeouts
    from turnout.routing.base import Obstacle
    from turnout.types import Call, Plan

    TryOnce = Callable[[Call, Model, Grant], Awaitable[Outcome[Got]]]

ROUNDS = 3
"""The plan once, then twice more its best retryable candidate."""
FIRST_SHARE = 0.6
"""Of the time left, for an attempt that has others behind it."""
BACKOFF = (0.5, 1.5)
"""Seconds before the second and the third round, half of it random."""


class Served(msgspec.Struct, Generic[Got], frozen=True):
    """Who answered, what, and every attempt until then."""

    model: Model
    answer: Got
    """An `Answer`; or a `Live` one, whose attempt is the last of `attempts` and is not settled yet."""
    attempts: tuple[Attempt, ...]
    because: Reason | None
    """Why it was not the agent's first choice; `None` when it was."""


class Fallback:
    """Runs plans. `timeouts` are the deadlines of each attempt, within the call's own.

    `obstacle` says what speaks against a model just now: it may have fallen ill since the plan was made.
    """

    def __init__(
        self, timeouts: Timeouts, clock: Clock, obstacle: Callable[[Model], Obstacle | None] = lambda _: None
    ) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._obstacle = obstacle

    async def run(
        self, call: Call, plan: Plan, attempt: TryOnce[Got], *, stream: bool = False
    ) -> Served[Got]:
        """Let `attempt` try the models; one that opens streams has deadlines of another kind.

        Raises the provider's own error when no model can help, else `AllProvidersFailed` with every attempt.
        """
        deadline = self._clock.monotonic() + (call.options.timeout or self._timeouts.total)
        walk = _Walk(plan, self._obstacle)
        for rounds in range(ROUNDS):
            while (model := walk.next()) is not None:
                because = walk.because(model)
                grant = Grant(
                    timeouts=self._share(deadline, others=walk.others, stream=stream),
                    number=len(walk.attempts) + 1,
                    because=because,
                    previous=walk.attempts[-1] if walk.attempts else None,
                )
                outcome = await attempt(call, model, grant)
                walk.note(model, outcome)
                if outcome.answer is not None:
                    return Served(model, outcome.answer, tuple(walk.attempts), because)
                if outcome.error is not None and outcome.error.verdict is Verdict.STOP:
                    outcome.error.attempts = tuple(walk.attempts)
                    raise outcome.error
                if self._clock.monotonic() >= deadline:
                    raise walk.failure(call)
            if rounds == ROUNDS - 1 or not await self._wait(walk, rounds, deadline):
                break
        raise walk.failure(call)

    def _share(self, deadline: float, *, others: bool, stream: bool) -> Timeouts:
        """An attempt with others behind it may not use up their time: in all, or until a stream's first token."""
        ours = self._timeouts
        left = max(0.001, deadline - self._clock.monotonic())
        share = left * FIRST_SHARE if others else left
        if stream:
            first = min(ours.first_token, share)
            return msgspec.structs.replace(
                ours, total=left, connect=min(ours.connect, first), first_token=first, first_byte=first
            )
        return msgspec.structs.replace(
            ours, total=share, connect=min(ours.connect, share), first_byte=share, idle=share
        )

    async def _wait(self, walk: _Walk, rounds: int, deadline: float) -> bool:
        """Sleep before the best candidate's next try; False when there is none, or no time for it."""
        asked = walk.queue_best()
        if asked is None:
            return False
        pause = max(asked, BACKOFF[rounds] * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        if self._clock.monotonic() + pause >= deadline:
            return False
        await asyncio.sleep(pause)
        return True


class _Walk:
    """Where one plan stands."""

    def __init__(self, plan: Plan, obstacle: Callable[[Model], Obstacle | None]) -> None:
        self.attempts: list[Attempt] = []
        self._obstacle = obstacle
        self._first = plan.models[0].name
        # `left_out` is in the tier's order, so its head was before the plan's first model or behind it.
        self._ahead = plan.left_out[0].reason if plan.left_out and plan.left_out[0].ahead else None
        self._queue = list(plan.models)
        self._failed: dict[str, tuple[Model, ProviderError]] = {}
        self._narrow = 0

    @property
    def others(self) -> bool:
        """Somebody stands behind the model that is next to be tried."""
        return bool(self._fitting())

    def because(self, model: Model) -> Reason | None:
        """Why the agent's first choice is not the one: it failed, or stood before all that can be called."""
        if model.name != self._first and self._first in self._failed:
            return self._failed[self._first][1].reason
        return self._ahead

    def next(self) -> Model | None:
        """The next model whose window may hold the call; one that is not well comes after those that are."""
        fit = self._fitting()
        if not fit:
            return None
        model = fit[0] if self._obstacle(fit[0]) is None else min(fit, key=self._wait_for)
        if fit[0].name == self._first != model.name and (obstacle := self._obstacle(fit[0])) is not None:
            self._ahead = obstacle.reason
        self._queue.remove(model)
        return model

    def _fitting(self) -> list[Model]:
        return [model for model in self._queue if model.context_window > self._narrow]

    def _wait_for(self, model: Model) -> float:
        obstacle = self._obstacle(model)
        return -1.0 if obstacle is None else obstacle.seconds

    def note(self, model: Model, outcome: Outcome[Any]) -> None:
        """Keep what came of a try."""
        self.attempts.append(outcome.attempt)
        if outcome.error is not None:
            self._failed[model.name] = (model, outcome.error)
            if outcome.again:
                self._queue.insert(0, model)
            if outcome.error.verdict is Verdict.WIDER:
                self._narrow = max(self._narrow, model.context_window)

    def queue_best(self) -> float | None:
        """Queue the candidate to try again: the one that may be asked soonest, the earlier one of the plan first.

        Returns the seconds it asked for (0 when it did not), or `None` when there is no candidate.
        """
        candidates = [
            (error.retry_after or 0.0, model)
            for model, error in self._failed.values()
            if error.verdict is Verdict.RETRY and model.context_window > self._narrow
        ]
        if not candidates:
            return None
        asked, model = min(candidates, key=lambda candidate: candidate[0])
        self._queue = [model]
        return asked

    def failure(self, call: Call) -> ProviderError | AllProvidersFailed:
        """What the caller gets to see."""
        errors = [error for _, error in self._failed.values()]
        overflow = next((error for error in errors if error.verdict is Verdict.WIDER), None)
        if overflow is not None and all(error.verdict is Verdict.WIDER for error in errors):
            overflow.attempts = tuple(self.attempts)
            return overflow
        waits = [error.retry_after for error in errors if error.retry_after is not None]
        late = all(isinstance(error, ProviderTimeout) for error in errors)
        return AllProvidersFailed(
            f"{len(self.attempts)} attempts",
            attempts=tuple(self.attempts),
            status=504 if late else 502,
            retry_after=min(waits, default=None),
            request_id=call.id,
            hint="see each attempt above; `turnout models` shows what is configured",
        )
