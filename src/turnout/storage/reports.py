"""Reads for people: what it cost, how it went by the hour, and traces."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Row, Select, and_, case, cast, func, select, type_coerce
from sqlalchemy.types import NullType

from turnout.storage import rollup, tables
from turnout.storage.lines import CostRow
from turnout.storage.posting import HOUR_US
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from turnout.storage.store import Store

By = Literal["agent", "model", "user", "session", "key"]
Dimension = Literal["hour", "agent", "model", "provider"]
FOREVER = 2**62
CALL_US = 24 * HOUR_US
"""Attempts of a call begin within a day of it."""
_KINDS = frozenset(Kind)
_COSTS, _HOURS = tables.cost_records, tables.rollup_hours
# Both drivers give bytes; a LargeBinary would be copied once more, row by row.
_LATENCY = type_coerce(_HOURS.c.latency, NullType())
_COLUMNS: dict[By, ColumnElement[Any]] = {
    "agent": _COSTS.c.agent,
    "model": _COSTS.c.model,
    "user": _COSTS.c.user_id,
    "session": _COSTS.c.session_id,
    "key": _COSTS.c.key_id,
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over some attempts; what each counts is said at `tables.TOTALS`."""

    calls: int = 0
    attempts: int = 0
    errors: int = 0
    fallbacks: int = 0
    cache_hits: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = 0

    @property
    def fallback_rate(self) -> float | None:
        """The share of answers that another model than the first choice gave; `None` without any answer."""
        answers = self.attempts - self.errors
        return self.fallbacks / answers if answers > 0 else None

    @property
    def error_rate(self) -> float | None:
        """The share of attempts that brought no answer."""
        return self.errors / self.attempts if self.attempts > 0 else None

    @property
    def cache_rate(self) -> float | None:
        """The share of input tokens that providers had in their caches."""
        return self.cached_input_tokens / self.input_tokens if self.input_tokens > 0 else None


class CostLine(Line, frozen=True, kw_only=True):
    """The sums of one agent, model, user, session or key; `key` is `None` where calls had none."""

    key: str | None


class SeriesLine(Line, frozen=True, kw_only=True):
    """The sums of one series, and how long its answers took; a dimension that was not asked for is `None`."""

    hour: int | None = None
    """Microseconds UTC of its beginning."""
    agent: str | None = None
    model: str | None = None
    provider: str | None = None
    p50_us: float | None = None
    p95_us: float | None = None


class Reports:
    """Reads one store. Raises as `Store` does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def costs(self, by: By, since: int, until: int = FOREVER) -> list[CostLine]:
        """The attempts that began in [since, until), in microseconds UTC, dearest first; reservations do not count."""
        sums: dict[str | None, list[int]] = {}
        whole, last = -(-since // HOUR_US) * HOUR_US, until // HOUR_US * HOUR_US
        with self._store.read() as connection:
            if by in {"agent", "model"} and whole < last:
                _collect(sums, connection.execute(_summed_hours([_HOURS.c[by]], whole, last)))
                pieces: Sequence[tuple[int, int]] = ((since, whole), (last, until))
            else:
                pieces = ((since, until),)
            for begin, end in pieces:
                if begin < end:
                    _collect(sums, connection.execute(_summed_rows(_COLUMNS[by], begin, end)))
        lines = [CostLine(key=key, **_named(totals)) for key, totals in sums.items()]
        return sorted(lines, key=lambda line: (-line.cost_nano, -line.attempts, line.key or ""))

    def series(self, by: Sequence[Dimension], since: int, until: int = FOREVER) -> list[SeriesLine]:
        """Sums and latencies by any of hour, agent, model and provider, of the whole hours in [since, until).

        The first hour is the one that `since` lies in. `by=()` gives one line, or none.
        """
        begin = since // HOUR_US * HOUR_US
        columns = [_HOURS.c[name] for name in by]
        with self._store.read() as connection:
            sums = connection.execute(_summed_hours(columns, begin, until)).fetchall()
            slow = connection.execute(
                select(*columns, _LATENCY).where(_HOURS.c.hour >= begin, _HOURS.c.hour < until)
            ).fetchall()
        latency: defaultdict[Sequence[Any], int] = defaultdict(int)
        for row in slow:
            latency[row[:-1]] += rollup.unpack(row[-1])
        names, depth = (*by, *tables.TOTALS, "p50_us", "p95_us"), len(by)
        return [
            SeriesLine(
                **dict(zip(names, (*row, *rollup.quantiles(latency[row[:depth]], 0.5, 0.95)), strict=True))
            )
            for row in sums
            if row[depth] is not None
        ]

    def call(self, call: str) -> list[CostRow]:
        """The attempts of a call, in their order; none when it is not known, or not in the tables yet."""
        at = _began(call)
        near = _COSTS.c.at.between(at - CALL_US, at + CALL_US) if at is not None else _COSTS.c.at >= 0
        asked = (
            select(_COSTS).where(and_(near, _COSTS.c.call_id == call)).order_by(_COSTS.c.number, _COSTS.c.at)
        )
        with self._store.read() as connection:
            return [CostRow(*row) for row in connection.execute(asked)]

    def trace(self, trace: str) -> list[Event]:
        """The events of a trace in the order they happened; none when there is no such trace.

        Of an attempt that was given up for dead and ended after all, only the real end is told.
        """
        events, bodies = tables.events, tables.bodies
        with self._store.read() as connection:
            rows = connection.execute(
                select(events).where(events.c.trace_id == trace).order_by(events.c.at, events.c.id)
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


def _summed_hours(columns: Sequence[ColumnElement[Any]], begin: int, end: int) -> Select[Any]:
    return (
        select(*columns, *(cast(func.sum(_HOURS.c[name]), tables.whole) for name in tables.TOTALS))
        .where(_HOURS.c.hour >= begin, _HOURS.c.hour < end)
        .group_by(*columns)
        .order_by(*columns)
    )


def _summed_rows(key: ColumnElement[Any], begin: int, end: int) -> Select[Any]:
    return (
        select(key, *(cast(func.sum(part), tables.whole) for part in _parts()))
        .where(_COSTS.c.at >= begin, _COSTS.c.at < end, _COSTS.c.state != tables.STATES[0])
        .group_by(key)
    )


def _parts() -> list[ColumnElement[Any]]:
    """What a row adds to each of `tables.TOTALS`, as `posting.contribution` says it."""
    row = _COSTS.c
    answered = row.outcome == "ok"
    return [
        _if(row.number == 1),
        _if(row.id.is_not(None)),
        case((answered, 0), else_=1),
        _if(and_(answered, row.fallback_reason.is_not(None))),
        _if(row.cached_input_tokens > 0),
        _if(row.cost_nano.is_(None)),
        *(
            func.coalesce(row[name], 0)
            for name in (
                "input_tokens",
                "cached_input_tokens",
                "cache_write_tokens",
                "output_tokens",
                "reasoning_tokens",
                "cost_nano",
            )
        ),
    ]


def _if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)
