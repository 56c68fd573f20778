"""The limit of calls in flight: cut by 429s, raised by successes, forgotten when nobody needs it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.routing.concurrency import Concurrency


def flying(calls: int) -> Concurrency:
    """So many calls in flight, no limit known."""
    concurrency = Concurrency()
    for _ in range(calls):
        concurrency.enter()
    return concurrency


def leave(concurrency: Concurrency, *, answered: bool = False, limited: bool = False) -> None:
    """One call ends."""
    concurrency.leave(answered=answered, limited=limited)


@pytest.mark.parametrize(("calls", "limit"), [(1, 1), (2, 1), (3, 2), (10, 7), (90, 63), (2_500, 1_750)])
def test_a_429_cuts_to_seven_tenths_of_what_is_in_flight(calls: int, limit: int) -> None:
    """Rounded down, never below one; the refused call itself counts as in flight."""
    concurrency = flying(calls)
    leave(concurrency, limited=True)
    assert (concurrency.limit, concurrency.in_flight) == (limit, calls - 1)


def test_a_burst_finds_what_the_provider_takes() -> None:
    """Of 100 calls at once 90 are refused: the limit ends at seven tenths of those that were not, and the last."""
    concurrency = flying(100)
    for _ in range(90):
        leave(concurrency, limited=True)
    assert (concurrency.limit, concurrency.in_flight, concurrency.full) == (7, 10, True)


def test_a_later_429_never_raises_it() -> None:
    """Calls sent before the cut are many; what they bring does not undo it."""
    concurrency = flying(10)
    leave(concurrency, limited=True)
    for _ in range(91):
        concurrency.enter()
    leave(concurrency, limited=True)
    assert concurrency.limit == 7


def test_successes_raise_it_by_one() -> None:
    """As many successes as the limit, while it is used up, let one more call in; other ends do not."""
    concurrency = flying(3)
    leave(concurrency, limited=True)
    for limit in (2, 3, 4):
        for _ in range(limit):
            assert (concurrency.limit, concurrency.full) == (limit, True)
            leave(concurrency)
            concurrency.enter()
            leave(concurrency, answered=True)
            concurrency.enter()
        concurrency.enter()


def test_it_is_forgotten_when_it_does_not_bind() -> None:
    """When a whole round of successes never filled it, it holds nobody back and is dropped."""
    concurrency = flying(1)
    leave(concurrency, limited=True)
    seen = []
    for _ in range(3):
        concurrency.enter()
        leave(concurrency, answered=True)
        seen.append(concurrency.limit)
    assert seen == [2, 2, None]
    assert not concurrency.full


def test_a_cut_begins_a_round_of_its_own() -> None:
    """Successes from before the cut do not count, and the first round after it raises the limit, filled or not."""
    concurrency = flying(5)
    leave(concurrency, limited=True)  # 3, and 4 in flight
    leave(concurrency, answered=True)
    leave(concurrency, limited=True)  # 2, and 2 in flight
    leave(concurrency, answered=True)
    assert concurrency.limit == 2
    leave(concurrency, answered=True)
    assert concurrency.limit == 3


def test_a_house_that_is_full_when_the_round_begins_is_filled() -> None:
    """Calls let in over the limit fill the next round too: the limit goes on rising while they end."""
    concurrency = flying(3)
    leave(concurrency, limited=True)
    for _ in range(4):
        concurrency.enter()
    seen = []
    for _ in range(5):
        leave(concurrency, answered=True)
        seen.append(concurrency.limit)
    assert seen == [2, 3, 3, 3, 4]


@given(st.lists(st.sampled_from(["enter", "answered", "limited", "neither"])))
def test_the_limit_stays_sane(ends: list[str]) -> None:
    """Whatever happens, the limit is at least one, grows by at most one a step, and the count is exact."""
    concurrency, flying = Concurrency(), 0
    for end in ends:
        before = concurrency.limit
        if end == "enter":
            concurrency.enter()
            flying += 1
        elif flying:
            concurrency.leave(answered=end == "answered", limited=end == "limited")
            flying -= 1
        assert concurrency.in_flight == flying >= 0
        assert concurrency.limit is None or concurrency.limit >= 1
        if before is not None and concurrency.limit is not None:
            assert concurrency.limit <= before + 1
        if end == "limited" and before is not None:
            assert concurrency.limit is not None
            assert concurrency.limit <= before
