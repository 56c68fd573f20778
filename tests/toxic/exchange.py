"""One request being answered, and what a fault is: a coroutine that writes the answer."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.toxic.peer import Peer
from tests.toxic.wire import DONE, JSON, LAST_CHUNK, SSE, Headers, Reply, chunk, dumps, embeddings, head

BOTH = frozenset({"plain", "stream"})
STREAM = frozenset({"stream"})
PLAIN = frozenset({"plain"})
MODELS = {"object": "list", "data": [{"id": "toxic-ok", "object": "model", "owned_by": "toxic"}]}


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that was read completely."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    json: Any | None
    fault: str
    connection: int
    at: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, the connection it came on, and the ways to answer it."""

    seen: Seen
    peer: Peer
    route: str
    text: str
    serial: int
    count: int
    fresh: bool
    gates: dict[int, asyncio.Barrier]

    @property
    def asked(self) -> dict[str, Any]:
        """The request's JSON object, empty where it is none."""
        return self.seen.json if isinstance(self.seen.json, dict) else {}

    @property
    def streaming(self) -> bool:
        """Whether the request asks for a stream."""
        return self.route == "/chat/completions" and self.asked.get("stream") is True

    def reply(self, **changes: Any) -> Reply:
        """Build the sound answer with some fields changed."""
        model = str(self.asked.get("model", "toxic-ok"))
        return dataclasses.replace(Reply(f"toxic-{self.serial}", model, self.text), **changes)

    def pieces(self, reply: Reply | None = None) -> list[bytes]:
        """Build the events of a stream, or one JSON body."""
        reply = reply or self.reply()
        if self.route == "/models":
            return [dumps(MODELS)]
        if self.route == "/embeddings":
            return [embeddings(reply, self.asked.get("input"))]
        if not self.streaming:
            return [reply.whole()]
        options = self.asked.get("stream_options") or {}
        return reply.events(include_usage=options.get("include_usage") is True)

    async def plain(self, status: int, body: bytes, kind: str = JSON, headers: Headers = ()) -> None:
        """Send a whole response with its length."""
        fields = [("Content-Type", kind), ("Content-Length", str(len(body))), *headers]
        silent = self.seen.method == "HEAD"
        await self.peer.send(head(status, fields) + (b"" if silent else body))

    async def begin(self, kind: str | None = None, headers: Headers = ()) -> None:
        """Send the head of a chunked 200."""
        kind = kind or (SSE if self.streaming else JSON)
        fields = [("Content-Type", kind), ("Transfer-Encoding", "chunked"), *headers]
        await self.peer.send(head(200, fields))

    async def more(self, pieces: Sequence[bytes], gap: float = 0.0) -> None:
        """Send pieces, each a chunk of its own, `gap` seconds apart."""
        for piece in pieces:
            if gap:
                await self.peer.pause(gap)
            if piece:
                await self.peer.send(chunk(piece))

    async def gather(self) -> None:
        """Wait until `count` exchanges of this server wait here."""
        await self.gates.setdefault(self.count, asyncio.Barrier(max(1, self.count))).wait()

    async def finish(self) -> None:
        """End a chunked body properly."""
        await self.peer.send(LAST_CHUNK)

    async def deliver(self, pieces: list[bytes], kind: str | None = None, headers: Headers = ()) -> None:
        """Send a whole 200: chunked for a stream, else with its length."""
        if not self.streaming:
            await self.plain(200, b"".join(pieces), kind or JSON, headers)
            return
        await self.begin(kind, headers)
        await self.more(pieces)
        await self.finish()

    def rendered(self, headers: Headers = ()) -> tuple[bytes, bytes]:
        """Build the head and the framed body of the sound answer."""
        pieces = self.pieces()
        if self.streaming:
            fields = [("Content-Type", SSE), ("Transfer-Encoding", "chunked"), *headers]
            return head(200, fields), b"".join(map(chunk, pieces)) + LAST_CHUNK
        fields = [("Content-Type", JSON), ("Content-Length", str(len(pieces[0]))), *headers]
        return head(200, fields), pieces[0]

    async def open(self, contents: int) -> None:
        """Begin an answer and stop after some content: `contents` deltas, or half of the JSON body."""
        await self.begin()
        pieces = self.pieces()
        if self.streaming:
            await self.more(pieces[: 1 + contents])
        elif contents:
            await self.more([pieces[0][: len(pieces[0]) // 2]])

    def failing(self, payload: Any) -> list[bytes]:
        """Wrap a payload that stands where an answer should: an event and `[DONE]`, or a JSON body."""
        body = payload if isinstance(payload, bytes) else dumps(payload)
        return [b"data: " + body + b"\n\n", DONE] if self.streaming else [body]


Run = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour: what it is called, what it does, where it makes sense.

    A fault with a `count` takes another one in its name: `huge-100m`, `stream-tiny-500`.
    """

    name: str
    about: str
    run: Run
    kinds: frozenset[str] = BOTH
    count: int = 0
