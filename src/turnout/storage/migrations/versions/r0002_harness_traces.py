"""The view `harness_traces`: a trace with its summary and its events as JSON."""

from alembic import op

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
    "ORDER BY e.at, e.id), '[]'::json) FROM events AS e WHERE e.trace_id = t.trace_id"
)


def upgrade() -> None:
    """Create it."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    make, events = ("json_object", _SQLITE) if sqlite else ("json_build_object", _POSTGRES)
    op.execute(
        "CREATE VIEW harness_traces AS SELECT t.trace_id, t.session_id, t.user_id, t.started_at, t.ended_at, "  # noqa: S608
        f"{make}({_SUMMARY}) AS summary, ({events}) AS events FROM traces AS t"
    )
