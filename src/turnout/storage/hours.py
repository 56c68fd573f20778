"""The hourly sums as a transaction changes them: histograms are added here, and the number of series is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select

from turnout.storage import driver, rollup, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

    from turnout.storage.posting import Changes, Series, Totals

MOST_SERIES = 2_000
"""Of one hour and writer; what comes after them is counted as `OTHER`."""
MOST_ROWS = 1_024
"""Asked for at once: PostgreSQL takes 65,535 values in a statement, and each takes five."""
OTHER = "other"
"""The agent, model and provider of series beyond the bound."""
_HOURS = tables.rollup_hours
_ONE = (
    "SELECT hour, agent, model, provider, latency FROM rollup_hours "
    "WHERE hour = ? AND agent = ? AND model = ? AND provider = ? AND writer = ?"
)
_COUNTED = (
    select(_HOURS.c.hour, func.count())
    .where(_HOURS.c.hour.in_(bindparam("hours")), _HOURS.c.writer == bindparam("writer"))
    .group_by(_HOURS.c.hour)
)


def changed_rows(connection: Connection, found: Changes, writer: str) -> list[tuple[Any, ...]]:
    """The rows of `rollup_hours` to merge, each with the whole of its histogram."""
    if not found.hours:
        return []
    plain = {series: _without_nul(series) for series in found.hours}
    standing = latencies(connection, plain.values(), writer)
    named = bounded(connection, plain.values(), standing, writer)
    sums: dict[Series, Totals] = {}
    for series, totals in found.hours.items():
        name = named[plain[series]]
        known = sums.get(name)
        sums[name] = totals if known is None else tuple(map(sum, zip(known, totals, strict=True)))
        if latency := found.latency.get(series):
            standing[name] = standing.get(name, 0) + latency
    return [
        (*series, writer, *totals, rollup.pack(standing.get(series, 0))) for series, totals in sums.items()
    ]


def latencies(connection: Connection, wanted: Iterable[Series], writer: str) -> dict[Series, int]:
    """The histograms that stand: of some series, and of what else their hours counted."""
    rows = sorted({*wanted, *((series[0], OTHER, OTHER, OTHER) for series in wanted)})
    ask = _each if connection.dialect.name == "sqlite" else _joined
    return {(row[0], row[1], row[2], row[3]): rollup.unpack(row[4]) for row in ask(connection, rows, writer)}


def _each(connection: Connection, rows: list[Series], writer: str) -> list[tuple[Any, ...]]:
    """One by one: nothing is between the program and SQLite."""
    return driver.fetched(connection, _ONE, [(*series, writer) for series in rows])


def _joined(connection: Connection, rows: list[Series], writer: str) -> list[tuple[Any, ...]]:
    """Many at a time; PostgreSQL is asked over a socket."""
    found: list[tuple[Any, ...]] = []
    for begin in range(0, len(rows), MOST_ROWS):
        asked = rows[begin : begin + MOST_ROWS]
        values = tuple([value for series in asked for value in (*series, writer)])
        found += connection.exec_driver_sql(_standing(len(asked)), values)
    return found


def _without_nul(series: Series) -> Series:
    """As PostgreSQL keeps it: what stands is looked up by these."""
    hour, agent, model, provider = series
    if "\x00" not in agent + model + provider:
        return series
    agent, model, provider = (name.replace("\x00", "\ufffd") for name in (agent, model, provider))
    return (hour, agent, model, provider)


def _standing(rows: int) -> str:
    each = "(%s, %s, %s, %s, %s)"
    return (
        f"WITH wanted (hour, agent, model, provider, writer) AS (VALUES {', '.join([each] * rows)}) "  # noqa: S608 - marks alone
        "SELECT r.hour, r.agent, r.model, r.provider, r.latency FROM wanted AS w JOIN rollup_hours AS r "
        "USING (hour, agent, model, provider, writer) "
        "ORDER BY r.hour, r.agent, r.model, r.provider FOR UPDATE OF r"
    )


def bounded(
    connection: Connection, wanted: Iterable[Series], standing: Mapping[Series, int], writer: str
) -> dict[Series, Series]:
    """Under which series each is counted: its own as long as it stands, or its hour has room for another."""
    named = {series: series for series in wanted}
    new = [series for series in wanted if series not in standing]
    if not new:
        return named
    asked = {"hours": sorted({series[0] for series in new}), "writer": writer}
    counted: dict[int, int] = {row[0]: row[1] for row in connection.execute(_COUNTED, asked)}
    for series in new:
        hour = series[0]
        if counted.get(hour, 0) >= MOST_SERIES:
            named[series] = (hour, OTHER, OTHER, OTHER)
        counted[hour] = counted.get(hour, 0) + 1
    return named
