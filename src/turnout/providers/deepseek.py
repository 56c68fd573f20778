"""DeepSeek's differences from OpenAI's wire (api-docs.deepseek.com, read 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.providers.openai import OpenAICodec, count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.types import Call, Model, Usage

_OFF = {"type": "disabled"}


class DeepSeekCodec(OpenAICodec):
    """Thinking is a field of the body and its text goes back with the history; cache hits are reported."""

    def fields(self, call: Call, model: Model) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Thinking gives way where DeepSeek would answer 400 to it, and the attempt says so."""
        fields, dropped = super().fields(call, model)
        if fields.get("thinking") != _OFF and (_forces_a_tool(fields) or _lacks_reasoning(call, fields)):
            fields.pop("reasoning_effort", None)
            return fields | {"thinking": _OFF}, (*dropped, "thinking")
        return fields, dropped

    def usage(self, report: Mapping[str, Any] | None) -> Usage:
        """As OpenAI's, with the cache hits under DeepSeek's own name first."""
        usage = super().usage(report)
        hits = count((report or {}).get("prompt_cache_hit_tokens"))
        return usage if hits is None else msgspec.structs.replace(usage, cached_input_tokens=hits)


def _forces_a_tool(fields: Mapping[str, Any]) -> bool:
    # 400 while thinking is on; DeepSeek-V3 issue 1376, 2026-08-21.
    choice = fields.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


def _lacks_reasoning(call: Call, fields: Mapping[str, Any]) -> bool:
    """With tools every assistant turn must bring its reasoning; a turn another model wrote has none."""
    if not fields.get("tools") or b'"assistant"' not in call.messages:
        return False
    history = msgspec.json.decode(call.messages)
    return any(turn.get("role") == "assistant" and turn.get("reasoning_content") is None for turn in history)
