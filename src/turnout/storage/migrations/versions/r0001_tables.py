"""The tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
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


def _texts(*names: str, null: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, words, nullable=null) for name in names]


def _wholes(*names: str, null: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, whole, autoincrement=False, nullable=null) for name in names]


def _table(name: str, key: tuple[str, ...], *columns: sa.Column[Any] | sa.Constraint, **options: Any) -> None:
    op.create_table(
        name, *columns, sa.PrimaryKeyConstraint(*key), sqlite_strict=True, sqlite_with_rowid=False, **options
    )


def _given(name: str) -> dict[str, Any]:
    there = sa.text(f"{name} IS NOT NULL")
    return {"sqlite_where": there, "postgresql_where": there}


def upgrade() -> None:
    """Create them."""
    _table(
        "bodies",
        ("trace_id", "event_id"),
        *_texts("trace_id", "event_id"),
        *_wholes("expires_at"),
        *_texts("body"),
    )
    op.create_index("ix_bodies_expires_at", "bodies", ["expires_at"])
    _table("budgets", ("k",), *_texts("k"), *_wholes("cap", "spent", "leased", "recall"))
    _table(
        "cost_records",
        ("id",),
        *_texts("id", "call_id", "trace_id"),
        *_wholes("number", "at"),
        *_texts("state", "operation", "agent"),
        *_texts("user_id", "session_id", "run_id", "key_id", null=True),
        *_texts("tags"),
        *_texts("arm", "model_asked", null=True),
        *_texts("model", "provider"),
        *_texts("upstream_model", "outcome", null=True),
        *_wholes("status", null=True),
        *_texts("error", "finish_reason", "fallback_reason", null=True),
        *_wholes("stream"),
        *_wholes(
            "input_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
            null=True,
        ),
        *_texts("usage_source", null=True),
        *_wholes("hold_nano", "cost_nano", null=True),
        *_texts("price_id", null=True),
        *_wholes("duration_us", "first_token_us", null=True),
        sa.CheckConstraint(
            "state = 'settled' OR state = 'reserved' OR state = 'expired_estimated'", name="state"
        ),
    )
    op.create_index("ix_cost_records_at", "cost_records", ["at"])
    _table(
        "events",
        ("trace_id", "id", "at"),
        *_texts("trace_id", "id"),
        *_wholes("at"),
        *_texts("kind"),
        *_texts("span", "parent", "agent", "user_id", "session_id", null=True),
        *_texts("facts"),
        *_wholes("tokens", "cost_nano", null=True),
        *_texts("error", null=True),
        postgresql_partition_by="RANGE (at)",
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE events_default PARTITION OF events DEFAULT")
    _table("meta", ("name",), *_texts("name", "value"))
    _table(
        "owners",
        ("owner",),
        *_texts("owner", "host", "boot", "spool"),
        *_wholes("seq"),
        *_texts("segment", null=True),
        *_wholes("position", "at"),
    )
    _table(
        "rollup_hours",
        ("hour", "agent", "model", "provider", "writer"),
        *_wholes("hour"),
        *_texts("agent", "model", "provider", "writer"),
        *_wholes(*TOTALS),
        sa.Column("latency", sa.LargeBinary, nullable=False),
    )
    _table(
        "traces",
        ("trace_id",),
        *_texts("trace_id"),
        *_texts("session_id", "user_id", null=True),
        *_wholes("started_at", "ended_at"),
        *_wholes(*TOTALS),
    )
    op.create_index(
        "ix_traces_session_id_started_at", "traces", ["session_id", "started_at"], **_given("session_id")
    )
    op.create_index("ix_traces_started_at", "traces", ["started_at"])
    op.create_index("ix_traces_user_id_started_at", "traces", ["user_id", "started_at"], **_given("user_id"))
    _table(
        "usage_days",
        ("day", "user_id", "session_id"),
        *_wholes("day"),
        *_texts("user_id", "session_id"),
        *_wholes("first_at", "last_at", *TOTALS),
    )
    op.create_index("ix_usage_days_session_id_day", "usage_days", ["session_id", "day"])
    op.create_index("ix_usage_days_user_id_day", "usage_days", ["user_id", "day"])
    _table(
        "leases",
        ("k", "owner"),
        *_texts("k", "owner"),
        *_wholes("granted", "ack"),
        sa.ForeignKeyConstraint(["owner"], ["owners.owner"], name="fk_leases_owner"),
    )
    op.create_index("ix_leases_owner", "leases", ["owner"])
