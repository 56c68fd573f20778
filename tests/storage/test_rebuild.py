"""What a rebuild must not lose: rows that were swept before their events, and ends that lie before the log's border."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.storage.calls import NOON, attempt
from tests.storage.conftest import MARK
from tests.storage.test_stores import everything, rows
from turnout.storage import retention
from turnout.storage.batch import DAY_US
from turnout.storage.keep import Keep
from turnout.storage.rebuild import rebuild

if TYPE_CHECKING:
    from turnout.storage.store import Store

TODAY = NOON - NOON % DAY_US


@pytest.mark.parametrize("events", [30, 15])
def test_cost_rows_that_went_before_their_events(store: Store, events: int) -> None:
    """Where cost rows are kept for less long than the log, a rebuild makes them anew and no sum loses a cent."""
    for day in range(20):
        store.post(attempt(id=f"a{day}", call=f"c{day}", at=NOON - day * DAY_US), MARK)
    keep = Keep(events=events, costs=10)
    while retention.sweep(store, keep, NOON):
        pass
    before = everything(store)
    assert len(before.pop("cost_records")) == 11
    heads = len(before["traces"])
    assert rebuild(store).attempts == heads
    after = everything(store)
    assert len(after.pop("cost_records")) == heads
    assert after == before


def test_an_end_before_the_border(store: Store) -> None:
    """A clock that was set back within an attempt put its end into a day that went: what it cost stays."""
    start, end = attempt(at=TODAY + 1_000)
    early = msgspec.json.decode(end) | {"at": TODAY - 50_000}
    store.post([start, msgspec.json.encode(early)], MARK)
    retention.sweep(store, Keep(events=10), TODAY + 10 * DAY_US + 5)
    left = ["a1s"] if store.backend.name == "postgresql" else ["a1e", "a1s"]
    assert [row[1] for row in rows(store, "events")] == left
    tables = ("cost_records", "user_monthly_usage", "rollup_hours")
    before = {name: rows(store, name) for name in tables}
    rebuild(store)
    assert {name: rows(store, name) for name in tables} == before
    assert before["user_monthly_usage"][0][-1] == 1_000
