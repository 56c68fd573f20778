"""One journey on every kind of store: the same events, the same answers."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DataError

from tests.storage.calls import NOON, attempt, many, uuid7
from tests.storage.conftest import KINDS, MARK
from turnout.storage import hours as hours_of
from turnout.storage import rebuild as rebuilding
from turnout.storage import retention, rollup, tables
from turnout.storage.batch import DAY_US
from turnout.storage.expiry import expire
from turnout.storage.keep import Keep
from turnout.storage.rebuild import rebuild
from turnout.storage.reports import CostLine, Reports
from turnout.types import Event, Kind, Usage

if TYPE_CHECKING:
    from tests.storage.conftest import MakeStore
    from turnout.storage.store import Store

HOUR = 3_600_000_000
SUMMARIES = ("cost_records", "traces", "usage_days", "sessions", "user_monthly_usage")


def rows(store: Store, table: str) -> list[tuple[Any, ...]]:
    """Every row of a table, in the order of its key."""
    found = tables.metadata.tables[table]
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(select(found).order_by(*found.primary_key))]


def hours(store: Store) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The hourly sums over all writers, latencies as numbers."""
    sums: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for row in rows(store, "rollup_hours"):
        numbers = (*row[5:-1], rollup.unpack(row[-1]))
        known = sums.get(row[:4], (0,) * len(numbers))
        sums[row[:4]] = tuple(a + b for a, b in zip(known, numbers, strict=True))
    return sums


def everything(store: Store) -> dict[str, Any]:
    """All that is derived from the log."""
    return {name: rows(store, name) for name in SUMMARIES} | {"hours": hours(store)}


def failed_over() -> list[bytes]:
    """One call that a second model answered."""
    first = attempt(id="a1", outcome="server_error", cost=0, usage=None, seconds=0.5)
    second = attempt(
        id="a2",
        number=2,
        at=NOON + 500_000,
        model="gpt-4o-mini",
        provider="openai",
        fallback="server_error",
        cost=700,
    )
    return [*first, *second]


def test_a_call_that_failed_over(store: Store) -> None:
    """One call is two attempts, one error, one fallback and one cost, in every table."""
    assert store.post(failed_over(), MARK) == []
    reports = Reports(store)
    (line,) = reports.costs("agent", NOON)
    expected = CostLine(
        key="debugger", calls=1, attempts=2, errors=1, fallbacks=1, cache_hits=1,
        input_tokens=100, cached_input_tokens=40, output_tokens=20, cost_nano=700,
    )  # fmt: skip
    assert line == expected
    assert (line.fallback_rate, line.error_rate, line.cache_rate) == (1.0, 0.5, 0.4)
    by_model = {
        line.key: (line.calls, line.attempts, line.cost_nano) for line in reports.costs("model", NOON)
    }
    assert by_model == {"deepseek-chat": (1, 1, 0), "gpt-4o-mini": (0, 1, 700)}
    assert [(line.key, line.cost_nano) for line in reports.costs("user", NOON)] == [("alice", 700)]
    assert [(line.key, line.cost_nano) for line in reports.costs("session", NOON)] == [("s1", 700)]
    assert [(line.key, line.cost_nano) for line in reports.costs("key", NOON)] == [(None, 700)]
    assert rows(store, "user_monthly_usage")[0][:4] == ("alice", "2026-11", 1, 2)
    (session,) = rows(store, "sessions")
    assert session[:6] == ("s1", "alice", NOON, NOON + 2_000_000, 1, 2)
    assert [row.id for row in reports.call("c1")] == ["a1", "a2"]


def test_a_second_choice_that_fails_too(store: Store) -> None:
    """Only an answer counts as a fallback: a call that nobody answered is errors and no fallback."""
    store.post(attempt(id="a1", outcome="timeout", cost=0), MARK)
    store.post(attempt(id="a2", number=2, outcome="timeout", cost=0, fallback="timeout"), MARK)
    for by in ("agent", "user"):
        (line,) = Reports(store).costs(by, NOON - NOON % HOUR)
        assert (line.calls, line.attempts, line.errors, line.fallbacks) == (1, 2, 2, 0)
        assert line.fallback_rate is None
    (hour,) = Reports(store).series(("hour",), NOON)
    assert (hour.attempts, hour.fallbacks, hour.p50_us) == (2, 0, None)


