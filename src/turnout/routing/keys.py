"""Which key of an endpoint is used next, and which of them rest, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.errors import AuthError, ProviderError, RateLimited

if TYPE_CHECKING:
    from turnout.clock import Clock
    from turnout.registry.endpoints import Endpoint
    from turnout.types import Secret

REFUSED = 300.0
"""Seconds a key rests that was refused, or whose account is empty: until it is tried again."""
LIMITED = 5.0
"""Seconds a key rests at its rate limit when the provider does not say how long."""
SHORTEST = 1.0
"""No Retry-After benches a key for less, or two keys that may be asked again at once would take turns for ever."""
LONGEST = 300.0
"""No Retry-After benches a key or a model for longer, whatever it says."""


class Keys:
    """Rotates the keys of each endpoint and benches those that were refused. Never benches the last one for good."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn: dict[str, int] = {}
        self._until: dict[Secret, float] = {}

    def pick(self, endpoint: Endpoint) -> Secret | None:
        """The next free key; when all are benched, the one that is free soonest. `None`: there are none."""
        if not endpoint.keys:
            return None
        turn = self._turn[endpoint.name] = self._turn.get(endpoint.name, -1) + 1
        keys = endpoint.keys[turn % len(endpoint.keys) :] + endpoint.keys[: turn % len(endpoint.keys)]
        return next(iter(self._free(keys)), None) or min(keys, key=lambda key: self._until.get(key, 0.0))

    def note(self, endpoint: Endpoint, key: Secret | None, error: ProviderError) -> None:
        """What came of using the key."""
        if key is None or key not in endpoint.keys:
            return
        if isinstance(error, AuthError):
            self._until[key] = self._clock.monotonic() + REFUSED
        elif isinstance(error, RateLimited):
            rest = LIMITED if error.retry_after is None else max(SHORTEST, pause(error))
            self._until[key] = self._clock.monotonic() + rest

    def another(self, endpoint: Endpoint, error: ProviderError) -> bool:
        """The failure was the key's, and another one is free."""
        return isinstance(error, AuthError | RateLimited) and bool(self._free(endpoint.keys))

    def _free(self, keys: tuple[Secret, ...]) -> list[Secret]:
        now = self._clock.monotonic()
        return [key for key in keys if self._until.get(key, 0.0) <= now]


def pause(error: ProviderError) -> float:
    """Seconds the provider asked to be left alone: 0 when it did not, or asked for what is no time; at most LONGEST."""
    asked = error.retry_after
    # written so that NaN is no time either
    return min(asked, LONGEST) if asked is not None and asked > 0.0 else 0.0
