"""Which model, then which? A strategy is a pure function from a call and the facts to a plan."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Protocol

import msgspec

from turnout.registry import Registry

if TYPE_CHECKING:
    from turnout.types import Call, Plan


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `client.py` knows when it asks for a plan; routing itself knows neither money nor sockets."""

    registry: Registry
    today: date
    least_tokens: int
    """A floor for the conversation's size."""
    stand_ins: tuple[str, ...]
    """Keyless models to put behind every plan; none outside dev mode."""


class Strategy(Protocol):
    """One way to choose."""

    def plan(self, call: Call, facts: Facts) -> Plan:
        """The models to try, in order. Raises `ConfigError` when none is left."""
        ...