def test_a_row_says_everything(store: Store) -> None:
    """Every fact of an attempt arrives in its column, unknown ones as NULL."""
    usage = Usage(input_tokens=7, cache_write_tokens=3, output_tokens=5, reasoning_tokens=2, source="counted")
    store.post(
        attempt(
            usage=usage,
            asked="gpt-4o",
            run="r1",
            key="k1",
            tags={"team": "blue"},
            arm="b",
            operation="search",
        ),
        MARK,
    )
    with store.read() as connection:
        row = connection.execute(select(tables.cost_records)).one()._asdict()
    assert row == {
        "id": "a1", "call_id": "c1", "trace_id": "c1", "number": 1, "at": NOON, "state": "settled",
        "operation": "search", "agent": "debugger", "user_id": "alice", "session_id": "s1", "run_id": "r1",
        "key_id": "k1", "tags": '{"team":"blue"}', "arm": "b", "model_asked": "gpt-4o", "model": "deepseek-chat",
        "provider": "deepseek", "upstream_model": None, "outcome": "ok", "status": 200, "error": None,
        "finish_reason": "stop", "fallback_reason": None, "stream": 0, "input_tokens": 7,
        "cached_input_tokens": None, "cache_write_tokens": 3, "output_tokens": 5, "reasoning_tokens": 2,
        "usage_source": "counted", "hold_nano": 5_000, "cost_nano": 1_000, "price_id": "deepseek-chat@2026-01-01",
        "duration_us": 1_500_000, "first_token_us": None,
    }  # fmt: skip


