"""Our answer as Anthropic's Messages API gives it (platform.claude.com/docs/en/api/messages, read 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout.providers.anthropic_history import tool_input

if TYPE_CHECKING:
    from turnout.types import Answer, Reply, Usage

STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Our `finish_reason` to their `stop_reason`; one that is not here keeps its name."""


def write_message(answer: Answer | Reply, *, id: str, model: str) -> dict[str, Any]:  # noqa: A002 - its name there
    """The message. Thinking that no vendor sealed bears an empty signature, by which it is known when it comes back."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _content(answer),
        "stop_reason": STOP.get(answer.finish_reason, answer.finish_reason),
        "stop_sequence": None,
        "usage": write_usage(answer.usage),
    }


def write_usage(usage: Usage) -> dict[str, Any]:
    """The tokens. What nobody reported is 0 or null: clients of this wire add the input up."""
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    fresh = (usage.input_tokens or 0) - (cached or 0) - (written or 0)
    report: dict[str, Any] = {
        "input_tokens": max(0, fresh),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.reasoning_tokens is not None:
        report["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return report


def _content(answer: Answer | Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = list(answer.thinking_blocks)
    if answer.reasoning and not blocks:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    if answer.content:
        blocks.append({"type": "text", "text": answer.content})
    for call in answer.tool_calls:
        function = call.get("function") or {}
        value, _ = tool_input(function.get("arguments"))
        # The id as it came: it comes back with the result, and only its own vendor must like it.
        blocks.append(
            {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": value}
        )
    return blocks
