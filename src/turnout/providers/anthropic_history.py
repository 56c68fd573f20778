"""An OpenAI-shaped history as Anthropic takes it (platform.claude.com/docs/en/api/messages, read 2026-10).

What both dialects write alike, and what only Anthropic knows (`cache_control`, documents), goes through as it is.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

Block = dict[str, Any]

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_MARK = "cache_control"
_KNOWN = frozenset(
    {"role", "content", "name", "refusal", "tool_calls", "reasoning_content", "thinking_blocks"}
)


class Conversation:
    """The turns, and what stands above them as `system`.

    `lost` names what had no place: a message's field, `order` for a system message that came after a turn,
    `blank_text` for text without a visible character.
    """

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
        self.lost += sorted(key for key in message.keys() - _KNOWN if message[key] is not None)
        if message.get("name"):
            self.lost.append("name")
        if role in {"system", "developer"}:
            if self.turns:
                self.lost.append("order")
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
        result: Block = {"type": "tool_result", "tool_use_id": tool_id(message.get("tool_call_id"))}
        if isinstance(content, str):
            result["content"] = content
        else:
            parts = result["content"] = [dict(part) for part in self._parts(content)]
            if parts and _MARK in parts[-1]:  # what is inside a block cannot be marked, only the block
                result[_MARK] = parts[-1].pop(_MARK)
        # All results of one assistant turn belong in one user turn.
        last = self.turns[-1]["content"] if self.turns else []
        if last and last[-1].get("type") == "tool_result":
            last.append(result)
        else:
            self._turn("user", [result])

    def _assistant(self, message: dict[str, Any]) -> list[Block]:
        sealed = message.get("thinking_blocks")
        sealed = sealed if isinstance(sealed, list) else []
        thought = "".join(str(block.get("thinking") or "") for block in sealed if isinstance(block, dict))
        if (message.get("reasoning_content") or thought) != thought:
            self.lost.append("reasoning_content")  # another vendor's: only signed thinking is accepted
        calls = message.get("tool_calls") or ()
        self.lacks_thinking |= bool(calls) and not sealed
        content = message.get("content")
        if not content and message.get("refusal"):
            content = [{"type": "refusal", "refusal": message["refusal"]}]
        return [*sealed, *self._parts(content), *(self._tool_use(call) for call in calls)]

    def _tool_use(self, call: dict[str, Any]) -> Block:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        self.lost += sorted(call.keys() - {"id", "type", "function", "index", _MARK})
        value, whole = tool_input(function.get("arguments"))
        if not whole:
            self.lost.append("arguments")
        mark = {_MARK: call[_MARK]} if _MARK in call else {}
        name = function.get("name")
        return {"type": "tool_use", "id": tool_id(call.get("id")), "name": name, "input": value, **mark}

    def _parts(self, content: Any) -> list[Block]:
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        return [self._part(part) for part in content or () if not self._is_blank(part)]

    def _is_blank(self, part: Block) -> bool:
        """A text block without a visible character is answered by 400."""
        text = str(part.get("text") or "")
        if part.get("type") != "text" or text.strip():
            return False
        if text or part.get(_MARK):
            self.lost.append("blank_text")
        return True

    def _part(self, part: Block) -> Block:
        if part.get("type") == "refusal":
            self.lost.append("refusal")  # its words stay, as text
            return {"type": "text", "text": part.get("refusal")}
        if part.get("type") not in {"image_url", "input_image"}:
            return part
        image = part.get("image_url")
        fields = image if isinstance(image, dict) else {**part, "url": image}
        if fields.get("detail") not in {None, "auto"}:
            self.lost.append("detail")
        mark = {_MARK: part[_MARK]} if _MARK in part else {}
        return {"type": "image", "source": _source(str(fields.get("url"))), **mark}


def tool_input(arguments: Any) -> tuple[Any, bool]:
    """A tool call's arguments as the object Anthropic wants, and whether they were one.

    Where they were none, the model sees what it wrote all the same, as the object's one field.
    """
    if not arguments:
        return {}, True
    if not isinstance(arguments, str):
        return arguments, True
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (ValueError, RecursionError):
        return {"arguments": arguments}, False
    return msgspec.Raw(arguments.encode()), True


def tool_id(given: Any) -> str:
    """The id in the alphabet Anthropic takes: Moonshot's `functions.search:0` is not in it."""
    return _FOREIGN.sub(lambda match: f"-{ord(match[0]):x}-", str(given or ""))


def _source(url: str) -> dict[str, str]:
    head, _, data = url.partition(",")
    head = head.lower()
    if head.startswith("data:") and head.endswith(";base64"):
        return {"type": "base64", "media_type": head[5:].partition(";")[0], "data": data}
    return {"type": "url", "url": url}
