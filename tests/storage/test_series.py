"""Hourly sums by every combination of dimensions say the same."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.storage.calls import NOON, many
from turnout.storage.reports import Reports
from turnout.storage.store import Mark
from turnout.storage.sums import DIMENSIONS, Dimension
from turnout.storage.tables import TOTALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout.storage.store import Store

HOURS = 6 * 3_600_000_000
BY = [by for depth in range(5) for by in itertools.permutations(DIMENSIONS, depth)]


@pytest.fixture
def reports(store: Store) -> Reports:
    """Of six hours, written by two processes."""
    pairs = list(many(300, seed=3, spread=HOURS))
    for name, part in (("one", pairs[::2]), ("two", pairs[1::2])):
        store.post(
            [payload for pair in part for payload in pair], Mark(owner=name, host="", boot="", spool="", at=0)
        )
    return Reports(store)


def folded(reports: Reports, by: Sequence[Dimension]) -> dict[tuple[Any, ...], list[int]]:
    """The finest lines there are, summed by some of their dimensions."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for line in reports.series(DIMENSIONS, NOON - HOURS):
        sums = found.setdefault(tuple(getattr(line, name) for name in by), [0] * len(TOTALS))
        for place, name in enumerate(TOTALS):
            sums[place] += getattr(line, name)
    return found


def test_every_combination_adds_up(reports: Reports) -> None:
    """By whatever dimensions, in whatever order: the lines are sorted as asked and sum what the finest ones do."""
    for by in BY:
        lines = reports.series(by, NOON - HOURS)
        found = {
            tuple(getattr(line, name) for name in by): [getattr(line, name) for name in TOTALS]
            for line in lines
        }
        assert found == folded(reports, by), by
        assert list(found) == sorted(found), by
        assert len(found) == len(lines)
        assert all(getattr(line, name) is None for line in lines for name in set(DIMENSIONS) - set(by))


def test_latencies_of_a_line_are_those_of_its_parts(reports: Reports) -> None:
    """The latencies of both providers and both writers are in a line that is of all of them."""
    fine = reports.series(("hour", "agent", "model"), NOON - HOURS)
    finest = reports.series(("provider", "model", "agent", "hour"), NOON - HOURS)
    assert {(line.hour, line.agent, line.model): line.p95_us for line in fine} == {
        (line.hour, line.agent, line.model): line.p95_us for line in finest
    }
