"""Options on Anthropic's wire: their names and shapes there, and what gives way to what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.providers.anthropic_cases import CODEC, ROW, TOOL, call, sent

if TYPE_CHECKING:
    from turnout.types import Model


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


def test_what_else_stands_beside_a_function() -> None:
    """A field beside a tool's function that this wire has no place for is told."""
    request, dropped = sent(tools=[{"type": "function", "function": {"name": "now"}, "deferred": True}])
    assert request["tools"][0].keys() == {"name", "input_schema"}
    assert dropped == ("deferred",)


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
    ("thinking", "sealed", "expected", "dropped"),
    [
        ("low", [], "disabled", ("thinking",)),
        ("low", [{"type": "redacted_thinking", "data": "EmwK"}], "enabled", ()),
        (True, [], "adaptive", ()),
    ],
)
def test_thinking_with_foreign_tool_calls(
    thinking: Any, sealed: list[Any], expected: str, dropped: tuple[str, ...]
) -> None:
    """A budget of thinking wants the thinking behind every tool call: without it thinking is off, and told."""
    function = {"name": "f", "arguments": "{}"}
    request, told = sent(
        {
            "role": "assistant",
            "tool_calls": [{"id": "t", "function": function}],
            "thinking_blocks": sealed,
        },
        {"role": "tool", "tool_call_id": "t", "content": "a"},
        thinking=thinking,
    )
    assert request["thinking"]["type"] == expected
    assert told == dropped


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
ABLE = msgspec.structs.replace(ROW, capabilities=ROW.capabilities | {"json_schema"})


@pytest.mark.parametrize(
    ("described", "dropped"),
    [
        ({"name": "answer", "schema": SCHEMA, "strict": True}, ()),
        ({"name": "answer", "schema": SCHEMA}, ()),
        ({"name": "sum", "schema": SCHEMA}, ("response_format.name",)),
        (
            {"name": "answer", "schema": SCHEMA, "strict": False, "description": "A sum."},
            ("response_format.strict", "response_format.description"),
        ),
    ],
)
def test_a_schema_for_the_answer(described: dict[str, Any], dropped: tuple[str, ...]) -> None:
    """A row that can has the schema in output_config.format, beside its effort; what else is said of it is told."""
    wanted = {"type": "json_schema", "json_schema": described}
    request, told = sent(row=ABLE, response_format=wanted, thinking="high")
    expected = {"effort": "xhigh", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert request["output_config"] == expected
    assert "response_format" not in request
    assert told == dropped


@pytest.mark.parametrize(
    ("row", "wanted", "dropped"),
    [
        (
            ROW,
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
            ("response_format",),
        ),
        (ABLE, {"type": "json_schema"}, ("response_format",)),
        (ABLE, {"type": "json_object"}, ("response_format",)),
        (ABLE, {"type": "text"}, ()),
    ],
)
def test_formats_beyond_this_wire(row: Model, wanted: dict[str, Any], dropped: tuple[str, ...]) -> None:
    """JSON without a schema is not on this wire, nor a schema on every row: told. Text is what comes anyway."""
    request, told = sent(row=row, response_format=wanted)
    assert set(request) == {"model", "messages", "max_tokens"}
    assert told == dropped


def test_a_schema_outlives_thinking() -> None:
    """Where thinking gives way its effort goes too, and the schema stays."""
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    request, told = sent(
        row=ABLE, response_format=wanted, thinking="high", tools=[TOOL], tool_choice="required"
    )
    assert request["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert told == ("thinking",)


@pytest.mark.parametrize(
    ("options", "choice", "dropped"),
    [
        ({"tools": [TOOL]}, {"type": "auto", "disable_parallel_tool_use": True}, ()),
        (
            {"tools": [TOOL], "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
            (),
        ),
        ({"tools": [TOOL], "tool_choice": "none"}, {"type": "none"}, ("parallel_tool_calls",)),
        ({}, None, ("parallel_tool_calls",)),
    ],
)
def test_one_tool_at_a_time(options: dict[str, Any], choice: Any, dropped: tuple[str, ...]) -> None:
    """OpenAI's parallel_tool_calls = false is part of the choice here; without a choice to make it is told."""
    request, told = sent(**options, extra={"parallel_tool_calls": False})
    assert request.get("tool_choice") == choice
    assert "parallel_tool_calls" not in request
    assert told == dropped


def test_fields_of_openais_alone() -> None:
    """Fields that only OpenAI's body knows are answered by 400 here: left away and told; all others go as they are."""
    extra = {"presence_penalty": 1, "n": 1, "parallel_tool_calls": True, "top_p": 0.5, "service_tier": "auto"}
    request, told = sent(extra=extra)
    assert request.keys() == {"model", "messages", "max_tokens", "top_p", "service_tier"}
    assert told == ("n", "presence_penalty")


def test_a_stream_is_asked_for() -> None:
    """A streamed call differs from a plain one by its `stream` and nothing else; usage comes unasked."""
    plain, streamed = CODEC.encode(call(), ROW)[0], CODEC.encode(call(), ROW, stream=True)[0]
    assert msgspec.json.decode(streamed) == msgspec.json.decode(plain) | {"stream": True}
