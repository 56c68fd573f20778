"""CPU time of a whole `client.call` and of a streamed chunk, beside raw aiohttp, httpx and the openai SDK, in one run.

    python -m benchmarks.overhead [--rounds 7] [--calls 2000] [--loop asyncio]

The provider runs in a process of its own; what counts is the user and system time of this process. Everybody decodes
the answer: the raw clients with msgspec, the SDK with what it brings. Believe the ratios rather than the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import httpx
import msgspec
import openai

from benchmarks.measure import cpu_per_unit, report
from turnout.providers.base import Request, Timeouts
from turnout.providers.sse import EventReader
from turnout.providers.transport import HttpTransport
from turnout.settings import load_settings
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CHUNKS = 64
SAYS = "a word of it "
MESSAGES = [{"role": "system", "content": "s" * 900}, {"role": "user", "content": "q" * 900}]
HEADERS = {"authorization": "Bearer benchmark", "content-type": "application/json"}
USAGE = {
    "prompt_tokens": 450,
    "completion_tokens": CHUNKS,
    "total_tokens": 450 + CHUNKS,
    "prompt_tokens_details": {"cached_tokens": 0},
}


def _frame(kind: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
    body = {"id": "b", "object": kind, "created": 1_790_000_000, "model": "gpt-4o-mini", "choices": choices}
    return msgspec.json.encode(body | more)


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + _frame("chat.completion.chunk", [choice]) + b"\n\n"


_MESSAGE = {"role": "assistant", "content": SAYS * CHUNKS}
_ANSWER = _frame("chat.completion", [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}], usage=USAGE)
_PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_ANSWER),
    _ANSWER,
)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENTS = [
    *[_event({"content": SAYS}) for _ in range(CHUNKS)],
    _event({}, "stop")
    + b"data: "
    + _frame("chat.completion.chunk", [], usage=USAGE)
    + b"\n\ndata: [DONE]\n\n",
]


class _Provider(asyncio.Protocol):
    """Answers a POST of known size at once, or event by event, a millisecond apart, when its body asks for a stream."""

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self._held) < end + 4 + length:
                return
            body, self._held = self._held[end + 4 : end + 4 + length], self._held[end + 4 + length :]
            if b'"stream":true' in body.replace(b" ", b""):
                self._transport.write(_STREAM)
                self._send(0)
            else:
                self._transport.write(_PLAIN)

    def _send(self, at: int) -> None:
        if self._transport.is_closing():
            return
        last = at == len(_EVENTS) - 1
        framed = b"%x\r\n%b\r\n" % (len(_EVENTS[at]), _EVENTS[at])
        self._transport.write(framed + b"0\r\n\r\n" if last else framed)
        if not last:
            asyncio.get_running_loop().call_later(0.001, self._send, at + 1)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Provider, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


class _Completion(msgspec.Struct):
    choices: list[dict[str, Any]]


def _text(body: bytes) -> int:
    choices = msgspec.json.decode(body, type=_Completion).choices
    return len(choices[0]["message"]["content"])


class _Counted:
    """What a raw client does to a stream."""

    def __init__(self) -> None:
        self._reader = EventReader()
        self.size = 0

    def feed(self, piece: bytes) -> None:
        for event in self._reader.feed(piece):
            if event.data == b"[DONE]":
                continue
            for choice in msgspec.json.decode(event.data, type=_Completion).choices:
                self.size += len(choice["delta"].get("content", ""))


Verbs = tuple["Callable[[], Awaitable[int]]", "Callable[[], Awaitable[int]]"]


def _bodies() -> tuple[bytes, bytes]:
    body = {"model": "gpt-4o-mini", "messages": MESSAGES}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body), msgspec.json.encode(body | options)


def _walk(client: LLMClient) -> Verbs:
    async def plain() -> int:
        return len((await client.call("gpt-4o-mini", MESSAGES)).content)

    async def stream() -> int:
        size = 0
        async for delta in client.stream("dojo", MESSAGES, model="gpt-4o-mini"):
            size += len(delta.text)
        return size

    return plain, stream


def _transport(transport: HttpTransport, url: str) -> Verbs:
    plain_body, stream_body = _bodies()
    timeouts = Timeouts()

    async def plain() -> int:
        request = Request(url=f"{url}/chat/completions", body=plain_body, headers=HEADERS)
        async with await transport.send(request, timeouts) as response:
            return _text(await response.read())

    async def stream() -> int:
        request = Request(url=f"{url}/chat/completions", body=stream_body, headers=HEADERS)
        counted = _Counted()
        async with await transport.send(request, timeouts) as response:
            async for piece in response.chunks():
                counted.feed(piece)
        return counted.size

    return plain, stream


def _aiohttp(session: aiohttp.ClientSession, url: str) -> Verbs:
    plain_body, stream_body = _bodies()

    async def plain() -> int:
        async with session.post(f"{url}/chat/completions", data=plain_body, headers=HEADERS) as response:
            return _text(await response.read())

    async def stream() -> int:
        counted = _Counted()
        async with session.post(f"{url}/chat/completions", data=stream_body, headers=HEADERS) as response:
            async for piece in response.content.iter_any():
                counted.feed(piece)
        return counted.size

    return plain, stream


def _httpx(client: httpx.AsyncClient, url: str) -> Verbs:
    plain_body, stream_body = _bodies()

    async def plain() -> int:
        response = await client.post(f"{url}/chat/completions", content=plain_body, headers=HEADERS)
        return _text(response.content)

    async def stream() -> int:
        counted = _Counted()
        asked = client.stream("POST", f"{url}/chat/completions", content=stream_body, headers=HEADERS)
        async with asked as response:
            async for piece in response.aiter_raw():
                counted.feed(piece)
        return counted.size

    return plain, stream


def _openai(client: openai.AsyncOpenAI) -> Verbs:
    messages: Any = MESSAGES

    async def plain() -> int:
        reply = await client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        return len(reply.choices[0].message.content or "")

    async def stream() -> int:
        size = 0
        chunks = await client.chat.completions.create(
            model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in chunks:
            for choice in chunk.choices:
                size += len(choice.delta.content or "")
        return size

    return plain, stream


@contextlib.asynccontextmanager
async def _everybody(url: str, home: Path) -> AsyncIterator[dict[str, Verbs]]:
    settings = load_settings(environ={"TURNOUT_HOME": str(home), "OPENAI_BASE_URL": url}, folder=home)
    transport = HttpTransport()
    same = aiohttp.ClientTimeout(total=120, sock_connect=5, sock_read=120)
    async with (
        LLMClient(settings) as client,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=same) as session,
        httpx.AsyncClient(limits=httpx.Limits(max_connections=None), trust_env=False) as plain,
        openai.AsyncOpenAI(base_url=url, api_key="benchmark", max_retries=0) as sdk,
    ):
        yield {
            "client.call": _walk(client),
            "transport": _transport(transport, url),
            "aiohttp": _aiohttp(session, url),
            "httpx": _httpx(plain, url),
            "openai SDK": _openai(sdk),
        }
        await transport.close()


async def _measure(url: str, rounds: int, calls: int, home: Path) -> None:
    plain: dict[str, list[float]] = {}
    stream: dict[str, list[float]] = {}
    size = len(SAYS) * CHUNKS
    async with _everybody(url, home) as everybody:
        for number in range(rounds + 1):  # the first one warms up and does not count
            for name, (call, streamed) in everybody.items():
                share = 8 if name in {"httpx", "openai SDK"} else 1
                used = await cpu_per_unit(call, max(64, calls // share), size, 1)
                read = await cpu_per_unit(streamed, max(32, calls // 24 // share), size, CHUNKS)
                if number:
                    plain.setdefault(name, []).append(used)
                    stream.setdefault(name, []).append(read)
    report("us of CPU per plain call", plain, "client.call")
    report("us of CPU per streamed chunk", stream, "client.call")


def main() -> None:
    """Start the provider, measure, report."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--calls", type=int, default=2000)
    options.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen, _ = options.parse_known_args()
    factory = asyncio.new_event_loop
    if chosen.loop == "uvloop":
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    if chosen.serve:
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve())
        return
    command = [sys.executable, "-m", "benchmarks.overhead", "--serve", "--loop", chosen.loop]
    with (
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,  # noqa: S603
    ):
        try:
            url = f"http://127.0.0.1:{server.stdout.readline().strip() if server.stdout else ''}"
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(_measure(url, chosen.rounds, chosen.calls, Path(home)))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
