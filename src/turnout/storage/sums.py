"""Sums over attempts: their lines, and the queries that make them, of sums that are kept or of the rows themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, cast, func, select

from turnout.storage import retention, tables
from turnout.storage.batch import DAY_US
from turnout.storage.posting import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table

By = Literal["agent", "model", "user", "session", "key"]
Dimension = Literal["hour", "agent", "model", "provider"]
DIMENSIONS: tuple[Dimension, ...] = ("hour", "agent", "model", "provider")
"""In the order of the key of `rollup_hours`, in which grouping needs no sorting."""
_COSTS, _HOURS, _DAYS = tables.cost_records, tables.rollup_hours, tables.usage_days
_COLUMNS: dict[By, ColumnElement[Any]] = {
    "agent": _COSTS.c.agent,
    "model": _COSTS.c.model,
    "user": _COSTS.c.user_id,
    "session": _COSTS.c.session_id,
    "key": _COSTS.c.key_id,
}


class Line(msgspec.Struct, frozen=True, gc=False):
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


class SeriesLine(Line, frozen=True, gc=False):
    """The sums of one series, and how long its answers took; a dimension that was not asked for is `None`."""

    hour: int | None = None
    """Microseconds UTC of its beginning."""
    agent: str | None = None
    model: str | None = None
    provider: str | None = None
    p50_us: float | None = None
    p95_us: float | None = None


def summed_whole(
    connection: Connection, by: By, since: int, until: int
) -> tuple[Select[Any] | None, int, int]:
    """A query over sums, and the whole hours or days that it covers within a period."""
    if by == "key":
        return None, since, until
    by_hour = by in {"agent", "model"} and since >= retention.since(connection, "hours")
    step = HOUR_US if by_hour else DAY_US
    begin, end = -(-since // step) * step, until // step * step
    if begin >= end:
        return None, since, until
    if by in {"agent", "model"}:
        return summed_hours([_HOURS.c[by]], begin, end), begin, end
    return _summed_days(_DAYS.c[f"{by}_id"], begin, end), begin, end


def _totals(table: Table) -> list[ColumnElement[Any]]:
    return [cast(func.sum(table.c[name]), tables.whole) for name in tables.TOTALS]


def summed_hours(columns: Sequence[ColumnElement[Any]], begin: int, end: int) -> Select[Any]:
    """Whole hours."""
    return (
        select(*columns, *_totals(_HOURS))
        .where(_HOURS.c.hour >= begin, _HOURS.c.hour < end)
        .group_by(*columns)
        .order_by(*columns)
    )


def _summed_days(key: ColumnElement[Any], begin: int, end: int) -> Select[Any]:
    """A day may be known of only by what is still under way, and sums up to nothing."""
    return (
        select(func.nullif(key, ""), *_totals(_DAYS))
        .where(_DAYS.c.day >= begin, _DAYS.c.day < end)
        .group_by(key)
        .having(func.sum(_DAYS.c.attempts) > 0)
    )


def summed_rows(by: By, begin: int, end: int) -> Select[Any]:
    """A period to the microsecond, of the rows themselves."""
    return (
        select(_COLUMNS[by], *(cast(func.sum(part), tables.whole) for part in _parts()))
        .where(_COSTS.c.at >= begin, _COSTS.c.at < end, _COSTS.c.state != tables.STATES[0])
        .group_by(_COLUMNS[by])
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
