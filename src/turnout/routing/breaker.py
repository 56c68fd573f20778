"""The circuit breaker of one upstream: closed, open for a while, then half open until one probe has decided."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from turnout.errors import (
    AuthError,
    EndpointMisconfigured,
    MissingKey,
    ModelRetired,
    ProviderError,
    ProviderTimeout,
    RateLimited,
    Verdict,
)

FAULTS = 5
"""In a row, until the circuit opens (Envoy's `consecutive_5xx`, outlier detection, read 2026-11)."""
COOLDOWN = 30.0
"""Seconds it stays open, times the openings so far (Envoy's `base_ejection_time`)."""
LONGEST = 300.0
"""It stays open no longer (Envoy's `max_ejection_time`), and openings longer ago are forgotten."""

State = Literal["closed", "open", "half_open"]


class Sign(Enum):
    """What an attempt tells about its upstream."""

    WELL = "it answered"
    FAULT = "it let us down; several in a row open the circuit"
    REFUSAL = "it will refuse everybody until somebody mends something: opens the circuit at once"
    PRESSURE = "it is well and has too much to do"
    NOTHING = "the failure was the caller's or ours"


def sign_of(error: ProviderError | None, *, hurried: bool = False) -> Sign:
    """Read an attempt's end; `hurried` when it was given too little time for its timeout to mean anything."""
    if error is None:
        return Sign.WELL
    if isinstance(error, RateLimited):
        return Sign.PRESSURE
    # ModelRetired is read from the wording of a 400, and a caller can provoke such wording.
    if error.verdict in {Verdict.STOP, Verdict.WIDER} or isinstance(error, MissingKey | ModelRetired):
        return Sign.NOTHING
    if isinstance(error, ProviderTimeout) and hurried and error.status is None:
        return Sign.NOTHING
    # 403 and 451 may be one request's: firewalls before an API answer so to what a prompt contains.
    refused = isinstance(error, AuthError) and error.status not in {403, 451}
    return Sign.REFUSAL if refused or isinstance(error, EndpointMisconfigured) else Sign.FAULT


class Breaker:
    """Told what each attempt showed, and which `era` it began in: what began before a turn of the circuit is stale."""

    __slots__ = ("_closed_at", "_until", "ejected", "era", "faults", "probing")

    def __init__(self) -> None:
        self.faults = 0
        """In a row."""
        self.ejected = 0
        """Openings, each within LONGEST seconds of the closing before it."""
        self.era = 0
        """Counts openings and closings."""
        self.probing = False
        self._until: float | None = None
        self._closed_at = 0.0

    @property
    def closed(self) -> bool:
        """As it is in good times."""
        return self._until is None

    def state(self, now: float) -> State:
        """Half open as soon as the cooldown is over, whether or not anybody calls."""
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half_open"

    def left(self, now: float) -> float:
        """Seconds until it is half open; 0 when it is not open."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def claim(self, now: float) -> bool:
        """Become the probe, if one is due and nobody else is it."""
        if self.probing or self.state(now) != "half_open":
            return False
        self.probing = True
        return True

    def tell(self, sign: Sign, now: float, *, era: int, probe: bool) -> bool:
        """Learn from an attempt that has ended, or has begun to answer; whether the circuit opened or closed.

        Only the probe's fault opens it again; a success of anybody who was let through closes it.
        """
        if era != self.era:
            return False
        if sign is Sign.WELL:
            self.faults = 0
            return not self.closed and self._close(now)
        if probe:
            self.probing = False
        if sign not in {Sign.FAULT, Sign.REFUSAL}:
            return False
        self.faults += 1
        due = self.closed and (sign is Sign.REFUSAL or self.faults >= FAULTS)
        return (due or probe) and self._open(now)

    def _open(self, now: float) -> bool:
        if self.closed and now - self._closed_at >= LONGEST:
            self.ejected = 0
        self.ejected += 1
        self._until = now + min(COOLDOWN * self.ejected, LONGEST)
        self.era += 1
        return True

    def _close(self, now: float) -> bool:
        self._until = None
        self._closed_at = now
        self.probing = False
        self.era += 1
        return True
