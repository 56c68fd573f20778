"""OpenAI's chat wire, from recorded bodies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from turnout import errors
from turnout.providers.openai import OpenAICodec
from turnout.providers.sse import Event
from turnout.types import Call, Model, Options, Scope, Usage

CODEC = OpenAICodec()


def call(messages: bytes = b'[{"role":"user","content":"hi"}]', **options: Any) -> Call:
    """A call with these options."""
    return Call(id="c", messages=messages, options=Options(**options), scope=Scope(agent="dojo"))


def body(**changes: Any) -> bytes:
    """A completion as api.openai.com sends it, with changes."""
    completion: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello."},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }
    return msgspec.json.encode(completion | changes)


def choice(finish: str | None = "stop", **message: Any) -> bytes:
    """A completion with this one choice."""
    return body(choices=[{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}])


def test_encode_passes_messages_untouched(models: dict[str, Model]) -> None:
    """The caller's message bytes go out as they came, odd spacing and all."""
    odd = b'[ {"content" : "hi",  "role":"user"} ]'
    encoded, dropped = CODEC.encode(call(odd, temperature=0.5, max_tokens=7), models["gpt-4o"])
    assert encoded == b'{"model":"gpt-4o","messages":' + odd + b',"temperature":0.5,"max_tokens":7}'
    assert dropped == ()


def test_encode_drops_and_renames_as_the_row_says(models: dict[str, Model]) -> None:
    """luna gets max_completion_tokens, effort none and no temperature, and the drop is told."""
    encoded, dropped = CODEC.encode(call(temperature=0.5, max_tokens=7), models["gpt-6-luna"])
    sent = msgspec.json.decode(encoded)
    assert (sent["max_completion_tokens"], sent["reasoning_effort"]) == (7, "none")
    assert "temperature" not in sent
    assert "max_tokens" not in sent
    assert dropped == ("temperature",)


@pytest.mark.parametrize(
    ("model", "thinking", "effort", "dropped"),
    [
        ("gpt-6-luna", True, "medium", ()),
        ("gpt-6-luna", "high", "high", ()),
        ("gpt-6-luna", False, "none", ()),
        ("gpt-4o", True, None, ("thinking",)),
        ("gpt-4o", False, None, ()),
    ],
)
def test_thinking_is_the_rows_fields(
    models: dict[str, Model], model: str, thinking: Any, effort: str | None, dropped: tuple[str, ...]
) -> None:
    """Options.thinking becomes the row's own fields, or is left away and told where the model has none."""
    encoded, told = CODEC.encode(call(thinking=thinking), models[model])
    assert msgspec.json.decode(encoded).get("reasoning_effort") == effort
    assert told == dropped


def test_extra_fields_win(models: dict[str, Model]) -> None:
    """Fields in `extra` go into the body as they are, over the row's."""
    encoded, _ = CODEC.encode(call(extra={"reasoning_effort": "low", "top_p": 0.9}), models["gpt-6-luna"])
    sent = msgspec.json.decode(encoded)
    assert (sent["reasoning_effort"], sent["top_p"]) == ("low", 0.9)


def test_deepseeks_reasoning_is_not_sent_to_openai(models: dict[str, Model]) -> None:
    """OpenAI refuses unknown message fields: reasoning_content stays behind, the rest of the turn goes."""
    turn = b'{"role":"assistant","content":"a","reasoning_content":"r","thinking_blocks":"s"}'
    history = b"[" + turn + b',{"role":"user","content":"hi"}]'
    encoded, _ = CODEC.encode(call(history), models["gpt-4o"])
    assert msgspec.json.decode(encoded)["messages"][0] == {"role": "assistant", "content": "a"}


def test_decode(models: dict[str, Model]) -> None:
    """Text, finish reason, the provider's own name and every token count arrive."""
    answer = CODEC.decode(body(), models["gpt-4o-mini"])
    assert (answer.content, answer.finish_reason, answer.upstream_model) == (
        "Hello.",
        "stop",
        "gpt-4o-mini-2024-07-18",
    )
    assert answer.usage == Usage(input_tokens=19, cached_input_tokens=4, output_tokens=10, reasoning_tokens=3)


