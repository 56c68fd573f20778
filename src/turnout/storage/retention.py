"""Old rows go, in slices between other work; hourly sums stay for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from turnout.storage import hours, rollup, tables
from turnout.storage.batch import DAY_US
from turnout.storage.horizon import advance, since
from turnout.storage.posting import HOUR_US, Changes

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from turnout.storage.backend import Backend
    from turnout.storage.keep import Keep
    from turnout.storage.store import Store

__all__ = ["claim", "fold", "since", "sweep"]
SLICE = 5_000
TRACES = 500
OPEN_HOURS = 2
"""How long an hour may still be written to before its rows are folded into one."""
HOURLY_DAYS = 90
"""How long sums are kept by the hour; then the hours of a day become one row."""


def claim(store: Store, now: int) -> bool:
    """Whether it is this process's turn: once an hour, one of all that share the store."""
    with store.write() as connection:
        return advance(connection, "swept_at", now, HOUR_US)


def sweep(store: Store, keep: Keep, now: int) -> bool:
    """Take away one slice of what is too old and fold the closed hours; whether there may be more."""
    events_until, costs_until = now - keep.events * DAY_US, now - keep.costs * DAY_US
    events_until = store.backend.roll_log(now, events_until)
    with store.write() as connection:
        # Tables in the order of a batch, or the two wait for each other.
        more = _sweep_costs(connection, costs_until)
        more = _sweep_bodies(connection, now) or more
        more = _sweep_traces(connection, events_until) or more
        fold(store.backend, connection, now)
    if not more:
        store.backend.tidy()
    return more


def _sweep_bodies(connection: Connection, now: int) -> bool:
    bodies = tables.bodies
    old = connection.execute(
        select(bodies.c.trace_id, bodies.c.event_id).where(bodies.c.expires_at < now).limit(SLICE)
    ).fetchall()
    for trace, event in old:
        connection.execute(delete(bodies).where(bodies.c.trace_id == trace, bodies.c.event_id == event))
    return len(old) == SLICE


def _sweep_traces(connection: Connection, until: int) -> bool:
    """A trace goes as a whole, when its last event is too old."""
    events, bodies, traces = tables.events, tables.bodies, tables.traces
    old = list(
        connection.execute(
            select(traces.c.trace_id)
            .where(traces.c.started_at < until, traces.c.ended_at < until)
            .order_by(traces.c.started_at)
            .limit(TRACES)
        ).scalars()
    )
    more = len(old) == TRACES
    old = _locked(connection, old, until)
    if old:
        connection.execute(delete(events).where(events.c.trace_id.in_(old), events.c.at < until))
        connection.execute(delete(bodies).where(bodies.c.trace_id.in_(old)))
        connection.execute(delete(traces).where(traces.c.trace_id.in_(old), traces.c.ended_at < until))
        advance(connection, "events_since", until)
    return more


def _locked(connection: Connection, old: list[str], until: int) -> list[str]:
    """Those that a batch has not brought back to life meanwhile; the next one that would has to wait."""
    traces = tables.traces
    still = select(traces.c.trace_id).where(traces.c.trace_id.in_(old), traces.c.ended_at < until)
    return list(connection.execute(still.order_by(traces.c.trace_id).with_for_update()).scalars())


def _sweep_costs(connection: Connection, until: int) -> bool:
    costs = tables.cost_records
    old = select(costs.c.id).where(costs.c.at < until).limit(SLICE)
    gone = connection.execute(delete(costs).where(costs.c.id.in_(old))).rowcount
    if gone:
        advance(connection, "costs_since", until)
    return gone == SLICE


def fold(backend: Backend, connection: Connection, now: int) -> None:
    """Sum the rows of all writers of an hour that has closed, and those of an old day's hours, into one row each.

    Its writer is ''; a day's hour is the day's beginning.
    """
    rows = tables.rollup_hours.c
    _fold(backend, connection, HOUR_US, (rows.writer != "") & (rows.hour < now - OPEN_HOURS * HOUR_US))
    old = (now - HOURLY_DAYS * DAY_US) // DAY_US * DAY_US
    advance(connection, "hours_since", old)
    _fold(backend, connection, DAY_US, (rows.hour < old) & (rows.hour % DAY_US != 0))


def _fold(backend: Backend, connection: Connection, length: int, which: ColumnElement[bool]) -> None:
    table = tables.rollup_hours
    # In the order of a batch: the DELETE goes as it pleases.
    connection.execute(select(table.c.hour).where(which).order_by(*table.primary_key).with_for_update())
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
