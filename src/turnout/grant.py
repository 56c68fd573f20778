"""What a plan gives one attempt, and what it gets back."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from turnout.errors import ProviderError
from turnout.providers.base import Timeouts
from turnout.types import Attempt, Reason

Got = TypeVar("Got")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan gives one attempt; a second one beside it needs a grant of its own."""

    timeouts: Timeouts
    number: int = 1
    """Of the attempt within its call."""
    because: Reason | None = None
    """Why it is not the agent's first choice that is tried."""
    previous: Attempt | None = None
    """The attempt before it, which failed."""


class Outcome(msgspec.Struct, Generic[Got], frozen=True):
    """The attempt's row, and either what it got (an `Answer`, or a `Live` one) or its error."""

    attempt: Attempt
    answer: Got | None = None
    error: ProviderError | None = None
    again: bool = False
    """The same model can be tried at once: another key is free, or its answer is to be repaired."""
