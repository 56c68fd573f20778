"""OpenAI's streamed chat wire: `chat.completion.chunk` events, then `[DONE]` (API reference, 2026-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import ServerFault
from turnout.providers import failures
from turnout.providers.json_body import read
from turnout.types import Delta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from turnout.providers.sse import Event
    from turnout.types import Model, Usage

    ReadUsage = Callable[[Mapping[str, Any] | None], Usage]


class Piece(msgspec.Struct, gc=False):
    """What one event adds to the message."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """vLLM's newer name for reasoning_content, OpenRouter's too."""
    tool_calls: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, gc=False):
    """One choice; we ask for one."""

    delta: Piece | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """One event."""

    choices: list[Choice] | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(Chunk)
_NOTHING: tuple[Delta, ...] = ()


class OpenAIDecoder:
    """Implements `StreamDecoder`."""

    thinking_blocks: tuple[dict[str, Any], ...] = ()

    def __init__(self, model: Model, read_usage: ReadUsage) -> None:
        self.upstream_model = ""
        self.usage: Usage | None = None
        self.ended = False
        self._model = model
        self._read_usage = read_usage

    def feed(self, event: Event) -> Sequence[Delta]:
        """What one event adds. Raises the error it reports, or what it is instead of JSON."""
        data = event.data
        if data[:6] == b"[DONE]":
            self.ended = True
            return _NOTHING
        if not data:
            return _NOTHING
        try:
            chunk = _chunk.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            chunk = read(data, _chunk)
        if chunk.error or event.name == b"error":
            raise failures.in_band(chunk.error or msgspec.json.decode(data), self._model)
        if chunk.usage is not None:
            # The last report counts: some vendors send a running total with every event.
            self.usage = self._read_usage(chunk.usage)
        if chunk.model and not self.upstream_model:
            self.upstream_model = chunk.model
        if not chunk.choices:
            return _NOTHING
        return (self._delta(chunk.choices[0], data),)

    def _delta(self, choice: Choice, data: bytes) -> Delta:
        if choice.finish_reason == "insufficient_system_resource":
            raise ServerFault(
                "it gave up half-way: insufficient_system_resource", provider=self._model.provider
            )
        piece = choice.delta
        if piece is None:
            return Delta(finish_reason=choice.finish_reason, raw=data)
        return Delta(
            text=piece.content or piece.refusal or "",
            reasoning=piece.reasoning_content or piece.reasoning or "",
            tool_calls=tuple(piece.tool_calls) if piece.tool_calls else (),
            finish_reason=choice.finish_reason,
            raw=data,
        )
