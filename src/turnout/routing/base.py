"""Which model, then which? A strategy is a pure function from a call and the facts to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Protocol

import msgspec

from turnout.registry import Registry
from turnout.types import Reason

if TYPE_CHECKING:
    from turnout.types import Call, Model, Plan

Upstream = tuple[str, str]
"""A provider and its own name of a model: what falls ill. Several of our names may stand for one."""


def upstream(model: Model) -> Upstream:
    """Who is asked when this model is."""
    return model.provider, model.upstream


class Obstacle(msgspec.Struct, frozen=True):
    """Why an upstream had better not be asked just now."""

    reason: Reason
    """`CIRCUIT_OPEN`, `BENCHED`, or `BUSY`: only the last may be asked and waited for."""
    why: str
    seconds: float = 0.0
    """Until it may be asked; 0 when that depends on calls in flight."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `client.py` knows when it asks for a plan; routing itself knows neither money nor sockets."""

    registry: Registry
    today: date
    least_tokens: int
    """A floor for the conversation's size."""
    stand_ins: tuple[str, ...]
    """Keyless models to put behind every plan; none outside dev mode."""
    health: Mapping[Upstream, Obstacle] = {}
    """Those that are not well, and nobody else: empty in good times."""


class Strategy(Protocol):
    """One way to choose."""

    def plan(self, call: Call, facts: Facts) -> Plan:
        """The models to try, in order. Raises `ConfigError` when none is left."""
        ...
