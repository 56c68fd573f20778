"""The server: reads requests, chooses a fault for each, and keeps a log of both sides."""

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

from tests.toxic.exchange import Exchange, Seen
from tests.toxic.faults import UnknownFaultError, find
from tests.toxic.peer import Peer
from tests.toxic.wire import SENTENCE, dumps, error, head

ROUTES = {("POST", "/chat/completions"), ("POST", "/embeddings"), ("GET", "/models")}
Replies = Callable[[dict[str, Any]], str]


class Toxic:
    """An OpenAI-compatible server that misbehaves on demand, on a free port of the loopback.

    A request's fault is, first hit wins: 400-reasoning where `enforce_reasoning` finds the rule broken
    (the script keeps its place), the script, the request's model (`toxic-hang`, `any/toxic:hang`), the
    path (`/toxic/hang/v1/chat/completions`), `default`.
    """

    def __init__(
        self,
        default: str = "ok",
        *,
        replies: Replies | None = None,
        enforce_reasoning: bool = False,
        port: int = 0,
        longest: float = 60.0,
    ) -> None:
        self.default = default
        self.replies = replies
        self.enforce_reasoning = enforce_reasoning
        self.longest = longest
        self.requests: list[Seen] = []
        self.closed_at: dict[int, float] = {}
        self.connections = 0
        self._port = port
        self._script: deque[str] = deque()
        self._gates: dict[int, asyncio.Barrier] = {}
        self._answering: set[int] = set()
        self._peers: set[Peer] = set()
        self._failures: list[BaseException] = []
        self._changed = asyncio.Event()
        self._stopping = False

    @property
    def default(self) -> str:
        """The fault of a request for which nothing else is chosen."""
        return self._default

    @default.setter
    def default(self, name: str) -> None:
        find(name)
        self._default = name

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._peers)

    @property
    def open_numbers(self) -> set[int]:
        """Which connections are open now, as `Seen.connection` numbers them."""
        return {peer.number for peer in self._peers}

    @property
    def answering(self) -> set[int]:
        """On which of them an answer is under way."""
        return set(self._answering)

    def script(self, *faults: str) -> None:
        """Give the next requests these faults in order."""
        for name in faults:
            find(name)
        self._script.extend(faults)

    def url_of(self, fault: str) -> str:
        """Give a base URL below which every request gets this fault."""
        find(fault)
        return f"{self.url}/toxic/{fault}"

    async def until(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        """Wait for a condition, looked at whenever a request, a close or an end is noted."""
        async with asyncio.timeout(within):
            while not holds():
                await self._changed.wait()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", self._port, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End every connection at once; raise what a fault or a test's own callback raised."""
        self._stopping = True
        self._server.close()
        peers = list(self._peers)
        for peer in peers:
            peer.task.cancel()
            peer.abort()
        await asyncio.gather(*(peer.task for peer in peers), return_exceptions=True)
        await self.until(lambda: not self._peers)
        await self._server.wait_closed()
        if self._failures:
            raise self._failures.pop(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _accept(self) -> Peer:
        self.connections += 1
        return Peer(self.connections, self._begin, self._note)

    def _begin(self, peer: Peer) -> asyncio.Task[None]:
        self._peers.add(peer)
        if self._stopping:
            peer.abort()
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._failures.append(failure)

    def _note(self, peer: Peer | None = None) -> None:
        if peer is not None and peer.closed_at is not None:
            self.closed_at[peer.number] = peer.closed_at
        if peer is not None and peer.lost.is_set():
            self._peers.discard(peer)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _serve(self, peer: Peer) -> None:
        fresh = True
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while not peer.ended:
                    await self._answer_next(peer, fresh=fresh)
                    fresh = False
        finally:
            peer.close()

    async def _answer_next(self, peer: Peer, *, fresh: bool) -> None:
        method, path, headers, body = await _read(peer)
        chosen, route = _locate(path)
        asked = _parse(body)
        name = self._choose(method, route, asked, chosen)
        seen = Seen(method, path, headers, body, asked, name, peer.number, time.monotonic())
        self.requests.append(seen)
        self._answering.add(peer.number)
        self._note()
        try:
            await self._answer(seen, peer, route, fresh=fresh)
        finally:
            self._answering.discard(peer.number)
            self._note()
        if headers.get("connection", "").lower() == "close" and not peer.ended:
            peer.close()

    def _choose(self, method: str, route: str, asked: Any, chosen: str | None) -> str:
        if route.startswith("/redirected"):
            return "ok"
        if (method, route) not in ROUTES:
            return "404"
        if self.enforce_reasoning and breaks_reasoning_rule(asked):
            return "400-reasoning"
        if self._script:
            return self._script.popleft()
        return _from_model(asked) or chosen or self.default

    async def _answer(self, seen: Seen, peer: Peer, route: str, *, fresh: bool) -> None:
        asked = seen.json if isinstance(seen.json, dict) else {}
        text = self.replies(asked) if self.replies and route == "/chat/completions" else SENTENCE
        try:
            fault, count = find(seen.fault)
        except UnknownFaultError as unknown:
            talk = Exchange(seen, peer, route, text, len(self.requests), 0, fresh, self._gates)
            await talk.plain(599, dumps(error(str(unknown), "unknown_fault")))
            return
        try:
            async with asyncio.timeout(self.longest):
                serial = len(self.requests)
                await fault.run(Exchange(seen, peer, route, text, serial, count, fresh, self._gates))
        except TimeoutError:
            peer.abort()


def last_words(asked: dict[str, Any]) -> str:
    """Answer with the last message, for `replies`."""
    return str(asked["messages"][-1]["content"])


@contextlib.contextmanager
def refused_url() -> Iterator[str]:
    """Give a URL at which every connection is refused: the port is bound, nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


class ToxicThread(Toxic):
    """The same server on a thread and loop of its own, for tests that have no loop."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="toxic", daemon=True)
        self._thread.start()
        self._run(self.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def wait(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        """Wait for a condition, as `until` does."""
        self._run(self.until(holds, within))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


def breaks_reasoning_rule(asked: Any) -> bool:
    """Whether a history with tools lacks the reasoning DeepSeek wants back (thinking_mode guide, 2026-10)."""
    if not isinstance(asked, dict) or not asked.get("tools"):
        return False
    if (asked.get("thinking") or {}).get("type") == "disabled":
        return False
    turns = [turn for turn in asked.get("messages", []) if turn.get("role") == "assistant"]
    return any(turn.get("reasoning_content") is None for turn in turns)


async def _read(peer: Peer) -> tuple[str, str, dict[str, str], bytes]:
    reader = peer.reader
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _version = first.split(" ")
    headers: dict[str, str] = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        key, value = name.strip().lower(), value.strip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        await peer.send(head(100, []))
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return method, path, headers, await _read_chunks(reader)
    return method, path, headers, await reader.readexactly(int(headers.get("content-length", "0")))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _locate(path: str) -> tuple[str | None, str]:
    """Split a path into the fault it names and the route."""
    named = re.match(r"/toxic/([^/?]+)(/.*)?$", path)
    chosen, rest = (named[1], named[2] or "/") if named else (None, path)
    return chosen, re.sub(r"^/(v1|beta)(?=/)", "", rest.partition("?")[0])


def _from_model(asked: Any) -> str | None:
    model = str(asked.get("model", "")) if isinstance(asked, dict) else ""
    named = re.search(r"toxic:([\w-]+)", model) or re.fullmatch(r"toxic-([\w-]+)", model)
    return named[1] if named else None
