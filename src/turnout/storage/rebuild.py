"""Make the tables anew from the log: what `events` still says decides, what is older than it stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import delete, select, tuple_, update

from turnout.storage import retention, tables
from turnout.storage.batch import DAY_US, UNHEARD, Batch
from turnout.storage.lines import CostRow, Line
from turnout.storage.posting import Changes, changes
from turnout.storage.store import write_sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from turnout.storage.backend import Backend
    from turnout.storage.store import Store

CHUNK = 20_000
_ZERO = (0,) * len(tables.TOTALS)


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What was made anew."""

    events: int
    """Events read."""
    attempts: int
    """Rows of `cost_records` summed up again."""
    since: int
    """From when on the log was complete, microseconds UTC; 0: from the beginning."""


def rebuild(store: Store) -> Rebuilt:
    """Recompute cost rows, traces, days and hours in one transaction. Raises as `Store` does.

    Cost rows older than the log, or of its first day, are kept and summed up with the rest; sums that reach beyond
    both the log and the oldest cost row are left alone.
    """
    backend = store.backend
    with store.write() as connection:
        if backend.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE cost_records, traces IN EXCLUSIVE MODE")
            # No day is dropped meanwhile.
            connection.exec_driver_sql("LOCK TABLE events IN ACCESS SHARE MODE")
        log_since, costs_since = (retention.since(connection, name) for name in ("events", "costs"))
        costs_since = min(costs_since, log_since)  # rows that were swept before their events come back
        _clear(connection, log_since, costs_since)
        events = sum(_replay(backend, connection, payloads) for payloads in _log(connection))
        attempts = _sum_up(backend, connection, costs_since)
    return Rebuilt(events=events, attempts=attempts, since=log_since)


def _clear(connection: Connection, log_since: int, costs_since: int) -> None:
    costs, days, hours = tables.cost_records, tables.usage_days, tables.rollup_hours
    # A clock that was set back may have put an attempt's start behind the border and its end before it.
    connection.execute(delete(costs).where(costs.c.at >= (log_since and log_since + DAY_US)))
    connection.execute(delete(tables.traces))
    connection.execute(delete(days).where(days.c.day >= log_since))
    first = _first_whole_day(costs_since)
    connection.execute(update(days).where(days.c.day >= first).values(dict.fromkeys(tables.TOTALS, 0)))
    connection.execute(delete(hours).where(hours.c.hour >= first))


def _log(connection: Connection) -> Iterator[list[bytes]]:
    events = tables.events
    last = ("", "")
    while True:
        rows = connection.execute(
            select(events)
            .where(tuple_(events.c.trace_id, events.c.id) > last)
            .order_by(events.c.trace_id, events.c.id)
            .limit(CHUNK)
        ).fetchall()
        if not rows:
            return
        yield [_payload(row) for row in rows]
        last = (rows[-1].trace_id, rows[-1].id)


def _payload(row: Any) -> bytes:
    return msgspec.json.encode(
        Line(
            id=row.id,
            trace=row.trace_id,
            kind=row.kind,
            at=row.at,
            span=row.span,
            parent=row.parent,
            agent=row.agent,
            user=row.user_id,
            session=row.session_id,
            facts=msgspec.Raw(row.facts.encode()),
            tokens=row.tokens,
            cost_nano=row.cost_nano,
            error=row.error,
        )
    )


def _replay(backend: Backend, connection: Connection, payloads: list[bytes]) -> int:
    """Cost rows and the heads of traces and sessions; sums come later, from the rows as they end up."""
    batch = Batch(payloads)
    states = {row[0]: row[1] for row in backend.states(connection, list(batch.attempts))}
    found = changes(batch.attempts.values(), states, {})
    backend.merge(connection, tables.cost_records, [*found.new, *found.higher])
    traces = [(trace, *seen, *_ZERO) for trace, seen in batch.traces.items()]
    days = [(*day, *heard, *_ZERO) for day, heard in batch.days.items()]
    backend.merge(connection, tables.traces, traces)
    backend.merge(connection, tables.usage_days, days)
    return len(payloads)


def _sum_up(backend: Backend, connection: Connection, costs_since: int) -> int:
    costs = tables.cost_records
    first, last, attempts = _first_whole_day(costs_since), "", 0
    while True:
        rows = connection.execute(
            select(costs)
            .where(costs.c.id > last, costs.c.at >= costs_since)
            .order_by(costs.c.id)
            .limit(CHUNK)
        ).fetchall()
        if not rows:
            break
        found, batch = Changes(), Batch(())
        for row in map(CostRow._make, rows):
            found.count(row)
            if row.at >= first:
                batch.saw(row)
        found.days = {day: sums for day, sums in found.days.items() if day[0] >= first}
        found.hours = {series: sums for series, sums in found.hours.items() if series[0] >= first}
        write_sums(backend, connection, batch, found, "")
        attempts += len(rows)
        last = rows[-1].id
    # Sums also made heads of traces whose events have gone: a trace without events is none.
    connection.execute(delete(tables.traces).where(tables.traces.c.started_at == UNHEARD[0]))
    return attempts


def _first_whole_day(since: int) -> int:
    """The first beginning of a day at or after a moment: sums of hours may have been folded into days."""
    return -(-since // DAY_US) * DAY_US
