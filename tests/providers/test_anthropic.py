"""Anthropic's Messages wire, from recorded bodies and against a server that speaks it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmock.scenarios import Fail, Reply, ToolCall
from llmock.testing import LLMockServer

from turnout import errors
from turnout.providers.anthropic import AnthropicCodec
from turnout.types import Call, Model, Options, Scope, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeClient

CODEC = AnthropicCodec()
PNG = "iVBORw0KGgo="
ROW = Model(
    name="claude-haiku",
    provider="anthropic",
    upstream="claude-haiku-5-5",
    context_window=1_000_000,
    max_output=128_000,
    default_output=4_096,
    capabilities=frozenset({"tools", "vision", "thinking"}),
    thinking={
        "off": {"thinking": {"type": "disabled"}},
        "on": {"thinking": {"type": "adaptive"}},
        "high": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}},
        "low": {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
    },
)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}


def call(*messages: dict[str, Any], **options: Any) -> Call:
    """A call with these messages and options."""
    history = list(messages) or [{"role": "user", "content": "hi"}]
    return Call(
        id="c",
        messages=msgspec.json.encode(history),
        options=Options(**options),
        scope=Scope(agent="dojo"),
    )


def sent(
    *messages: dict[str, Any], row: Model = ROW, **options: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that is sent, read back, and what was dropped."""
    encoded, dropped = CODEC.encode(call(*messages, **options), row)
    return json.loads(encoded), dropped


def body(**changes: Any) -> bytes:
    """A message as api.anthropic.com sends it, with changes."""
    message: dict[str, Any] = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 21,
            "cache_creation_input_tokens": 100,
            "cache_read_input_tokens": 1_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 40,
            "output_tokens_details": {"thinking_tokens": 30},
            "service_tier": "standard",
        },
    }
    return msgspec.json.encode(message | changes)


def error(kind: str, message: str) -> bytes:
    """An error as api.anthropic.com sends it."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
        }
    )


# The request.


def test_a_plain_call() -> None:
    """Model, the row's bound on the output and the text go out; a system message is a field of its own."""
    request, dropped = sent(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Very.", "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "assistant", "content": "Hello."},
    )
    assert request == {
        "model": "claude-haiku-5-5",
        "max_tokens": 4_096,
        "system": [
            {"type": "text", "text": "Be brief."},
            {"type": "text", "text": "Very.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
        ],
    }
    assert dropped == ()


def test_tool_calls_and_their_results() -> None:
    """Tool calls become tool_use with their own JSON, and consecutive results share one user turn."""
    request, dropped = sent(
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Ulm"}'},
                },
                {"id": "t2", "type": "function", "function": {"name": "time", "arguments": ""}},
                {"id": "t3", "type": "function", "function": {"name": "time", "arguments": {"zone": "CET"}}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "name": "weather", "content": "rain"},
        {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "tool", "tool_call_id": "t3", "content": None},
        {"role": "user", "content": "Thanks."},
    )
    asked, answered, thanked = request["messages"][1:]
    assert asked["content"] == [
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}},
        {"type": "tool_use", "id": "t2", "name": "time", "input": {}},
        {"type": "tool_use", "id": "t3", "name": "time", "input": {"zone": "CET"}},
    ]
    assert answered == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "noon"}]},
            {"type": "tool_result", "tool_use_id": "t3", "content": ""},
        ],
    }
    assert thanked["content"] == [{"type": "text", "text": "Thanks."}]
    assert dropped == ()


@pytest.mark.parametrize("arguments", ["{", "[1]", "NaN", '{"a": NaN}', "[" * 5_000])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """Anthropic takes only objects: what another model wrote instead is kept as text, and that is told."""
    function = {"name": "f", "arguments": arguments}
    request, dropped = sent({"role": "assistant", "tool_calls": [{"id": "t", "function": function}]})
    assert request["messages"][0]["content"][0]["input"] == {"arguments": arguments}
    assert dropped == ("arguments",)


