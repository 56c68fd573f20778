"""Events -> tree: any list of events gives a tree with each event in it, and sums that count each leaf once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace.stage import NOON, Stage
from turnout.trace.nodes import Node, walk
from turnout.trace.tree import DEEPEST, SILENCE, build, in_order
from turnout.trace.views import read
from turnout.types import Event, Kind, Usage

if TYPE_CHECKING:
    from collections.abc import Callable


def event(number: int, kind: Kind = Kind.TOOL_INVOCATION, **told: Any) -> Event:
    """An event some microseconds after noon."""
    facts = told.pop("facts", {})
    if "seconds" in told:
        facts = {**facts, "seconds": told.pop("seconds")}
    return Event(id=f"e{number}", trace="t", kind=kind, at=told.pop("at", NOON + number), facts=facts, **told)


ids = st.sampled_from(["a", "b", "c", "d", "call x", "e1", ""])
anything = st.builds(
    event,
    st.integers(0, 30),
    st.sampled_from(Kind),
    at=st.integers(NOON, NOON + 5),
    span=st.none() | ids,
    parent=st.none() | ids,
    tokens=st.none() | st.integers(0, 100),
    cost_nano=st.none() | st.integers(0, 100),
    error=st.none() | st.just("e"),
    facts=st.dictionaries(
        st.sampled_from(["seconds", "call", "metadata", "opened", "attempt", "body"]),
        st.floats(0, 9) | st.just("x") | st.just({"name": "n"}) | st.none(),
    ),
)


@settings(deadline=None, max_examples=400)
@given(st.lists(anything, max_size=25))
def test_any_events_give_a_tree(events: list[Event]) -> None:
    """Nothing raises, nothing is lost and nothing is shown twice, whatever the events say."""
    nodes = [node for _, node in walk(build(events))]
    shown = [node.id for node in nodes]
    assert len(shown) == len(set(shown))
    kept = in_order(events)
    assert {e.span for e in kept if e.span} <= set(shown)
    assert {f"event {e.id}" for e in kept if not e.span} <= set(shown)
    found = read(events)
    assert (found is None) == (not events)
    if found is not None:
        assert found.summary.ended_at is not None
        msgspec.json.encode(found)


class Oak:
    """A tree of steps: what each leaf used, or what is below it."""

    def __init__(
        self, *below: Oak, leaf: str = "span", tokens: int = 0, cost: int = 0, wait: int = 0
    ) -> None:
        self.below = below
        self.leaf = leaf
        self.tokens = tokens
        self.cost = cost
        self.wait = wait

    def leaves(self) -> list[Oak]:
        """Those with nothing below."""
        return [leaf for branch in self.below for leaf in branch.leaves()] if self.below else [self]

    def grow(self, stage: Stage) -> None:
        """Act it out; a branch claims figures of its own, which must not count again."""
        if self.below:
            with stage.spans.start_span("TOOL_INVOCATION") as span:
                for branch in self.below:
                    branch.grow(stage)
                below = self.leaves()
                claimed = {
                    "tokens": sum(leaf.tokens for leaf in below),
                    "cost_usd": sum(leaf.cost for leaf in below) / 1e9,
                }
                if any(leaf.tokens or leaf.cost for leaf in below):
                    stage.spans.log_event("COST_TRACKED", **claimed)
                    stage.spans.end_span(span, **claimed)
        elif self.leaf == "call":
            stage.attempt(
                stage.call(),
                seconds=float(self.wait),
                usage=Usage(input_tokens=self.tokens, output_tokens=0),
                cost_nano=self.cost,
            )
        else:
            with stage.spans.start_span("TOOL_INVOCATION") as span:
                stage.clock.wait(self.wait)
                stage.spans.end_span(span, tokens=self.tokens, cost_usd=self.cost / 1e9)


oaks = st.recursive(
    st.builds(
        Oak,
        leaf=st.sampled_from(["span", "call"]),
        tokens=st.integers(0, 10**6),
        cost=st.integers(0, 10**9),
        wait=st.integers(0, 100),
    ),
    lambda below: st.lists(below, min_size=1, max_size=4).map(lambda branches: Oak(*branches)),
    max_leaves=25,
)


@settings(deadline=None, max_examples=200)
@given(oaks)
def test_the_summary_is_the_sum_of_the_leaves(oak: Oak) -> None:
    """Tokens, money and time of any tree are those of its leaves, though every branch reports them again."""
    stage = Stage()
    with stage.spans.start_trace() as trace:
        oak.grow(stage)
    summary = stage.read(trace).summary
    leaves = oak.leaves()
    assert stage.recorder.failures == 0
    assert summary.total_tokens == sum(leaf.tokens for leaf in leaves)
    assert summary.total_cost_nano == sum(leaf.cost for leaf in leaves)
    assert summary.work_seconds == summary.seconds == sum(leaf.wait for leaf in leaves)
    assert summary.marks == []


def test_what_runs_at_once_counts_each_for_itself(stage: Stage) -> None:
    """Two steps that overlap: the wall saw them once, the work was both."""
    with stage.spans.start_trace() as trace:
        one = stage.spans.start_span("TOOL_INVOCATION")
        two = stage.spans.start_span("TOOL_INVOCATION", parent=trace)
        stage.clock.wait(3)
        stage.spans.end_span(two)
        stage.spans.end_span(one)
    summary = stage.read(trace).summary
    assert (summary.seconds, summary.work_seconds) == (3.0, 6.0)


def test_money_that_only_a_note_knows(stage: Stage) -> None:
    """COST_TRACKED counts in the span that it stands in when nothing else there says what was spent."""
    with stage.spans.start_trace() as trace, stage.spans.start_span("TOOL_INVOCATION"):
        stage.spans.log_event("COST_TRACKED", tokens=5, cost_usd=0.5)
        stage.spans.log_event("COST_TRACKED", tokens=6, cost_usd=0.25)
    summary = stage.read(trace).summary
    assert (summary.total_tokens, summary.total_cost_nano) == (11, 750_000_000)


def test_an_unknown_price_is_not_zero(stage: Stage) -> None:
    """An attempt without a price is counted apart and leaves the cost of the others as it is."""
    call = stage.call()
    stage.attempt(call, cost_nano=None)
    stage.attempt(call, number=2)
    summary = stage.read(call.id).summary
    assert (summary.unpriced, summary.total_cost_nano) == (1, 36_400)


@pytest.mark.parametrize(
    "twist", [reversed, lambda events: events * 2, lambda events: events[1:] + events[:1]]
)
def test_order_and_repetition_do_not_matter(stage: Stage, twist: Callable[[Any], Any]) -> None:
    """The same events in any order, also twice, are the same trace."""
    with stage.spans.start_trace() as trace:
        stage.fallback(stage.call())
    events = stage.memory.trace(trace)
    assert msgspec.json.encode(read(list(twist(events)))) == msgspec.json.encode(read(events))


def test_a_call_gathers_its_attempts(stage: Stage) -> None:
    """Attempts of one call stand below it with the fallback between them; the call is as its last attempt is."""
    call = stage.call()
    stage.fallback(call)
    (node,) = stage.read(call.id).tree
    assert (node.what, node.agent, node.state, node.seconds) == ("call", "debugger", "ok", 3.11)
    assert [(child.what, child.state) for child in node.children] == [
        ("attempt", "failed"),
        ("event", "ok"),
        ("attempt", "ok"),
    ]


def ends(stage: Stage, call_id: str) -> list[Event]:
    """The events of a call whose START never got its END, with one that charges its hold."""
    (start,) = stage.memory.trace(call_id)
    facts = {
        "opened": start.facts,
        "attempt": {
            "id": start.span,
            "model": "deepseek-chat",
            "provider": "deepseek",
            "started_at": start.at,
            "seconds": 0.0,
            "outcome": "expired",
            "cost_nano": 500_000,
        },
        "state": "expired_estimated",
    }
    end = msgspec.structs.replace(start, id="expired", kind=Kind.LLM_CALL_END, facts=facts, cost_nano=500_000)
    return [start, end]


def test_an_attempt_of_a_killed_process(stage: Stage) -> None:
    """Charged at its full hold, it is cut off, and so is every span its process left open."""
    with stage.spans.start_trace(name="whole") as trace:
        call = stage.call()
        stage.attempt(call, ends=False)
        started = stage.memory.trace(trace)
    stage.memory = type(stage.memory)()
    for one in started[1:]:
        stage.memory.append(msgspec.structs.replace(one, trace=call.id))
    found = read(
        [started[0], *(msgspec.structs.replace(one, trace=trace.id) for one in ends(stage, call.id))], NOON
    )
    assert found is not None
    assert found.summary.state == "cut off"
    assert [node.state for _, node in walk(found.tree)] == ["cut off"] * 3
    assert (found.summary.total_cost_nano, found.summary.held_nano) == (500_000, 500_000)


def test_a_late_end_corrects_an_expired_one(stage: Stage) -> None:
    """When the real END turns up, it counts and the estimate does not; the trace says so."""
    call = stage.call()
    stage.attempt(call, ends=False)
    expired = ends(stage, call.id)
    late = Stage()
    late.attempt(late.call())
    real = late.memory.trace("019ab000-0000-7000-8000-000000000001")[-1]
    facts = {**real.facts, "attempt": {**real.facts["attempt"], "id": expired[0].span}}
    end = msgspec.structs.replace(real, span=expired[0].span, trace=call.id, facts=facts)
    for order in ([*expired, end], [expired[0], end, expired[1]]):
        found = read(order)
        assert found is not None
        assert (found.summary.total_cost_nano, found.summary.held_nano) == (36_400, 0)
        assert found.summary.state == "ended"


def test_an_attempt_that_ends_twice(stage: Stage) -> None:
    """A second END changes nothing and is marked; an estimate that comes after the real END is not even that."""
    call = stage.call()
    stage.attempt(call)
    start, end = stage.memory.trace(call.id)
    again = msgspec.structs.replace(end, id="again", at=end.at + 1)
    late = msgspec.structs.replace(
        end, id="late", at=end.at + 1, facts={**end.facts, "state": "expired_estimated"}
    )
    for extra, marks in ((again, ["deepseek-chat: ended twice"]), (late, [])):
        found = read([start, end, extra])
        assert found is not None
        assert (found.summary.total_cost_nano, found.summary.marks) == (36_400, marks)


def test_open_or_cut_off(stage: Stage) -> None:
    """An attempt without an end is running while the trace is fresh, and cut off after a long silence."""
    call = stage.call()
    stage.attempt(call, ends=False)
    now = stage.read(call.id, later=SILENCE / 1e6 - 1)
    assert (now.summary.state, now.ended_at) == ("open", None)
    assert now.summary.held_nano == now.summary.total_cost_nano == 500_000
    later = stage.read(call.id, later=SILENCE / 1e6 + 1)
    assert (later.summary.state, later.summary.marks) == (
        "cut off",
        ["deepseek-chat: cut off: its process ended before it did"],
    )


def test_an_end_without_a_start(stage: Stage) -> None:
    """A span or attempt whose start was lost is shown from its end, and marked."""
    call = stage.call()
    with stage.spans.start_trace(name="whole") as trace:
        stage.clock.wait(1)
        stage.attempt(call, seconds=2.0)
    found = read(
        [one for one in stage.memory.trace(trace) if one.kind in {Kind.LLM_CALL_END, Kind.SESSION_END}]
    )
    assert found is not None
    marks = [
        (node.at - NOON, node.seconds, node.marks) for _, node in walk(found.tree) if node.what != "call"
    ]
    assert marks == [(0, 3.0, ["its start is missing"]), (1_000_000, 2.0, ["its start is missing"])]


def test_spans_inside_one_another() -> None:
    """Spans that name each other as parents are cut loose, marked, and shown once."""
    loop = [event(1, span="a", parent="b"), event(2, span="b", parent="a"), event(3, span="c", parent="a")]
    nodes = build(loop)
    assert sorted(node.id for _, node in walk(nodes)) == ["a", "b", "c"]
    assert [mark for _, node in walk(nodes) for mark in node.marks if "inside itself" in mark]


def test_nesting_beyond_all_reason() -> None:
    """Ten thousand levels are shown, none deeper than the deepest, and can be encoded."""
    nodes = build([event(n, span=f"s{n}", parent=f"s{n - 1}") for n in range(10_000)])
    depths = [depth for depth, _ in walk(nodes)]
    assert (len(depths), max(depths)) == (10_000, DEEPEST)
    assert msgspec.json.decode(msgspec.json.encode(nodes), type=list[Node])


def test_a_large_trace_is_quick() -> None:
    """Building is linear: ten times the events take nowhere near a hundred times as long."""

    def seconds(number: int) -> float:
        events = [event(n, span=f"s{n}", parent=f"s{n // 10}") for n in range(1, number)]
        began = time.process_time()
        build(events)
        return time.process_time() - began

    seconds(100)
    assert seconds(20_000) < 40 * seconds(2_000)
