"""What is summed of kept sums is what is summed of the rows, and each share is of the right whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from sqlalchemy import update

from tests.storage.calls import NOON, attempt
from tests.storage.conftest import MARK
from turnout.storage import tables
from turnout.storage.batch import DAY_US
from turnout.storage.posting import HOUR_US
from turnout.storage.sums import DIMENSIONS, By, Dimension, Line, summed_hours, summed_rows, summed_whole
from turnout.types import Usage

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from tests.storage.conftest import MakeStore
    from turnout.storage.store import Store

DAY = NOON - NOON % DAY_US
HOUR = NOON - NOON % HOUR_US
FULL = Usage(
    input_tokens=100, cached_input_tokens=40, cache_write_tokens=30, output_tokens=20, reasoning_tokens=7
)


@pytest.fixture
def some(make_store: MakeStore) -> Store:
    """Attempts of every kind: answered, failed, a second choice's, unpriced, under way, at either edge of an hour."""
    store = make_store("sqlite")
    kinds: list[dict[str, Any]] = [
        {"usage": FULL},
        {"usage": FULL, "number": 2, "fallback": "timeout", "agent": "dojo"},
        {"usage": None, "cost": None, "outcome": "timeout"},
        {"usage": None, "cost": 0, "outcome": "timeout", "number": 2, "fallback": "timeout"},
        {"usage": Usage(input_tokens=3, cached_input_tokens=0), "user": None, "session": None},
        {"usage": FULL, "user": None, "model": "gpt-4o", "key": "k1"},
        {"usage": FULL, "session": None, "at": HOUR},
        {"usage": FULL, "at": HOUR + HOUR_US - 1},
        {"usage": FULL, "at": HOUR + HOUR_US},
        {"usage": FULL, "at": HOUR - 1},
    ]
    for number, kind in enumerate(kinds):
        store.post(
            attempt(id=f"a{number}", call=f"c{number}", cost=kind.pop("cost", 1_000 + number), **kind), MARK
        )
    store.post(attempt(id="b", call="d", user="nobody", session="none", agent="idle")[:1], MARK)
    return store


def answers(connection: Connection, asked: Select[Any]) -> dict[Any, tuple[int, ...]]:
    """A query's sums by its key."""
    return {row[0]: tuple(row[1:]) for row in connection.execute(asked)}


@pytest.mark.parametrize("by", ["agent", "model", "user", "session"])
@pytest.mark.parametrize("since", [HOUR - DAY_US, DAY])
def test_sums_and_rows_agree(some: Store, by: By, since: int) -> None:
    """Every figure of every line is the same, of kept sums and of the rows; what is under way makes no line."""
    with some.read() as connection:
        summed, begin, end = summed_whole(connection, by, since, DAY + DAY_US + 5)
        assert summed is not None
        found = answers(connection, summed)
        assert found == answers(connection, summed_rows(by, begin, end))
    assert not {"idle", "nobody", "none"} & set(found)


def test_figures_of_rows(some: Store) -> None:
    """Each of the sums that rows make, by its name, with those at the beginning of a period and none at its end."""
    with some.read() as connection:
        found = answers(connection, summed_rows("agent", HOUR, HOUR + HOUR_US))
        rows = {by: answers(connection, summed_rows(by, 0, 2**62)) for by in get_args(By)}
    assert dict(zip(tables.TOTALS, found["debugger"], strict=True)) == {
        "calls": 6, "attempts": 7, "errors": 2, "fallbacks": 0, "cache_hits": 4, "unpriced": 1,
        "input_tokens": 403, "cached_input_tokens": 160, "cache_write_tokens": 120, "output_tokens": 80,
        "reasoning_tokens": 28, "cost_nano": 5_022,
    }  # fmt: skip
    assert found["dojo"][:6] == (0, 1, 0, 1, 1, 0)
    assert {by: sum(line[1] for line in lines.values()) for by, lines in rows.items()} == dict.fromkeys(
        rows, 10
    )
    assert {key: line[1] for key, line in rows["key"].items()} == {None: 9, "k1": 1}
    assert {key: line[1] for key, line in rows["user"].items()} == {None: 2, "alice": 8}
    assert {key: line[1] for key, line in rows["model"].items()} == {"deepseek-chat": 9, "gpt-4o": 1}


