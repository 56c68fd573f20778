"""Requests of Anthropic's wire in our terms, and both ways round: what is not named as lost has survived."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.anthropic_cases import (
    CODEC,
    HISTORIES,
    IDS,
    MARKS,
    OBJECTS,
    ROW,
    SEALED,
    TEXTS,
    VISIBLE,
    Fact,
    canonical,
    history_facts,
    mark_fact,
    text_fact,
    without,
)
from turnout.errors import InvalidRequest
from turnout.providers.anthropic_history import Conversation
from turnout.providers.anthropic_messages import Inbound, read_request
from turnout.types import Call, Options, Scope

HI = [{"role": "user", "content": "Hi."}]
WIDE = msgspec.structs.replace(
    ROW,
    capabilities=ROW.capabilities | {"json_schema"},
    thinking={
        "off": {"thinking": {"type": "disabled"}},
        "on": {"thinking": {"type": "adaptive"}},
        **{
            effort: {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
            for effort in ("low", "high", "max")
        },
    },
)


def request(**fields: Any) -> Inbound:
    """A request with these fields, read with its marks."""
    return read_request({"model": "m", "max_tokens": 5, "messages": HI} | fields, marks=True)


def there_and_back(history: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """A history over Anthropic's wire and back, and what was named as lost either way."""
    there = Conversation(msgspec.json.encode(history))
    body = {"model": "m", "system": there.system, "messages": there.turns or HI}
    back = read_request(msgspec.json.decode(msgspec.json.encode(body)), marks=True)
    return back.messages if there.turns else back.messages[:-1], (*there.lost, *back.lost)


@given(HISTORIES)
def test_a_history_there_and_back(history: list[dict[str, Any]]) -> None:
    """OpenAI to Anthropic and back: what is not named survives, in order, and only what was there is named."""
    back, lost = there_and_back(history)
    hoisted = "order" in lost
    before = history_facts(history, hoisted=hoisted)
    assert without(history_facts(back, hoisted=hoisted), lost) == without(before, lost)
    assert set(lost) <= {label for label, _ in before} | {"order"}


# What Anthropic's clients send.

SEEN = {"content", "blank_text"}
BLOCK_MARK: dict[str, Any] = {"cache_control": MARKS}
TEXT_BLOCKS = st.fixed_dictionaries(
    {"type": st.just("text"), "text": TEXTS}, optional={**BLOCK_MARK, "citations": st.none() | st.just([{}])}
)
SOURCES = st.fixed_dictionaries(
    {"type": st.just("base64"), "media_type": st.just("image/png"), "data": IDS}
) | st.fixed_dictionaries({"type": st.just("url"), "url": IDS.map("https://example.com/{}".format)})
IMAGE_BLOCKS = st.fixed_dictionaries({"type": st.just("image"), "source": SOURCES}, optional=BLOCK_MARK)
NATIVE_BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["document", "search_result"]), "source": OBJECTS}, optional=BLOCK_MARK
) | st.fixed_dictionaries(
    {"type": st.just("image"), "source": st.just({"type": "file", "file_id": "file_1"})}, optional=BLOCK_MARK
)
RESULT_BLOCKS = st.fixed_dictionaries(
    {"type": st.just("tool_result"), "tool_use_id": IDS},
    optional={
        "content": VISIBLE
        | st.lists(
            st.fixed_dictionaries({"type": st.just("text"), "text": VISIBLE})
            | st.fixed_dictionaries({"type": st.just("image"), "source": SOURCES}),
            max_size=2,
        ),
        "is_error": st.booleans(),
        **BLOCK_MARK,
    },
)
USE_BLOCKS = st.fixed_dictionaries(
    {"type": st.just("tool_use"), "id": IDS, "name": IDS, "input": OBJECTS}, optional=BLOCK_MARK
)
UNSEALED = st.fixed_dictionaries({"type": st.just("thinking"), "thinking": VISIBLE, "signature": st.just("")})
SERVER_BLOCKS = st.fixed_dictionaries({"type": st.just("server_tool_use"), "id": IDS, "input": OBJECTS})
TURNS = st.fixed_dictionaries(
    {
        "role": st.just("user"),
        "content": TEXTS
        | st.lists(TEXT_BLOCKS | IMAGE_BLOCKS | NATIVE_BLOCKS | RESULT_BLOCKS, min_size=1, max_size=4),
    }
) | st.fixed_dictionaries(
    {
        "role": st.just("assistant"),
        "content": TEXTS
        | st.lists(SEALED | UNSEALED | TEXT_BLOCKS | USE_BLOCKS | SERVER_BLOCKS, min_size=1, max_size=5),
    }
)
TOOLS = st.fixed_dictionaries(
    {"name": IDS, "input_schema": st.just({"type": "object", "properties": {"a": {"type": "string"}}})},
    optional={
        "type": st.just("custom"),
        "description": VISIBLE,
        "strict": st.booleans(),
        "input_examples": st.just([{"a": "b"}]),
        **BLOCK_MARK,
    },
) | st.fixed_dictionaries(
    {"type": st.just("web_search_20250305"), "name": st.just("web_search")}, optional=BLOCK_MARK
)
CHOICES = st.fixed_dictionaries(
    {"type": st.sampled_from(["auto", "any", "none"])}, optional={"disable_parallel_tool_use": st.booleans()}
) | st.fixed_dictionaries(
    {"type": st.just("tool"), "name": IDS}, optional={"disable_parallel_tool_use": st.booleans()}
)
THINKING = st.sampled_from(
    [
        {"type": "disabled"},
        {"type": "adaptive"},
        {"type": "adaptive", "display": "omitted"},
        {"type": "enabled", "budget_tokens": 2_048},
    ]
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "effort": st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
        "format": st.just(
            {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
        ),
        "task_budget": st.just({"type": "tokens", "total": 5}),
    },
)
BODIES = st.fixed_dictionaries(
    {"model": IDS, "max_tokens": st.integers(1, 10**6), "messages": st.lists(TURNS, min_size=1, max_size=5)},
    optional={
        "system": VISIBLE | st.lists(TEXT_BLOCKS, min_size=1, max_size=3),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(1, 9),
        "stop_sequences": st.lists(VISIBLE, max_size=3),
        "tools": st.lists(TOOLS, min_size=1, max_size=3),
        "tool_choice": CHOICES,
        "thinking": THINKING,
        "output_config": CONFIGS,
        "metadata": st.fixed_dictionaries({}, optional={"user_id": IDS, "team": IDS}),
        "service_tier": st.just("auto"),
        "stream": st.booleans(),
    },
)


