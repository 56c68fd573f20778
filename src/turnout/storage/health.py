"""How well the disk is: what the journal's threads tell each other about it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from turnout import logs

if TYPE_CHECKING:
    from turnout.clock import Clock

Sort = Literal["write", "begin", "flush"]
"""What failed or worked: lines, a new segment, the way to the medium. Each is told by one thread alone."""
SLOW = 0.02
"""Seconds that a write may take before the disk counts as slow."""
WELL_AFTER = 1.0
"""Seconds without a slow write after which it counts as well again."""
SAID_EVERY = 60.0
"""Seconds between two lines in the log that say it is slow."""


class Health:
    """Slow, broken, or neither; logged when it changes."""

    def __init__(self, clock: Clock) -> None:
        self.last_error: str | None = None
        self._clock = clock
        self._slow_at = self._said_at = float("-inf")
        self._errors: dict[Sort, str | None] = {"write": None, "begin": None, "flush": None}

    @property
    def error(self) -> str | None:
        """Why the disk takes nothing just now."""
        errors = self._errors
        return errors["write"] or errors["begin"] or errors["flush"]

    @property
    def cannot_begin(self) -> bool:
        """The last new segment could not be begun."""
        return self._errors["begin"] is not None

    @property
    def slow(self) -> bool:
        """A write took more than 20 ms within the last second."""
        return self._clock.monotonic() - self._slow_at < WELL_AFTER

    def failed(self, what: Sort, error: OSError) -> None:
        """The disk refused."""
        if self.error is None:
            logs.event(logging.WARNING, "journal_failing", "", what=what, error=str(error))
        self.last_error = self._errors[what] = str(error)

    def worked(self, what: Sort) -> None:
        """The disk took it."""
        if self._errors[what] is None:
            return
        self._errors[what] = None
        if self.error is None:
            logs.event(logging.INFO, "journal_well", "")

    def took(self, seconds: float) -> None:
        """A write took so long."""
        if seconds <= SLOW:
            return
        self._slow_at = self._clock.monotonic()
        if self._slow_at - self._said_at >= SAID_EVERY:
            self._said_at = self._slow_at
            logs.event(logging.WARNING, "journal_slow", "", seconds=round(seconds, 3))