@pytest.mark.parametrize(
    ("by", "since", "until", "expected"),
    [
        ("key", DAY, DAY + DAY_US, None),
        ("agent", HOUR, HOUR + HOUR_US, (HOUR, HOUR + HOUR_US)),
        ("model", HOUR - 1, HOUR + HOUR_US + 1, (HOUR, HOUR + HOUR_US)),
        ("agent", HOUR + 1, HOUR + HOUR_US, None),
        ("agent", HOUR, HOUR + HOUR_US - 1, None),
        ("agent", HOUR + 1, HOUR + 2 * HOUR_US + 1, (HOUR + HOUR_US, HOUR + 2 * HOUR_US)),
        ("user", DAY, DAY + DAY_US, (DAY, DAY + DAY_US)),
        ("session", DAY + 1, DAY + DAY_US, None),
        ("session", DAY - 1, DAY + DAY_US + 1, (DAY, DAY + DAY_US)),
        ("user", HOUR, HOUR + HOUR_US, None),
    ],
)
def test_whole_pieces(some: Store, by: By, since: int, until: int, expected: tuple[int, int] | None) -> None:
    """Sums cover the whole hours, or days, within a period; without any the period is left to the rows."""
    with some.read() as connection:
        summed, begin, end = summed_whole(connection, by, since, until)
    assert (begin, end) == (expected or (since, until))
    assert (summed is None) == (expected is None)


def test_folded_hours_are_summed_by_days(some: Store) -> None:
    """From before the moment since which hours stand as hours, whole days are summed; from it on, hours."""
    with some.write() as connection:
        noted = update(tables.meta).where(tables.meta.c.name == "hours_since").values(value=str(HOUR))
        if connection.execute(noted).rowcount == 0:
            connection.execute(tables.meta.insert().values(name="hours_since", value=str(HOUR)))
    with some.read() as connection:
        until = HOUR + 3 * DAY_US
        assert summed_whole(connection, "agent", HOUR, until)[1:] == (HOUR, until)
        assert summed_whole(connection, "agent", HOUR - 1, until)[1:] == (DAY + DAY_US, DAY + 3 * DAY_US)


def test_hours_in_order(some: Store) -> None:
    """Sums come in the order of what they are asked by, of the hours in the period alone."""
    columns = [tables.rollup_hours.c[name] for name in DIMENSIONS]
    with some.read() as connection:
        rows = connection.execute(summed_hours(columns, HOUR, HOUR + HOUR_US)).fetchall()
        later = connection.execute(summed_hours(columns[:1], HOUR - HOUR_US, HOUR + 2 * HOUR_US)).fetchall()
    keys = [row[:4] for row in rows]
    assert keys == sorted(keys)
    assert {key[1:3] for key in keys} == {
        ("debugger", "deepseek-chat"),
        ("debugger", "gpt-4o"),
        ("dojo", "deepseek-chat"),
    }
    assert [(row[0], row[2]) for row in later] == [(HOUR - HOUR_US, 1), (HOUR, 8), (HOUR + HOUR_US, 1)]


def test_dimensions() -> None:
    """They are in the order of the key of the hourly sums."""
    assert get_args(Dimension) == DIMENSIONS
    assert [column.name for column in tables.rollup_hours.primary_key][:4] == list(DIMENSIONS)


def test_shares() -> None:
    """Fallbacks of answers, errors of attempts, cached of input; `None` of nothing."""
    line = Line(attempts=10, errors=2, fallbacks=4, input_tokens=200, cached_input_tokens=50, unpriced=1)
    assert (line.fallback_rate, line.error_rate, line.cache_rate) == (0.5, 0.2, 0.25)
    nothing = Line()
    assert (nothing.fallback_rate, nothing.error_rate, nothing.cache_rate) == (None, None, None)
    one = Line(attempts=1, fallbacks=1, input_tokens=1, cached_input_tokens=1)
    assert (one.fallback_rate, one.error_rate, one.cache_rate) == (1.0, 0.0, 1.0)
    failed = Line(attempts=1, errors=1)
    assert (failed.fallback_rate, failed.error_rate) == (None, 1.0)
    assert set(Line.__struct_fields__) == set(tables.TOTALS)
    assert not any(getattr(nothing, name) for name in tables.TOTALS)
