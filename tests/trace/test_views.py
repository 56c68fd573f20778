"""The figures of a trace, and its timeline."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from turnout.trace.views import read, timeline

if TYPE_CHECKING:
    from tests.trace.stage import Stage


def test_the_summary_of_a_fallback(stage: Stage) -> None:
    """Every figure of a session with a routing step, a mode, a failed and an answered attempt, and an error."""
    with stage.spans.start_trace("s1", "alice", agent="supervisor") as trace:
        with stage.spans.start_span("AGENT_ROUTING"):
            stage.clock.wait(0.5)
        stage.spans.log_event("MODE_TRANSITION", **{"from": "Mirror", "to": "Scout"})
        stage.fallback(stage.call(user="alice", session="s1"))
        stage.spans.log_event("ERROR", error="nothing found")
    summary = stage.read(trace).summary
    assert summary.cost_usd == Decimal("0.000204")
    assert {name: getattr(summary, name) for name in summary.__struct_fields__} == {
        "trace_id": trace,
        "session_id": "s1",
        "user_id": "alice",
        "started_at": stage.clock.at - 3_610_000,
        "ended_at": stage.clock.at,
        "state": "ended",
        "seconds": 3.61,
        "work_seconds": 3.61,
        "total_events": 11,
        "calls": 1,
        "attempts": 2,
        "fallbacks": 1,
        "input_tokens": 1_200,
        "output_tokens": 40,
        "total_tokens": 1_240,
        "total_cost_nano": 204_000,
        "held_nano": 0,
        "unpriced": 0,
        "agents_used": ["supervisor", "debugger"],
        "models_used": ["deepseek-reasoner", "gpt-4o-mini"],
        "modes_used": ["Scout"],
        "errors": ["too many requests", "nothing found"],
        "marks": [],
    }


def test_the_timeline_is_in_order(stage: Stage) -> None:
    """Lines come by the time they began, with their offset, depth and length."""
    with stage.spans.start_trace(name="whole") as trace:
        stage.clock.wait(1)
        with stage.spans.start_span("TOOL_INVOCATION", name="a"):
            stage.clock.wait(2)
            stage.spans.log_event("ERROR", name="b")
        stage.clock.wait(1)
        with stage.spans.start_span("TOOL_INVOCATION", name="c"):
            stage.clock.wait(1)
    lines = timeline(stage.read(trace).tree)
    assert [(line.node.name, line.offset, line.seconds, line.depth) for line in lines] == [
        ("whole", 0.0, 5.0, 0),
        ("a", 1.0, 2.0, 1),
        ("b", 3.0, 0.0, 2),
        ("c", 4.0, 1.0, 1),
    ]


def test_no_events_no_trace() -> None:
    """Of nothing there is no trace, and its timeline is empty."""
    assert read([]) is None
    assert timeline([]) == []


def test_a_money_note_outside_our_spans_does_not_count_twice(stage: Stage) -> None:
    """COST_TRACKED in another process's span, beside a call made there, is the same money."""
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with stage.spans.join(header) as trace:
        stage.attempt(stage.call())
        stage.spans.log_event("COST_TRACKED", tokens=120, cost_usd=0.0000364)
    summary = stage.read(str(trace)).summary
    assert (summary.total_tokens, summary.total_cost_nano) == (120, 36_400)
