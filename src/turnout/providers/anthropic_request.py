"""Our options as Anthropic's Messages API takes them (platform.claude.com/docs/en/api/messages, read 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.providers.anthropic_options import SCHEMA_NAME
from turnout.providers.openai import OpenAICodec

if TYPE_CHECKING:
    from turnout.types import Call, Model

_OFF = {"type": "disabled"}
_CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
_OPENAI_ONLY = frozenset(
    {
        "audio",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "modalities",
        "n",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "store",
        "stream_options",
        "top_logprobs",
        "user",
        "verbosity",
    }
)
"""Fields of OpenAI's body that are answered by 400 here."""
_shared = OpenAICodec()


def fields(call: Call, model: Model, *, lacks_thinking: bool) -> tuple[dict[str, Any], list[str]]:
    """Everything of the body but model, system and messages; and the options that were left away."""
    bare = msgspec.structs.replace(call.options, extra={})
    ours, told = _shared.fields(msgspec.structs.replace(call, options=bare), model)
    extra = call.options.extra
    dropped = [*told, *sorted(_OPENAI_ONLY & extra.keys())]
    extra = {name: value for name, value in extra.items() if name not in _OPENAI_ONLY}
    if ours.pop("seed", None) is not None:
        dropped.append("seed")
    ours.setdefault("max_tokens", model.default_output)
    if ours.get("temperature", 0) > 1:
        ours["temperature"] = 1
        dropped.append("temperature")
    if "stop" in ours:
        given = ours.pop("stop")
        stops = [given] if isinstance(given, str) else given
        ours["stop_sequences"] = [stop for stop in stops if str(stop).strip()]
        if ours["stop_sequences"] != stops:
            dropped.append("stop")  # one without a visible character is answered by 400
    if "tools" in ours:
        ours["tools"] = [_tool(tool, dropped) for tool in ours["tools"]]
    _choose(ours, extra, dropped)
    ours |= _thinking(ours, dropped, lacks_thinking=lacks_thinking)
    _format(ours, model, dropped)
    return ours | extra, dropped


def _choose(ours: dict[str, Any], extra: dict[str, Any], dropped: list[str]) -> None:
    """The choice among the tools, which there also says whether several may be called at once."""
    if "tool_choice" in ours:
        ours["tool_choice"] = _choice(ours["tool_choice"])
    parallel = extra.pop("parallel_tool_calls", None)
    if parallel is not False:
        return
    choice = ours.setdefault("tool_choice", {"type": "auto"}) if "tools" in ours else {"type": "none"}
    if choice.get("type") == "none":
        dropped.append("parallel_tool_calls")
    else:
        ours["tool_choice"] = choice | {"disable_parallel_tool_use": True}


def _thinking(ours: dict[str, Any], dropped: list[str], *, lacks_thinking: bool) -> dict[str, Any]:
    """Thinking, or what gives way to it, where Anthropic would answer 400 to both together."""
    mode = ours.get("thinking", _OFF).get("type")
    if mode == "disabled":
        return {}
    forced = ours.get("tool_choice", {}).get("type") in {"any", "tool"}
    # With a budget of its own ("enabled") every turn that called tools must bring its thinking.
    if forced or (mode == "enabled" and lacks_thinking):
        dropped.append("thinking")
        ours.pop("output_config", None)  # its effort, which Haiku 5.5 refuses above high without thinking
        return {"thinking": _OFF}
    if ours.pop("temperature", None) is not None:
        dropped.append("temperature")
    return {}


def _format(ours: dict[str, Any], model: Model, dropped: list[str]) -> None:
    """A schema for the answer (build-with-claude/structured-outputs, read 2026-10): json_schema is the one kind."""
    wanted = ours.pop("response_format", None)
    if wanted is None or wanted == {"type": "text"}:
        return
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if schema is None or "json_schema" not in model.capabilities:
        dropped.append("response_format")
        return
    said = {name: value for name, value in described.items() if name != "schema"}
    if said.get("name") == SCHEMA_NAME:
        del said["name"]
    if said.pop("strict", True) is not True:
        dropped.append("response_format.strict")
    dropped += [f"response_format.{name}" for name in sorted(said)]
    ours["output_config"] = {
        **ours.get("output_config", {}),
        "format": {"type": "json_schema", "schema": schema},
    }


def _tool(tool: Any, dropped: list[str]) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        return tool
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    mark = {"cache_control": tool["cache_control"]} if "cache_control" in tool else {}
    dropped += sorted(tool.keys() - {"type", "function", "cache_control"})
    return {k: v for k, v in function.items() if k != "parameters"} | {"input_schema": schema} | mark


def _choice(choice: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        return _CHOICES.get(choice, {"type": choice})
    function = choice.get("function")
    return {"type": "tool", "name": function.get("name")} if isinstance(function, dict) else choice
