"""Time and ids, from one place, so that a test can fix them."""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

_DAY = 86_400_000_000
_RANDOM = ~(0xF << 76 | 0b11 << 62)
_VERSION_7 = 7 << 76 | 0b10 << 62
# Ids must differ and need not be secret; asking the system for each would cost three times as much.
_chance = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_chance.seed)


class Clock:
    """The system's time. `wiring.py` makes one and hands it down."""

    def now(self) -> int:
        """Wall time in microseconds UTC."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Seconds that never jump, for durations and deadlines."""
        return time.monotonic()

    def new_id(self) -> str:
        """A UUIDv7 (RFC 9562, 5.7): sorts by time, 74 random bits."""
        drawn = _chance.getrandbits(80) & _RANDOM | _VERSION_7
        digits = "%032x" % (self.now() // 1_000 << 80 | drawn)
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def today(self) -> date:
        """The date of `now` in UTC."""
        return _date(self.now() // _DAY)


@lru_cache(maxsize=8)
def _date(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)


def as_datetime(microseconds: int) -> datetime:
    """Microseconds UTC as an aware datetime."""
    return datetime.fromtimestamp(microseconds / 1e6, tz=UTC)
