"""The application's verbs: where a span stands, and what happens when they are used wrongly."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from turnout.errors import InvalidRequest
from turnout.trace.active import here
from turnout.trace.spans import Spans
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from tests.trace.stage import Stage


def events(stage: Stage) -> list[Event]:
    """Everything that was recorded, in order."""
    return [event for trace in stage.memory.latest_traces(100)[::-1] for event in stage.memory.trace(trace)]


def shape(nodes: Any) -> list[Any]:
    """Names and children, for comparison as a whole."""
    return [(node.name or str(node.kind), shape(node.children)) for node in nodes]


def test_spans_nest(stage: Stage) -> None:
    """Spans within spans, and events within them, stand below one another in the order they began."""
    with stage.spans.start_trace("s1", "alice", name="whole") as trace:
        with stage.spans.start_span("TOOL_INVOCATION", name="outer"):
            stage.clock.wait(1)
            with stage.spans.start_span(Kind.CONTEXT_BUILD, name="inner"):
                stage.spans.log_event("SAFETY_SWITCH", name="event")
                stage.clock.wait(1)
        stage.spans.log_event("MODE_TRANSITION", name="last")
    read = stage.read(trace)
    assert shape(read.tree) == [("whole", [("outer", [("inner", [("event", [])])]), ("last", [])])]
    assert (read.session_id, read.user_id, read.summary.state) == ("s1", "alice", "ended")
    assert read.summary.seconds == 2.0
    assert read.summary.marks == []


def test_every_kind_but_ours(stage: Stage) -> None:
    """Each kind of the closed set can be logged, but those that turnout alone writes."""
    ours = {Kind.LLM_CALL_START, Kind.LLM_CALL_END, Kind.MODEL_FALLBACK}
    with stage.spans.start_trace():
        for kind in set(Kind) - ours:
            stage.spans.log_event(str(kind))
        for kind in ours:
            with pytest.raises(InvalidRequest, match="turnout itself"):
                stage.spans.log_event(kind)
    assert {event.kind for event in events(stage)} == set(Kind) - ours


def test_a_misspelt_kind(stage: Stage) -> None:
    """A kind that does not exist raises, and the message knows the right one."""
    for verb in (stage.spans.log_event, stage.spans.start_span):
        with pytest.raises(InvalidRequest) as caught:
            verb("tool_invocatoin")
        assert "TOOL_INVOCATION" in caught.value.hint


def test_start_and_end_kinds(stage: Stage) -> None:
    """SESSION_START ends as SESSION_END, AGENT_ACTIVITY_START as _COMPLETE, the others as themselves."""
    with stage.spans.start_trace():
        stage.spans.end_span(stage.spans.start_span("AGENT_ACTIVITY_START"))
        stage.spans.end_span(stage.spans.start_span("TOOL_INVOCATION"))
    assert [event.kind for event in events(stage)] == [
        Kind.SESSION_START,
        Kind.AGENT_ACTIVITY_START,
        Kind.AGENT_ACTIVITY_COMPLETE,
        Kind.TOOL_INVOCATION,
        Kind.TOOL_INVOCATION,
        Kind.SESSION_END,
    ]


def test_an_exception_is_noted_and_passes(stage: Stage) -> None:
    """What leaves the `with` block is on the span, as type and text without keys, and goes on to the caller."""
    with stage.spans.start_trace() as trace:
        with pytest.raises(ValueError, match="sk-canary"), stage.spans.start_span("TOOL_INVOCATION"):
            raise ValueError("bad key sk-canary0123456789abcdef")
    node = stage.read(trace).tree[0].children[0]
    assert (node.state, node.error) == ("failed", "ValueError: bad key ***")


def test_a_span_without_a_trace_begins_one(stage: Stage) -> None:
    """Outside any trace a span is the root of a new one, and an event is not kept."""
    stage.spans.log_event("ERROR")
    span = stage.spans.start_span("TOOL_INVOCATION", name="alone")
    stage.spans.end_span(span)
    assert shape(stage.read(span.trace_id).tree) == [("alone", [])]
    assert here() is None
    assert len(events(stage)) == 2


def test_end_span_out_of_order(stage: Stage) -> None:
    """Ending the outer span first leaves the task outside both; the inner one can still be ended."""
    with stage.spans.start_trace() as trace:
        outer = stage.spans.start_span("TOOL_INVOCATION", name="outer")
        inner = stage.spans.start_span("CONTEXT_BUILD", name="inner")
        stage.clock.wait(1)
        stage.spans.end_span(outer)
        stage.spans.log_event("ERROR", name="in the root")
        stage.clock.wait(1)
        stage.spans.end_span(inner)
    read = stage.read(trace)
    assert shape(read.tree) == [("SESSION_START", [("outer", [("inner", [])]), ("in the root", [])])]
    assert read.summary.marks == []


def test_a_span_left_open(stage: Stage) -> None:
    """A span that nobody ended is shown closed with its trace, and marked."""
    with stage.spans.start_trace() as trace:
        stage.spans.start_span("TOOL_INVOCATION", name="forgotten")
        stage.clock.wait(1)
    node = stage.read(trace).tree[0].children[0]
    assert node.state == "left open"
    assert node.marks == ["left open: what it stands in has ended"]
    assert here() is None


def test_end_span_twice(stage: Stage) -> None:
    """The second end changes no figure and is marked."""
    with stage.spans.start_trace() as trace:
        span = stage.spans.start_span("TOOL_INVOCATION", name="tool")
        stage.clock.wait(1)
        stage.spans.end_span(span, tokens=10)
        stage.clock.wait(1)
        stage.spans.end_span(span, tokens=90)
    read = stage.read(trace)
    assert read.summary.marks == ["tool: ended twice"]
    assert read.summary.total_tokens == 10
    assert read.tree[0].children[0].seconds == 1.0


def test_ended_by_hand_in_a_with_block(stage: Stage) -> None:
    """The end of the block does not end a second time what was ended within it."""
    with stage.spans.start_trace() as trace, stage.spans.start_span("TOOL_INVOCATION") as span:
        stage.spans.end_span(span, outputs="done")
    assert stage.read(trace).summary.marks == []


@pytest.mark.parametrize(
    ("given", "says"), [(None, "and none is open"), ("b7ad6b7169203331", "b7ad6b7169203331")]
)
def test_end_span_of_none(stage: Stage, given: str | None, says: str) -> None:
    """Ending a span that is not open is an ERROR in the trace; the trace itself goes on."""
    with stage.spans.start_trace() as trace:
        stage.spans.end_span(given)
        stage.spans.log_event("SAFETY_SWITCH")
    summary = stage.read(trace).summary
    assert summary.state == "ended"
    assert len(summary.errors) == 1
    assert says in summary.errors[0]


def test_end_span_by_id(stage: Stage) -> None:
    """A span's id as plain text ends it, as its handle does, and what is open within it is left."""
    with stage.spans.start_trace() as trace:
        outer = stage.spans.start_span("TOOL_INVOCATION", name="outer")
        stage.spans.start_span("CONTEXT_BUILD", name="inner")
        stage.spans.end_span(str(outer))
        place = here()
        assert place is not None
        assert place.span == trace.span_id


