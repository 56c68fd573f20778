"""An OpenAI-shaped history on Anthropic's wire: what goes over, what does not, and that this is told."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given

from tests.providers.anthropic_cases import HISTORIES, PNG, ROW, sent


def test_a_plain_call() -> None:
    """Model, bound and text go out; system messages stand above the turns, and one that came later loses its place."""
    request, dropped = sent(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Very.", "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "assistant", "content": "Hello."},
    )
    assert dropped == ("order",)
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


def test_marks_stay_where_they_can() -> None:
    """A cache mark stays on text, image, call and tool; inside a result it moves up to the result."""
    mark = {"cache_control": {"type": "ephemeral"}}
    function = {"name": "f", "arguments": "{}"}
    request, dropped = sent(
        {"role": "user", "content": [{"type": "text", "text": "a", **mark}]},
        {"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": function, **mark}]},
        {"role": "tool", "tool_call_id": "t", "content": [{"type": "text", "text": "b", **mark}]},
        tools=[{"type": "function", "function": {"name": "f"}, **mark}],
    )
    text, call, result = (turn["content"][0] for turn in request["messages"])
    assert text == {"type": "text", "text": "a", **mark}
    assert call == {"type": "tool_use", "id": "t", "name": "f", "input": {}, **mark}
    assert result == {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "b"}],
        **mark,
    }
    assert request["tools"][0]["cache_control"] == mark["cache_control"]
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
    """Anthropic answers 400 to a blank text block or an empty turn: neither is sent, and whitespace is told."""
    request, dropped = sent(
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": " \n"}, {"type": "text", "text": "Hi."}]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "There?"},
    )
    assert "system" not in request
    assert dropped == ("blank_text",)
    assert sent({"role": "user", "content": ""})[1] == ()
    assert [turn["role"] for turn in request["messages"]] == ["user", "user"]
    assert request["messages"][0]["content"] == [{"type": "text", "text": "Hi."}]


def test_a_refusal_in_the_history() -> None:
    """A refusal, as field or as part, is text of the assistant's, and that it was one is told as lost."""
    request, dropped = sent(
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
    )
    assert [turn["content"][0]["text"] for turn in request["messages"]] == ["No.", "Never."]
    assert dropped == ("refusal",)


def test_sealed_thinking_is_replayed() -> None:
    """Sealed blocks go back first in their turn, as they are; another vendor's thinking stays behind and is told."""
    thought = {"type": "thinking", "thinking": "r", "signature": "s=="}
    hidden = {"type": "redacted_thinking", "data": "EmwK"}
    request, dropped = sent(
        {"role": "assistant", "content": "a", "reasoning_content": "r", "thinking_blocks": [thought, hidden]},
        {"role": "assistant", "content": "b", "thinking_blocks": [hidden]},
    )
    assert [turn["content"][:-1] for turn in request["messages"]] == [[thought, hidden], [hidden]]
    assert dropped == ()
    request, dropped = sent({"role": "assistant", "content": "c", "reasoning_content": "foreign"})
    assert request["messages"][0]["content"] == [{"type": "text", "text": "c"}]
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
    assert dropped == ("seed", "response_format", "name", "detail")


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([{"role": "assistant", "tool_calls": [{"function": "f"}, {}]}], {}),
        ([{"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": 5, "arguments": 5}}]}], {}),
        ([{"role": "assistant", "refusal": 5}, {"role": "tool"}, {"role": "function", "name": "f"}], {}),
        ([{"role": "user", "content": [{}, {"type": 5}, {"type": "image_url"}, {"type": "text"}]}], {}),
        (
            [{"role": "assistant", "thinking_blocks": 5, "content": None}, {"role": "user", "content": "a"}],
            {},
        ),
        ([{"role": "user"}], {"tools": ["f", {"function": 5}], "tool_choice": {"function": 5}, "stop": [5]}),
    ],
)
def test_nonsense_is_left_to_anthropic(messages: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """What is in nobody's shape is sent for Anthropic to refuse; it never breaks the encoder."""
    assert sent(*messages, **options)[0]["model"] == ROW.upstream


@given(HISTORIES)
def test_results_share_a_turn(history: list[dict[str, Any]]) -> None:
    """No turn is empty, and no two turns of tool results follow each other."""
    turns = sent(*history)[0]["messages"]
    assert all(turn["content"] for turn in turns)
    of_results = [turn["content"][0]["type"] == "tool_result" for turn in turns]
    assert not any(a and b for a, b in pairwise(of_results))
