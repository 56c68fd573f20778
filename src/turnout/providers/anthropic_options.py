"""The options of a Messages request in our terms (platform.claude.com/docs/en/api/messages, read 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout.errors import InvalidRequest
from turnout.types import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = "cache_control"
OPTIONS = frozenset(
    {
        "max_tokens",
        "output_config",
        "stop_sequences",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_p",
    }
)
"""The fields that are read here."""
SCHEMA_NAME = "answer"
"""What an answer's schema is called where it must have a name; Anthropic gives it none."""
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS: dict[Any, Any] = {"low": "low", "high": "high", "max": "max"}


def read_options(body: Mapping[str, Any], *, marks: bool = False) -> tuple[Options, list[str]]:
    """The options, and what they could not hold. Raises `InvalidRequest` for a value that is none."""
    lost: list[str] = []
    extra: dict[str, Any] = {}
    if body.get("top_p") is not None:
        extra["top_p"] = body["top_p"]
    choice = _table(body, "tool_choice")
    if choice.get("disable_parallel_tool_use"):
        extra["parallel_tool_calls"] = False
    config = _table(body, "output_config")
    lost += sorted(f"output_config.{key}" for key in config.keys() - {"effort", "format"})
    tools = body.get("tools")
    try:
        options = Options(
            temperature=body.get("temperature"),
            max_tokens=body.get("max_tokens"),
            tools=[_tool(tool, lost, marks=marks) for tool in tools] if isinstance(tools, list) else tools,
            tool_choice=_choice(choice),
            response_format=_format(config.get("format")),
            thinking=_thinking(_table(body, "thinking"), config.get("effort"), lost),
            stop=body.get("stop_sequences"),
            extra=extra,
        )
    except (ValueError, TypeError) as error:
        raise InvalidRequest(str(error), hint="see platform.claude.com/docs/en/api/messages") from None
    return options, lost


def _table(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} is no JSON object", hint=f"now: {value!r:.40}")
    return value


def _thinking(thinking: Mapping[str, Any], effort: Any, lost: list[str]) -> Any:
    """On, off, or an effort of ours; an effort in between, or beside no thinking, has no name here."""
    lost += sorted(f"thinking.{key}" for key in thinking.keys() - {"type"} if thinking[key] is not None)
    on = thinking.get("type") in {"enabled", "adaptive"}
    if effort is not None and not (on and effort in _EFFORTS):
        lost.append("output_config.effort")
    if not thinking:
        return None
    return _EFFORTS.get(effort, True) if on else False


def _format(wanted: Any) -> dict[str, Any] | None:
    if not isinstance(wanted, dict):
        return None
    schema = {"name": SCHEMA_NAME, "schema": wanted.get("schema"), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _tool(tool: Any, lost: list[str], *, marks: bool) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise InvalidRequest("a tool is no JSON object", hint=f"now: {tool!r:.40}")
    mark = {_MARK: tool[_MARK]} if tool.get(_MARK) is not None else {}
    if mark and not marks:
        lost.append(_MARK)
        mark = {}
    if tool.get("type") not in {None, "custom"}:
        return {name: value for name, value in tool.items() if name != _MARK} | mark
    function = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
    if tool.get("input_schema") is not None:
        function["parameters"] = tool["input_schema"]
    known = {"type", "name", "description", "strict", "input_schema", _MARK}
    lost += sorted(f"tools.{key}" for key in tool.keys() - known if tool[key] is not None)
    return {"type": "function", "function": function, **mark}


def _choice(choice: Mapping[str, Any]) -> str | dict[str, Any] | None:
    if not choice:
        return None
    if choice.get("type") == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return _CHOICES.get(str(choice.get("type")), dict(choice))
