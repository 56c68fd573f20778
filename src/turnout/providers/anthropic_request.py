"""Our call as Anthropic's Messages API takes it (platform.claude.com/docs/en/api/messages, read 2026-10).

What both dialects write alike, and what only Anthropic knows (`cache_control`, documents, its own tools), goes
through as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.providers.openai import OpenAICodec

if TYPE_CHECKING:
    from turnout.types import Call, Model

Block = dict[str, Any]

_OFF = {"type": "disabled"}
_CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_shared = OpenAICodec()


class Conversation:
    """A history on Anthropic's wire; `lost` names what it had no place for."""

    def __init__(self, messages: bytes) -> None:
        self.system: list[Block] = []
        self.turns: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self.lacks_thinking = False
        """A turn that called tools comes without the thinking that led to it."""
        for message in msgspec.json.decode(messages):
            self._add(message)

    def _add(self, message: dict[str, Any]) -> None:
        role = message["role"]
        if role in {"tool", "function"}:
            self._add_result(message)
            return
        if message.get("name"):
            self.lost.append("name")
        if role in {"system", "developer"}:
            self.system += self._parts(message.get("content"))
        elif role == "assistant":
            self._turn(role, self._assistant(message))
        else:
            self._turn(role, self._parts(message.get("content")))

    def _turn(self, role: str, blocks: list[Block]) -> None:
        # A turn without content is answered by 400, so a blank one is no turn.
        if blocks:
            self.turns.append({"role": role, "content": blocks})

    def _add_result(self, message: dict[str, Any]) -> None:
        content = message.get("content") or ""
        result = {
            "type": "tool_result",
            "tool_use_id": _tool_id(message.get("tool_call_id")),
            "content": content if isinstance(content, str) else self._parts(content),
        }
        # All results of one assistant turn belong in one user turn.
        last = self.turns[-1]["content"] if self.turns else []
        if last and last[-1]["type"] == "tool_result":
            last.append(result)
        else:
            self._turn("user", [result])

    def _assistant(self, message: dict[str, Any]) -> list[Block]:
        reasoning, signature = message.get("reasoning_content"), message.get("reasoning_signature")
        blocks: list[Block] = []
        if signature:
            blocks.append({"type": "thinking", "thinking": reasoning or "", "signature": signature})
        elif reasoning:
            self.lost.append("reasoning_content")  # another vendor's: only signed thinking is accepted
        calls = message.get("tool_calls") or ()
        self.lacks_thinking |= bool(calls) and not signature
        blocks += self._parts(message.get("content") or str(message.get("refusal") or ""))
        return blocks + [self._tool_use(call) for call in calls]

    def _tool_use(self, call: dict[str, Any]) -> Block:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = function.get("name"), function.get("arguments") or "{}"
        value: Any = arguments
        if isinstance(arguments, str):
            try:
                msgspec.json.decode(arguments, type=dict[str, Any])
                value = msgspec.Raw(arguments.encode())
            except (ValueError, RecursionError):  # no JSON object: the model sees what it wrote all the same
                value = {"arguments": arguments}
                self.lost.append("arguments")
        return {"type": "tool_use", "id": _tool_id(call.get("id")), "name": name, "input": value}

    def _parts(self, content: Any) -> list[Block]:
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
        # A text block without a visible character is answered by 400.
        return [
            self._part(part) for part in parts if part.get("type") != "text" or str(part.get("text")).strip()
        ]

    def _part(self, part: Block) -> Block:
        if part.get("type") == "refusal":
            return {"type": "text", "text": part.get("refusal")}
        if part.get("type") not in {"image_url", "input_image"}:
            return part
        image = part.get("image_url")
        fields = image if isinstance(image, dict) else {**part, "url": image}
        if fields.get("detail") not in {None, "auto"}:
            self.lost.append("detail")
        kept = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
        return {"type": "image", "source": _source(str(fields.get("url"))), **kept}


def fields(call: Call, model: Model, *, lacks_thinking: bool) -> tuple[dict[str, Any], list[str]]:
    """Everything of the body but model, system and messages; and the options that were left away."""
    bare = msgspec.structs.replace(call.options, extra={})
    ours, told = _shared.fields(msgspec.structs.replace(call, options=bare), model)
    dropped = [*told, *(name for name in ("response_format", "seed") if ours.pop(name, None) is not None)]
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
        ours["tools"] = [_tool(tool) for tool in ours["tools"]]
    if "tool_choice" in ours:
        ours["tool_choice"] = _choice(ours["tool_choice"])
    return ours | _thinking(ours, dropped, lacks_thinking=lacks_thinking) | call.options.extra, dropped


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


def _tool(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        return tool
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {k: v for k, v in function.items() if k != "parameters"} | {"input_schema": schema}


def _choice(choice: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        return _CHOICES.get(choice, {"type": choice})
    function = choice.get("function")
    return {"type": "tool", "name": function.get("name")} if isinstance(function, dict) else choice


def _tool_id(given: Any) -> str:
    """The id in the alphabet Anthropic takes: Moonshot's `functions.search:0` is not in it."""
    return _FOREIGN.sub(lambda match: f"-{ord(match[0]):x}-", str(given or ""))


def _source(url: str) -> dict[str, str]:
    head, _, data = url.partition(",")
    head = head.lower()
    if head.startswith("data:") and head.endswith(";base64"):
        return {"type": "base64", "media_type": head[5:].partition(";")[0], "data": data}
    return {"type": "url", "url": url}