def body_facts(body: dict[str, Any]) -> list[Fact]:
    """What a Messages request says, in order."""
    facts = [
        (name, canonical(body[name]))
        for name in ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "service_tier")
        if body.get(name) is not None
    ]
    facts += [
        (f"metadata.{key}", value) for key, value in body.get("metadata", {}).items() if key != "user_id"
    ]
    facts += [fact for tool in body.get("tools", ()) for fact in tool_facts(tool)]
    choice = body.get("tool_choice")
    if choice:
        facts.append(("tool_choice", f"{choice['type']} {choice.get('name')}"))
        if choice.get("disable_parallel_tool_use"):
            facts.append(("parallel_tool_calls", "False"))
    facts += effort_facts(body.get("thinking") or {}, body.get("output_config") or {})
    facts += [fact for block in blocks(body.get("system") or []) for fact in block_facts("system", block)]
    for turn in body["messages"]:
        facts += assistant_facts(turn) if turn["role"] == "assistant" else user_facts(turn)
    return facts


def tool_facts(tool: dict[str, Any]) -> list[Fact]:
    """What a tool says of itself."""
    bare = {k: v for k, v in tool.items() if k not in {"cache_control", "input_examples"} and v != "custom"}
    examples = [("tools.input_examples", canonical(e)) for e in tool.get("input_examples", ())]
    return [("tools", canonical(bare)), *examples, *mark_fact(tool)]


def effort_facts(thinking: dict[str, Any], config: dict[str, Any]) -> list[Fact]:
    """Whether it thinks and how hard, and the rest of `output_config`."""
    effort, facts = config.get("effort"), []
    on = thinking.get("type") in {"adaptive", "enabled"}
    ours = on and effort in {"low", "high", "max"}
    if thinking:
        facts.append(("thinking", f"{on} {effort if ours else None}"))
    if effort and not ours:
        facts.append(("output_config.effort", effort))
    facts += [(f"thinking.{key}", canonical(thinking[key])) for key in thinking.keys() - {"type"}]
    if "format" in config:
        facts.append(("response_format", canonical(config["format"])))
    return facts + [("output_config.task_budget", "5")] * ("task_budget" in config)


