"""Anthropic's streamed answers (platform.claude.com/docs/en/build-with-claude/streaming, read 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import MalformedReply
from turnout.providers.anthropic_answer import FINISH, Block, in_band, read_usage, refusal
from turnout.providers.openai import count
from turnout.types import Delta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turnout.providers.sse import Event
    from turnout.types import Model, Usage


class Piece(msgspec.Struct, gc=False):
    """What a `delta` adds, to a block or to the message."""

    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None


class Started(msgspec.Struct):
    """The message of `message_start`, as yet without content."""

    model: str = ""
    usage: dict[str, Any] | None = None


class Told(msgspec.Struct):
    """The data of any event."""

    type: str = ""
    index: int = 0
    message: Started | None = None
    content_block: Block | None = None
    delta: Piece | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class Growing(msgspec.Struct):
    """A block between its start and its stop."""

    block: Block
    tool: int | None = None
    """Which tool call it is, from 0."""
    streamed: bool = False
    """Its input has come in pieces."""


_told = msgspec.json.Decoder(Told)
_NOTHING: tuple[Delta, ...] = ()


class AnthropicDecoder:
    """Implements `StreamDecoder`. Every event of the answer is a delta, most with text, some with `raw` alone."""

    def __init__(self, model: Model) -> None:
        self.upstream_model = ""
        self.usage: Usage | None = None
        self.ended = False
        self.thinking_blocks: tuple[dict[str, Any], ...] = ()
        self._model = model
        self._growing: dict[int, Growing] = {}
        self._tools = 0
        self._finished = False
        self._spoken = False
        self._report: dict[str, Any] = {}
        self._readers: dict[str, Callable[[Told, bytes], Delta]] = {
            "message_start": self._start,
            "content_block_start": self._open,
            "content_block_delta": self._grow,
            "content_block_stop": self._close,
            "message_delta": self._finish,
            "message_stop": self._end,
        }

    def feed(self, event: Event) -> Sequence[Delta]:
        """What one event adds. Raises the error it reports, or `MalformedReply`; an unknown event adds nothing."""
        name = event.name.decode("ascii", "replace")
        if self.ended or (name and name not in self._readers and name != "error"):
            return _NOTHING
        try:
            told = _told.decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._malformed(f"an event of its stream: {error}") from None
        if told.error is not None or name == "error":
            raise in_band(told.error, event.data, self._model)
        read = self._readers.get(name or told.type)
        return _NOTHING if read is None else (read(told, event.data),)

    def _start(self, told: Told, data: bytes) -> Delta:
        if told.message is not None:
            self.upstream_model = told.message.model
            self._count(told.message.usage)
        return Delta(raw=data)

    def _open(self, told: Told, data: bytes) -> Delta:
        block = told.content_block
        if block is None:
            raise self._malformed("a block of its stream is none")
        growing = self._growing[told.index] = Growing(block)
        if block.type == "tool_use":
            growing.tool, self._tools = self._tools, self._tools + 1
            function = {"name": block.name, "arguments": ""}
            call = {"index": growing.tool, "id": block.id, "type": "function", "function": function}
            return Delta(tool_calls=(call,), raw=data)
        return self._said(growing, block.text, block.thinking, data)

    def _grow(self, told: Told, data: bytes) -> Delta:
        growing, piece = self._growing.get(told.index), told.delta
        if growing is None or piece is None:
            raise self._malformed("a piece of its stream belongs to no block")
        block = growing.block
        block.thinking += piece.thinking
        if piece.signature:
            block.signature = (block.signature or "") + piece.signature
        if growing.tool is not None and piece.partial_json:
            growing.streamed = True
            return self._arguments(growing.tool, piece.partial_json, data)
        return self._said(growing, piece.text, piece.thinking, data)

    def _close(self, told: Told, data: bytes) -> Delta:
        growing = self._growing.pop(told.index, None)
        if growing is None:
            raise self._malformed("a block of its stream ends that never began")
        if sealed := growing.block.sealed:
            self.thinking_blocks += (sealed,)
        if growing.tool is not None and not growing.streamed:  # a tool that takes nothing, or all at once
            return self._arguments(growing.tool, growing.block.arguments, data)
        return Delta(raw=data)

    def _finish(self, told: Told, data: bytes) -> Delta:
        self._count(told.usage)
        reason = told.delta.stop_reason if told.delta else None
        if told.delta is None or reason is None:
            return Delta(raw=data)
        self._finished = True
        why = "" if self._spoken else refusal(reason, told.delta.stop_details)
        return Delta(text=why, finish_reason=FINISH.get(reason, reason), raw=data)

    def _end(self, _: Told, data: bytes) -> Delta:
        if not self._finished:
            raise self._malformed("it has no stop_reason")
        self.ended = True
        return Delta(raw=data)

    def _said(self, growing: Growing, text: str, thinking: str, data: bytes) -> Delta:
        if growing.block.type != "text":
            return Delta(reasoning=thinking if growing.block.type == "thinking" else "", raw=data)
        self._spoken |= bool(text)
        return Delta(text=text, raw=data)

    def _arguments(self, tool: int, text: str, data: bytes) -> Delta:
        return Delta(tool_calls=({"index": tool, "function": {"arguments": text}},), raw=data)

    def _count(self, report: Mapping[str, Any] | None) -> None:
        """Counts are cumulative; a later one that is smaller (0 from some compatible servers) says nothing new."""
        if report is None:
            return
        for name, value in report.items():
            known, new = count(self._report.get(name)), count(value)
            if value is not None and (known is None or (new is not None and new > known)):
                self._report[name] = value
        self.usage = read_usage(self._report)

    def _malformed(self, what: str) -> MalformedReply:
        return MalformedReply(what, provider=self._model.provider)
