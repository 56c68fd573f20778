"""CPU time per call of the own transport, beside aiohttp and httpx, in one run.

    python -m benchmarks.transport [--rounds 7] [--calls 3000] [--only own,aiohttp] [--loop asyncio]

The server runs in a process of its own; what counts is the user and system time of this process. Rounds are
interleaved, so that a busy machine is busy for all alike: believe the ratio rather than the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import aiohttp
import httpx

from benchmarks.measure import IN_FLIGHT, cpu_per_unit, report
from turnout.providers.base import Request, Timeouts
from turnout.providers.sse import EventReader
from turnout.providers.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUESTION = b"q" * 1900
ANSWER = b"a" * 1100
HEADERS = {"authorization": "Bearer benchmark", "content-type": "application/json", "user-agent": "turnout"}
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"token "}}]}\n\n'
EVENTS_PER_STREAM = 64
_PLAIN = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 10:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"server: benchmark\r\nx-request-id: 0123456789abcdef\r\nx-ratelimit-remaining: 1000\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


class _Server(asyncio.Protocol):
    """Answers a POST of known size at once; a path beginning /s streams, event by event."""

    def __init__(self) -> None:
        self._held = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self._held) < end + 4 + length:
                return
            self._held = self._held[end + 4 + length :]
            if head.startswith(b"post /open"):
                self._transport.write(_STREAM + _CHUNK)
            elif head.startswith(b"post /s"):
                self._left = EVENTS_PER_STREAM
                self._transport.write(_STREAM)
                self._stream()
            else:
                self._transport.write(_PLAIN)

    def _stream(self) -> None:
        if self._transport.is_closing():
            return
        self._left -= 1
        self._transport.write(_CHUNK if self._left else _CHUNK + b"0\r\n\r\n")
        if self._left:
            asyncio.get_running_loop().call_later(0.001, self._stream)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


class Client(Protocol):
    """One of the clients compared."""

    async def plain(self) -> int:
        """Make one plain call; give the size of the answer."""
        ...

    async def stream(self) -> int:
        """Read one event stream; give the number of its events."""
        ...


class _Own:
    def __init__(self, transport: HttpTransport, url: str) -> None:
        self._transport = transport
        self._url = url
        self._timeouts = Timeouts()

    async def plain(self) -> int:
        request = Request(url=f"{self._url}/p", body=QUESTION, headers=HEADERS)
        async with await self._transport.send(request, self._timeouts) as response:
            return len(await response.read())

    async def stream(self) -> int:
        request = Request(url=f"{self._url}/s", body=QUESTION, headers=HEADERS)
        reader, events = EventReader(), 0
        async with await self._transport.send(request, self._timeouts) as response:
            async for chunk in response.chunks():
                events += len(reader.feed(chunk))
        return events


class _Aiohttp:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def plain(self) -> int:
        async with self._session.post(f"{self._url}/p", data=QUESTION, headers=HEADERS) as response:
            return len(await response.read())

    async def stream(self) -> int:
        reader, events = EventReader(), 0
        async with self._session.post(f"{self._url}/s", data=QUESTION, headers=HEADERS) as response:
            async for chunk in response.content.iter_any():
                events += len(reader.feed(chunk))
        return events


class _Httpx:
    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def plain(self) -> int:
        return len((await self._client.post(f"{self._url}/p", content=QUESTION, headers=HEADERS)).content)

    async def stream(self) -> int:
        reader, events = EventReader(), 0
        async with self._client.stream(
            "POST", f"{self._url}/s", content=QUESTION, headers=HEADERS
        ) as response:
            async for chunk in response.aiter_raw():
                events += len(reader.feed(chunk))
        return events


@contextlib.asynccontextmanager
async def _clients(url: str, only: list[str]) -> AsyncIterator[dict[str, Client]]:
    transport = HttpTransport()
    connector = aiohttp.TCPConnector(limit=0)
    # the same deadlines as the own transport has, and the fastest it gets: no total deadline, nothing inflated
    same = aiohttp.ClientTimeout(total=120, sock_connect=5, sock_read=120)
    bare = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)
    async with (
        aiohttp.ClientSession(
            connector=connector, connector_owner=False, cookie_jar=aiohttp.DummyCookieJar(), timeout=same
        ) as session,
        aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=bare, auto_decompress=False
        ) as bare_session,
        httpx.AsyncClient(limits=httpx.Limits(max_connections=None), trust_env=False) as client,
    ):
        every: dict[str, Client] = {
            "own": _Own(transport, url),
            "aiohttp": _Aiohttp(session, url),
            "aiohttp-bare": _Aiohttp(bare_session, url),
            "httpx": _Httpx(client, url),
        }
        yield {name: every[name] for name in only}
        await transport.close()


async def _measure(url: str, only: list[str], rounds: int, calls: int) -> None:
    plain: dict[str, list[float]] = {name: [] for name in only}
    stream: dict[str, list[float]] = {name: [] for name in only}
    async with _clients(url, only) as clients:
        for number in range(rounds + 1):  # the first one warms up and does not count
            for name, client in clients.items():
                share = 8 if name == "httpx" else 1
                used = await cpu_per_unit(client.plain, calls // share, len(ANSWER), 1)
                streams = max(IN_FLIGHT, calls // 24 // share)
                read = await cpu_per_unit(client.stream, streams, EVENTS_PER_STREAM, EVENTS_PER_STREAM)
                if number:
                    plain[name].append(used)
                    stream[name].append(read)
    report("us of CPU per plain call", plain)
    report("us of CPU per SSE event", stream)


async def _memory(url: str) -> None:
    """Growth of this process's memory for each live stream of the own transport."""
    transport, streams = HttpTransport(), 500
    opened = asyncio.Semaphore(0)

    async def stream() -> None:
        request = Request(url=f"{url}/open", body=QUESTION, headers=HEADERS)
        async with await transport.send(request, Timeouts()) as response:
            async for _ in response.chunks():
                opened.release()

    tasks = [asyncio.create_task(stream())]
    await opened.acquire()
    gc.collect()
    before = _resident()
    tasks += [asyncio.create_task(stream()) for _ in range(streams)]
    for _ in range(streams):
        await opened.acquire()
    gc.collect()
    print(f"KB of memory per live stream: {(_resident() - before) / streams / 1024:.1f}")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await transport.close()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _events() -> None:
    """The event reader alone, fed one event at a time and 64 at a time."""
    for count in (1, 64):
        piece, reader, rounds = EVENT * count, EventReader(), 200_000 // count
        before = time.process_time()
        for _ in range(rounds):
            reader.feed(piece)
        spent = time.process_time() - before
        print(f"event reader, {count} event(s) a chunk: {spent * 1e6 / rounds / count:.2f} us an event")


def main() -> None:
    """Start the server, measure, report."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--calls", type=int, default=3000)
    options.add_argument("--only", default="own,aiohttp,aiohttp-bare,httpx")
    options.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    factory = asyncio.new_event_loop
    if chosen.loop == "uvloop":
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    if chosen.serve:
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve())
        return
    command = [sys.executable, "-m", "benchmarks.transport", "--serve", "--loop", chosen.loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            url = f"http://127.0.0.1:{server.stdout.readline().strip() if server.stdout else ''}"
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(_memory(url))
                runner.run(_measure(url, chosen.only.split(","), chosen.rounds, chosen.calls))
        finally:
            server.terminate()
    _events()


if __name__ == "__main__":
    main()
