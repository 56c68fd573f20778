"""Streams for tests: events as OpenAI sends them, and what becomes of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.toxic.wire import sse
from turnout import errors
from turnout.providers.openai import OpenAICodec
from turnout.streaming import Incoming
from turnout.types import Answer, Delta, Model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

MODEL = Model(name="m", provider="p", upstream="m", context_window=1_000, max_output=100, default_output=10)


async def coming(pieces: Iterable[bytes], error: Exception | None = None) -> AsyncIterator[bytes]:
    """A body in pieces, and how it breaks."""
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


def incoming(*pieces: bytes, error: Exception | None = None) -> Incoming:
    """Those pieces as an answer under way."""
    return Incoming(coming(pieces, error), OpenAICodec().decoder(MODEL))


async def read(stream: Incoming) -> tuple[list[Delta], errors.ProviderError | None]:
    """Everything that it gives away, and what it ends with."""
    deltas: list[Delta] = []
    try:
        await stream.hold()
        async for delta in stream:
            deltas.append(delta)  # noqa: PERF401 - what came before the error counts
    except errors.ProviderError as error:
        return deltas, error
    return deltas, None


def whole(*pieces: bytes) -> Answer:
    """The answer of a stream that ends well."""

    async def run() -> Answer:
        stream = incoming(*pieces)
        deltas, error = await read(stream)
        assert error is None, error
        answer = stream.answer()
        assert "".join(delta.text for delta in deltas) == answer.content
        return answer

    return asyncio.run(run())


def broken(*pieces: bytes, error: Exception | None = None) -> tuple[str, errors.ProviderError]:
    """The text given away and the error of a stream that does not."""

    async def run() -> tuple[str, errors.ProviderError]:
        deltas, wrong = await read(incoming(*pieces, error=error))
        assert wrong is not None
        return "".join(delta.text for delta in deltas), wrong

    return asyncio.run(run())


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """One event of a stream."""
    return sse({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **fields})


def said(*words: str) -> bytes:
    """Events with content."""
    return b"".join(event({"content": word}) for word in words)


STOP = event(finish="stop")
