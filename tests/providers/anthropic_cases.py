"""What the tests of Anthropic's wire share: a row, calls, replies in its shape, and any conversation."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import strategies as st

from turnout.providers.anthropic import AnthropicCodec
from turnout.types import Call, Model, Options, Scope

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


# Any conversation, in OpenAI's shape. `VISIBLE` text has something to see, `TEXTS` need not.

Objects = st.SearchStrategy[dict[str, Any]]
VISIBLE = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
TEXTS = VISIBLE | st.sampled_from(["", " ", "\n\t"])
IDS = st.text("abcXYZ019_-", min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | VISIBLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VISIBLE, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(VISIBLE, VALUES, max_size=3)
URLS = st.sampled_from(["https://example.com/a.png", "http://b/c?d=e,f"]) | st.binary().map(
    lambda raw: f"data:image/png;base64,{raw.hex()}"
)
MARKS: Objects = st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
SEALED = st.fixed_dictionaries(
    {"type": st.just("thinking"), "thinking": TEXTS, "signature": IDS}
) | st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": IDS})
TEXT_PARTS = st.fixed_dictionaries(
    {"type": st.just("text"), "text": TEXTS}, optional={"cache_control": MARKS}
)
IMAGES = st.fixed_dictionaries(
    {
        "type": st.just("image_url"),
        "image_url": st.fixed_dictionaries(
            {"url": URLS}, optional={"detail": st.sampled_from(["auto", "low", "high"])}
        ),
    },
    optional={"cache_control": MARKS},
)
PARTS = st.lists(TEXT_PARTS | IMAGES, min_size=1, max_size=3)
USERS = st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS | PARTS}, optional={"name": IDS})
SYSTEMS = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer"]), "content": TEXTS | st.lists(TEXT_PARTS, max_size=2)}
)
CALLS = st.fixed_dictionaries(
    {
        "id": IDS,
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": IDS, "arguments": OBJECTS.map(json.dumps) | st.sampled_from(["", "{", "[1]"])}
        ),
    },
    optional={"cache_control": MARKS, "extra_content": OBJECTS},
)
ASSISTANTS = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXTS},
    optional={
        "tool_calls": st.lists(CALLS, min_size=1, max_size=3),
        "reasoning_content": TEXTS,
        "thinking_blocks": st.lists(SEALED, max_size=2),
        "audio": OBJECTS,
    },
)
RESULTS = st.fixed_dictionaries(
    {"role": st.just("tool"), "tool_call_id": IDS, "content": st.none() | TEXTS | PARTS}
)
HISTORIES = st.lists(SYSTEMS | USERS | ASSISTANTS | RESULTS, min_size=1, max_size=8)
Fact = tuple[str, str]
"""The name under which it would be lost, and what it says."""


def text_fact(who: str, text: Any) -> list[Fact]:
    """What a text says; an empty one says nothing."""
    if not text:
        return []
    return [("content", f"{who}: {text}") if str(text).strip() else ("blank_text", f"{who}: {text}")]


def mark_fact(block: dict[str, Any], label: str = "cache_control") -> list[Fact]:
    """The block's cache mark."""
    return [(label, canonical(block["cache_control"]))] if block.get("cache_control") else []


def canonical(value: Any) -> str:
    """One text for one JSON value, as it is read back from the wire."""
    return json.dumps(json.loads(json.dumps(value)), sort_keys=True)


def history_facts(history: list[dict[str, Any]], *, hoisted: bool) -> list[Fact]:
    """What an OpenAI-shaped history says, in order, or with what the system says first."""
    facts: list[Fact] = []
    system: list[Fact] = []
    for turn in history:
        role = turn["role"]
        if role in {"system", "developer"}:
            (system if hoisted else facts).extend(parts_facts("system", turn["content"]))
        elif role == "tool":
            facts.append(("tool", turn["tool_call_id"]))
            facts += parts_facts("tool", turn["content"])
        else:
            facts += [
                (name, canonical(turn[name])) for name in ("name", "audio") if turn.get(name) is not None
            ]
            facts += thinking_facts(turn)
            facts += parts_facts(role, turn["content"])
            for call in turn.get("tool_calls") or ():
                facts += call_facts(call)
    return system + facts


def parts_facts(who: str, content: Any) -> list[Fact]:
    """What OpenAI-shaped content says. A mark on what is blank is lost with it."""
    facts = []
    parts: list[dict[str, Any]] = content or []
    if isinstance(content, str):
        parts = [{"type": "text", "text": content}]
    for part in parts:
        if part["type"] == "text":
            facts += text_fact(who, part["text"])
            facts += mark_fact(part, "cache_control" if part["text"].strip() else "blank_text")
        else:
            facts.append(("content", f"{who}: {part['image_url']['url']}"))
            facts += mark_fact(part)
            if part["image_url"].get("detail", "auto") != "auto":
                facts.append(("detail", part["image_url"]["detail"]))
    return facts


def thinking_facts(turn: dict[str, Any]) -> list[Fact]:
    """The sealed blocks, and the thinking as text."""
    sealed = turn.get("thinking_blocks") or []
    thought = "".join(block.get("thinking", "") for block in sealed)
    facts = [("thinking_blocks", canonical(block)) for block in sealed]
    reasoning = turn.get("reasoning_content") or thought
    return facts + ([("reasoning_content", reasoning)] if reasoning else [])


def call_facts(call: dict[str, Any]) -> list[Fact]:
    """A tool call's id and name, its arguments and whatever else."""
    function = call["function"]
    arguments = function["arguments"] or "{}"
    with suppress(ValueError):
        arguments = canonical(json.loads(arguments))
    facts = [("tool_calls", f"{call['id']} {function['name']}"), ("arguments", arguments)]
    if call.get("extra_content") is not None:
        facts.append(("extra_content", canonical(call["extra_content"])))
    return facts + mark_fact(call)


def without(facts: list[Fact], lost: tuple[str, ...]) -> list[Fact]:
    """What is left when everything that was named is taken away."""
    return [fact for fact in facts if fact[0] not in lost]