def test_end_trace_twice(stage: Stage) -> None:
    """A trace ended twice by its handle is marked; without one there is nothing to end, and that is counted."""
    trace = stage.spans.start_trace(name="whole")
    assert stage.spans.end_trace(trace) == trace
    assert stage.spans.end_trace(trace) == trace
    assert stage.spans.end_trace() is None
    assert stage.recorder.failures == 1
    assert stage.read(trace).summary.marks == ["whole: ended twice"]


def test_end_trace_leaves_what_is_open(stage: Stage) -> None:
    """Ending a trace from within a span ends the trace, not the span."""
    trace = stage.spans.start_trace()
    stage.spans.start_span("TOOL_INVOCATION")
    assert stage.spans.end_trace(outputs="all") == trace
    assert here() is None


def test_a_trace_within_a_trace(stage: Stage) -> None:
    """An inner trace is one of its own; after it the outer one goes on."""
    with stage.spans.start_trace(name="outer") as outer:
        with stage.spans.start_trace(name="inner") as inner:
            stage.spans.log_event("ERROR", name="within")
        stage.spans.log_event("ERROR", name="after")
    assert shape(stage.read(inner).tree) == [("inner", [("within", [])])]
    assert shape(stage.read(outer).tree) == [("outer", [("after", [])])]


def test_a_parent_by_handle_and_by_header(stage: Stage) -> None:
    """A span given as `parent`, as a handle, its traceparent or its pickle, is what the new one stands in."""
    with stage.spans.start_trace(name="root") as trace:
        span = stage.spans.start_span("TOOL_INVOCATION", name="parent")
        stage.spans.end_span(span)
    for parent in (span, span.traceparent, pickle.loads(pickle.dumps(span))):  # noqa: S301
        stage.spans.end_span(stage.spans.start_span("CONTEXT_BUILD", parent=parent, name="child"))
    with stage.spans.start_trace(parent=span.traceparent, name="joined"):
        stage.spans.log_event("ERROR", name="event")
    assert shape(stage.read(trace).tree) == [
        ("root", [("parent", [("child", []), ("child", []), ("child", []), ("joined", [("event", [])])])])
    ]