def test_ids_of_other_vendors() -> None:
    """Moonshot's tool ids hold characters Anthropic refuses: call and result get the same lawful id."""
    request, _ = sent(
        {"role": "assistant", "tool_calls": [{"id": "functions.f:0", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "a"},
    )
    ids = request["messages"][0]["content"][0]["id"], request["messages"][1]["content"][0]["tool_use_id"]
    assert ids == ("functions-2e-f-3a-0",) * 2


@pytest.mark.parametrize(
    ("part", "source"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "base64", "media_type": "image/png", "data": PNG},
        ),
        (
            {
                "type": "image_url",
                "image_url": {"url": f"DATA:image/PNG;name=a;BASE64,{PNG}", "detail": "auto"},
            },
            {"type": "base64", "media_type": "image/png", "data": PNG},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a,b.png"}},
            {"type": "url", "url": "https://example.com/a,b.png"},
        ),
        (
            {"type": "input_image", "image_url": "http://example.com/a.png"},
            {"type": "url", "url": "http://example.com/a.png"},
        ),
    ],
)
def test_images(part: dict[str, Any], source: dict[str, str]) -> None:
    """A data URL becomes a base64 source, any other a url source, in user turns and in tool results."""
    request, dropped = sent(
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]},
        {"role": "tool", "tool_call_id": "t", "content": [part]},
    )
    image = {"type": "image", "source": source}
    assert request["messages"][0]["content"] == [{"type": "text", "text": "What is it?"}, image]
    assert request["messages"][1]["content"][0]["content"] == [image]
    assert dropped == ()


def test_what_is_native_passes() -> None:
    """Parts, tools and choices in Anthropic's own shape go out as they are, and a cache mark stays on its image."""
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}
    mark = {"type": "ephemeral"}
    image = {"type": "image_url", "image_url": {"url": "https://a/b"}, "cache_control": mark}
    search = {"type": "web_search_20250305", "name": "web_search"}
    request, dropped = sent(
        {"role": "user", "content": [document, image]}, tools=[search], tool_choice={"type": "any"}
    )
    assert request["messages"][0]["content"] == [
        document,
        {"type": "image", "source": {"type": "url", "url": "https://a/b"}, "cache_control": mark},
    ]
    assert (request["tools"], request["tool_choice"]) == ([search], {"type": "any"})
    assert dropped == ()


def test_blank_text_is_not_sent() -> None:
    """Anthropic answers 400 to a blank text block or an empty turn: neither is sent."""
    request, _ = sent(
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": " \n"}, {"type": "text", "text": "Hi."}]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "There?"},
    )
    assert "system" not in request
    assert [turn["role"] for turn in request["messages"]] == ["user", "user"]
    assert request["messages"][0]["content"] == [{"type": "text", "text": "Hi."}]


def test_a_refusal_in_the_history() -> None:
    """A refusal, as field or as part, is text of the assistant's."""
    request, _ = sent(
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
    )
    assert [turn["content"][0]["text"] for turn in request["messages"]] == ["No.", "Never."]


def test_signed_thinking_is_replayed() -> None:
    """Thinking that Anthropic signed goes back first in its turn; another vendor's stays behind and is told."""
    request, dropped = sent(
        {"role": "assistant", "content": "a", "reasoning_content": "r", "reasoning_signature": "s=="},
        {"role": "assistant", "content": "b", "reasoning_signature": "t=="},
        {"role": "assistant", "content": "c", "reasoning_content": "foreign"},
    )
    assert [turn["content"][0] for turn in request["messages"]] == [
        {"type": "thinking", "thinking": "r", "signature": "s=="},
        {"type": "thinking", "thinking": "", "signature": "t=="},
        {"type": "text", "text": "c"},
    ]
    assert dropped == ("reasoning_content",)


def test_what_has_no_place_is_told() -> None:
    """A speaker's name, an image's detail, seed and response_format are not on this wire; each is told once."""
    image = {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "high"}}
    request, dropped = sent(
        {"role": "user", "name": "Ann", "content": "Hi."},
        {"role": "user", "name": "Bob", "content": [image]},
        seed=0,
        response_format={"type": "json_object"},
    )
    assert set(request) == {"model", "messages", "max_tokens"}
    assert dropped == ("response_format", "seed", "name", "detail")


def test_options() -> None:
    """max_tokens, stop, tools and temperature get Anthropic's names and shapes, and extra fields win."""
    request, dropped = sent(
        max_tokens=7, temperature=0.5, stop="END", tools=[TOOL], extra={"top_k": 5, "max_tokens": 8}
    )
    assert (request["max_tokens"], request["temperature"], request["top_k"]) == (8, 0.5, 5)
    assert request["stop_sequences"] == ["END"]
    assert request["tools"] == [
        {
            "name": "weather",
            "description": "The weather somewhere.",
            "strict": True,
            "input_schema": TOOL["function"]["parameters"],  # type: ignore[index]  # a literal above
        }
    ]
    assert dropped == ()


def test_a_tool_without_parameters() -> None:
    """A tool that takes nothing still has a schema, which Anthropic requires."""
    request, _ = sent(tools=[{"type": "function", "function": {"name": "now"}}])
    assert request["tools"] == [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]


