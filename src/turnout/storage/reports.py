"""Reads for people: what it cost, how it went by the hour, and traces."""

from __future__ import annotations

from collections import defaultdict
from operator import add, attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, func, select

from turnout.storage import retention, rollup, tables
from turnout.storage.batch import DAY_US
from turnout.storage.lines import CostRow
from turnout.storage.posting import HOUR_US
from turnout.storage.sums import (
    DIMENSIONS,
    By,
    CostLine,
    Dimension,
    Line,
    SeriesLine,
    summed_hours,
    summed_rows,
    summed_whole,
)
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from turnout.storage.store import Store

    Columns = Sequence[ColumnElement[Any]]
    Sums = tuple[tuple[Any, ...], list[bytes]]

__all__ = ["By", "CostLine", "Dimension", "Line", "Reports", "SeriesLine"]
FOREVER = 2**62
CALL_US = 24 * HOUR_US
"""Attempts of a call begin within a day of it."""
FINE = {"hour", "agent", "model"}
"""Dimensions in which few rows are left to be summed."""
_KINDS = frozenset(Kind)
_COSTS, _HOURS = tables.cost_records, tables.rollup_hours


class Reports:
    """Reads one store. Raises as `Store` does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def costs(self, by: By, since: int, until: int = FOREVER) -> list[CostLine]:
        """The attempts that began in [since, until), in microseconds UTC, dearest first; reservations do not count."""
        sums: dict[str | None, list[int]] = {}
        with self._store.read() as connection:
            summed, begin, end = summed_whole(connection, by, since, until)
            if summed is None:
                pieces = [(since, until)]
            else:
                _collect(sums, connection.execute(summed))
                pieces = [(since, begin), (end, until)]
            for first, last in pieces:
                if first < last:
                    _collect(sums, connection.execute(summed_rows(by, first, last)))
        lines = [CostLine(key=key, **_named(totals)) for key, totals in sums.items()]
        return sorted(lines, key=lambda line: (-line.cost_nano, -line.attempts, line.key or ""))

    def series(self, by: Sequence[Dimension], since: int, until: int = FOREVER) -> list[SeriesLine]:
        """Sums and latencies by any of hour, agent, model and provider, of the whole hours in [since, until).

        The first hour is the one that `since` lies in, or its day where hours have been folded into days. `by=()`
        gives one line, or none.
        """
        order = [name for name in DIMENSIONS if name in by]
        columns, depth = [_HOURS.c[name] for name in order], len(order)
        with self._store.read() as connection:
            begin = since // HOUR_US * HOUR_US
            if begin < retention.since(connection, "hours"):
                begin = since // DAY_US * DAY_US
            summed = _added_up if set(by) >= FINE else _summed
            blank = (None,) * (len(DIMENSIONS) - depth)
            leads = order == list(DIMENSIONS[:depth])
            named = itemgetter(*(order.index(name) if name in order else -1 for name in DIMENSIONS))
            lines = [
                SeriesLine(
                    *row[depth:],
                    *(row[:depth] + blank if leads else named((*row, None))),
                    *rollup.quantiles(latencies, 0.5, 0.95),
                )
                for row, latencies in summed(connection, columns, begin, until)
            ]
        if order != list(by):
            lines.sort(key=attrgetter(*by))
        return lines

    def call(self, call: str) -> list[CostRow]:
        """The attempts of a call, in their order; none when it is not known, or not in the tables yet."""
        at = _began(call)
        near = _COSTS.c.at.between(at - CALL_US, at + CALL_US) if at is not None else _COSTS.c.at >= 0
        asked = select(_COSTS).where(_COSTS.c.call_id == call).order_by(_COSTS.c.number, _COSTS.c.at)
        with self._store.read() as connection:
            # Its trace has its name, unless one was active; the day of its first attempt may have gone.
            own = _COSTS.c.id.in_(_attempts(connection, [call]))
            rows = [*map(CostRow._make, _raw(connection, asked.where(own)))]
            if not rows or rows[0].number != 1:
                rows = [*map(CostRow._make, _raw(connection, asked.where(near)))] or rows
        return rows

    def latest_calls(
        self, *, user: str | None = None, session: str | None = None, limit: int = 50
    ) -> list[CostRow]:
        """The attempts of a user's or a session's latest traces, newest first, as far back as the log goes.

        Of traces whose first attempt is still under way there are none.
        """
        traces = tables.traces
        asked = [
            column == value
            for column, value in ((traces.c.user_id, user), (traces.c.session_id, session))
            if value
        ]
        latest = (
            select(traces.c.trace_id)
            .where(*asked, traces.c.attempts > 0)
            .order_by(traces.c.started_at.desc())
            .limit(limit)
        )
        rows = select(_COSTS).order_by(_COSTS.c.at.desc(), _COSTS.c.id).limit(limit)
        with self._store.read() as connection:
            found = connection.execute(latest).scalars().all()
            own = _COSTS.c.id.in_(_attempts(connection, found))
            return [CostRow._make(row) for row in connection.execute(rows.where(own))]

    def trace(self, trace: str) -> list[Event]:
        """The events of a trace in the order they happened; none when there is no such trace.

        Of an attempt that was given up for dead and ended after all, only the real end is told.
        """
        events, bodies = tables.events, tables.bodies
        with self._store.read() as connection:
            rows = connection.execute(
                select(events).where(_of(connection, [trace])).order_by(events.c.at, events.c.id)
            ).fetchall()
            asked = select(bodies.c.event_id, bodies.c.body).where(bodies.c.trace_id == trace)
            said: dict[str, str] = {row.event_id: row.body for row in connection.execute(asked)}
        return _without_false_ends([_event(row, said) for row in rows if row.kind in _KINDS])

    def session_traces(self, session: str) -> list[str]:
        """The ids of a session's traces, newest first."""
        return self._trace_ids(tables.traces.c.session_id == session, None)

    def user_traces(self, user: str, limit: int = 10) -> list[str]:
        """The ids of a user's latest traces, newest first."""
        return self._trace_ids(tables.traces.c.user_id == user, limit)

    def latest_traces(self, limit: int = 10) -> list[str]:
        """The ids of the latest traces, newest first."""
        return self._trace_ids(None, limit)

    def _trace_ids(self, where: ColumnElement[bool] | None, limit: int | None) -> list[str]:
        traces = tables.traces
        asked = (
            select(traces.c.trace_id)
            .order_by(traces.c.started_at.desc(), traces.c.trace_id.desc())
            .limit(limit)
        )
        with self._store.read() as connection:
            return list(connection.execute(asked if where is None else asked.where(where)).scalars())


