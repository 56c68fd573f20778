"""One streamed answer off the wire: bytes, events, deltas, and in the end the whole of it or an error."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

import msgspec

from turnout.cost.estimate import estimate_tokens
from turnout.errors import BlankReply, ProviderError, StreamTruncated, Unreachable
from turnout.providers.sse import Event, EventReader
from turnout.types import Answer, Delta, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from turnout.providers.base import StreamDecoder

_FUNCTION = "function"


class Incoming:
    """Iterates over the deltas of one answer; what came before a fault is still given before it is raised.

    Raises `StreamTruncated` when the stream ends without its end, `BlankReply` when it ends without an answer, and
    what the decoder and the transport raise.
    """

    def __init__(self, chunks: AsyncIterator[bytes], decoder: StreamDecoder) -> None:
        self.said = Collected()
        self._chunks = chunks
        self._decoder = decoder
        self._reader = EventReader()
        self._ready: deque[Delta] = deque()
        self._over = False
        self._error: ProviderError | None = None

    @classmethod
    def whole(cls, answer: Answer) -> Self:
        """An answer that came in one piece although a stream was asked for."""
        incoming = cls(_Nothing(), _Told(answer))
        calls = tuple({"index": index, **call} for index, call in enumerate(answer.tool_calls))
        delta = Delta(
            text=answer.content,
            reasoning=answer.reasoning or "",
            tool_calls=calls,
            finish_reason=answer.finish_reason,
        )
        incoming.said.add(delta)
        incoming._ready.append(delta)
        incoming._over = True
        return incoming

    @property
    def begun(self) -> bool:
        """The first token has come; a blank is none, since some providers send nothing else (DeepSeek, JSON mode)."""
        return self.said.begun

    async def hold(self) -> None:
        """Wait for the first token, or the end of an answer without one. Raises what keeps it from coming."""
        while not self.said.begun and not self._over:
            await self._read()
        if not self.said.begun and self._error is not None:
            raise self._error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        ready = self._ready
        while not ready:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            await self._read()
        return ready.popleft()

    def answer(self) -> Answer:
        """The whole, once the iteration has ended."""
        said, decoder = self.said, self._decoder
        return Answer(
            content="".join(said.text),
            finish_reason=said.finish_reason or "",
            upstream_model=decoder.upstream_model,
            usage=decoder.usage or Usage(),
            tool_calls=tuple(said.tool_calls),
            reasoning="".join(said.reasoning) or None,
            thinking_blocks=decoder.thinking_blocks,
        )

    def spent(self, input_tokens: int) -> Usage:
        """What has been used so far when no end will tell: as reported, else as estimated and observed."""
        told = self._decoder.usage or Usage()
        observed = self.said.tokens()
        return msgspec.structs.replace(
            told,
            input_tokens=input_tokens if told.input_tokens is None else told.input_tokens,
            output_tokens=max(told.output_tokens or 0, observed),
            source="estimated",
        )

    async def drain(self) -> None:
        """Read what follows the answer's end, so that its connection can be used again."""
        async for _ in self._chunks:
            pass

    async def _read(self) -> None:
        try:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._finish()
                return
            for event in self._reader.feed(chunk):
                if self._feed(event):
                    return
        except Unreachable as error:
            self._end(StreamTruncated(error.detail or "the connection broke"))
        except ProviderError as error:
            self._end(error)

    def _feed(self, event: Event) -> bool:
        """Take one event in; true when it is the last."""
        for delta in self._decoder.feed(event):
            self.said.add(delta)
            if delta.finish_reason == "stop" and self.said.tool_calls:
                # Gemini's compatible endpoint says stop beside tool calls (2026-10)
                self.said.finish_reason = "tool_calls"
                delta = msgspec.structs.replace(delta, finish_reason="tool_calls")  # noqa: PLW2901
            self._ready.append(delta)
        if self._decoder.ended:
            self._end(self.said.wrong())
        return self._decoder.ended

    def _finish(self) -> None:
        """The body is at its end, with or without a blank line behind the last event."""
        if self._reader.pending and self._feed(Event(self._reader.unfinished)):
            return
        self._end(self.said.wrong())

    def _end(self, error: ProviderError | None) -> None:
        self._over = True
        self._error = error


class _Told:
    """Implements `StreamDecoder` for an answer that is all there."""

    ended = True

    def __init__(self, answer: Answer) -> None:
        self.upstream_model = answer.upstream_model
        self.usage: Usage | None = answer.usage
        self.thinking_blocks = answer.thinking_blocks

    def feed(self, event: Event) -> Sequence[Delta]:
        raise NotImplementedError


class _Nothing:
    """No bytes at all."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


class Collected:
    """What the deltas add up to."""

    __slots__ = ("_calls", "_latest", "begun", "finish_reason", "reasoning", "text", "tool_calls")

    def __init__(self) -> None:
        self.begun = False
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tool_calls: list[dict[str, Any]] = []
        self.finish_reason: str | None = None
        self._calls: dict[int | None, dict[str, Any]] = {}
        self._latest: int | None = None

    def add(self, delta: Delta) -> None:
        """One more."""
        if delta.text:
            self.text.append(delta.text)
            self.begun = self.begun or not delta.text.isspace()
        if delta.reasoning:
            self.reasoning.append(delta.reasoning)
            self.begun = self.begun or not delta.reasoning.isspace()
        for piece in delta.tool_calls:
            self.begun = True
            self._add_tool_call(piece)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason

    def wrong(self) -> ProviderError | None:
        """Why this, ended here, is no answer."""
        if self.finish_reason is None:
            if not self.begun:
                return StreamTruncated("the stream ended without a word")
            return StreamTruncated("the stream ended without a finish_reason")
        blank = not self.tool_calls and not "".join(self.text).strip()
        return BlankReply("there is no text in it") if blank and self.finish_reason == "stop" else None

    def tokens(self) -> int:
        """Estimated."""
        calls = [str(call[_FUNCTION]) for call in self.tool_calls]
        return estimate_tokens("".join(self.text + self.reasoning + calls))

    def _add_tool_call(self, piece: dict[str, Any]) -> None:
        call = self._call(piece)
        told = piece.get(_FUNCTION)
        if isinstance(told, dict):
            arguments = told.get("arguments") or ""
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            call[_FUNCTION]["name"] = told.get("name") or call[_FUNCTION]["name"]
            call[_FUNCTION]["arguments"] += text

    def _call(self, piece: dict[str, Any]) -> dict[str, Any]:
        """The call this piece is of: pieces of one call share an index.

        Gemini's compatible endpoint sends whole calls without one, and Ollama counts every call as 0
        (ollama/ollama#15457, 2026-06): there another id with a name begins another call.
        """
        index, id_ = piece.get("index"), piece.get("id")
        if not isinstance(index, int):
            index = None if id_ else self._latest
        call = self._calls.get(index)
        named = isinstance(piece.get(_FUNCTION), dict) and piece[_FUNCTION].get("name")
        if call is None or (id_ and named and call["id"] not in ("", id_)):
            call = {"id": "", "type": "function", _FUNCTION: {"name": "", "arguments": ""}}
            self.tool_calls.append(call)
        call["id"] = id_ or call["id"]
        self._calls[index], self._latest = call, index
        return call
