"""One upstream as this process has come to know it: its breaker, its limit, its rest, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from threading import RLock
from typing import TYPE_CHECKING, Literal, Self

import msgspec

from turnout.errors import RateLimited
from turnout.routing.base import Obstacle
from turnout.routing.breaker import Breaker, Sign, sign_of
from turnout.routing.concurrency import Concurrency
from turnout.routing.keys import pause
from turnout.types import Reason

if TYPE_CHECKING:
    from types import TracebackType

    from turnout.clock import Clock
    from turnout.errors import ProviderError
    from turnout.routing.base import Upstream

DAY = 86_400.0
"""Nobody waits longer for a turn; event loops take no infinite delay."""


class ModelHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How one upstream was when it was asked for."""

    provider: str
    model: str
    """The provider's own name for it."""
    state: Literal["closed", "open", "half_open", "benched"] = "closed"
    seconds: float = 0.0
    """Until it may be asked again; 0 when it may be now."""
    faults: int = 0
    """In a row."""
    ejected: int = 0
    """How often its circuit opened, without five good minutes between; the next cooldown grows with it."""
    in_flight: int = 0
    limit: int | None = None
    """Of calls in flight; `None`: not limited."""
    waiting: int = 0
    """Calls waiting for their turn."""
    last_error: Reason | None = None


