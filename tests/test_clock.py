"""Time and ids."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.clock import Clock, as_datetime

YEAR_2100 = 4_102_444_800_000_000


class FixedClock(Clock):
    """A clock that shows what it was set to."""

    def __init__(self, now: int) -> None:
        self.at = now

    def now(self) -> int:
        """The moment it was set to."""
        return self.at


def test_now_is_the_systems_time_in_microseconds() -> None:
    """Wall time lies between two readings of the system's own clock."""
    before = time.time_ns() // 1_000
    now = Clock().now()
    assert before <= now <= time.time_ns() // 1_000


def test_monotonic_never_goes_back() -> None:
    """Durations are measured on the monotonic clock."""
    before = time.monotonic()
    readings = [before, *(Clock().monotonic() for _ in range(100)), time.monotonic()]
    assert readings == sorted(readings)


@pytest.mark.parametrize(
    ("microseconds", "day"),
    [
        (1_795_391_999_999_999, date(2026, 11, 22)),
        (1_795_392_000_000_000, date(2026, 11, 23)),
        (1_795_478_399_999_999, date(2026, 11, 23)),
        (1_795_478_400_000_000, date(2026, 11, 24)),
    ],
)
def test_today_ends_at_midnight_in_utc(microseconds: int, day: date) -> None:
    """`today` is the UTC date from its first microsecond to its last."""
    assert FixedClock(microseconds).today() == day


@pytest.mark.parametrize(
    ("microseconds", "moment"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (1_795_399_199_999_999, datetime(2026, 11, 23, 1, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_as_datetime(microseconds: int, moment: datetime) -> None:
    """Microseconds UTC are an aware datetime, to the microsecond."""
    assert as_datetime(microseconds) == moment


@given(st.integers(min_value=0, max_value=YEAR_2100))
def test_no_microsecond_is_lost(microseconds: int) -> None:
    """Until 2100 every microsecond comes back as it was."""
    since = as_datetime(microseconds) - datetime(1970, 1, 1, tzinfo=UTC)
    assert since // timedelta(microseconds=1) == microseconds


@given(st.integers(min_value=0, max_value=YEAR_2100))
def test_an_id_is_a_uuid_of_version_7(now: int) -> None:
    """An id holds the version, the variant and the millisecond in which it was made."""
    made = UUID(FixedClock(now).new_id())
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == now // 1_000


def test_ids_differ_and_sort_by_time() -> None:
    """Ids of one millisecond differ; those of a later one sort behind."""
    clock = FixedClock(1_795_399_200_000_000)
    first = {clock.new_id() for _ in range(1_000)}
    clock.at += 1_000
    second = {clock.new_id() for _ in range(1_000)}
    assert (len(first), len(second)) == (1_000, 1_000)
    assert max(first) < min(second)


FORKED = """
import os
from turnout.clock import Clock
clock = Clock()
clock.new_id()
child = os.fork()
print(clock.new_id()[14:], flush=True)
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_child_draws_its_own_ids() -> None:
    """Parent and child go on from the same state, and yet no id of theirs has the same random part."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)  # noqa: S603
    mine, theirs = done.stdout.split()
    assert mine != theirs
