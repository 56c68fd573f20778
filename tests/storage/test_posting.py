"""The state rule, as a property: how events are ordered, repeated and cut makes no difference."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.calls import NOON, attempt
from turnout.storage.batch import DAY_US, Batch
from turnout.storage.expiry import Unclosed, expire
from turnout.storage.lines import RANK, CostRow, Line
from turnout.storage.posting import Changes, changes, contribution
from turnout.storage.tables import TOTALS
from turnout.types import Usage

HOUR = 3_600_000_000


class Tables:
    """Rows and sums, as a store keeps them."""

    def __init__(self) -> None:
        self.rows: dict[str, CostRow] = {}
        self.sums: dict[tuple[str, Any], tuple[int, ...]] = {}

    def post(self, payloads: list[bytes]) -> None:
        """One transaction."""
        batch = Batch(payloads)
        states = {id_: row.state for id_, row in self.rows.items()}
        counted = {id_: row for id_, row in self.rows.items() if row.state == "expired_estimated"}
        found = changes(batch.attempts.values(), states, counted)
        for row in (*found.new, *found.higher):
            self.rows[row.id] = row
        self._add(found)

    def _add(self, found: Changes) -> None:
        named: dict[str, dict[Any, tuple[int, ...]]] = {
            "trace": found.traces,
            "day": found.days,
            "hour": found.hours,
        }
        for name, sums in named.items():
            for key, totals in sums.items():
                self._sum((name, key), totals)
        for series, latency in found.latency.items():
            self._sum(("latency", series), (latency,))

    def _sum(self, key: tuple[str, Any], totals: tuple[int, ...]) -> None:
        known = self.sums.get(key, (0,) * len(totals))
        self.sums[key] = tuple(a + b for a, b in zip(known, totals, strict=True))


counts = st.none() | st.integers(0, 5_000)


@st.composite
def attempts(draw: st.DrawFn) -> list[bytes]:
    """The payloads of some attempts: started, ended, given up for dead, or any two of these."""
    payloads = []
    for number in range(draw(st.integers(1, 6))):
        usage = Usage(input_tokens=draw(counts), cached_input_tokens=draw(counts), output_tokens=draw(counts))
        start, end = attempt(
            id=f"a{number}",
            call=f"c{number // 2}",
            number=number % 2 + 1,
            at=NOON + draw(st.sampled_from((0, HOUR, 300 * HOUR))),
            user=draw(st.sampled_from(("alice", "bob", None))),
            session=draw(st.sampled_from(("s1", "s2", None))),
            model=draw(st.sampled_from(("m1", "m2"))),
            outcome=draw(st.sampled_from(("ok", "timeout"))),
            cost=draw(counts),
            hold=draw(counts),
            usage=draw(st.sampled_from((usage, None))),
            seconds=draw(st.floats(0, 100)),
            fallback=draw(st.sampled_from((None, "timeout"))),
        )
        kept = draw(st.sets(st.sampled_from(("start", "end", "expired")), min_size=1))
        expired = expire(start)
        assert expired is not None
        payloads += [
            payload
            for name, payload in (("start", start), ("end", end), ("expired", expired))
            if name in kept
        ]
    return payloads


@given(attempts(), st.data())
def test_order_repetition_and_cuts_make_no_difference(payloads: list[bytes], data: st.DataObject) -> None:
    """Shuffled, repeated and cut into transactions anyhow, the rows and every sum end up the same."""
    once = Tables()
    once.post(payloads)
    jumbled = data.draw(
        st.permutations(payloads + data.draw(st.lists(st.sampled_from(payloads), max_size=6)))
    )
    often = Tables()
    while jumbled:
        size = data.draw(st.integers(1, len(jumbled)))
        often.post(jumbled[:size])
        jumbled = jumbled[size:]
    assert often.rows == once.rows
    assert {key: sums for key, sums in often.sums.items() if any(sums)} == {
        key: sums for key, sums in once.sums.items() if any(sums)
    }


@given(attempts())
def test_sums_are_the_rows_sums(payloads: list[bytes]) -> None:
    """Each sum is what the rows as they stand contribute, counted here by the rule's own words."""
    tables = Tables()
    tables.post(payloads)
    rows = [row for row in tables.rows.values() if row.state != "reserved"]
    for (name, key), sums in tables.sums.items():
        match name:
            case "trace":
                mine = [row for row in rows if row.trace_id == key]
            case "day":
                mine = [
                    row
                    for row in rows
                    if (row.at // DAY_US * DAY_US, row.user_id or "", row.session_id or "") == key
                ]
            case "hour":
                mine = [
                    row for row in rows if (row.at // HOUR * HOUR, row.agent, row.model, row.provider) == key
                ]
            case _:
                continue
        assert sums[1] == len(mine)
        assert sums[-1] == sum(row.cost_nano or 0 for row in mine)
        assert sums == tuple(map(sum, zip(*(contribution(row) or () for row in mine), strict=True)))


@given(attempts())
def test_the_highest_state_stands(payloads: list[bytes]) -> None:
    """Of each attempt the row is that of the highest state among its events."""
    tables = Tables()
    for payload in payloads:
        tables.post([payload])
    for row in tables.rows.values():
        lines = [msgspec.json.decode(payload, type=Line) for payload in payloads]
        mine = [line for line in lines if line.span == row.id]
        kinds = {"settled": "e", "expired_estimated": ":expired", "reserved": "s"}
        highest = max(
            RANK[state] for state, end in kinds.items() if any(line.id.endswith(end) for line in mine)
        )
        assert RANK[row.state] == highest


def test_who_has_no_end() -> None:
    """Only starts without an end expire, in whatever order and pieces they are seen; what is no event says nothing."""
    start, end = attempt(id="a1")
    lonely, _ = attempt(id="a2", hold=77)
    calls = Unclosed()
    calls.see([end, b"LLM_CALL_START, torn"])
    calls.see([start, lonely])
    (made,) = calls.expired()
    (row,) = Batch([made]).attempts.values()
    assert (row.id, row.state, row.cost_nano, row.outcome, row.duration_us) == (
        "a2", "expired_estimated", 77, "expired", None
    )  # fmt: skip


def test_a_start_that_cannot_be_read() -> None:
    """An attempt's event whose facts are not an attempt's stays in the log and is told as unreadable."""
    payload = b'{"id":"e","trace":"t","kind":"LLM_CALL_END","at":1,"span":"s","facts":{"opened":3}}'
    lost = b'{"id":"f","trace":"t","kind":"LLM_CALL_START","at":1,"facts":{}}'
    batch = Batch([payload, lost])
    assert batch.unreadable == [payload, lost]
    assert [row[1] for row in batch.events] == ["e", "f"]
    assert batch.attempts == {}
    assert expire(lost) is None
    assert expire(payload) is None


def test_what_an_attempt_counts() -> None:
    """Each figure that an attempt adds to a sum, by its name: of a fallback's answer, a first failure, a bare one."""
    usage = Usage(
        input_tokens=1_000,
        cached_input_tokens=400,
        cache_write_tokens=30,
        output_tokens=20,
        reasoning_tokens=7,
    )
    answered = counted(attempt(number=2, usage=usage, cost=900, fallback="timeout"))
    assert answered == {
        "calls": 0, "attempts": 1, "errors": 0, "fallbacks": 1, "cache_hits": 1, "unpriced": 0,
        "input_tokens": 1_000, "cached_input_tokens": 400, "cache_write_tokens": 30, "output_tokens": 20,
        "reasoning_tokens": 7, "cost_nano": 900,
    }  # fmt: skip
    failed = counted(attempt(outcome="timeout", usage=None, cost=None, fallback="timeout"))
    assert failed == dict.fromkeys(answered, 0) | {"calls": 1, "attempts": 1, "errors": 1, "unpriced": 1}
    bare = counted(attempt(usage=Usage(input_tokens=5), cost=0))
    assert bare == dict.fromkeys(answered, 0) | {"calls": 1, "attempts": 1, "input_tokens": 5}


def counted(payloads: tuple[bytes, bytes]) -> dict[str, int]:
    """What the end of an attempt adds, by the names of the sums."""
    (row,) = Batch(payloads).attempts.values()
    return dict(zip(TOTALS, contribution(row) or (), strict=True))