def blocks(content: Any) -> list[dict[str, Any]]:
    """Content as blocks."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def block_facts(who: str, block: dict[str, Any]) -> list[Fact]:
    """What a block says. A mark on what is blank is lost with it."""
    if block["type"] == "text":
        label = "cache_control" if block["text"].strip() else "blank_text"
        cited = [("citations", canonical(block["citations"]))] if block.get("citations") else []
        return [*text_fact(who, block["text"]), *cited, *mark_fact(block, label)]
    if block["type"] == "tool_use":
        said = f"{who}: {block['id']} {block['name']} {canonical(block['input'])}"
        return [("tool_calls", said), *mark_fact(block)]
    if block["type"] == "tool_result":
        inner = [fact for part in blocks(block.get("content") or []) for fact in block_facts("result", part)]
        failed = [("is_error", "True")] if block.get("is_error") else []
        return [("tool", block["tool_use_id"]), *inner, *failed, *mark_fact(block)]
    bare = {key: value for key, value in block.items() if key != "cache_control"}
    return [("content", f"{who}: {canonical(bare)}"), *mark_fact(block)]


def user_facts(turn: dict[str, Any]) -> list[Fact]:
    """What a user's turn says."""
    return [fact for block in blocks(turn["content"]) for fact in block_facts("user", block)]


def assistant_facts(turn: dict[str, Any]) -> list[Fact]:
    """What an assistant's turn says; what can be seen of its texts is one text, where the first of them stands."""
    content = blocks(turn["content"])
    texts = [block for block in content if block["type"] == "text"]
    marked = any(block.get("cache_control") for block in texts)
    kept = [block["text"] for block in texts if block["text"].strip() or not marked]
    facts: list[Fact] = []
    for block in content:
        if block["type"] == "text":
            facts += text_fact("assistant", "".join(kept)) if block is texts[0] else []
            about = block_facts(block["text"], block)
            facts += [fact for fact in about if (fact[0] == "blank_text" and marked) or fact[0] not in SEEN]
        elif block["type"] == "server_tool_use":
            facts.append((block["type"], canonical(block)))
        elif block["type"] in {"thinking", "redacted_thinking"}:
            sealed = block.get("signature") or block.get("data")
            facts.append(("thinking_blocks" if sealed else "reasoning_content", canonical(block)))
        else:
            facts += block_facts("assistant", block)
    return facts


def over_and_back(body: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A Messages request through our terms onto the wire again, and what was named as lost."""
    inbound = read_request(body, marks=True)
    call = Call(
        id="c",
        messages=msgspec.json.encode(inbound.messages),
        options=inbound.options,
        scope=Scope(agent="dojo"),
    )
    encoded, dropped = CODEC.encode(call, WIDE, stream=inbound.stream)
    return json.loads(encoded), (*inbound.lost, *dropped)


@given(BODIES)
def test_a_request_over_and_back(body: dict[str, Any]) -> None:
    """Anthropic to OpenAI and back: everything that is not named survives, in order unless that is what is named."""
    again, lost = over_and_back(body)
    before, after = without(body_facts(body), lost), without(body_facts(again), lost)
    if "order" in lost:
        before, after = sorted(before), sorted(after)
    assert after == before
    assert set(lost) <= {label for label, _ in body_facts(body)} | {"order"}
    assert again.get("stream", False) == body.get("stream", False)


def test_what_both_can_say_is_not_lost() -> None:
    """An ordinary request with a system text, an image, thinking, a tool, its call and its result loses nothing."""
    thought = {"type": "thinking", "thinking": "Rain?", "signature": "c2VhbA=="}
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}}
    body = {
        "model": "m",
        "max_tokens": 5,
        "temperature": 0.5,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aA=="},
                    },
                ],
            },
            {"role": "assistant", "content": [thought, {"type": "text", "text": "I'll look."}, use]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}]},
        ],
        "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "auto"},
    }
    again, lost = over_and_back(body)
    assert lost == ()
    assert again == body | {"model": WIDE.upstream}


def test_the_history_in_openais_shape() -> None:
    """Results become messages of their own, thinking is kept twice, and the system stands first."""
    thought = {"type": "thinking", "thinking": "Rain?", "signature": "c2VhbA=="}
    ours = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    inbound = request(
        system="Be brief.",
        messages=[
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": [thought, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "rain"}],
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
            {"role": "assistant", "content": [ours, {"type": "text", "text": "Sun."}]},
        ],
    )
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert inbound.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Rain?",
            "thinking_blocks": [thought],
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Sun.", "reasoning_content": "Hm."},
    ]
    assert inbound.lost == ()


def test_a_turn_with_no_words() -> None:
    """Results alone make no user message, calls alone have null for content, nothing at all is empty text."""
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1"}
    turns = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    nothing = [{"role": "assistant", "content": []}, {"role": "user", "content": []}]
    contents = [(m["role"], m["content"]) for m in request(messages=turns + nothing).messages]
    assert contents == [("assistant", None), ("tool", ""), ("assistant", ""), ("user", "")]


@pytest.mark.parametrize(
    ("turn", "lost"),
    [
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "is_error": True}]},
            "is_error",
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "cache_control": {"type": "ephemeral"}}
                ],
            },
            "cache_control",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "tool_result", "tool_use_id": "t"}],
            },
            "order",
        ),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "t", "name": "f", "input": {}},
                    {"type": "text", "text": "a"},
                ],
            },
            "order",
        ),
        (
            {"role": "assistant", "content": [{"type": "server_tool_use", "id": "t", "input": {}}]},
            "server_tool_use",
        ),
        ({"role": "user", "content": [{"type": "text", "text": "a", "citations": [{}]}]}, "citations"),
    ],
)
def test_what_is_lost_by_name(turn: dict[str, Any], lost: str) -> None:
    """What OpenAI's shape has no place for is named, each by its own name."""
    assert request(messages=[turn]).lost == (lost,)


def test_marks_are_named_when_they_are_not_kept() -> None:
    """Unless they are asked for no cache_control is left anywhere, and that is told once."""
    mark = {"cache_control": {"type": "ephemeral"}}
    document = {"type": "document", "source": {"type": "text", "data": "a"}}
    body = {
        "model": "m",
        "system": [{"type": "text", "text": "a", **mark}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "b", **mark}, {**document, **mark}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"cache_control": 1}, **mark}
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "c", **mark}],
            },
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, **mark}],
    }
    inbound = read_request(body)
    assert inbound.lost == ("cache_control",)
    assert b"ephemeral" not in msgspec.json.encode([inbound.messages, inbound.options])
    assert b'cache_control\\":1' in msgspec.json.encode(inbound.messages)
    assert b"ephemeral" in msgspec.json.encode(read_request(body, marks=True).messages)


