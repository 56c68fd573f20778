"""A request of Anthropic's Messages API in our terms (platform.claude.com/docs/en/api/messages, read 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import InvalidRequest
from turnout.providers.anthropic_options import OPTIONS, read_options
from turnout.types import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

Block = dict[str, Any]

_MARK = "cache_control"
_READ = OPTIONS | {"messages", "metadata", "model", "stream", "system"}
_RANKS = {"thinking": 0, "redacted_thinking": 0, "text": 1, "tool_use": 2}


class Inbound(msgspec.Struct, frozen=True, kw_only=True):
    """What a client of the Messages API asks."""

    model: str
    messages: list[dict[str, Any]]
    """In OpenAI's shape."""
    options: Options
    stream: bool = False
    user: str | None = None
    """`metadata.user_id`."""
    lost: tuple[str, ...] = ()
    """What OpenAI's shape cannot say: fields and kinds of block by name, `order` for blocks that stood otherwise."""


def read_request(body: Any, *, marks: bool = False) -> Inbound:
    """The request. Raises `InvalidRequest` for what is none.

    `marks` keeps `cache_control` where it stands, for a wire that takes it; else it is lost, and named. What a
    model must not miss (a document, a tool of Anthropic's own) goes through as it is, and a provider that does not
    know it refuses the call.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("the body is no JSON object", hint="send a Messages request")
    model = body.get("model")
    if not isinstance(model, str):
        raise InvalidRequest("model is missing", hint="name a model, or agent/NAME")
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    history = _History(marks=marks)
    messages = history.read(body)
    options, lost = read_options(body, marks=marks)
    lost += history.lost
    lost += sorted(f"metadata.{key}" for key in metadata.keys() - {"user_id"})
    lost += sorted(key for key in body.keys() - _READ if body[key] is not None)
    return Inbound(
        model=model,
        messages=messages,
        options=options,
        stream=body.get("stream") is True,
        user=metadata.get("user_id"),
        lost=tuple(dict.fromkeys(lost)),
    )


class _History:
    """System and messages on their way over; `lost` grows as they are read."""

    def __init__(self, *, marks: bool) -> None:
        self.lost: list[str] = []
        self._marks = marks

    def read(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        turns = body.get("messages")
        if not isinstance(turns, list) or not turns:
            raise InvalidRequest("messages is not a list with a message in it", hint="send at least one")
        read: list[dict[str, Any]] = []
        if body.get("system"):
            read.append({"role": "system", "content": self._content(_blocks(body["system"], "system"))})
        for number, turn in enumerate(turns):
            where = f"messages.{number}"
            role = turn.get("role") if isinstance(turn, dict) else None
            if role not in {"user", "assistant", "system"}:
                raise InvalidRequest(
                    f"{where}: its role is neither user nor assistant", hint=f"now: {role!r}"
                )
            blocks = _blocks(turn.get("content"), where)
            if role == "assistant":
                read.append(self._assistant(blocks))
            elif role == "user":
                read += self._user(blocks)
            else:
                read.append({"role": role, "content": self._content(blocks)})
        return read

    def _user(self, blocks: list[Block]) -> list[dict[str, Any]]:
        """The results of tools as messages of their own, ahead of what else the turn says."""
        results = [block for block in blocks if block["type"] == "tool_result"]
        rest = [block for block in blocks if block["type"] != "tool_result"]
        if blocks[: len(results)] != results:
            self.lost.append("order")
        read = [self._result(block) for block in results]
        if rest or not results:
            read.append({"role": "user", "content": self._content(rest)})
        return read

    def _result(self, block: Block) -> dict[str, Any]:
        """Its mark goes to its last part, since a message has no place for one."""
        self._lose(block, {"type", "tool_use_id", "content", "is_error", _MARK})
        if block.get("is_error"):
            self.lost.append("is_error")
        inner = [dict(part) for part in _blocks(block.get("content") or [], "tool_result")]
        if inner and _MARK in block:
            inner[-1][_MARK] = block[_MARK]
        elif _MARK in block:
            self.lost.append(_MARK)
        return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": self._content(inner)}

    def _assistant(self, blocks: list[Block]) -> dict[str, Any]:
        """Thinking, text and calls, which stand in this order there however they came."""
        ranks = [_RANKS[block["type"]] for block in blocks if block["type"] in _RANKS]
        if ranks != sorted(ranks):
            self.lost.append("order")
        self.lost += [block["type"] for block in blocks if block["type"] not in _RANKS]
        texts = [self._part(block) for block in blocks if block["type"] == "text"]
        marked = any(_MARK in part for part in texts)
        content: Any = texts if marked else "".join(part["text"] for part in texts)
        calls = [self._call(block) for block in blocks if block["type"] == "tool_use"]
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else "")}
        thoughts = [block for block in blocks if _RANKS.get(block["type"]) == 0]
        if reasoning := "".join(str(block.get("thinking") or "") for block in thoughts):
            message["reasoning_content"] = reasoning
        # An empty signature is ours: the thinking of a vendor that seals nothing.
        if sealed := [block for block in thoughts if block.get("signature") or block.get("data")]:
            message["thinking_blocks"] = sealed
        if calls:
            message["tool_calls"] = calls
        return message

    def _call(self, block: Block) -> dict[str, Any]:
        self._lose(block, {"type", "id", "name", "input", _MARK})
        arguments = msgspec.json.encode(block.get("input") or {}).decode()
        function = {"name": block.get("name"), "arguments": arguments}
        return {"id": block.get("id"), "type": "function", "function": function, **self._mark(block)}

    def _content(self, blocks: list[Block]) -> str | list[Block]:
        parts = [self._part(block) for block in blocks]
        if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
            return str(parts[0]["text"])
        return parts or ""

    def _part(self, block: Block) -> Block:
        if block["type"] == "text":
            self._lose(block, {"type", "text", _MARK})
            return {"type": "text", "text": str(block.get("text") or ""), **self._mark(block)}
        url = _url(block)
        if url is None:
            return {name: value for name, value in block.items() if name != _MARK} | self._mark(block)
        self._lose(block, {"type", "source", _MARK})
        return {"type": "image_url", "image_url": {"url": url}, **self._mark(block)}

    def _mark(self, block: Block) -> Block:
        if block.get(_MARK) is None:
            return {}
        if self._marks:
            return {_MARK: block[_MARK]}
        self.lost.append(_MARK)
        return {}

    def _lose(self, block: Block, known: set[str]) -> None:
        self.lost += sorted(key for key in block.keys() - known if block[key] is not None)


def _blocks(content: Any, where: str) -> list[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(
        isinstance(block, dict) and isinstance(block.get("type"), str) for block in content
    ):
        return content
    raise InvalidRequest(
        f"{where}: its content is neither text nor a list of blocks", hint='write [{"type": "text", ...}]'
    )


def _url(block: Block) -> str | None:
    """An image's address; `None` for what is no image, or lies where only Anthropic can read it."""
    source = block.get("source")
    if block["type"] != "image" or not isinstance(source, dict):
        return None
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    return str(source.get("url")) if source.get("type") == "url" else None
