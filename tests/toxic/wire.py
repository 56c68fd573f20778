"""The bytes of OpenAI-compatible answers: heads, JSON bodies, server-sent events, encodings."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

JSON = "application/json"
SSE = "text/event-stream"
HTML = "text/html; charset=utf-8"
PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in.</body></html>"
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"

SENTENCE = "The points are set — line clear to Zürich, 21 °C, 到着 on time. 🚃"
PROMPT_TOKENS = 100
CACHED_TOKENS = 40
CREATED = 1_760_000_000

Headers = Iterable[tuple[str, str]]
Rewrite = Callable[[list[bytes]], list[bytes]]


def head(status: int, headers: Headers) -> bytes:
    """Build a status line and headers."""
    known = {code.value: code.phrase for code in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {known.get(status, 'Unnamed')}", *(f"{n}: {v}" for n, v in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def dumps(value: Any) -> bytes:
    """Build compact UTF-8 JSON; NaN is written as such, as careless servers do."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(value: Any) -> bytes:
    """Build one server-sent event."""
    return b"data: " + dumps(value) + b"\n\n"


def chunk(data: bytes) -> bytes:
    """Frame data as one chunk of chunked transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error(message: str, kind: str = "invalid_request_error", code: Any = None) -> dict[str, Any]:
    """Build a provider's error body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def words(text: str) -> list[str]:
    """Cut a text into the pieces a stream sends."""
    return re.findall(r"\S+\s*|\s+", text)


def usage(prompt: Any, completion: Any, total: Any, cached: Any) -> dict[str, Any]:
    """Build a usage object in OpenAI's shape."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model is said to have answered; a fault replaces some of it."""

    id: str
    model: str
    text: str | None
    finish: str | None = "stop"
    reasoning: tuple[str, ...] = ()
    reasoning_name: str = "reasoning_content"
    calls: tuple[tuple[str, str], ...] = ()
    choices: bool = True
    usages: tuple[Any, ...] | None = None
    usage_on_finish: bool = False

    @property
    def pieces(self) -> list[str]:
        """The content deltas of a stream."""
        return words(self.text or "") or ([] if self.text is None else [self.text])

    def counted(self) -> tuple[Any, ...]:
        """Give every usage object to send, in order."""
        if self.usages is not None:
            return self.usages
        completion = len(self.pieces) + len(self.reasoning)
        return (usage(PROMPT_TOKENS, completion, PROMPT_TOKENS + completion, CACHED_TOKENS),)

    def _frame(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": CREATED, "model": self.model, **fields}

    def whole(self) -> bytes:
        """Build the plain JSON answer."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message[self.reasoning_name] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = [_call(i, name, args) for i, (name, args) in enumerate(self.calls)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        body = dumps(self._frame("chat.completion", choices=[choice] if self.choices else []))
        return body[:-1] + b"".join(b',"usage":' + dumps(used) for used in self.counted()) + b"}"

    def events(self, *, include_usage: bool) -> list[bytes]:
        """Build the events of a stream, `[DONE]` included."""
        counted = self.counted() if include_usage else ()
        nulled: dict[str, Any] = {"usage": None} if include_usage else {}
        deltas = [{"role": "assistant", "content": ""}, *self._deltas()] if self.choices else []
        sent = [self._event(delta, None, **nulled) for delta in deltas]
        riding = {"usage": counted[0]} if counted and self.usage_on_finish else nulled
        sent.append(self._event({}, self.finish, **riding))
        later = () if self.usage_on_finish else counted
        sent += [sse(self._frame("chat.completion.chunk", choices=[], usage=used)) for used in later]
        return [*sent, DONE]

    def _event(self, delta: dict[str, Any], finish: str | None, **fields: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        choices = [choice] if self.choices else []
        return sse(self._frame("chat.completion.chunk", choices=choices, **fields))

    def _deltas(self) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = [{self.reasoning_name: text} for text in self.reasoning]
        deltas += [{"content": text} for text in self.pieces]
        for index, (name, arguments) in enumerate(self.calls):
            deltas.append({"tool_calls": [_call(index, name, "") | {"index": index}]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + 3]}}]}
                for at in range(0, len(arguments), 3)
            ]
        return deltas


def _call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}


def embeddings(reply: Reply, inputs: Any) -> bytes:
    """Build an embeddings answer: one short vector per input."""
    count = len(inputs) if isinstance(inputs, list) else 1
    rows = [{"object": "embedding", "index": i, "embedding": [0.5, -0.25, i / 8]} for i in range(count)]
    used = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
    counted = (used,) if reply.usages is None else reply.usages
    body = dumps({"object": "list", "data": rows if reply.choices else [], "model": reply.model})
    return body[:-1] + b"".join(b',"usage":' + dumps(one) for one in counted) + b"}"