def _of(connection: Connection, traces: Sequence[str]) -> ColumnElement[bool]:
    """Which events are of these traces: their heads say when, so that a log that is kept by days reads no other day."""
    heads, events = tables.traces.c, tables.events.c
    times = select(func.min(heads.started_at), func.max(heads.ended_at)).where(heads.trace_id.in_(traces))
    first, last = connection.execute(times).one()
    return events.trace_id.in_(traces) & events.at.between(first, last)


def _attempts(connection: Connection, traces: Sequence[str]) -> Select[tuple[str | None]]:
    """The ids of the attempts that the log knows of some traces."""
    events = tables.events
    kinds = (Kind.LLM_CALL_START, Kind.LLM_CALL_END)
    return select(events.c.span).where(_of(connection, traces), events.c.kind.in_(kinds))


def _summed(connection: Connection, columns: Columns, begin: int, until: int) -> list[Sums]:
    depth = len(columns)
    latencies: defaultdict[tuple[Any, ...], list[bytes]] = defaultdict(list)
    period = (_HOURS.c.hour >= begin, _HOURS.c.hour < until)
    for row in _raw(connection, select(*columns, _HOURS.c.latency).where(*period)):
        latencies[row[:-1]].append(row[-1])
    sums = _raw(connection, summed_hours(columns, begin, until))
    return [(row, latencies[row[:depth]]) for row in sums if row[depth] is not None]


def _added_up(connection: Connection, columns: Columns, begin: int, until: int) -> Iterator[Sums]:
    """The same, added up here: where few rows share a line, grouping them costs more than reading them."""
    totals = [_HOURS.c[name] for name in tables.TOTALS]
    period = (_HOURS.c.hour >= begin, _HOURS.c.hour < until)
    found = connection.execute(select(*columns, *totals, _HOURS.c.latency).where(*period).order_by(*columns))
    depth = len(columns)
    last: tuple[Any, ...] = ()
    latencies: list[bytes] = []
    while (
        row := found.cursor.fetchone()
    ):  # one by one, or the collector looks through all of them again and again
        if last and row[:depth] == last[:depth]:
            last = last[:depth] + tuple(map(add, last[depth:], row[depth:-1]))
            latencies.append(row[-1])
            continue
        if last:
            yield last, latencies
        last, latencies = row[:-1], [row[-1]]
    if last:
        yield last, latencies
    found.close()


def _raw(connection: Connection, asked: Select[Any]) -> list[tuple[Any, ...]]:
    """The driver's own rows: no column of a sum needs to be converted, and there may be tens of thousands."""
    found = connection.execute(asked)
    rows = [*found.cursor.fetchall()]
    found.close()
    return rows


def _event(row: Row[Any], said: dict[str, str]) -> Event:
    facts = msgspec.json.decode(row.facts)
    if row.id in said:
        facts["body"] = msgspec.json.decode(said[row.id])
    return Event(
        id=row.id,
        trace=row.trace_id,
        kind=Kind(row.kind),
        at=row.at,
        span=row.span,
        parent=row.parent,
        agent=row.agent,
        user=row.user_id,
        session=row.session_id,
        facts=facts,
        tokens=row.tokens,
        cost_nano=row.cost_nano,
        error=row.error,
    )


def _without_false_ends(events: list[Event]) -> list[Event]:
    def is_false(event: Event) -> bool:
        return event.kind is Kind.LLM_CALL_END and event.facts.get("state") == "expired_estimated"

    ended = {event.span for event in events if event.kind is Kind.LLM_CALL_END and not is_false(event)}
    return [event for event in events if not (is_false(event) and event.span in ended)]


def _began(id_: str) -> int | None:
    """When a UUIDv7 was made, in microseconds UTC; `None` for any other text."""
    digits = id_.replace("-", "")
    try:
        return int(digits[:12], 16) * 1_000 if len(digits) == 32 and digits[12] == "7" else None
    except ValueError:
        return None


def _named(totals: Iterable[int]) -> dict[str, int]:
    return dict(zip(tables.TOTALS, totals, strict=True))


def _collect(sums: dict[str | None, list[int]], rows: Iterable[Row[Any]]) -> None:
    for row in rows:
        key, known = row[0], sums.get(row[0])
        numbers: list[int] = list(row[1:])
        sums[key] = numbers if known is None else [one + two for one, two in zip(known, numbers, strict=True)]
