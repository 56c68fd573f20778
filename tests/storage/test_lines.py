"""A journal's line becomes a row: each fact in its column, numbers as a column can hold them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.calls import NOON, attempt
from turnout.storage.expiry import expire
from turnout.storage.lines import CostRow, ended, fits, read_line, reserved, when
from turnout.storage.tables import cost_records
from turnout.types import Usage

LARGEST = 2**62
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def changed(payload: bytes, **facts: object) -> bytes:
    """A line with other facts."""
    line = msgspec.json.decode(payload)
    line["facts"] |= facts
    return msgspec.json.encode(line)


def test_columns() -> None:
    """A row has the columns of the table, in their order."""
    assert CostRow._fields == tuple(column.name for column in cost_records.columns)


def test_a_line_without_facts() -> None:
    """Facts that a line does not say are an empty object; other things it does not say are not known."""
    line = read_line(b'{"id":"e","trace":"t","kind":"of tomorrow","at":1,"later":true}')
    assert bytes(line.facts) == b"{}"
    assert (line.kind, line.span, line.agent, line.tokens, line.error) == ("of tomorrow", *(None,) * 4)


def test_a_reserved_row() -> None:
    """Of a start: who, what and how much is held; nothing of what has not happened yet."""
    start, _ = attempt(
        number=2, asked="gpt-4o", run="r1", key="k1", tags={"team": "blue"}, arm="b", operation="search",
        price_id="p1",
    )  # fmt: skip
    line = read_line(start)
    assert reserved("a1", line) == CostRow(
        id="a1", call_id="c1", trace_id="c1", number=2, at=NOON, state="reserved", operation="search",
        agent="debugger", user_id="alice", session_id="s1", run_id="r1", key_id="k1", tags='{"team":"blue"}',
        arm="b", model_asked="gpt-4o", model="deepseek-chat", provider="deepseek", stream=0,
        hold_nano=5_000, price_id="p1",
    )  # fmt: skip
    bare = msgspec.structs.replace(line, agent=None, at=-5, facts=read_line(attempt(hold=2**70)[0]).facts)
    row = reserved("a1", bare)
    assert (row.agent, row.at, row.hold_nano, row.tags) == ("", 0, LARGEST, "{}")


def test_an_ended_row() -> None:
    """Of an end: what came of it, and what its start had said."""
    usage = Usage(
        input_tokens=9, cached_input_tokens=5, cache_write_tokens=4, output_tokens=3, reasoning_tokens=2
    )
    _, end = attempt(
        number=2, asked="gpt-4o", run="r1", key="k1", tags={"team": "blue"}, arm="b", operation="search",
        usage=usage, outcome="timeout", fallback="rate_limited", seconds=0.25,
    )  # fmt: skip
    facts = msgspec.json.decode(end)["facts"]
    said = facts["attempt"] | {"upstream_model": "m-1", "first_token": 0.125}
    row = ended(read_line(changed(end, stream=True, finish_reason="length", attempt=said)))
    assert row == CostRow(
        id="a1", call_id="c1", trace_id="c1", number=2, at=NOON, state="settled", operation="search",
        agent="debugger", user_id="alice", session_id="s1", run_id="r1", key_id="k1", tags='{"team":"blue"}',
        arm="b", model_asked="gpt-4o", model="deepseek-chat", provider="deepseek", upstream_model="m-1",
        outcome="timeout", status=503, error="it was away", finish_reason="length",
        fallback_reason="rate_limited", stream=1, input_tokens=9, cached_input_tokens=5, cache_write_tokens=4,
        output_tokens=3, reasoning_tokens=2, usage_source="reported", hold_nano=5_000, cost_nano=1_000,
        price_id="deepseek-chat@2026-01-01", duration_us=250_000, first_token_us=125_000,
    )  # fmt: skip
    assert type(row) is CostRow


def test_a_bare_end() -> None:
    """Without usage, tags, agent and price of its own: nothing is made up, and the start's price row stands."""
    _, end = attempt(usage=None, cost=None, price_id="p1")
    facts = msgspec.json.decode(end)["facts"]
    line = read_line(changed(end, attempt=facts["attempt"] | {"price_id": None}))
    row = ended(msgspec.structs.replace(line, agent=None))
    assert row[24:30] == (None,) * 6
    assert (row.agent, row.tags, row.stream, row.cost_nano, row.first_token_us) == ("", "{}", 0, None, None)
    assert row.price_id == "p1"


def test_an_expired_end_has_no_duration() -> None:
    """How long a dead process's call took nobody knows."""
    made = expire(attempt(hold=77)[0])
    assert made is not None
    row = ended(read_line(made))
    assert (row.state, row.cost_nano, row.duration_us) == ("expired_estimated", 77, None)


@pytest.mark.parametrize(
    "name",
    ["input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_counts_beyond_a_column(name: str, sign: int) -> None:
    """A count beyond any column is the largest that one holds, whatever the other counts are; those stay."""
    counts: dict[str, int | None] = {
        "input_tokens": -1,
        "cached_input_tokens": None,
        "cache_write_tokens": 1,
        "output_tokens": LARGEST - 1,
        "reasoning_tokens": 1 - LARGEST,
    }
    _, end = attempt(usage=msgspec.convert(counts | {name: sign * 2**70}, Usage))
    row = ended(read_line(end))._asdict()
    assert {key: row[key] for key in counts} == counts | {name: sign * LARGEST}
    assert row["usage_source"] == "reported"


@given(st.none() | st.integers(-(2**80), 2**80))
def test_numbers_fit(value: int | None) -> None:
    """A number stays as it is within 2**62 on either side, and is that beyond."""
    expected = value if value is None else sorted((-LARGEST, value, LARGEST))[1]
    assert fits(value) == expected


def test_the_edges_of_what_fits() -> None:
    """The bounds themselves and what lies next to them."""
    edges = (-LARGEST - 1, -LARGEST, 1 - LARGEST, 0, LARGEST - 1, LARGEST, LARGEST + 1)
    assert [*map(fits, edges)] == [-LARGEST, -LARGEST, 1 - LARGEST, 0, LARGEST - 1, LARGEST, LARGEST]


def test_moments() -> None:
    """A moment stays between 1970 and the end of 9999."""
    last = int(LAST.timestamp()) * 1_000_000
    assert [*map(when, (-1, 0, 1, NOON, last, last + 1))] == [0, 0, 1, NOON, last, last]
