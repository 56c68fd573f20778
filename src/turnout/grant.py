"""What a plan gives one attempt."""

from __future__ import annotations

import msgspec

from turnout.providers.base import Timeouts
from turnout.types import Attempt, Reason


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan gives one attempt; a second one beside it needs a grant of its own."""

    timeouts: Timeouts
    number: int = 1
    """Of the attempt within its call."""
    because: Reason | None = None
    """Why it is not the agent's first choice that is tried."""
    previous: Attempt | None = None
    """The attempt before it, which failed."""
