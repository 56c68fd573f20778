"""The views: a trace with its summary and its events as JSON, the days of a session, the months of a user."""

from alembic import op

from turnout.storage.migrations.versions.r0001_tables import TOTALS

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_EVENT = (
    "'id', e.id, 'span_id', e.span, 'parent_id', e.parent, 'event_type', e.kind, 'at', e.at, 'agent', e.agent, "
    "'facts', {facts}, 'token_count', e.tokens, 'cost_nano', e.cost_nano, 'error_message', e.error"
)
_SUMMARY = (
    "'calls', t.calls, 'attempts', t.attempts, 'errors', t.errors, 'fallbacks', t.fallbacks, "
    "'total_duration_us', t.ended_at - t.started_at, 'total_tokens', t.input_tokens + t.output_tokens, "
    "'total_cost_nano', t.cost_nano, 'unpriced', t.unpriced"
)
_SQLITE = (
    f"SELECT json_group_array(json_object({_EVENT.format(facts='json(e.facts)')})) "  # noqa: S608 - all ours
    "FROM (SELECT * FROM events WHERE trace_id = t.trace_id ORDER BY at, id) AS e"
)
_POSTGRES = (
    f"SELECT coalesce(json_agg(json_build_object({_EVENT.format(facts='e.facts::json')}) "  # noqa: S608 - all ours
    "ORDER BY e.at, e.id), '[]'::json) FROM events AS e "
    "WHERE e.trace_id = t.trace_id AND e.at BETWEEN t.started_at AND t.ended_at"
)
_SUMS = ", ".join(f"CAST(sum({name}) AS bigint) AS {name}" for name in TOTALS)
_SESSIONS = (
    "SELECT session_id, min(nullif(user_id, '')) AS user_id, min(first_at) AS first_at, max(last_at) AS last_at, "  # noqa: S608 - all ours
    f"{_SUMS} FROM usage_days WHERE session_id <> '' GROUP BY session_id"
)
_MONTHS = (
    f"SELECT user_id, {{month}} AS month, {_SUMS} "  # noqa: S608 - all ours
    "FROM usage_days WHERE user_id <> '' GROUP BY user_id, {month} HAVING sum(attempts) > 0"
)
_MONTH = "strftime('%Y-%m', day / 1000000, 'unixepoch')"
_MONTH_POSTGRES = "to_char(to_timestamp(day / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM')"


def upgrade() -> None:
    """Create them."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    make, events = ("json_object", _SQLITE) if sqlite else ("json_build_object", _POSTGRES)
    op.execute(
        "CREATE VIEW harness_traces AS SELECT t.trace_id, t.session_id, t.user_id, t.started_at, t.ended_at, "  # noqa: S608
        f"{make}({_SUMMARY}) AS summary, ({events}) AS events FROM traces AS t"
    )
    op.execute(f"CREATE VIEW sessions AS {_SESSIONS}")
    op.execute(
        f"CREATE VIEW user_monthly_usage AS {_MONTHS.format(month=_MONTH if sqlite else _MONTH_POSTGRES)}"
    )
