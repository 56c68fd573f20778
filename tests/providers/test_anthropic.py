"""Anthropic's answers and errors, from bodies in its shape and against a server that speaks it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from llmock.scenarios import Fail, Reply, ToolCall
from llmock.testing import LLMockServer

from tests.providers.anthropic_cases import CODEC, ROW, TOOL, body, error, sent
from turnout import errors
from turnout.types import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeClient


def test_decode() -> None:
    """Text, finish reason, name and tokens arrive; the input counts what the cache gave and took."""
    answer = CODEC.decode(body(), ROW)
    assert (answer.content, answer.finish_reason, answer.upstream_model) == (
        "Hello.",
        "stop",
        "claude-haiku-5-5",
    )
    assert answer.usage == Usage(
        input_tokens=1_121,
        cached_input_tokens=1_000,
        cache_write_tokens=100,
        output_tokens=40,
        reasoning_tokens=30,
    )
    assert (answer.tool_calls, answer.reasoning) == ((), None)


def test_decode_every_block() -> None:
    """Texts are joined, thinking is reasoning, tool_use is a tool call, and unknown blocks are passed over."""
    answer = CODEC.decode(
        body(
            content=[
                {"type": "thinking", "thinking": "Rain?", "signature": "EqQBCg=="},
                {"type": "redacted_thinking", "data": "EmwKAhgB"},
                {"type": "text", "text": "I'll "},
                {
                    "type": "server_tool_use",
                    "id": "srvtoolu_1",
                    "name": "web_search",
                    "input": {"query": "a"},
                },
                {"type": "text", "text": "look."},
                {
                    "type": "tool_use",
                    "id": "toolu_1",
                    "name": "weather",
                    "input": {"city": "Zürich", "n": 10**25},
                },
                {"type": "tool_use", "id": "toolu_2", "name": "now"},
            ],
            stop_reason="tool_use",
        ),
        ROW,
    )
    assert (answer.content, answer.reasoning, answer.finish_reason) == ("I'll look.", "Rain?", "tool_calls")
    assert answer.tool_calls == (
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Zürich","n":10000000000000000000000000}'},
        },
        {"id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    )


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("compaction", "compaction"),
    ],
)
def test_stop_reasons(stop_reason: str, finish: str) -> None:
    """Every documented stop reason has its name in OpenAI's words; a new one passes under its own."""
    assert CODEC.decode(body(stop_reason=stop_reason), ROW).finish_reason == finish


@pytest.mark.parametrize(
    ("details", "content"),
    [
        ({"type": "refusal", "category": "cyber", "explanation": "It could do harm."}, "It could do harm."),
        ({"type": "refusal", "category": None, "explanation": None}, ""),
        (None, ""),
    ],
)
def test_a_refusal_is_an_answer(details: dict[str, Any] | None, content: str) -> None:
    """A refusal comes without text: its explanation, where there is one, stands in, and it is never blank."""
    answer = CODEC.decode(body(content=[], stop_reason="refusal", stop_details=details), ROW)
    assert (answer.content, answer.finish_reason) == (content, "content_filter")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"", errors.BlankReply),
        (b" \n\n ", errors.BlankReply),
        (body(content=[]), errors.BlankReply),
        (body(content=[{"type": "text", "text": "  "}]), errors.BlankReply),
        (body(content=[{"type": "thinking", "thinking": "Hm.", "signature": ""}]), errors.BlankReply),
        (b"<!DOCTYPE html><html>", errors.HtmlReply),
        (b"{", errors.MalformedReply),
        (b"[]", errors.MalformedReply),
        (b"\xff\xfe", errors.MalformedReply),
        (b"{}", errors.MalformedReply),
        (b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}', errors.MalformedReply),
        (b'{"usage":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}", errors.MalformedReply),
        (body(content="Hello."), errors.MalformedReply),
        (body(stop_reason=None), errors.MalformedReply),
        (error("overloaded_error", "Overloaded"), errors.ServerFault),
        (error("rate_limit_error", "Slow down"), errors.RateLimited),
        (error("authentication_error", "invalid x-api-key"), errors.AuthError),
        (error("something_new", "?"), errors.ServerFault),
        (b'{"error":"boom"}', errors.ServerFault),
    ],
)
def test_a_200_that_is_no_answer(reply: bytes, kind: type[Exception]) -> None:
    """Blank, page, half, another dialect or in-band error under a 200 is never passed off as an answer."""
    with pytest.raises(kind):
        CODEC.decode(reply, ROW)


@pytest.mark.parametrize("bad", ["NaN", "-5", '"12"', "1.5", "1000000000000000000", "true", "null"])
def test_a_count_that_cannot_be_one(bad: str) -> None:
    """An input that is no count becomes None, which is not 0, and the answer stands."""
    answer = CODEC.decode(body().replace(b'"input_tokens":21', b'"input_tokens":' + bad.encode()), ROW)
    assert answer.content == "Hello."
    assert answer.usage.input_tokens is None
    assert answer.usage.cached_input_tokens == 1_000


def test_counts_that_are_not_there() -> None:
    """Without a cache the input stands alone; a spoilt cache count spoils the sum; no usage is no usage."""
    alone = CODEC.decode(body(usage={"input_tokens": 5, "output_tokens": 1}), ROW).usage
    assert alone == Usage(input_tokens=5, output_tokens=1)
    spoilt = {
        "input_tokens": 5,
        "output_tokens": 1,
        "cache_read_input_tokens": -1,
        "output_tokens_details": [],
    }
    assert CODEC.decode(body(usage=spoilt), ROW).usage == Usage(output_tokens=1)
    assert CODEC.decode(body(usage=None), ROW).usage == Usage()


