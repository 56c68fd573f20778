"""Any history of attempts, against a model of the rules that is short enough to read."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.routing.conftest import CHAT, REASONER, SetClock
from turnout import errors
from turnout.routing.health import ALL_WELL, Health, Permit
from turnout.types import Reason

GOOD, BAD, DEAD, WAIT, MINE = "answered", "fault", "refused", "429", "the caller's"
ENDS: dict[str, errors.ProviderError | None] = {
    GOOD: None,
    BAD: errors.ServerFault(status=500),
    DEAD: errors.AuthError(status=401),
    WAIT: errors.RateLimited(status=429),
    MINE: errors.RequestRejected(status=400),
}


class Rules:
    """One upstream by the book."""

    def __init__(self) -> None:
        self.era, self.faults, self.ejected, self.probe = 0, 0, 0, False
        self.until: float | None = None
        self.closed_at, self.rests = 0.0, 0.0
        self.flying, self.limit, self.wins, self.full = 0, 0, 0, False

    def state(self, now: float) -> str:
        """In which it is."""
        state = "closed" if self.until is None else "open" if now < self.until else "half_open"
        return "benched" if now < self.rests and state != "open" else state

    def enter(self, now: float) -> tuple[int, bool]:
        """The era it belongs to, and whether it is the probe."""
        self.flying += 1
        self.full |= 0 < self.limit <= self.flying
        mine = self.until is not None and now >= self.until and not self.probe
        self.probe |= mine
        return self.era, mine

    def end(self, how: str, rest: float, now: float, era: int, *, probe: bool) -> None:
        """What the book says of an attempt that ended so."""
        if how == WAIT:
            cut = max(1, int(self.flying * 7 / 10))
            self.limit, self.wins, self.full = min(cut, self.limit or cut), 0, True
        self.flying -= 1
        if how == GOOD and self.limit and (wins := self.wins + 1):
            self.wins = wins % self.limit
            if not self.wins:
                self.limit = self.limit + 1 if self.full else 0
                self.full = 0 < self.limit <= self.flying
        if how in {BAD, DEAD, WAIT}:
            self.rests = max(self.rests, now + min(rest, 300))
        if era != self.era:
            return
        self.probe &= not probe
        if how == GOOD:
            self.faults = 0
            if self.until is not None:
                self.until, self.closed_at, self.probe, self.era = None, now, False, era + 1
        elif how in {BAD, DEAD}:
            self.faults += 1
            if probe or (self.until is None and (how == DEAD or self.faults >= 5)):
                forgiven = self.until is None and now - self.closed_at >= 300
                self.ejected = 1 if forgiven else self.ejected + 1
                self.until, self.era = now + min(30 * self.ejected, 300), era + 1


class HealthMachine(RuleBasedStateMachine):
    """Attempts begin and end in any order, time passes, and both say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetClock()
        self.health = Health(self.clock)
        self.book = Rules()
        self.flying: list[tuple[Permit, int, bool]] = []
        self.over: list[Permit] = []

    @rule(model=st.sampled_from([CHAT, REASONER]))
    def enter(self, model: Any) -> None:
        """An attempt begins."""
        permit = self.health.enter(model)
        era, probe = self.book.enter(self.clock.monotonic())
        assert permit.probe is probe
        self.flying.append((permit, era, probe))

    @precondition(lambda self: self.flying)
    @rule(
        which=st.integers(0), how=st.sampled_from([*ENDS, "cancelled"]), rest=st.sampled_from([0, 0, 7, 1e9])
    )
    def end(self, which: int, how: str, rest: float) -> None:
        """An attempt ends."""
        permit, era, probe = self.flying.pop(which % len(self.flying))
        error = ENDS.get(how)
        if how == "cancelled":
            permit.cancelled()
        else:
            if error is not None:
                error.retry_after = rest
            permit.done(error)
        self.book.end(how, rest, self.clock.monotonic(), era, probe=probe)
        self.over.append(permit)

    @precondition(lambda self: self.flying)
    @rule(how=st.sampled_from([BAD, DEAD]), times=st.integers(2, 6))
    def outage(self, how: str, times: int) -> None:
        """Several end badly one after the other."""
        for _ in range(min(times, len(self.flying))):
            self.end(0, how, 0)

    @precondition(lambda self: self.over)
    @rule(which=st.integers(0), how=st.sampled_from(list(ENDS)))
    def again(self, which: int, how: str) -> None:
        """An attempt that is over is ended again, to no effect."""
        permit = self.over[which % len(self.over)]
        assert permit.done(ENDS[how]) is None
        permit.cancelled()

    @rule(seconds=st.sampled_from([1, 7, 29, 30, 60, 300]))
    def time_passes(self, seconds: int) -> None:
        """The clock goes on."""
        self.clock.pass_by(seconds)

    @invariant()
    def by_the_book(self) -> None:
        """State, counts and limit are those of the rules."""
        now, read = self.clock.monotonic(), self.health.of(CHAT)
        assert (read.state, read.faults, read.ejected) == (
            self.book.state(now),
            self.book.faults,
            self.book.ejected,
        )
        assert (read.in_flight, read.limit) == (len(self.flying), self.book.limit or None)
        assert read.limit is None or read.limit >= 1
        assert read.seconds == max(0.0, (self.book.until or 0.0) - now, self.book.rests - now)

    @invariant()
    def one_probe(self) -> None:
        """Of those in flight at most one decides about the circuit as it is."""
        probes = [permit for permit, era, probe in self.flying if probe and era == self.book.era]
        assert len(probes) == self.book.probe

    @invariant()
    def told_as_it_is(self) -> None:
        """The snapshot for the plan says what the state says, and nothing of the well."""
        now, snapshot = self.clock.monotonic(), self.health.snapshot()
        obstacle = self.health.obstacle(REASONER)
        assert list(snapshot.values()) == ([] if obstacle is None else [obstacle])
        expected = {"open": Reason.CIRCUIT_OPEN, "benched": Reason.BENCHED}.get(self.book.state(now))
        if expected is None and self.book.probe:
            expected = Reason.CIRCUIT_OPEN
        elif expected is None and 0 < self.book.limit <= len(self.flying):
            expected = Reason.BUSY
        assert (obstacle and obstacle.reason) == expected
        if not self.flying and not self.over:
            assert snapshot is ALL_WELL


def test_every_history_is_by_the_book() -> None:
    """Whatever begins, ends and passes in whatever order: state, limit and probes are those of the rules."""
    run_state_machine_as_test(
        HealthMachine, settings=settings(max_examples=150, stateful_step_count=60, deadline=None)
    )