def test_decode_tool_calls_and_refusals(models: dict[str, Model]) -> None:
    """Tool calls without text are an answer, a refusal is text, and both names of reasoning are read."""
    tool = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row = models["gpt-4o"]
    assert CODEC.decode(choice("tool_calls", content=None, tool_calls=[tool]), row).tool_calls == (tool,)
    assert CODEC.decode(choice(content=None, refusal="I can't."), row).content == "I can't."
    assert CODEC.decode(choice(content="a", reasoning="because"), row).reasoning == "because"
    assert CODEC.decode(choice("length", content=""), row).finish_reason == "length"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", errors.BlankReply),
        (b" \n\n ", errors.BlankReply),
        (choice(content=""), errors.BlankReply),
        (choice(content="   "), errors.BlankReply),
        (b"<!DOCTYPE html><html>", errors.HtmlReply),
        (b"{", errors.MalformedReply),
        (b"[]", errors.MalformedReply),
        (b"\xff\xfe", errors.MalformedReply),
        (b"{}", errors.MalformedReply),
        (body(choices=[]), errors.MalformedReply),
        (choice(None, content="half"), errors.MalformedReply),
        (choice("insufficient_system_resource", content="half"), errors.ServerFault),
        (b'{"error":{"message":"overloaded","code":529}}', errors.ServerFault),
        (b'{"error":{"message":"slow down","code":429}}', errors.RateLimited),
        (b'{"error":"boom"}', errors.ServerFault),
    ],
)
def test_a_200_that_is_no_answer(models: dict[str, Model], reply: bytes, error: type[Exception]) -> None:
    """Blank, page, half or in-band error under a 200 is never passed off as an answer."""
    with pytest.raises(error):
        CODEC.decode(reply, models["gpt-4o"])


def test_keep_alive_blank_lines(models: dict[str, Model]) -> None:
    """DeepSeek's blank lines before the JSON (rate_limit page, 2026-10) do not spoil it."""
    assert CODEC.decode(b"\n\n\n" + body(), models["gpt-4o"]).content == "Hello."


@pytest.mark.parametrize("bad", ["NaN", "-5", '"12"', "1.5", "1000000000000000000", "true", "null"])
def test_a_count_that_cannot_be_one(models: dict[str, Model], bad: str) -> None:
    """A usage that is no count becomes None, which is not 0, and the answer stands."""
    answer = CODEC.decode(
        body().replace(b'"prompt_tokens":19', b'"prompt_tokens":' + bad.encode()), models["gpt-4o"]
    )
    assert answer.content == "Hello."
    assert answer.usage.input_tokens is None


def test_no_usage_at_all(models: dict[str, Model]) -> None:
    """A reply without usage has unknown tokens."""
    assert CODEC.decode(body(usage=None), models["gpt-4o"]).usage == Usage()


@pytest.mark.parametrize(
    ("report", "nano"),
    [
        ({"cost": 0.000039, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.000039}}, 39_000),
        ({"cost": 0.000002, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.00004}}, 42_000),
        ({"cost": 0}, 0),
        ({"cost": 1e-10}, 0),
        ({"cost": 0.000002, "is_byok": True, "cost_details": {}}, None),
        ({"cost": "0.01"}, None),
        ({"cost": True}, None),
        ({"cost": -1}, None),
        ({"cost": 10**9}, None),
        ({}, None),
    ],
)
def test_what_the_provider_charged(
    models: dict[str, Model], report: dict[str, Any], nano: int | None
) -> None:
    """OpenRouter's own figure is the cost, its fee and the host's bill together; no other row's is believed."""
    tokens = {"prompt_tokens": 5, "completion_tokens": 2}
    answer = CODEC.decode(body(usage=tokens | report), models["openrouter-auto"])
    assert answer.usage == Usage(input_tokens=5, output_tokens=2, cost_nano=nano)
    event = msgspec.json.encode({"choices": [], "usage": tokens | report})
    decoder = CODEC.decoder(models["openrouter-auto"])
    decoder.feed(Event(event))
    assert decoder.usage == answer.usage
    assert CODEC.decode(body(usage=tokens | report), models["gpt-4o"]).usage.cost_nano is None


def test_stop_beside_tool_calls(models: dict[str, Model]) -> None:
    """A stop that comes with tool calls is `tool_calls`, as Gemini's compatible endpoint means it."""
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    answer = CODEC.decode(choice("stop", tool_calls=calls), models["gpt-4o-mini"])
    assert answer.finish_reason == "tool_calls"
