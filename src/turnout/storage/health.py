"""How well the disk is: what the journal's threads tell each other about it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from turnout import logs

if TYPE_CHECKING:
    from turnout.clock import Clock

SLOW = 0.02
"""Seconds that an append may take before the disk counts as slow."""
WELL_AFTER = 1.0
"""Seconds without trouble after which it counts as well again."""


class Health:
    """Slow, broken, or neither; logged when it changes."""

    def __init__(self, clock: Clock) -> None:
        self.slow = False
        """Callers do not write by themselves."""
        self.error: str | None = None
        """Why the disk takes nothing just now."""
        self.last_error: str | None = None
        self._clock = clock
        self._trouble_at = clock.monotonic()
        self._errors: dict[str, str] = {}

    def failed(self, what: Literal["write", "flush"], error: OSError) -> None:
        """The disk refused."""
        self._trouble_at = self._clock.monotonic()
        if self.error is None:
            logs.event(logging.WARNING, "journal_failing", "", what=what, error=str(error))
        self.error = self.last_error = self._errors[what] = str(error)
        self.slow = True

    def worked(self, what: Literal["write", "flush"]) -> None:
        """The disk took it."""
        if self._errors:
            self._errors.pop(what, None)
            self.error = next(iter(self._errors.values()), None)

    def took(self, seconds: float) -> None:
        """An append took so long."""
        if seconds > SLOW:
            self._trouble_at = self._clock.monotonic()
            if not self.slow:
                logs.event(logging.WARNING, "journal_slow", "", seconds=round(seconds, 3))
            self.slow = True

    def look_after(self) -> None:
        """Nothing waits: it is well again if nothing went wrong for a while."""
        if self.slow and self._clock.monotonic() - self._trouble_at >= WELL_AFTER:
            self.slow = False
            self._errors.clear()
            self.error = None
            logs.event(logging.INFO, "journal_well", "")