class Permit:
    """One attempt in flight. It ends once, by whichever of `done` and `cancelled` comes first.

    As a context manager it is `cancelled` on the way out unless `done` was said before.
    """

    __slots__ = ("_target", "era", "over", "probe", "seconds")

    def __init__(self, target: Target, *, probe: bool, seconds: float) -> None:
        self._target = target
        self.era = target.breaker.era
        self.probe = probe
        """A circuit is half open, and this attempt decides what becomes of it."""
        self.seconds = seconds
        """The attempt is given; the wait for its turn is taken off."""
        self.over = False

    def answering(self) -> ModelHealth | None:
        """The first token has come: a probe need not wait for the last. Returns as `done` does."""
        return self._target.told(self, Sign.WELL, None, over=False)

    def done(self, error: ProviderError | None = None, *, another_key: bool = False) -> ModelHealth | None:
        """The attempt was answered, or failed; `another_key` when that was the key's failure and one is free.

        Returns the upstream's state when its circuit has opened or closed by this, for the log and the trace.
        """
        if another_key:
            return self._target.told(self, Sign.NOTHING, None)
        hurried = self.seconds < self._target.patience
        return self._target.told(self, sign_of(error, hurried=hurried), error)

    def cancelled(self) -> None:
        """The attempt was given up; that says nothing about its provider."""
        self._target.told(self, Sign.NOTHING, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.over:
            self.cancelled()


class Ticket:
    """A call that waits for its turn, on the event loop it waits in."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self.permit: Permit | None = None

    def call(self, permit: Permit) -> None:
        """Wake it, from whichever thread."""
        try:
            self.turn.get_loop().call_soon_threadsafe(self._wake, permit)
        except RuntimeError:  # its loop is closed
            permit.cancelled()

    def _wake(self, permit: Permit) -> None:
        if not self.turn.done():
            self.turn.set_result(permit)


class Target:
    """What is remembered of one upstream. While that is nothing but good it is not in `unwell`, which others read.

    `patience`: seconds an attempt must have been given for its timeout to count.
    """

    def __init__(self, name: Upstream, clock: Clock, patience: float, unwell: dict[Upstream, Target]) -> None:
        self.name = name
        self.patience = patience
        self.breaker = Breaker()
        self._concurrency = Concurrency()
        self._rests_until = 0.0
        self._last_error: Reason | None = None
        self._waiting: deque[Ticket] = deque()
        self._unwell = unwell
        self._clock = clock
        self._lock = RLock()
        """Reentrant: the collector may end an abandoned attempt under it, which gives its place back here."""

    def enter(self, seconds: float) -> Permit:
        """An attempt begins now, whatever stands against it."""
        with self._lock:
            return self._admit(seconds)

    def admit(self, seconds: float) -> Permit | None:
        """As `Health.admit`."""
        with self._lock:
            return None if self._concurrency.full else self._admit(seconds)

    async def turn(self, seconds: float) -> Permit:
        """As `Health.turn`."""
        with self._lock:
            if not self._concurrency.full:
                return self._admit(seconds)
            ticket = Ticket(self._clock.monotonic() + seconds)
            self._waiting.append(ticket)
        try:
            async with asyncio.timeout(min(seconds, DAY)):
                return await ticket.turn
        except TimeoutError:
            self._withdraw(ticket)
            raise RateLimited(
                f"no turn came within {seconds:g} s; it takes about {self._concurrency.limit} calls at once",
                provider=self.name[0],
                hint="put another provider's model behind it, or send less at once",
            ) from None
        except BaseException:
            self._withdraw(ticket)
            raise

    def told(
        self, permit: Permit, sign: Sign, error: ProviderError | None, *, over: bool = True
    ) -> ModelHealth | None:
        """What a permit has to say, unless it is over; the state when the circuit opened or closed by it."""
        now = self._clock.monotonic()
        with self._lock:
            if permit.over:
                return None
            turned = self.breaker.tell(sign, now, era=permit.era, probe=permit.probe)
            if turned and sign is Sign.WELL:
                # it closed the circuit: what else it has to say counts like anybody's
                permit.era, permit.probe = self.breaker.era, False
            if error is not None and sign is not Sign.NOTHING:
                self._last_error = error.reason
                self._rests_until = max(self._rests_until, now + pause(error))
            if over:
                permit.over = True
                self._concurrency.leave(answered=sign is Sign.WELL, limited=sign is Sign.PRESSURE)
            called = self._call(now) if self._waiting else ()
            self._file(now)
            state = self._read(now) if turned else None
        for ticket, granted in called:
            ticket.call(granted)
        return state

    def obstacle(self, now: float) -> Obstacle | None:
        """What speaks against asking it now."""
        last = f", last for {self._last_error}" if self._last_error else ""
        left, rest = self.breaker.left(now), max(0.0, self._rests_until - now)
        if left:
            why = f"its circuit is open for another {max(left, rest):.0f} s{last}"
            return Obstacle(Reason.CIRCUIT_OPEN, why, max(left, rest))
        if rest:
            return Obstacle(Reason.BENCHED, f"it asked to be left alone for another {rest:.0f} s", rest)
        if self.breaker.probing:
            return Obstacle(Reason.CIRCUIT_OPEN, f"its circuit is half open and another call tries it{last}")
        if self._concurrency.full:
            taken = f"{self._concurrency.in_flight} calls are in flight"
            return Obstacle(Reason.BUSY, f"{taken}, and it takes about {self._concurrency.limit} at once")
        return None

    def read(self) -> ModelHealth:
        """All of it, for people."""
        with self._lock:
            return self._read(self._clock.monotonic())

    def _read(self, now: float) -> ModelHealth:
        left, rest = self.breaker.left(now), max(0.0, self._rests_until - now)
        return ModelHealth(
            provider=self.name[0],
            model=self.name[1],
            state="benched" if rest and not left else self.breaker.state(now),
            seconds=max(left, rest),
            faults=self.breaker.faults,
            ejected=self.breaker.ejected,
            in_flight=self._concurrency.in_flight,
            limit=self._concurrency.limit,
            waiting=len(self._waiting),
            last_error=self._last_error,
        )

    def _admit(self, seconds: float) -> Permit:
        probe = not self.breaker.closed and self.breaker.claim(self._clock.monotonic())
        self._concurrency.enter()
        return Permit(self, probe=probe, seconds=seconds)

    def _call(self, now: float) -> list[tuple[Ticket, Permit]]:
        """Admit those whose turn has come."""
        called = []
        while self._waiting and not self._concurrency.full:
            ticket = self._waiting.popleft()
            ticket.permit = self._admit(max(0.0, ticket.deadline - now))
            called.append((ticket, ticket.permit))
        return called

    def _file(self, now: float) -> None:
        if not self.breaker.closed or self._rests_until > now or self._concurrency.limit is not None:
            self._unwell[self.name] = self
        elif self._unwell:
            self._unwell.pop(self.name, None)

    def _withdraw(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket.permit is None:
                self._waiting.remove(ticket)
        if ticket.permit is not None:
            ticket.permit.cancelled()