def test_what_else_a_request_says() -> None:
    """Model, stream and user are read; what has no place is named, once, and whatever is null is not there."""
    inbound = request(
        model="agent/debugger",
        stream=True,
        metadata={"user_id": "u1", "team": "a"},
        top_k=5,
        container=None,
        betas=["x"],
        thinking={"type": "enabled", "budget_tokens": 2_048},
    )
    assert (inbound.model, inbound.stream, inbound.user) == ("agent/debugger", True, "u1")
    assert inbound.lost == ("thinking.budget_tokens", "metadata.team", "betas", "top_k")
    assert request().lost == ()
    assert request().user is None


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"thinking": {"type": "adaptive"}}, Options(max_tokens=5, thinking=True)),
        ({"thinking": {"type": "disabled"}}, Options(max_tokens=5, thinking=False)),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            Options(max_tokens=5, thinking="max"),
        ),
        ({"stop_sequences": ["END"]}, Options(max_tokens=5, stop=["END"])),
        ({"tool_choice": {"type": "any"}}, Options(max_tokens=5, tool_choice="required")),
        (
            {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
            Options(
                max_tokens=5,
                tool_choice={"type": "function", "function": {"name": "f"}},
                extra={"parallel_tool_calls": False},
            ),
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            Options(
                max_tokens=5,
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
                },
            ),
        ),
    ],
)
def test_options_in_our_terms(fields: dict[str, Any], options: Options) -> None:
    """Each option has its twin, and nothing is lost on the way."""
    inbound = request(**fields)
    assert inbound.options == options
    assert inbound.lost == ()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "the body is no JSON object"),
        ({"messages": HI}, "model is missing"),
        ({"model": "m"}, "messages is not a list with a message in it"),
        ({"model": "m", "messages": []}, "messages is not a list with a message in it"),
        ({"model": "m", "messages": ["a"]}, "messages.0: its role is neither user nor assistant"),
        ({"model": "m", "messages": [*HI, {"role": "tool"}]}, "messages.1: its role is neither"),
        (
            {"model": "m", "messages": [{"role": "user"}]},
            "messages.0: its content is neither text nor a list",
        ),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"text": "a"}]}]},
            "messages.0: its content",
        ),
        ({"model": "m", "messages": HI, "system": 5}, "system: its content is neither"),
        ({"model": "m", "messages": HI, "max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"model": "m", "messages": HI, "temperature": "hot"}, "temperature must be a number, not str"),
        ({"model": "m", "messages": HI, "stop_sequences": 5}, "stop must be str or list"),
        ({"model": "m", "messages": HI, "tools": 5}, "tools must be list"),
        ({"model": "m", "messages": HI, "tools": ["f"]}, "a tool is no JSON object"),
        ({"model": "m", "messages": HI, "thinking": True}, "thinking is no JSON object"),
        ({"model": "m", "messages": HI, "tool_choice": "auto"}, "tool_choice is no JSON object"),
    ],
)
def test_a_request_that_is_none(body: Any, says: str) -> None:
    """What is not in Anthropic's shape is refused in one line that says where, with a hint."""
    with pytest.raises(InvalidRequest, match=says.replace(".", r"\.")) as caught:
        read_request(body)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