@pytest.mark.parametrize(
    ("status", "reply", "kind"),
    [
        (
            400,
            error("invalid_request_error", "messages: at least one message is required"),
            errors.RequestRejected,
        ),
        (
            400,
            error("invalid_request_error", "prompt is too long: 210 tokens > 200 maximum"),
            errors.ContextOverflow,
        ),
        (
            400,
            error(
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190 + 20 > 200, decrease input length",
            ),
            errors.ContextOverflow,
        ),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            errors.PaymentRequired,
        ),
        (
            400,
            error("invalid_request_error", "You have reached your specified API usage limits."),
            errors.PaymentRequired,
        ),
        (401, error("authentication_error", "invalid x-api-key"), errors.AuthError),
        (402, error("billing_error", "There's an issue with your billing."), errors.PaymentRequired),
        (403, error("permission_error", "Your API key does not have permission."), errors.AuthError),
        (404, error("not_found_error", "model: claude-haiku-5-5"), errors.ModelRetired),
        (404, error("not_found_error", "Not Found"), errors.RequestRejected),
        (404, b"<html>", errors.EndpointMisconfigured),
        (413, error("request_too_large", "Request exceeds the maximum size"), errors.RequestRejected),
        (429, error("rate_limit_error", "This request would exceed your rate limit."), errors.RateLimited),
        (500, error("api_error", "Internal server error"), errors.ServerFault),
        (529, error("overloaded_error", "Overloaded"), errors.ServerFault),
    ],
)
def test_failures(status: int, reply: bytes, kind: type[errors.ProviderError]) -> None:
    """Each documented error has its meaning, its status, its request id and the time to wait."""
    headers = {"request-id": "req_011CSHoEeqs5C35K2UUqR7Fy", "retry-after": "7"}
    failure = CODEC.failure(status, headers, reply, ROW)
    assert type(failure) is kind
    assert (failure.status, failure.provider, failure.retry_after) == (status, "anthropic", 7)
    assert failure.request_id == "req_011CSHoEeqs5C35K2UUqR7Fy"


TURNOUT_TOML = """
[endpoints.claude]
title = "llmock's Anthropic"
base_url = "{url}"
codec = "anthropic"
key_vars = ["CLAUDE_API_KEY"]
auth_header = "x-api-key"
auth_prefix = ""
headers = {{ anthropic-version = "2023-06-01" }}

[models.haiku]
provider = "claude"
upstream = "claude-haiku-5-5"
context_window = 1_000_000
max_output = 128_000
default_output = 4_096
capabilities = ["tools", "vision"]

[[prices]]
models = ["haiku"]
from = 2026-10-07T00:00:00Z
input = "0.10"
cached_input = "0.01"
output = "0.50"
source = "test"
checked = 2026-10-31
"""


async def test_journey(make_client: MakeClient, tmp_path: Path) -> None:
    """Over a real socket: a tool call comes back, its result is understood, the price is known, a 529 is a fault."""
    with LLMockServer() as server:
        (tmp_path / "turnout.toml").write_text(TURNOUT_TOML.format(url=server.base_url("anthropic")))
        question = {"role": "user", "content": "Weather in Ulm?"}
        async with make_client(CLAUDE_API_KEY="sk-ant-canary") as client:
            server.state.scenarios.add(Reply(tool_calls=(ToolCall("weather", {"city": "Ulm"}),)))
            asked = await client.call("haiku", [question], tools=[TOOL])
            tool = asked.tool_calls[0]
            assert json.loads(tool["function"]["arguments"]) == {"city": "Ulm"}
            server.state.scenarios.add(Reply(text="It rains."))
            result = {"role": "tool", "tool_call_id": tool["id"], "content": "rain"}
            told = await client.call("haiku", [question, asked.message, result], tools=[TOOL], seed=1)
            assert (told.content, told.finish_reason, told.model) == ("It rains.", "stop", "haiku")
            assert told.cost_usd
            assert told.attempts[0].dropped == ("seed",)
            server.state.scenarios.add(Fail(529, times=None))
            with pytest.raises(errors.AllProvidersFailed) as failed:
                await client.call("haiku", [question])
            assert {row.outcome for row in failed.value.attempts} == {"server_error"}
        seen = [record.body for record in server.state.journal.records()]
    assert seen[1]["messages"][2]["content"][0]["tool_use_id"] == tool["id"]


def test_sealed_thinking_goes_back_as_it_came() -> None:
    """Every sealed block, redacted ones too, is what the next request replays, in order; an unsealed one is not."""
    first = {"type": "thinking", "thinking": "Ulm is wet.", "signature": "c2VhbA=="}
    hidden = {"type": "redacted_thinking", "data": "EmwKAhgB"}
    last = {"type": "thinking", "thinking": "", "signature": "b21pdHRlZA=="}
    unsealed = {"type": "thinking", "thinking": " Hm.", "signature": ""}
    text = {"type": "text", "text": "It rains."}
    answer = CODEC.decode(body(content=[first, hidden, unsealed, last, text]), ROW)
    assert answer.reasoning == "Ulm is wet. Hm."
    assert answer.thinking_blocks == (first, hidden, last)
    turn = {
        "role": "assistant",
        "content": answer.content,
        "reasoning_content": answer.reasoning,
        "thinking_blocks": list(answer.thinking_blocks),
    }
    request, dropped = sent(
        {"role": "user", "content": "Ulm?"}, turn, {"role": "user", "content": "And now?"}
    )
    assert request["messages"][1]["content"] == [first, hidden, last, text]
    assert dropped == ("reasoning_content",)
