"""The schema, once, for SQLite and PostgreSQL. Money is integer nano-dollars, time integer microseconds UTC.

A column's `merge` says what becomes of it when a row is added to one that stands: `add`, `least`, `greatest` or
`replace`. That makes every summary a sum that can be posted in pieces, in any order.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

REVISION = "0002"
"""The newest migration. A store with a later one was written by a later turnout."""

STATES = ("reserved", "expired_estimated", "settled")
"""Of an attempt, in the order in which one replaces another."""

Merge = Literal["add", "least", "greatest", "replace"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
words = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared and sorted by bytes in both engines, as Python sorts: locks are taken in that order."""
whole = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, *columns: Any, **options: Any) -> Table:
    return Table(name, metadata, *columns, sqlite_strict=True, sqlite_with_rowid=False, **options)


def _view(name: str, *columns: Any) -> Table:
    """A table that is a query over others; its migration makes it."""
    return Table(name, metadata, *columns, info={"is_view": True})


def _text(name: str, *, null: bool = True, key: bool = False, merge: Merge = "replace") -> Column[str]:
    return Column(name, words, primary_key=key, nullable=null and not key, info={"merge": merge})


def _whole(name: str, *, null: bool = False, key: bool = False, merge: Merge = "replace") -> Column[int]:
    return Column(
        name, whole, primary_key=key, autoincrement=False, nullable=null and not key, info={"merge": merge}
    )


TOTALS = (
    "calls",
    "attempts",
    "errors",
    "fallbacks",
    "cache_hits",
    "unpriced",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano",
)
"""What every summary sums.

calls: first attempts. errors: attempts without an answer. fallbacks: answers of another model than the first choice.
cache_hits: attempts whose provider reported cached input. unpriced: attempts whose cost is not known, not in cost_nano.
"""


def _totals() -> list[Column[int]]:
    return [_whole(name, merge="add") for name in TOTALS]


cost_records = _table(
    "cost_records",
    _text("id", key=True),
    _text("call_id", null=False),
    _text("trace_id", null=False),
    _whole("number"),
    _whole("at"),
    _text("state", null=False),
    _text("operation", null=False),
    _text("agent", null=False),
    _text("user_id"),
    _text("session_id"),
    _text("run_id"),
    _text("key_id"),
    _text("tags", null=False),
    _text("arm"),
    _text("model_asked"),
    _text("model", null=False),
    _text("provider", null=False),
    _text("upstream_model"),
    _text("outcome"),
    _whole("status", null=True),
    _text("error"),
    _text("finish_reason"),
    _text("fallback_reason"),
    _whole("stream"),
    _whole("input_tokens", null=True),
    _whole("cached_input_tokens", null=True),
    _whole("cache_write_tokens", null=True),
    _whole("output_tokens", null=True),
    _whole("reasoning_tokens", null=True),
    _text("usage_source"),
    _whole("hold_nano", null=True),
    _whole("cost_nano", null=True),
    _text("price_id"),
    _whole("duration_us", null=True),
    _whole("first_token_us", null=True),
    CheckConstraint("state = 'settled' OR state = 'reserved' OR state = 'expired_estimated'", name="state"),
)
"""One row per attempt. tags is a JSON object; a cost or count that is not known is NULL, never 0.

A call's rows are found by its id and the index on at: the id is a UUIDv7, so it says when they began.
"""

Index(None, cost_records.c.at)

events = _table(
    "events",
    _text("trace_id", key=True),
    _text("id", key=True),
    _whole("at", key=True),
    _text("kind", null=False),
    _text("span"),
    _text("parent"),
    _text("agent"),
    _text("user_id"),
    _text("session_id"),
    _text("facts", null=False),
    _whole("tokens", null=True),
    _whole("cost_nano", null=True),
    _text("error"),
    postgresql_partition_by="RANGE (at)",
)
"""The log itself, one append-only row per event; facts is a JSON object. A trace's events lie side by side.

An event's moment is part of its key because a partition has no other: it is the journal's, and a repetition has it too.
"""

bodies = _table(
    "bodies",
    _text("trace_id", key=True),
    _text("event_id", key=True),
    _whole("expires_at"),
    _text("body", null=False),
)
"""What was said, where capture is on: the `body` of an event's facts, as JSON, until its own time is up."""

Index(None, bodies.c.expires_at)

traces = _table(
    "traces",
    _text("trace_id", key=True, merge="least"),
    _text("session_id", merge="least"),
    _text("user_id", merge="least"),
    _whole("started_at", merge="least"),
    _whole("ended_at", merge="greatest"),
    *_totals(),
)
"""The head of each trace that has events."""

Index(None, traces.c.started_at)
Index(
    None,
    traces.c.session_id,
    traces.c.started_at,
    sqlite_where=traces.c.session_id.is_not(None),
    postgresql_where=traces.c.session_id.is_not(None),
)
Index(
    None,
    traces.c.user_id,
    traces.c.started_at,
    sqlite_where=traces.c.user_id.is_not(None),
    postgresql_where=traces.c.user_id.is_not(None),
)

usage_days = _table(
    "usage_days",
    _whole("day", key=True),
    _text("user_id", key=True),
    _text("session_id", key=True),
    _whole("first_at", merge="least"),
    _whole("last_at", merge="greatest"),
    *_totals(),
)
"""Sums by the day of the attempt's start, in microseconds UTC of its beginning; '' is nobody and no session.

first_at and last_at are the first and the last that was heard within the day.
"""

Index(None, usage_days.c.user_id, usage_days.c.day)
Index(None, usage_days.c.session_id, usage_days.c.day)

sessions = _view(
    "sessions",
    _text("session_id", key=True),
    _text("user_id"),
    _whole("first_at"),
    _whole("last_at"),
    *_totals(),
)
"""The days of each session together."""

user_monthly_usage = _view(
    "user_monthly_usage",
    _text("user_id", key=True),
    _text("month", key=True),
    *_totals(),
)
"""The days of each user together; month is YYYY-MM in UTC, of the attempt's start."""

rollup_hours = _table(
    "rollup_hours",
    _whole("hour", key=True),
    _text("agent", key=True),
    _text("model", key=True),
    _text("provider", key=True),
    _text("writer", key=True),
    *_totals(),
    Column("latency", LargeBinary, nullable=False, info={"merge": "replace"}),
)
"""Sums by the hour of the attempt's start, one row per writing process: no two ever update the same. Readers add up.

latency is a histogram of the answered attempts (see `rollup.py`). Closed hours are folded into the writer '', and
those before `meta`'s `hours_since` into the first hour of their day. No hour has more than 2,000 series of a writer:
further ones are counted under the agent, model and provider 'other'.
"""

owners = _table(
    "owners",
    _text("owner", key=True),
    _text("host", null=False),
    _text("boot", null=False),
    _text("spool", null=False),
    _whole("seq", merge="add"),
    _text("segment"),
    _whole("position"),
    _whole("at"),
)
"""A row per living process that writes: how far its journal is in the tables, for those who wait for it."""

budgets = _table(
    "budgets",
    _text("k", key=True),
    _whole("cap"),
    _whole("spent"),
    _whole("leased"),
    _whole("recall"),
)

leases = _table(
    "leases",
    _text("k", key=True),
    Column("owner", words, ForeignKey("owners.owner", name="fk_leases_owner"), primary_key=True),
    _whole("granted"),
    _whole("ack"),
)

Index(None, leases.c.owner)

meta = _table("meta", _text("name", key=True), _text("value", null=False))
"""`store`: this database's own id. `events_since`, `costs_since`: from when on nothing has been deleted.

`hours_since`: from when on no hours have been folded into days.
"""