def test_a_parent_by_id_within_the_trace(stage: Stage) -> None:
    """A bare span id is a parent within the active trace; without a trace it says nothing."""
    with stage.spans.start_trace(name="root") as trace:
        span = stage.spans.start_span("TOOL_INVOCATION", name="parent")
        stage.spans.end_span(span)
        stage.spans.end_span(stage.spans.start_span("CONTEXT_BUILD", parent=str(span), name="child"))
    assert shape(stage.read(trace).tree) == [("root", [("parent", [("child", [])])])]
    alone = stage.spans.start_span("CONTEXT_BUILD", parent=str(span), name="alone")
    stage.spans.end_span(alone)
    assert alone.trace_id != trace


def test_join_opens_no_span(stage: Stage) -> None:
    """What happens while joined stands in the other process's span; a header that is none changes nothing."""
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with stage.spans.join(header, "s1", "alice") as trace:
        stage.spans.end_span()
        stage.spans.end_trace()
        stage.spans.log_event("ERROR", name="event")
    assert here() is None
    assert trace == "0af76519-16cd-43dd-8448-eb211c80319c"
    seen = stage.memory.trace(trace)
    assert [(event.parent, event.user, event.session) for event in seen] == [
        ("b7ad6b7169203331", "alice", "s1")
    ] * 2
    with stage.spans.join("no header") as nothing:
        assert nothing is None
        assert here() is None


async def test_a_task_keeps_its_place(stage: Stage) -> None:
    """Tasks inherit the span they were made in and change nothing for one another or for their maker."""

    async def work(name: str) -> None:
        with stage.spans.start_span("TOOL_INVOCATION", name=name):
            await asyncio.sleep(0)
            stage.spans.log_event("ERROR", name=f"{name} event")

    with stage.spans.start_trace(name="root") as trace:
        await asyncio.gather(work("a"), work("b"))
        place = here()
        assert place is not None
        assert place.span == trace.span_id
    assert shape(stage.read(trace).tree) == [("root", [("a", [("a event", [])]), ("b", [("b event", [])])])]


def test_agents_are_inherited(stage: Stage) -> None:
    """An agent named on a span holds for what is in it, unless that names another."""
    with stage.spans.start_trace(agent="dojo") as trace, stage.spans.start_span("TOOL_INVOCATION"):
        stage.spans.log_event("ERROR")
        stage.spans.log_event("AGENT_HANDOFF", agent="debugger")
    assert [event.agent for event in stage.memory.trace(trace)] == ["dojo"] * 3 + ["debugger"] + ["dojo"] * 2
    assert stage.read(trace).summary.agents_used == ["dojo", "debugger"]


@pytest.mark.parametrize(
    ("verb", "given"),
    [
        ("log_event", {"tokens": "many"}),
        ("log_event", {"cost_usd": "free"}),
        ("end_span", {"tokens": object()}),
        ("start_span", {"cost_usd": []}),
    ],
)
def test_nonsense_never_raises(stage: Stage, verb: str, given: dict[str, Any]) -> None:
    """A value that cannot be recorded costs its event, is counted, and breaks nothing."""
    with stage.spans.start_trace() as trace:
        stage.spans.start_span("TOOL_INVOCATION", name="tool")
        if verb == "end_span":
            stage.spans.end_span(**given)
        else:
            getattr(stage.spans, verb)("TOOL_INVOCATION", **given)
    assert stage.recorder.failures == 1
    assert stage.read(trace).summary.state == "ended"


def test_names_of_any_type(stage: Stage) -> None:
    """Session, user and agent become text whatever they are: a wrong type would poison the record."""
    with stage.spans.start_trace(17, ["x"], agent={"a": 1}) as trace:  # type: ignore[arg-type]
        pass
    assert {(event.session, event.user, event.agent) for event in stage.memory.trace(trace)} == {
        ("17", "list", "dict")
    }


def test_handles_are_text(stage: Stage) -> None:
    """A handle is its id: it compares, hashes and prints as text, and knows its trace and header."""
    with stage.spans.start_trace() as trace, stage.spans.start_span("TOOL_INVOCATION") as span:
        assert {trace.id: 1}[trace] == 1
        assert f"{span}" == span.id == span.span_id
        assert span.trace_id == trace == trace.trace_id
        assert span.traceparent == f"00-{trace.id.replace('-', '')}-{span}-01"
        assert trace.traceparent.split("-")[2] == trace.span_id


def test_only_verbs_that_exist() -> None:
    """The recorder's application side has these verbs and no others."""
    public = {name for name in vars(Spans) if not name.startswith("_")}
    assert public == {"start_trace", "end_trace", "start_span", "end_span", "log_event", "join"}
