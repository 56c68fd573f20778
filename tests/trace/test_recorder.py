"""What the engine's verbs leave in the journal."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.trace.stage import Stage
from turnout.errors import BudgetUnavailable
from turnout.trace import recorder as module
from turnout.trace.privacy import Privacy
from turnout.trace.recorder import Recorder
from turnout.types import Answer, Attempt, Closed, Event, Kind, Opened, Scope, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = "sk-canary0123456789abcdef"
HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Broken:
    """A sink on a disk that is gone."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def append(self, event: Event) -> None:
        """Fails."""
        raise self.error

    async def written(self) -> None:
        """Nothing to wait for."""

    async def durable(self) -> None:
        """Nothing was kept: there is nothing to wait for."""


class Slow:
    """A sink that is safe when told."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.safe = asyncio.Event()

    def append(self, event: Event) -> None:
        """Kept."""

    async def written(self) -> None:
        """Nothing to wait for."""

    async def durable(self) -> None:
        """Waits."""
        self.asked.set()
        await self.safe.wait()


def test_an_attempt_is_two_events(stage: Stage) -> None:
    """START and END share the attempt's id as span, have ids of their own, and their facts convert back."""
    call = stage.call(user="alice", session="s1", tags={"team": "x"})
    attempt = stage.attempt(call, seconds=0.5)
    start, end = stage.memory.trace(call.id)
    assert (start.kind, end.kind) == (Kind.LLM_CALL_START, Kind.LLM_CALL_END)
    assert start.span == end.span == attempt
    assert start.id != end.id
    assert (end.agent, end.user, end.session, end.tokens, end.cost_nano) == (
        "debugger",
        "alice",
        "s1",
        120,
        36_400,
    )
    opened = msgspec.convert(start.facts, Opened)
    closed = msgspec.convert(end.facts, Closed)
    assert closed.opened == opened
    assert (opened.call, opened.tags, closed.attempt.usage) == (
        call.id,
        {"team": "x"},
        Usage(input_tokens=100, output_tokens=20),
    )


def test_without_a_trace_a_call_is_its_own(stage: Stage) -> None:
    """The call's id is its trace's; within a trace it is the trace's, and its span the parent."""
    call = stage.call()
    assert stage.recorder.trace_id(call) == call.id
    with stage.spans.start_trace() as trace, stage.spans.start_span("TOOL_INVOCATION") as span:
        assert stage.recorder.trace_id(call) == trace
        stage.attempt(call)
    assert [event.parent for event in stage.memory.trace(trace)][2:4] == [span, span]


def test_a_parent_from_another_process(stage: Stage) -> None:
    """A call whose parent is a traceparent stands in that trace; any other parent is a run, not a trace."""
    call = stage.call(parent=HEADER)
    stage.attempt(call)
    assert stage.recorder.trace_id(call) == "0af76519-16cd-43dd-8448-eb211c80319c"
    assert {event.parent for event in stage.memory.trace(stage.recorder.trace_id(call))} == {
        "b7ad6b7169203331"
    }
    run = stage.call(parent="run-7")
    assert stage.recorder.trace_id(run) == run.id


def test_the_end_goes_where_the_start_went(stage: Stage) -> None:
    """A stream that is finished outside its trace ends in it all the same."""
    call = stage.call()
    opened = Opened(call=call.id, number=1, model="m", provider="p")
    with stage.spans.start_trace() as trace:
        stage.recorder.opened(call, opened, "a1")
    attempt = Attempt(id="a1", model="m", provider="p", started_at=1, seconds=1.0, outcome="ok")
    stage.recorder.closed(call, Closed(opened=opened, attempt=attempt))
    assert [event.kind for event in stage.memory.trace(trace)][-1] == Kind.LLM_CALL_END
    assert stage.memory.trace(call.id) == []


async def test_waiting_for_the_journal(stage: Stage) -> None:
    """`durable` returns when the journal's own does, not before."""
    journal = Slow()
    recorder = Recorder(journal, stage.clock)
    waiting = asyncio.create_task(recorder.durable())
    await journal.asked.wait()
    assert not waiting.done()
    journal.safe.set()
    await waiting


def test_open_attempts_are_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that never end do not gather for ever."""
    monkeypatch.setattr(module, "OPEN_ATTEMPTS", 10)
    for _ in range(50):
        stage.attempt(stage.call(), ends=False)
    assert len(stage.recorder._places) == 10


def test_a_fallback_is_an_event(stage: Stage) -> None:
    """MODEL_FALLBACK says from which model to which, why, and of which call."""
    call = stage.call()
    stage.fallback(call)
    found = [event for event in stage.memory.trace(call.id) if event.kind is Kind.MODEL_FALLBACK]
    assert [event.facts for event in found] == [
        {"call": call.id, "from": "deepseek-reasoner", "to": "gpt-4o-mini", "reason": "rate_limit"}
    ]


def test_a_traces_user_is_a_calls(stage: Stage) -> None:
    """A scope without session or user gets the active trace's, and keeps its own."""
    mine = Scope(agent="dojo", user="bob")
    assert stage.recorder.scope(mine) is mine
    with stage.spans.start_trace("s1", "alice"):
        assert stage.recorder.scope(mine) == Scope(agent="dojo", user="bob", session="s1")
        assert stage.recorder.scope(Scope(agent="dojo")) == Scope(agent="dojo", user="alice", session="s1")
        whole = Scope(agent="dojo", user="bob", session="s2")
        assert stage.recorder.scope(whole) is whole


