"""Hourly sums within a transaction: histograms are added to what stands, and no hour has too many series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout.storage import hours, rollup, tables
from turnout.storage.posting import HOUR_US, Changes

if TYPE_CHECKING:
    import pytest
    from sqlalchemy import Connection

    from turnout.storage.posting import Series, Totals
    from turnout.storage.store import Store

HOUR = 498_611 * HOUR_US
TOTALS: Totals = tuple(range(1, 13))
OTHER = ("other", "other", "other")


def named(agent: str, hour: int = HOUR) -> Series:
    """A series that differs from others by its agent."""
    return (hour, agent, "m", "p")


def told(*series: Series, latency: int = 0, totals: Totals = TOTALS) -> Changes:
    """The same of some series."""
    found = Changes()
    for one in series:
        found.add(one, totals, latency)
    return found


def written(store: Store, found: Changes, writer: str = "") -> list[tuple[Any, ...]]:
    """Put changes into the table; the rows that were merged."""
    with store.write() as connection:
        rows = hours.changed_rows(connection, found, writer)
        store.backend.merge(connection, tables.rollup_hours, rows)
    return rows


def standing(connection: Connection, series: list[Series], writer: str = "") -> dict[Series, int]:
    """What `latencies` says of some series."""
    return hours.latencies(connection, series, writer)


def test_nothing_changes(store: Store) -> None:
    """Without a change no row is written."""
    assert written(store, Changes()) == []


def test_a_row_has_the_whole_histogram(store: Store) -> None:
    """Sums are those of the change; the histogram is what stood and the change together, also where it adds none."""
    first, second = rollup.one(1_000), rollup.one(90_000)
    assert written(store, told(named("a"), latency=first)) == [(*named("a"), "", *TOTALS, rollup.pack(first))]
    assert written(store, told(named("a"), latency=second))[0][-1] == rollup.pack(first + second)
    assert written(store, told(named("a")))[0][-1] == rollup.pack(first + second)
    assert written(store, told(named("b")))[0][-1] == b""


def test_writers_are_strangers(store: Store) -> None:
    """What one writer has counted is not another's: neither its histogram nor its share of an hour's series."""
    written(store, told(named("a"), latency=rollup.one(1_000)), "w1")
    (row,) = written(store, told(named("a"), latency=rollup.one(5_000)), "w2")
    assert (row[4], row[-1]) == ("w2", rollup.pack(rollup.one(5_000)))


def test_latencies(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every series that stands is found, however many are asked for at once, and its hour's others with it."""
    monkeypatch.setattr(hours, "MOST_ROWS", 2)
    known = {named(f"a{number}"): rollup.one(100 * 2**number) for number in range(5)}
    known[HOUR, *OTHER] = rollup.one(7)
    for series, latency in known.items():
        written(store, told(series, latency=latency))
    with store.write() as connection:
        assert standing(connection, [*known, named("new")]) == known
        some = standing(connection, [named("a3")])
        assert some == {series: known[series] for series in (named("a3"), (HOUR, *OTHER))}
        assert standing(connection, [named("a3", HOUR + HOUR_US)]) == {}
        assert standing(connection, [named("a3")], "w1") == {}


def test_a_name_with_a_nul(store: Store) -> None:
    """A NUL anywhere in a series' names is looked up as it is kept; the rest of the name stays."""
    names = [(HOUR, "a\x00b", "m", "p"), (HOUR, "a", "m\x00", "p"), (HOUR, "a", "m", "\x00p")]
    for series in names:
        (row,) = written(store, told(series, latency=rollup.one(1_000)))
        assert row[1:4] == tuple([str(name).replace("\x00", "\ufffd") for name in series[1:]])
        (again,) = written(store, told(series, latency=rollup.one(1_000)))
        assert again[-1] == rollup.pack(2 * rollup.one(1_000))


def test_the_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour takes as many series as the bound says; known ones go on, and what is beyond is summed as one."""
    monkeypatch.setattr(hours, "MOST_SERIES", 2)
    written(store, told(named("a")))
    one = rollup.one(1_000)
    rows = written(store, told(named("b"), named("c"), named("a"), named("d"), latency=one))
    doubled = tuple(2 * value for value in TOTALS)
    assert sorted(rows) == sorted(
        [
            (*named("a"), "", *TOTALS, rollup.pack(one)),
            (*named("b"), "", *TOTALS, rollup.pack(one)),
            (HOUR, *OTHER, "", *doubled, rollup.pack(2 * one)),
        ]
    )
    (again,) = written(store, told(named("e"), latency=one))
    assert again == (HOUR, *OTHER, "", *TOTALS, rollup.pack(3 * one))


def test_the_bound_within_a_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new hour's series are counted as they come: the first ones in, up to the bound."""
    monkeypatch.setattr(hours, "MOST_SERIES", 2)
    rows = written(store, told(named("a"), named("b"), named("c")))
    assert [row[:4] for row in rows] == [named("a"), named("b"), (HOUR, *OTHER)]


def test_each_hour_and_writer_has_its_own_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full hour leaves the next one's room alone, and another writer's."""
    monkeypatch.setattr(hours, "MOST_SERIES", 1)
    later = HOUR + HOUR_US
    assert [row[:4] for row in written(store, told(named("a"), named("b", later)))] == [
        named("a"),
        named("b", later),
    ]
    assert [row[:4] for row in written(store, told(named("c"), named("d", later)))] == [
        (HOUR, *OTHER),
        (later, *OTHER),
    ]
    assert [row[:4] for row in written(store, told(named("c")), "w1")] == [named("c")]


def test_how_many_series_an_hour_has() -> None:
    """2,000, as the tables' description promises."""
    assert hours.MOST_SERIES == 2_000
    assert hours.OTHER == "other"