def test_states_only_rise(store: Store) -> None:
    """Reserved counts nothing, a death charges the hold, the real end corrects it, and nothing goes back."""
    start, end = attempt(cost=1_000, hold=5_000)
    expired = expire(start)
    assert expired is not None
    reports = Reports(store)
    seen = []
    for payloads in ([start], [expired], [end], [start, expired], [expired], [end]):
        store.post(payloads, MARK)
        (row,) = reports.call("c1")
        sums = [(line.attempts, line.errors, line.cost_nano) for line in reports.costs("agent", NOON)]
        assert sums == [(line.attempts, line.errors, line.cost_nano) for line in reports.costs("user", NOON)]
        seen.append((row.state, row.cost_nano, sums))
    assert seen == [
        ("reserved", None, []),
        ("expired_estimated", 5_000, [(1, 1, 5_000)]),
        *[("settled", 1_000, [(1, 0, 1_000)])] * 4,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_any_order_and_any_repetition(make_store: MakeStore, seed: int) -> None:
    """The same events, shuffled, repeated and cut differently, give the same tables on every kind of store."""
    payloads = [payload for pair in many(120, seed=seed, spread=5 * HOUR) for payload in pair]
    starts = payloads[:40:2]
    payloads += [end for start in starts if (end := expire(start))]
    reference = make_store("memory")
    reference.post(payloads, MARK)
    expected = everything(reference)
    rng = random.Random(seed)  # noqa: S311
    for kind in KINDS:
        store = make_store(kind)
        jumbled = payloads + rng.sample(payloads, len(payloads) // 3)
        rng.shuffle(jumbled)
        while jumbled:
            size = rng.choice((1, 3, 40, 200))
            store.post(jumbled[:size], msgspec.structs.replace(MARK, owner=rng.choice(("one", "two"))))
            del jumbled[:size]
        assert everything(store) == expected
        assert len(rows(store, "events")) == len(payloads)


def test_costs_from_hours_and_from_rows(store: Store) -> None:
    """A period that begins and ends within an hour is exact to the microsecond, by whatever key."""
    store.post([payload for pair in many(300, seed=5, spread=6 * HOUR) for payload in pair], MARK)
    since, until = NOON + HOUR // 3, NOON + 4 * HOUR + 7
    with store.read() as connection:
        costs = tables.cost_records.c
        asked = select(costs.agent, costs.cost_nano).where(costs.at >= since, costs.at < until)
        exact: dict[str | None, int] = {}
        for agent, cost in connection.execute(asked):
            exact[agent] = exact.get(agent, 0) + cost
    reports = Reports(store)
    assert {line.key: line.cost_nano for line in reports.costs("agent", since, until)} == exact
    for by in ("model", "user", "session", "key"):
        assert sum(line.cost_nano for line in reports.costs(by, since, until)) == sum(exact.values())


@pytest.mark.parametrize("by", ["user", "session"])
def test_costs_from_days_and_from_rows(store: Store, by: str) -> None:
    """A period that begins and ends within a day is exact to the microsecond; what is under way is no line."""
    payloads = [payload for pair in many(300, seed=5, spread=6 * 24 * HOUR) for payload in pair]
    nobody, _ = attempt(id="b1", call="d1", at=NOON + 50 * HOUR, user="late", session="later")
    store.post(
        [*payloads, nobody, *attempt(id="b2", call="d2", at=NOON + 51 * HOUR, user=None, session=None)], MARK
    )
    since, until = NOON + 10 * HOUR + 1, NOON + 100 * HOUR + 7
    costs = tables.cost_records.c
    column = {"user": costs.user_id, "session": costs.session_id}[by]
    exact: dict[str | None, tuple[int, int]] = {}
    with store.read() as connection:
        asked = select(column, costs.cost_nano).where(
            costs.at >= since, costs.at < until, costs.state != "reserved"
        )
        for key, cost in connection.execute(asked):
            attempts, known = exact.get(key, (0, 0))
            exact[key] = (attempts + 1, known + cost)
    found = Reports(store).costs("user" if by == "user" else "session", since, until)
    assert {line.key: (line.attempts, line.cost_nano) for line in found} == exact
    assert None in exact


def test_a_session_of_two_days(store: Store) -> None:
    """A session's row is that of all its days, whoever wrote in it."""
    store.post(attempt(id="a1", user=None), MARK)
    store.post(attempt(id="a2", call="c2", at=NOON + 30 * HOUR, user="bob"), MARK)
    store.post(attempt(id="a3", call="c3", at=NOON + 60 * HOUR, user="alice"), MARK)
    (session,) = rows(store, "sessions")
    assert session[:6] == ("s1", "alice", NOON, NOON + 60 * HOUR + 1_500_000, 3, 3)
    assert [row[:4] for row in rows(store, "user_monthly_usage")] == [
        ("alice", "2026-11", 1, 1), ("bob", "2026-11", 1, 1)
    ]  # fmt: skip


def test_a_call_within_a_trace(store: Store) -> None:
    """A call is found by its id in whatever trace it was made, also when its events have gone."""
    store.post(attempt(id="a1", call="c1", trace="t1"), MARK)
    store.post(attempt(id="a2", call="c2"), MARK)
    reports = Reports(store)
    assert [[row.id for row in reports.call(call)] for call in ("c1", "c2", "t1")] == [["a1"], ["a2"], []]
    with store.write() as connection:
        connection.execute(text("DELETE FROM events"))
    assert [row.id for row in reports.call("c2")] == ["a2"]


def test_a_call_whose_first_day_has_gone(store: Store) -> None:
    """A call that went on past midnight is told whole, also when the log of its first attempt has been dropped."""
    day = NOON - NOON % DAY_US
    call = uuid7(day - 1_000_000, random.Random(1))  # noqa: S311
    failed = attempt(
        id="a1", call=call, at=day - 1_000_000, seconds=0.2, outcome="server_error", cost=0, usage=None
    )
    store.post([*failed, *attempt(id="a2", call=call, number=2, at=day + 10)], MARK)
    retention.sweep(store, Keep(events=10), day + 10 * DAY_US)
    assert len(rows(store, "events")) == (2 if store.backend.name == "postgresql" else 4)
    assert [row.number for row in Reports(store).call(call)] == [1, 2]


def test_latest_calls(store: Store) -> None:
    """A user's or a session's latest attempts come newest first, of both choices, and nobody else's."""
    store.post(failed_over(), MARK)
    for number in range(4):
        store.post(
            attempt(
                id=f"b{number}", call=f"d{number}", at=NOON + HOUR + number, user="bob", session=f"s{number}"
            ),
            MARK,
        )
    reports = Reports(store)
    assert [row.id for row in reports.latest_calls(user="alice")] == ["a2", "a1"]
    assert [row.id for row in reports.latest_calls(user="bob", limit=3)] == ["b3", "b2", "b1"]
    assert [row.id for row in reports.latest_calls(session="s1")] == ["b1", "a2", "a1"]
    assert [row.id for row in reports.latest_calls(limit=1)] == ["b3"]
    assert reports.latest_calls(user="eve") == []


def test_more_series_than_an_hour_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound an hour counts further series as others: none is lost, and a known one goes on."""
    monkeypatch.setattr(hours_of, "MOST_SERIES", 3)
    firsts = [attempt(id=f"a{number}", call=f"c{number}", agent=f"agent-{number}") for number in range(5)]
    store.post(firsts[0], MARK)
    store.post([payload for pair in firsts[1:] for payload in pair], MARK)
    pairs = [attempt(id=f"b{number}", call=f"d{number}", agent=f"agent-{number}") for number in (2, 6, 7)]
    store.post([payload for pair in pairs for payload in pair], MARK)
    store.post(attempt(id="z", call="z", at=NOON + HOUR, agent="agent-9"), MARK)
    found = {
        (line.agent, line.model): line.attempts for line in Reports(store).series(("agent", "model"), NOON)
    }
    assert found == {
        **{
            (f"agent-{number}", "deepseek-chat"): attempts
            for number, attempts in ((0, 1), (1, 1), (2, 2), (9, 1))
        },
        ("other", "other"): 4,
    }
    (line,) = Reports(store).series((), NOON)
    assert (line.attempts, line.cost_nano) == (9, 9_000)
    assert line.p50_us == pytest.approx(1.5e6, rel=0.04)
    assert sum(rollup.counts(rollup.pack(row[-1]))[1][0] for row in hours(store).values()) == 9


def test_series(store: Store) -> None:
    """Hours carry counts, rates and latencies; the quantiles are within 4 % of the exact ones."""
    seconds = [0.1 * number for number in range(1, 101)]
    for number, value in enumerate(seconds):
        store.post(attempt(id=f"a{number}", call=f"c{number}", seconds=value), MARK)
    (line,) = Reports(store).series(("hour", "model"), NOON)
    assert (line.hour, line.model, line.agent, line.attempts) == (
        NOON - NOON % HOUR,
        "deepseek-chat",
        None,
        100,
    )
    assert line.p50_us == pytest.approx(5.0e6, rel=0.04)
    assert line.p95_us == pytest.approx(9.5e6, rel=0.04)
    assert Reports(store).series((), NOON)[0].attempts == 100
    assert Reports(store).series((), NOON + HOUR) == []


def test_traces_come_back(store: Store) -> None:
    """A trace's events come back as they were, newest traces first by session, by user and over all."""
    kept = {}
    for number in range(3):
        event = Event(
            id=f"e{number}", trace=f"t{number}", kind=Kind.TOOL_INVOCATION, at=NOON + number, span="p", parent="q",
            agent="dojo", user="bob", session="s", facts={"name": "grep ☃ \x00"}, tokens=3, cost_nano=4, error="no\x01",
        )  # fmt: skip
        kept[event.trace] = event
        store.post([msgspec.json.encode(event)], MARK)
    reports = Reports(store)
    assert reports.session_traces("s") == reports.latest_traces() == ["t2", "t1", "t0"]
    assert reports.user_traces("bob", limit=2) == ["t2", "t1"]
    assert reports.user_traces("eve") == []
    assert {trace: reports.trace(trace) for trace in kept} == {
        trace: [event] for trace, event in kept.items()
    }


OURS = {Kind.LLM_CALL_START, Kind.LLM_CALL_END, Kind.MODEL_FALLBACK}


@pytest.mark.parametrize("kind", sorted(set(Kind) - OURS))
def test_a_body_of_any_kind(make_store: MakeStore, kind: Kind) -> None:
    """Whatever kind an application writes, its body is kept apart, for seven days where it does not say."""
    store = make_store("memory")
    event = Event(id="e", trace="t", kind=kind, at=NOON, facts={"name": "grep", "body": "a secret"})
    store.post([msgspec.json.encode(event)], MARK)
    assert rows(store, "bodies") == [("t", "e", NOON + 7 * 24 * HOUR, '"a secret"')]
    assert "secret" not in str(rows(store, "events"))
    assert Reports(store).trace("t") == [event]


def test_the_facts_of_a_failover_stay_whole(make_store: MakeStore) -> None:
    """What turnout itself writes has no body: a fact of that name stays in the log."""
    store = make_store("memory")
    event = Event(id="e", trace="t", kind=Kind.MODEL_FALLBACK, at=NOON, facts={"body": "x"})
    store.post([msgspec.json.encode(event)], MARK)
    assert rows(store, "bodies") == []
    assert Reports(store).trace("t") == [event]


def test_a_body_has_a_place_of_its_own(store: Store) -> None:
    """What was said is not in the log's facts, and comes back with the trace."""
    event = Event(
        id="e",
        trace="t",
        kind=Kind.AGENT_RESPONSE,
        at=NOON,
        facts={"body": {"content": "hello"}, "expires_at": NOON + 9},
    )
    store.post([msgspec.json.encode(event)], MARK)
    assert rows(store, "bodies") == [("t", "e", NOON + 9, '{"content":"hello"}')]
    assert "hello" not in str(rows(store, "events"))
    assert Reports(store).trace("t") == [event]


def test_a_late_end_is_the_only_one_told(store: Store) -> None:
    """Of an attempt that was given up for dead and ended after all, the trace tells the real end."""
    start, end = attempt()
    expired = expire(start)
    assert expired is not None
    store.post([start, expired], MARK)
    assert [event.facts.get("state") for event in Reports(store).trace("c1")] == [None, "expired_estimated"]
    store.post([end], MARK)
    assert [event.id for event in Reports(store).trace("c1")] == ["a1s", "a1e"]


def test_the_view_of_traces(store: Store) -> None:
    """`harness_traces` nests a trace's events and summary as JSON."""
    store.post(failed_over(), MARK)
    with store.read() as connection:
        row = connection.execute(text("SELECT * FROM harness_traces WHERE trace_id = 'c1'")).one()
    summary, events = (
        json.loads(value) if isinstance(value, str) else value for value in (row.summary, row.events)
    )
    assert (row.session_id, row.user_id, row.started_at) == ("s1", "alice", NOON)
    assert (summary["attempts"], summary["total_cost_nano"], summary["total_tokens"]) == (2, 700, 120)
    kinds = [(event["id"], event["event_type"]) for event in events]
    assert kinds == [
        ("a1s", "LLM_CALL_START"), ("a1e", "LLM_CALL_END"), ("a2s", "LLM_CALL_START"), ("a2e", "LLM_CALL_END")
    ]  # fmt: skip
    assert events[0]["facts"]["model"] == "deepseek-chat"


def test_numbers_and_texts_no_column_can_hold(store: Store) -> None:
    """Absurd counts are cut to what fits and NUL bytes replaced; the batch is not lost."""
    _, end = attempt(usage=Usage(input_tokens=10**30, output_tokens=1), user="al\x00ice")
    assert store.post([end, b"no json", b'{"id": 3}'], MARK) == [b"no json", b'{"id": 3}']
    (row,) = Reports(store).call("c1")
    assert row.input_tokens == 2**62
    assert row.user_id in {"al\x00ice", "al\ufffdice"}


def test_a_nul_in_the_name_of_a_series(store: Store) -> None:
    """An agent that calls itself by a NUL byte is counted like any other, histogram included."""
    for number in range(3):
        store.post(attempt(id=f"a{number}", call=f"c{number}", agent="de\x00bugger"), MARK)
    ((series, sums),) = hours(store).items()
    assert (series[1], sums[1]) == ("de\ufffdbugger", 3)
    assert sum(rollup.counts(rollup.pack(sums[-1]))[1]) == 3


@pytest.mark.parametrize("others", [4, 20])
def test_names_that_differ_by_a_nul(store: Store, others: int) -> None:
    """Two users who are one when NUL is replaced are no reason to refuse their batch, a small or a large one."""
    users = ["x\x00", "x\ufffd", *(f"u{number}" for number in range(others))]
    pairs = [attempt(id=f"a{number}", call=f"c{number}", user=user) for number, user in enumerate(users)]
    assert store.post([payload for pair in pairs for payload in pair], MARK) == []
    assert len(rows(store, "cost_records")) == len(users)
    assert sum(row[3] for row in rows(store, "user_monthly_usage")) == len(users)


def test_a_number_that_no_column_takes(store: Store) -> None:
    """A number that nobody cuts to size is the database's refusal, which intake sets aside, and nothing is written."""
    with pytest.raises(DataError):
        store.post([*attempt(id="a1"), *attempt(id="a2", number=10**30)], MARK)
    assert rows(store, "cost_records") == rows(store, "events") == []


@pytest.mark.parametrize("spoil", ["cost_records", "usage_days", "rollup_hours", "traces"])
def test_rebuild(store: Store, spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever table was spoilt, a rebuild from the log, piece by piece, gives back all of them as they were."""
    monkeypatch.setattr(rebuilding, "CHUNK", 37)
    payloads = [payload for pair in many(150, seed=9, spread=40 * 24 * HOUR) for payload in pair]
    payloads += [end for start in payloads[:20:2] if (end := expire(start))]
    store.post(payloads[3:], MARK)
    before = everything(store)
    with store.write() as connection:
        if spoil == "cost_records":
            connection.execute(text("UPDATE cost_records SET cost_nano = 1, agent = 'nobody'"))
        else:
            connection.execute(text(f"DELETE FROM {spoil}"))  # noqa: S608
    done = rebuild(store)
    assert everything(store) == before
    assert (done.events, done.attempts, done.since) == (len(payloads) - 3, len(before["cost_records"]), 0)
