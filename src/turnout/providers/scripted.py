"""Replies and faults on demand, by model name, with no socket: dev mode without a model, tests, benchmarks."""

from __future__ import annotations

import asyncio
import re
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
    cut: int | None = None
    """A stream ends after so many words, without its end."""
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
        if turn.body is not None:
            return _Played(turn, [turn.body])
        if turn.status == 200 and body.get("stream"):
            return _Played(turn, _events(turn, body), "text/event-stream")
        return _Played(turn, [_completion(turn, body)])

    async def close(self) -> None:
        """Nothing is held."""


class _Played:
    """A reply that is all there."""

    def __init__(self, turn: Turn, pieces: list[bytes], kind: str = "application/json") -> None:
        self.status = turn.status
        self.headers: Mapping[str, str] = {"content-type": kind, **turn.headers}
        self._pieces = pieces

    async def read(self) -> bytes:
        return b"".join(self._pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""


def _completion(turn: Turn, body: Mapping[str, Any]) -> bytes:
    if turn.status != 200:
        return msgspec.json.encode({"error": {"message": turn.text, "type": "scripted", "code": None}})
    message = {"role": "assistant", "content": turn.text, "tool_calls": turn.tool_calls}
    choice = {"index": 0, "message": message, "finish_reason": turn.finish_reason}
    return msgspec.json.encode(_frame("chat.completion", body, [choice]) | {"usage": _usage(turn, body)})


def _events(turn: Turn, body: Mapping[str, Any]) -> list[bytes]:
    """The same answer word by word, or `turn.cut` words of it and no end."""
    words = re.findall(r"\s*\S+\s*$|\s*\S+", turn.text)[: turn.cut]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": w} for w in words)]
    if turn.tool_calls:
        deltas.append({"tool_calls": [{"index": at, **call} for at, call in enumerate(turn.tool_calls)]})
    choices: list[dict[str, Any]] = [{"index": 0, "delta": one, "finish_reason": None} for one in deltas]
    if turn.cut is not None:
        return [_event("chat.completion.chunk", body, [choice]) for choice in choices]
    choices.append({"index": 0, "delta": {}, "finish_reason": turn.finish_reason})
    events = [_event("chat.completion.chunk", body, [choice]) for choice in choices]
    return [*events, _event("chat.completion.chunk", body, [], usage=_usage(turn, body)), b"data: [DONE]\n\n"]


def _event(kind: str, body: Mapping[str, Any], choices: list[Any], **more: Any) -> bytes:
    return b"data: " + msgspec.json.encode(_frame(kind, body, choices) | more) + b"\n\n"


def _frame(kind: str, body: Mapping[str, Any], choices: list[Any]) -> dict[str, Any]:
    return {"id": "scripted", "object": kind, "model": body["model"], "choices": choices}


def _usage(turn: Turn, body: Mapping[str, Any]) -> dict[str, Any]:
    if turn.usage is not None:
        return turn.usage
    asked = sum(len(str(message.get("content", "")).split()) for message in body["messages"])
    answered = len(turn.text.split())
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
