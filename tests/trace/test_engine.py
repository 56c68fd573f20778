"""Traces around the real client, its real journal and its real store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import turnout
from turnout import current
from turnout.errors import AllProvidersFailed, AuthError
from turnout.providers.scripted import ScriptedTransport, Turn
from turnout.trace import end_trace, get_session_traces, get_trace, start_span, start_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import MakeClient
    from turnout.types import Model
    from turnout.wiring import LLMClient

ASK = [{"role": "user", "content": "why does my loop never end?"}]


def scripted(make_client: MakeClient, script: ScriptedTransport) -> Iterator[LLMClient]:
    """The process's client, over scripted providers."""
    made = make_client(
        transports={"scripted": script},
        DEEPSEEK_BASE_URL="scripted:/v1",
        OPENAI_BASE_URL="scripted:/v1",
        DEEPSEEK_API_KEY="sk-canary-1",
        OPENAI_API_KEY="sk-canary-2",
    )
    current.forget()
    current.leave(lambda: made)
    yield made
    made.sync.close()
    current.forget()
    current.leave(turnout._wire)


@pytest.fixture
def client(make_client: MakeClient) -> Iterator[LLMClient]:
    """Every model answers."""
    yield from scripted(make_client, ScriptedTransport())


@pytest.fixture
def refused(make_client: MakeClient, models: dict[str, Model]) -> Iterator[LLMClient]:
    """Every model refuses the key."""
    turns = {model.upstream: [Turn(status=401)] for model in models.values()}
    yield from scripted(make_client, ScriptedTransport(turns))


def test_a_blocking_call_is_in_its_callers_trace(client: LLMClient) -> None:
    """The client's own thread works in the trace of the thread that asked."""
    with start_trace("s1", "alice") as trace, start_span("TOOL_INVOCATION", name="ask"):
        reply = client.sync.call_with_fallback("dojo", ASK)
    assert reply.trace_id == trace
    found = get_trace(trace)
    assert found is not None
    (call,) = found.tree[0].children[0].children
    assert (call.what, call.state, len(call.children)) == ("call", "ok", 1)
    assert found.summary.total_tokens == reply.usage.total_tokens
    assert found.summary.cost_usd == reply.cost_usd
    assert [one.trace_id for one in get_session_traces("s1")] == [trace]


async def test_a_call_without_a_trace_is_one(client: LLMClient) -> None:
    """Every reply names a trace that can be read back."""
    reply = await client.call_with_fallback("dojo", ASK)
    found = get_trace(reply.trace_id)
    assert found is not None
    assert (found.summary.calls, found.summary.state, found.summary.agents_used) == (1, "ended", ["dojo"])


async def test_calls_at_the_same_time(client: LLMClient) -> None:
    """Fifty traced calls at once: each reply is in its own trace, alone."""

    async def one(index: int) -> tuple[str, str]:
        with start_trace(f"session {index}") as trace:
            return str(trace), (await client.call_with_fallback("dojo", ASK)).trace_id

    pairs = await asyncio.gather(*(one(index) for index in range(50)))
    assert all(trace == replied for trace, replied in pairs)
    found = [get_trace(trace) for trace, _ in pairs]
    assert [(one.session_id, one.summary.calls) for one in found if one] == [
        (f"session {index}", 1) for index in range(50)
    ]


async def test_a_stream_read_after_its_trace(client: LLMClient) -> None:
    """A stream that was begun in a trace ends in it, though it is read to its end outside."""
    trace = start_trace(name="streamed")
    stream = client.stream("dojo", ASK)
    first = await anext(stream)
    end_trace(trace)
    rest = [delta async for delta in stream]
    reply = (rest or [first])[-1].reply
    assert reply is not None
    assert reply.trace_id == trace
    found = get_trace(trace)
    assert found is not None
    assert (found.summary.attempts, found.summary.marks) == (1, [])


async def test_when_all_fail(refused: LLMClient) -> None:
    """A call that nobody answers is in its trace with each attempt, and the trace is as failed as its block."""
    with pytest.raises((AllProvidersFailed, AuthError)), start_trace() as trace:
        await refused.call_with_fallback("dojo", ASK, timeout=5)
    found = get_trace(trace)
    assert found is not None
    assert found.tree[0].state == "failed"
    states = [node.state for node in found.tree[0].children[0].children if node.what == "attempt"]
    assert len(states) >= 2
    assert set(states) == {"failed"}
