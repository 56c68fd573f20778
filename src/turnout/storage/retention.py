"""Old rows go, in slices between other work; hourly sums stay for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from turnout.storage import hours, rollup, tables
from turnout.storage.batch import DAY_US
from turnout.storage.posting import HOUR_US, Changes

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from turnout.storage.backend import Backend
    from turnout.storage.keep import Keep
    from turnout.storage.store import Store

SLICE = 5_000
TRACES = 500
OPEN_HOURS = 2
"""How long an hour may still be written to before its rows are folded into one."""
HOURLY_DAYS = 90
"""How long sums are kept by the hour; then the hours of a day become one row."""


def claim(store: Store, now: int) -> bool:
    """Whether it is this process's turn: once an hour, one of all that share the store."""
    with store.write() as connection:
        if now - _noted(connection, "swept_at") < HOUR_US:
            return False
        _note(store.backend, connection, "swept_at", now)
        return True


def sweep(store: Store, keep: Keep, now: int) -> bool:
    """Take away one slice of what is too old and fold the closed hours; whether there may be more."""
    events_until, costs_until = now - keep.events * DAY_US, now - keep.costs * DAY_US
    with store.write() as connection:
        more = _sweep_bodies(connection, now)
        more = _sweep_traces(store.backend, connection, events_until) or more
        more = _sweep_costs(store.backend, connection, costs_until) or more
        fold(store.backend, connection, now)
    if not more:
        store.backend.tidy()
    return more


def since(connection: Connection, name: str) -> int:
    """From when on nothing has been deleted of `events` or `costs`, or folded of `hours`; 0 when nothing ever was."""
    return _noted(connection, f"{name}_since")


def _sweep_bodies(connection: Connection, now: int) -> bool:
    bodies = tables.bodies
    old = connection.execute(
        select(bodies.c.trace_id, bodies.c.event_id).where(bodies.c.expires_at < now).limit(SLICE)
    ).fetchall()
    for trace, event in old:
        connection.execute(delete(bodies).where(bodies.c.trace_id == trace, bodies.c.event_id == event))
    return len(old) == SLICE


def _sweep_traces(backend: Backend, connection: Connection, until: int) -> bool:
    """A trace goes as a whole, when its last event is too old."""
    traces = tables.traces
    old = list(
        connection.execute(
            select(traces.c.trace_id)
            .where(traces.c.started_at < until, traces.c.ended_at < until)
            .order_by(traces.c.started_at)
            .limit(TRACES)
        ).scalars()
    )
    for table in (tables.events, tables.bodies, traces) if old else ():
        connection.execute(delete(table).where(table.c.trace_id.in_(old)))
    if old:
        _note(backend, connection, "events_since", until)
    return len(old) == TRACES


def _sweep_costs(backend: Backend, connection: Connection, until: int) -> bool:
    costs = tables.cost_records
    old = select(costs.c.id).where(costs.c.at < until).limit(SLICE)
    gone = connection.execute(delete(costs).where(costs.c.id.in_(old))).rowcount
    if gone:
        _note(backend, connection, "costs_since", until)
    return gone == SLICE


def fold(backend: Backend, connection: Connection, now: int) -> None:
    """Sum the rows of all writers of an hour that has closed, and those of an old day's hours, into one row each.

    Its writer is ''; a day's hour is the day's beginning.
    """
    rows = tables.rollup_hours.c
    _fold(backend, connection, HOUR_US, (rows.writer != "") & (rows.hour < now - OPEN_HOURS * HOUR_US))
    old = (now - HOURLY_DAYS * DAY_US) // DAY_US * DAY_US
    if _noted(connection, "hours_since") < old:
        _note(backend, connection, "hours_since", old)
    _fold(backend, connection, DAY_US, (rows.hour < old) & (rows.hour % DAY_US != 0))


def _fold(backend: Backend, connection: Connection, length: int, which: ColumnElement[bool]) -> None:
    table = tables.rollup_hours
    gone = connection.execute(delete(table).where(which).returning(*table.c)).fetchall()
    if not gone:
        return
    found = Changes()
    for row in gone:
        series = (row.hour - row.hour % length, row.agent, row.model, row.provider)
        found.add(series, tuple(row[5:-1]), rollup.unpack(row.latency))
    if backend.name == "postgresql":
        first, last = min(found.hours)[0], max(found.hours)[0]
        connection.execute(select(table.c.hour).where(table.c.hour.between(first, last)).with_for_update())
    backend.merge(connection, table, hours.changed_rows(connection, found, ""))


def _noted(connection: Connection, name: str) -> int:
    value = connection.execute(select(tables.meta.c.value).where(tables.meta.c.name == name)).scalar()
    return int(value or 0)


def _note(backend: Backend, connection: Connection, name: str, value: int) -> None:
    backend.merge(connection, tables.meta, [(name, str(value))])
