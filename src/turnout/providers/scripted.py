"""Replies and faults on demand, by model name, with no socket: dev mode without a model, tests, benchmarks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import msgspec

from turnout.errors import ProviderTimeout, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from turnout.providers.base import Request, Response, Timeouts

SAYS = "This is turnout's scripted stand-in, not a model: set DEEPSEEK_API_KEY, or install turnout[local], for answers."


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one request."""

    text: str = SAYS
    finish_reason: str = "stop"
    tool_calls: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    """As the provider would report it; counted by the word when `None`."""
    status: int = 200
    body: bytes | None = None
    """Sent as it is instead of an answer."""
    headers: dict[str, str] = {}
    delay: float = 0.0
    """Seconds before the reply."""
    refused: bool = False
    """The connection is refused."""


class ScriptedTransport:
    """Implements `Transport`. A model's turns are played in order and the last one repeats.

    `seen` holds each request's body as it came, in order. Headers are not kept: they hold keys.
    """

    def __init__(self, script: Mapping[str, Sequence[Turn | str]] | None = None) -> None:
        self._script = {
            model: [turn if isinstance(turn, Turn) else Turn(text=turn) for turn in turns]
            for model, turns in (script or {}).items()
        }
        self.seen: list[dict[str, Any]] = []

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Play the model's next turn. Raises `ProviderTimeout` or `Unreachable` where the script says so."""
        body = msgspec.json.decode(request.body)
        self.seen.append(body)
        turns = self._script.get(body["model"]) or [Turn()]
        turn = turns.pop(0) if len(turns) > 1 else turns[0]
        patience = min(timeouts.total, timeouts.first_byte)
        await asyncio.sleep(min(turn.delay, patience))
        if turn.delay > patience:
            raise ProviderTimeout(f"no reply within {patience:g} s")
        if turn.refused:
            raise Unreachable("connection refused, as scripted")
        return _Played(turn, _completion(turn, body) if turn.body is None else turn.body)

    async def close(self) -> None:
        """Nothing is held."""


class _Played:
    """A reply that is all there."""

    def __init__(self, turn: Turn, body: bytes) -> None:
        self.status = turn.status
        self.headers: Mapping[str, str] = turn.headers
        self._body = body

    async def read(self) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""


def _completion(turn: Turn, body: Mapping[str, Any]) -> bytes:
    if turn.status != 200:
        return msgspec.json.encode({"error": {"message": turn.text, "type": "scripted", "code": None}})
    asked = sum(len(str(message.get("content", "")).split()) for message in body["messages"])
    answered = len(turn.text.split())
    usage = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
    message = {"role": "assistant", "content": turn.text, "tool_calls": turn.tool_calls}
    return msgspec.json.encode(
        {
            "id": "scripted",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": turn.finish_reason}],
            "usage": usage if turn.usage is None else turn.usage,
        }
    )