def test_options_beyond_this_wire() -> None:
    """A temperature above 1 becomes 1 and blank stop words stay away, both told; the row's drops hold too."""
    request, dropped = sent(temperature=1.5, stop=["\n", "END"])
    assert (request["temperature"], request["stop_sequences"]) == (1, ["END"])
    assert dropped == ("temperature", "stop")
    request, dropped = sent(temperature=0.5, row=msgspec.structs.replace(ROW, drops=("temperature",)))
    assert "temperature" not in request
    assert dropped == ("temperature",)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("odd", {"type": "odd"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_tool_choice(choice: Any, expected: dict[str, str]) -> None:
    """Each of OpenAI's choices has its twin; what is none of them is left to Anthropic to refuse."""
    assert sent(tools=[TOOL], tool_choice=choice)[0]["tool_choice"] == expected


@pytest.mark.parametrize(
    ("options", "thinking", "temperature", "dropped"),
    [
        ({"thinking": True}, "adaptive", None, ()),
        ({"thinking": False, "temperature": 0.5}, "disabled", 0.5, ()),
        ({"thinking": True, "temperature": 0.5}, "adaptive", None, ("temperature",)),
        ({"thinking": True, "tools": [TOOL], "tool_choice": "auto"}, "adaptive", None, ()),
        ({"thinking": True, "tools": [TOOL], "tool_choice": "required"}, "disabled", None, ("thinking",)),
        ({"thinking": "max"}, None, None, ("thinking",)),
    ],
)
def test_thinking(
    options: dict[str, Any], thinking: str | None, temperature: float | None, dropped: tuple[str, ...]
) -> None:
    """Thinking is the row's fields; it gives way to a forced tool, and temperature to it, and that is told."""
    request, told = sent(**options)
    assert request.get("thinking", {}).get("type") == thinking
    assert request.get("temperature") == temperature
    assert told == dropped


def test_effort_goes_with_thinking() -> None:
    """Effort is the row's field too, and leaves with the thinking that gives way: Anthropic refuses it alone."""
    assert sent(thinking="high")[0]["output_config"] == {"effort": "xhigh"}
    assert "output_config" not in sent(thinking="high", tools=[TOOL], tool_choice="required")[0]


@pytest.mark.parametrize(
    ("thinking", "signature", "expected", "dropped"),
    [
        ("low", None, "disabled", ("thinking",)),
        ("low", "s==", "enabled", ()),
        (True, None, "adaptive", ()),
    ],
)
def test_thinking_with_foreign_tool_calls(
    thinking: Any, signature: str | None, expected: str, dropped: tuple[str, ...]
) -> None:
    """A budget of thinking wants the thinking behind every tool call: without it thinking is off, and told."""
    function = {"name": "f", "arguments": "{}"}
    request, told = sent(
        {
            "role": "assistant",
            "tool_calls": [{"id": "t", "function": function}],
            **({"reasoning_signature": signature} if signature else {}),
        },
        {"role": "tool", "tool_call_id": "t", "content": "a"},
        thinking=thinking,
    )
    assert request["thinking"]["type"] == expected
    assert told == dropped


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([{"role": "assistant", "tool_calls": [{"function": "f"}, {}]}], {}),
        ([{"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": 5, "arguments": 5}}]}], {}),
        ([{"role": "assistant", "refusal": 5}, {"role": "tool"}, {"role": "function", "name": "f"}], {}),
        ([{"role": "user", "content": [{}, {"type": 5}, {"type": "image_url"}, {"type": "text"}]}], {}),
        ([{"role": "user"}], {"tools": ["f", {"function": 5}], "tool_choice": {"function": 5}, "stop": [5]}),
    ],
)
def test_nonsense_is_left_to_anthropic(messages: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """What is in nobody's shape is sent for Anthropic to refuse; it never breaks the encoder."""
    assert sent(*messages, **options)[0]["model"] == ROW.upstream


# Any history, there and back.

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
IDS = st.text("abcXYZ019_-", min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
URLS = st.sampled_from(["https://example.com/a.png", "http://b/c?d=e,f"]) | st.binary().map(
    lambda raw: f"data:image/png;base64,{raw.hex()}"
)
TEXT_PARTS = TEXTS.map(lambda text: {"type": "text", "text": text})
IMAGES = URLS.map(lambda url: {"type": "image_url", "image_url": {"url": url}})
USERS = st.fixed_dictionaries(
    {
        "role": st.just("user"),
        "content": TEXTS | st.lists(TEXT_PARTS | IMAGES, min_size=1, max_size=3),
    },
    optional={"name": IDS},
)
SYSTEMS = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": TEXTS})
CALLS = st.fixed_dictionaries(
    {
        "id": IDS,
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": IDS, "arguments": st.dictionaries(TEXTS, VALUES, max_size=3).map(json.dumps)}
        ),
    }
)
ASSISTANTS = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXTS},
    optional={"tool_calls": st.lists(CALLS, min_size=1, max_size=3), "reasoning_content": TEXTS},
)
RESULTS = st.fixed_dictionaries(
    {
        "role": st.just("tool"),
        "tool_call_id": IDS,
        "content": TEXTS | st.lists(TEXT_PARTS | IMAGES, min_size=1),
    }
)
HISTORIES = st.lists(SYSTEMS | USERS | ASSISTANTS | RESULTS, min_size=1, max_size=8)
Fact = tuple[Any, ...]


