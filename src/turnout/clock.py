"""Time and ids, from one place, so that a test can fix them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime


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
        drawn = int.from_bytes(os.urandom(10))
        head = f"{self.now() // 1_000:012x}"
        tail = f"{(drawn & (1 << 62) - 1) | 2 << 62:016x}"
        return f"{head[:8]}-{head[8:]}-7{drawn >> 68:03x}-{tail[:4]}-{tail[4:]}"

    def today(self) -> datetime:
        """`now` as an aware datetime."""
        return as_datetime(self.now())


def as_datetime(microseconds: int) -> datetime:
    """Microseconds UTC as an aware datetime."""
    return datetime.fromtimestamp(microseconds / 1e6, tz=UTC)
