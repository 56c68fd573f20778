"""Answers as Anthropic's wire gives them, read back by its own codec."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.anthropic_cases import CODEC, IDS, OBJECTS, ROW, SEALED, VISIBLE
from turnout.providers.anthropic_answer import read_usage
from turnout.providers.anthropic_messages import read_request
from turnout.providers.anthropic_response import write_message, write_usage
from turnout.types import Answer, Attempt, Reply, Usage

COUNTS = st.integers(0, 10**6)
USAGES = st.builds(
    lambda fresh, cached, written, output, reasoning: Usage(
        input_tokens=fresh + (cached or 0) + (written or 0),
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=reasoning,
    ),
    COUNTS,
    st.none() | COUNTS,
    st.none() | COUNTS,
    COUNTS,
    st.none() | COUNTS,
)
CALLS = st.builds(
    lambda call_id, name, value: {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": msgspec.json.encode(value).decode()},
    },
    st.sampled_from(["functions.search:0", "call_1", "toolu_1"]),
    IDS,
    OBJECTS,
)
THOUGHTS = st.tuples(VISIBLE, st.just(())) | st.lists(SEALED, max_size=3).map(
    lambda sealed: ("".join(block.get("thinking", "") for block in sealed) or None, tuple(sealed))
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Any answer of any vendor."""
    reasoning, sealed = draw(THOUGHTS)
    return Answer(
        content=draw(VISIBLE),
        finish_reason=draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter", "compaction"])),
        upstream_model="m",
        usage=draw(USAGES),
        tool_calls=tuple(draw(st.lists(CALLS, max_size=3))),
        reasoning=reasoning,
        thinking_blocks=sealed,
    )


def written(answer: Answer | Reply) -> bytes:
    """The message as it goes out."""
    return msgspec.json.encode(write_message(answer, id="msg_1", model="m"))


@given(answers())
def test_an_answer_there_and_back(answer: Answer) -> None:
    """Written and read by the codec it is the same answer: text, calls, thinking with its seals, finish and usage."""
    assert CODEC.decode(written(answer), ROW) == answer


@given(answers())
def test_the_clients_next_request(answer: Answer) -> None:
    """Sent back by the client as its history it is the message we would have appended; nothing is lost."""
    blocks = msgspec.json.decode(written(answer))["content"]
    body = {"model": "m", "messages": [{"role": "assistant", "content": blocks}]}
    inbound = read_request(body)
    reply = Reply(
        content=answer.content,
        finish_reason=answer.finish_reason,
        agent="dojo",
        model="m",
        provider="p",
        usage=answer.usage,
        attempts=(),
        trace_id="t",
        tool_calls=answer.tool_calls,
        reasoning=answer.reasoning,
        thinking_blocks=answer.thinking_blocks,
    )
    assert inbound.messages == [reply.message]
    assert inbound.lost == ()
    assert written(reply) == written(answer)


@given(USAGES)
def test_usage_there_and_back(usage: Usage) -> None:
    """Every reported count survives, whichever the cache gave or took."""
    assert read_usage(write_usage(usage)) == usage


def test_counts_that_nobody_reported() -> None:
    """Clients add up the input and output: what is not known is 0 there, and null where that is allowed."""
    assert write_usage(Usage()) == {
        "input_tokens": 0,
        "cache_creation_input_tokens": None,
        "cache_read_input_tokens": None,
        "output_tokens": 0,
    }
    assert write_usage(Usage(input_tokens=5, cached_input_tokens=9))["input_tokens"] == 0


def test_the_whole_message() -> None:
    """Every field of the wire's message is there; arguments that are no object are its one field."""
    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": "{"}}
    reply = Reply(
        content="It rains.",
        finish_reason="tool_calls",
        agent="dojo",
        model="deepseek-chat",
        provider="deepseek",
        usage=Usage(input_tokens=5, output_tokens=2),
        attempts=(Attempt(id="a", model="m", provider="p", started_at=0, seconds=0.1, outcome="ok"),),
        trace_id="t",
        tool_calls=(call,),
        reasoning="Ulm?",
    )
    assert msgspec.json.decode(written(reply)) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Ulm?", "signature": ""},
            {"type": "text", "text": "It rains."},
            {"type": "tool_use", "id": "functions.f:0", "name": "f", "input": {"arguments": "{"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": None,
            "cache_read_input_tokens": None,
            "output_tokens": 2,
        },
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("something_new", "something_new"),
    ],
)
def test_stop_reasons(ours: str, theirs: str) -> None:
    """Each finish reason has its name there; a new one keeps its own."""
    answer: Any = Answer(content="a", finish_reason=ours, upstream_model="m", usage=Usage())
    assert write_message(answer, id="msg_1", model="m")["stop_reason"] == theirs