@pytest.mark.parametrize("error", [OSError("disk"), ValueError("ours"), BudgetUnavailable("full")])
def test_a_broken_journal_breaks_no_call(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the journal raises at the end of a call is counted and logged, not raised; logs do not pile up."""
    stage = Stage()
    stage.recorder = Recorder(Broken(error), stage.clock)
    with caplog.at_level(logging.WARNING, "turnout"):
        for _ in range(100):
            stage.recorder.fallback(stage.call(), from_model="a", to_model="b", reason="timeout")
    assert stage.recorder.failures == 100
    assert len(caplog.records) == 7
    facts: dict[str, Any] = vars(caplog.records[0])["facts"]
    assert facts == {"what": f"of_call: {type(error).__name__}", "failures": 1}


def test_a_journal_may_refuse_a_call() -> None:
    """A refusal in the journal's own words passes at the start of a call; a broken disk does not."""
    for error, raises in ((BudgetUnavailable("the spool is full"), True), (OSError("disk"), False)):
        stage = Stage()
        stage.recorder = Recorder(Broken(error), stage.clock)
        if raises:
            with pytest.raises(BudgetUnavailable, match="spool"):
                stage.attempt(stage.call(), ends=False)
        else:
            stage.attempt(stage.call(), ends=False)
            assert stage.recorder.failures == 1


class Noting:
    """An exporter that keeps what it is given, and may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.seen: list[str] = []

    def export(self, event: Event) -> None:
        """Keep its kind."""
        self.seen.append(str(event.kind))
        if self.fails:
            raise RuntimeError

    def finished(self, call: str) -> None:
        """Keep the call."""
        self.seen.append("finished")


def test_exporters_hear_everything_and_break_nothing() -> None:
    """Each event reaches the exporters after the journal, which keeps it even when one of them fails."""
    for fails in (False, True):
        noting = Noting(fails=fails)
        stage = Stage(exporters=[noting])
        call = stage.call()
        stage.fallback(call)
        assert noting.seen == [*(str(event.kind) for event in stage.memory.trace(call.id)), "finished"]
        assert stage.recorder.failures == (5 if fails else 0)


def contents(stage: Stage, call_id: str) -> list[tuple[Kind, Any]]:
    """The events with a body."""
    return [
        (event.kind, event.facts["body"]) for event in stage.memory.trace(call_id) if "body" in event.facts
    ]


def test_contents_only_where_captured() -> None:
    """Messages and answers are kept for an agent at `full`, without keys and with their end of life; else not."""
    stage = Stage(Privacy(agents={"debugger": "full"}, ttl=60))
    answer = Answer(content=f"use {KEY}", finish_reason="stop", upstream_model="m", usage=Usage())
    for agent in ("debugger", "dojo"):
        call = stage.call(agent)
        stage.recorder.asked(call)
        stage.recorder.answered(call, stage.attempt(call), answer)
        if agent == "debugger":
            assert contents(stage, call.id) == [
                (Kind.USER_INPUT, [{"role": "user", "content": "why does my loop never end?"}]),
                (Kind.AGENT_RESPONSE, {"content": "use ***"}),
            ]
            asked = stage.memory.trace(call.id)[0]
            assert asked.facts["expires_at"] == asked.at + 60_000_000
        else:
            assert contents(stage, call.id) == []


def texts(events: Sequence[Event]) -> str:
    """Everything that was recorded, as text."""
    return msgspec.json.encode(events).decode()


@pytest.mark.parametrize("level", ["off", "metadata", "full"])
def test_no_key_reaches_the_journal(level: Any) -> None:
    """Keys put into every field that comes from outside are in no event, at any capture level."""
    stage = Stage(Privacy(capture=level))
    call = stage.call(agent=f"a {KEY}", user=KEY, session=KEY, parent=KEY, tags={KEY: KEY})
    call = msgspec.structs.replace(call, messages=f'[{{"role":"user","content":"{KEY}"}}]'.encode())
    stage.recorder.asked(call)
    stage.attempt(call, outcome="auth_error", error=f"Incorrect API key provided: {KEY}", usage=None)
    stage.recorder.answered(
        call, "a", Answer(content=KEY, finish_reason="", upstream_model="", usage=Usage())
    )
    with stage.spans.start_trace(KEY, KEY, agent=KEY, name=KEY):
        with (
            pytest.raises(RuntimeError),
            stage.spans.start_span("TOOL_INVOCATION", {"key": KEY}, **{KEY: KEY}),
        ):
            raise RuntimeError(KEY)
        stage.spans.log_event("ERROR", [KEY], {"authorization": "x"}, error=KEY)
    kept = texts([event for trace in stage.memory.latest_traces() for event in stage.memory.trace(trace)])
    assert stage.recorder.failures == 0
    assert len(kept) > 1_000
    assert "canary" not in kept
    assert (level == "off") == ("Incorrect API key" not in kept)
