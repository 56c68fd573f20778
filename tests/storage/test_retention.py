"""What is old goes in slices; sums stay, and a rebuild knows how far back the log reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from sqlalchemy import text

from tests.storage.calls import NOON, attempt, many
from tests.storage.conftest import MARK
from tests.storage.test_stores import everything, hours, rows
from turnout.storage import retention
from turnout.storage.batch import DAY_US
from turnout.storage.keep import Keep
from turnout.storage.posting import HOUR_US
from turnout.storage.rebuild import rebuild
from turnout.storage.reports import Reports
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from turnout.storage.store import Store

KEEP = Keep(events=10, costs=20)
NOW = NOON + 30 * DAY_US


def fill(store: Store) -> None:
    """Thirty days of calls, two writers."""
    pairs = list(many(180, seed=12, spread=30 * DAY_US))
    for number, owner in enumerate(("one", "two")):
        payloads = [payload for pair in pairs[number::2] for payload in pair]
        store.post(payloads, msgspec.structs.replace(MARK, owner=owner, at=NOW))


def begins(store: Store, now: int = NOW) -> int:
    """Where the log begins after a sweep: PostgreSQL's goes by whole days."""
    until = now - KEEP.events * DAY_US
    return until - until % DAY_US if store.backend.name == "postgresql" else until


def swept(store: Store, now: int) -> int:
    """Sweep until nothing is left to do; how many times."""
    times = 1
    while retention.sweep(store, KEEP, now):
        times += 1
    return times


def test_each_kind_has_its_term(store: Store) -> None:
    """Events go after 10 days, cost rows after 20, sums never; a trace has a head as long as it has events."""
    fill(store)
    sums = {name: rows(store, name) for name in ("sessions", "user_monthly_usage")}
    by_hour = hours(store)
    swept(store, NOW)
    assert 0 <= min(row[2] for row in rows(store, "events")) - begins(store) < DAY_US
    assert {row[0] for row in rows(store, "events")} == {row[0] for row in rows(store, "traces")}
    assert min(row[4] for row in rows(store, "cost_records")) >= NOW - 20 * DAY_US
    assert len(rows(store, "cost_records")) > len(rows(store, "traces")) > 30
    assert {name: rows(store, name) for name in sums} == sums
    assert hours(store) == by_hour
    assert {row[4] for row in rows(store, "rollup_hours")} == {""}


