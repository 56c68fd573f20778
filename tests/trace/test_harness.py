"""The functions that applications call, over this process's runtime."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import turnout
from turnout import current, trace
from turnout.errors import ConfigError, InvalidRequest
from turnout.trace import (
    end_span,
    end_trace,
    get_session_traces,
    get_trace,
    get_user_traces,
    is_trace_active,
    log_event,
    start_span,
    start_trace,
)
from turnout.types import Kind

if TYPE_CHECKING:
    from tests.trace.stage import Runtime


def test_the_specifications_names() -> None:
    """These names are what applications hold on to."""
    assert sorted(trace.__all__) == [
        "end_span",
        "end_trace",
        "get_session_traces",
        "get_trace",
        "get_user_traces",
        "is_trace_active",
        "log_event",
        "start_span",
        "start_trace",
    ]


def test_a_trace_from_start_to_reading_back(runtime: Runtime) -> None:
    """Started, filled, ended, and read back by id, header, session and user, newest first."""
    assert not is_trace_active()
    first = start_trace(session_id="s1", user_id="alice", name="first")
    assert is_trace_active()
    span = start_span(Kind.TOOL_INVOCATION, inputs={"query": "q"}, name="search")
    log_event("CONTEXT_BUILD", outputs=["x"], confidence=0.9)
    end_span(span, outputs="found", tokens=7)
    assert end_trace() == first
    assert not is_trace_active()
    with start_trace("s1", "alice", name="second") as second:
        pass
    found = get_trace(first)
    assert found is not None
    assert (found.trace_id, found.session_id, found.user_id, len(found.events)) == (first, "s1", "alice", 5)
    assert found.summary.total_tokens == 7
    assert found.tree[0].children[0].facts["inputs"] == {"fields": 1}
    for name in (first.replace("-", ""), first.traceparent):
        again = get_trace(name)
        assert again is not None
        assert again.trace_id == first
    assert [one.trace_id for one in get_session_traces("s1")] == [second, first]
    assert [one.trace_id for one in get_user_traces("alice", limit=1)] == [second]
    assert get_trace("019ab000-0000-7000-8000-000000000000") is None
    assert runtime.recorder.failures == 0


def test_an_open_trace_is_open(runtime: Runtime) -> None:
    """Read back while it goes on, a trace has no end."""
    with start_trace() as going:
        found = get_trace(going)
        assert found is not None
        assert (found.ended_at, found.summary.state) == (None, "open")
    assert len(runtime.reports.trace(going.id)) == 2


async def test_a_task_that_outlives_its_trace(runtime: Runtime) -> None:
    """A task made in a trace sees that it has ended; what it still does is in the trace all the same."""
    ended = asyncio.Event()

    async def late() -> bool:
        assert is_trace_active()
        await ended.wait()
        log_event("ERROR", name="late")
        return is_trace_active()

    with start_trace() as trace:
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    ended.set()
    assert not await task
    assert [event.kind for event in runtime.reports.trace(trace.id)][-1] == Kind.ERROR


@pytest.mark.parametrize("limit", [0, 101])
def test_user_traces_are_limited(runtime: Runtime, limit: int) -> None:
    """The limit is 1 to 100, as the specification says."""
    with pytest.raises(InvalidRequest, match="1 to 100"):
        get_user_traces("alice", limit)
    assert runtime.recorder.failures == 0


def test_without_usable_settings_nothing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken turnout.toml is told by the call that follows, not by the trace around it."""
    monkeypatch.setenv("TURNOUT_CONFIG", "nowhere.toml")
    current.leave(turnout._wire)
    with start_trace("s1") as one, start_span("TOOL_INVOCATION"):
        log_event("ERROR")
        assert is_trace_active()
    assert one.trace_id
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        get_trace(one)


def test_importing_is_light() -> None:
    """`import turnout.trace` loads neither the engine nor a database nor OpenTelemetry."""
    code = (
        "import sys, turnout.trace;"
        "heavy = ('sqlalchemy', 'opentelemetry', 'turnout.wiring', 'turnout.client', 'jinja2', 'rich');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"