def facts_of_parts(who: str, content: Any) -> list[Fact]:
    """What OpenAI-shaped content says."""
    if isinstance(content, str):
        return [(who, "text", content)]
    return [
        (who, "text", p["text"]) if "text" in p else (who, "image", p["image_url"]["url"])
        for p in content or ()
    ]


def facts_of_history(history: list[dict[str, Any]]) -> list[Fact]:
    """What an OpenAI-shaped history says, in order, system first."""
    systems, facts = [], []
    for turn in history:
        role = turn["role"]
        if role in {"system", "developer"}:
            systems += facts_of_parts("system", turn["content"])
        elif role == "tool":
            facts += [("result", turn["tool_call_id"]), *facts_of_parts("result", turn["content"])]
        else:
            facts += facts_of_parts(role, turn["content"])
            for tool in turn.get("tool_calls", ()):
                function = tool["function"]
                facts.append(("call", tool["id"], function["name"], json.loads(function["arguments"])))
    return systems + facts


def facts_of_block(who: str, block: dict[str, Any]) -> list[Fact]:
    """What one of Anthropic's blocks says."""
    match block:
        case {"type": "text", "text": text}:
            return [(who, "text", text)]
        case {"type": "image", "source": {"type": "url", "url": url}}:
            return [(who, "image", url)]
        case {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}:
            return [(who, "image", f"data:{kind};base64,{data}")]
        case {"type": "tool_use", "id": tool_id, "name": name, "input": value}:
            return [("call", tool_id, name, value)]
        case {"type": "tool_result", "tool_use_id": tool_id, "content": str(text)}:
            return [("result", tool_id), ("result", "text", text)]
        case {"type": "tool_result", "tool_use_id": tool_id, "content": inner}:
            return [("result", tool_id), *(fact for part in inner for fact in facts_of_block("result", part))]
    raise AssertionError(block)


@given(HISTORIES)
def test_nothing_of_a_history_is_lost(history: list[dict[str, Any]]) -> None:
    """Texts, images, tool ids, names and arguments can be read back in order; what cannot is told as dropped."""
    request, dropped = sent(*history)
    read = [fact for block in request.get("system", ()) for fact in facts_of_block("system", block)]
    for turn in request["messages"]:
        read += [fact for block in turn["content"] for fact in facts_of_block(turn["role"], block)]
    assert read == facts_of_history(history)
    told = {field for turn in history for field in ("name", "reasoning_content") if field in turn}
    assert set(dropped) == told


@given(HISTORIES)
def test_results_share_a_turn(history: list[dict[str, Any]]) -> None:
    """No turn is empty, and no two turns of tool results follow each other."""
    turns = sent(*history)[0]["messages"]
    assert all(turn["content"] for turn in turns)
    of_results = [turn["content"][0]["type"] == "tool_result" for turn in turns]
    assert not any(a and b for a, b in pairwise(of_results))


# The reply.


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


# A server that speaks it.

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


def test_sealed_thinking_goes_back_as_it_came(models: dict[str, Model]) -> None:
    """A reply's one thinking block, with its seal, is what the next request replays; several cannot be told apart."""
    row = models["claude-haiku-5-5"]
    thought = {"type": "thinking", "thinking": "Ulm is wet.", "signature": "c2VhbA=="}
    blocks = [thought, {"type": "text", "text": "It rains."}]
    reply = {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": blocks,
        "stop_reason": "end_turn",
    }
    answer = CODEC.decode(msgspec.json.encode(reply), row)
    assert (answer.reasoning, answer.reasoning_signature) == ("Ulm is wet.", "c2VhbA==")
    turn = {
        "role": "assistant",
        "content": answer.content,
        "reasoning_content": answer.reasoning,
        "reasoning_signature": answer.reasoning_signature,
    }
    history = [{"role": "user", "content": "Ulm?"}, turn, {"role": "user", "content": "And now?"}]
    options = Options(thinking=True)
    call = Call(id="c", messages=msgspec.json.encode(history), options=options, scope=Scope(agent="dojo"))
    sent = msgspec.json.decode(CODEC.encode(call, row)[0])
    assert sent["messages"][1]["content"] == blocks
    twice = CODEC.decode(msgspec.json.encode(reply | {"content": [thought, *blocks]}), row)
    assert twice.reasoning_signature is None