def test_old_hours_become_days(store: Store) -> None:
    """Before 90 days sums are kept by the day, the same in all; a report over them is exact from any moment."""
    store.post([payload for pair in many(200, seed=3, spread=20 * DAY_US) for payload in pair], MARK)
    by_hour, reports = hours(store), Reports(store)
    since = NOON + 3 * DAY_US + 7
    costs, series = reports.costs("agent", since), reports.series(("agent", "model"), NOON - NOON % DAY_US)
    retention.sweep(store, Keep(events=400), NOON + 100 * DAY_US)
    folded = hours(store)
    border = (NOON + 10 * DAY_US) // DAY_US * DAY_US
    assert {key[0] for key in folded if key[0] < border} == {
        key[0] // DAY_US * DAY_US for key in by_hour if key[0] < border
    }
    assert {key: sums for key, sums in folded.items() if key[0] >= border} == {
        key: sums for key, sums in by_hour.items() if key[0] >= border
    }
    assert reports.costs("agent", since) == costs
    assert reports.series(("agent", "model"), NOON) == series
    late, end = attempt(id="late", at=NOON + HOUR_US)
    store.post([late, end], MARK)
    retention.sweep(store, Keep(events=400), NOON + 100 * DAY_US)
    assert hours(store).keys() <= folded.keys() | {
        (NOON // DAY_US * DAY_US, "debugger", "deepseek-chat", "deepseek")
    }
    before = everything(store)
    rebuild(store)
    retention.sweep(store, Keep(events=400), NOON + 100 * DAY_US)
    assert everything(store) == before


def test_a_trace_that_goes_on(store: Store) -> None:
    """A trace that began long ago and is still heard of keeps its head, and its events but where whole days go."""
    for number, at in enumerate((NOON, NOW - DAY_US)):
        event = Event(id=f"e{number}", trace="t", kind=Kind.CONTEXT_BUILD, at=at)
        store.post([msgspec.json.encode(event)], msgspec.structs.replace(MARK, at=at))
    swept(store, NOW)
    left = ["e1"] if store.backend.name == "postgresql" else ["e0", "e1"]
    assert [row[1] for row in rows(store, "events")] == left
    assert [event.id for event in Reports(store).trace("t")] == left
    assert [row[3:5] for row in rows(store, "traces")] == [(NOON, NOW - DAY_US)]
    swept(store, NOW + 30 * DAY_US)
    assert rows(store, "events") == rows(store, "traces") == []


def test_a_rebuild_of_a_trace_that_goes_on(store: Store) -> None:
    """What a trace cost before the log begins stays counted when its later part is rebuilt."""
    for number, at in enumerate((NOON, NOW - DAY_US)):
        pair = attempt(id=f"a{number}", number=number + 1, at=at)
        store.post(pair, msgspec.structs.replace(MARK, at=at))
    assert not retention.sweep(store, Keep(events=10, costs=40), NOW)
    before = everything(store)
    assert rebuild(store).attempts == len(before["cost_records"]) == 2
    after = everything(store)
    assert {name: after[name] for name in after if name != "traces"} == {
        name: before[name] for name in before if name != "traces"
    }


def test_slices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction takes more than a slice away, and sweeping again goes on until nothing is left."""
    monkeypatch.setattr(retention, "TRACES", 7)
    monkeypatch.setattr(retention, "SLICE", 9)
    fill(store)
    left = len(rows(store, "traces"))
    retention.sweep(store, KEEP, NOW)
    assert left - len(rows(store, "traces")) == 7
    assert swept(store, NOW) > 5
    assert min(row[3] for row in rows(store, "traces")) >= begins(store)


@pytest.mark.parametrize("spoil", ["cost_records", "rollup_hours", "usage_days"])
def test_rebuild_within_the_horizon(store: Store, spoil: str) -> None:
    """After old rows have gone, a rebuild repairs what the log and the rows still tell and leaves the rest alone."""
    fill(store)
    swept(store, NOW)
    before = everything(store)
    with store.write() as connection:
        spoilt = {
            "cost_records": (text("DELETE FROM cost_records WHERE at >= :since"), 9),
            "rollup_hours": (text("UPDATE rollup_hours SET cost_nano = 7 WHERE hour >= :since"), 19),
            "usage_days": (text("UPDATE usage_days SET calls = 9 WHERE day >= :since"), 19),
        }
        statement, days = spoilt[spoil]
        connection.execute(statement, {"since": NOW - days * DAY_US})
    assert everything(store) != before
    assert rebuild(store).since == begins(store)
    assert everything(store) == before


def test_bodies_say_when(store: Store) -> None:
    """A body goes when its own time is up, the event about it stays."""
    for name, expires in (("e1", NOON + 5), ("e2", NOON + DAY_US)):
        facts = {"body": "hi", "expires_at": expires}
        store.post(
            [msgspec.json.encode(Event(id=name, trace="t", kind=Kind.USER_INPUT, at=NOON, facts=facts))], MARK
        )
    retention.sweep(store, KEEP, NOON + 6)
    assert [row[1] for row in rows(store, "bodies")] == ["e2"]
    assert len(rows(store, "events")) == 2


def test_one_process_an_hour(store: Store) -> None:
    """Of all that ask within an hour, the first sweeps."""
    store.post(attempt(), MARK)
    asked = [retention.claim(store, NOON + minutes * 60_000_000) for minutes in (0, 1, 59, 60, 61)]
    assert asked == [True, False, False, True, False]


def test_sessions_that_only_cost_rows_remember(store: Store) -> None:
    """A session whose events have gone and whose row is lost comes back as its cost rows tell it."""
    fill(store)
    swept(store, NOW)
    with store.write() as connection:
        connection.execute(text("DELETE FROM usage_days"))
        since = retention.since(connection, "costs")
    rebuild(store)
    known: dict[str, list[int]] = {}
    for row in rows(store, "cost_records"):
        if row[4] >= -(-since // DAY_US) * DAY_US:
            known.setdefault(row[9], []).append(row[4])
    found = {row[0]: (row[2], row[5]) for row in rows(store, "sessions")}
    assert found == {session: (min(times), len(times)) for session, times in known.items()}
