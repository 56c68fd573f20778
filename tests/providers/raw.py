"""A server that says exactly what a test tells it to, byte by byte, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING

from turnout.providers.base import Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection, as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        """How many connections came before."""

    async def request(self) -> bytes:
        """The next request, head and body; empty if the client is gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        """Write, and wait while the client does not read."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        """Say no more."""
        self.writer.close()

    def reset(self) -> None:
        """Close with an RST."""
        at_once = struct.pack("ii", 1, 0)
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.writer.transport.abort()


class Served:
    """A running server."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.url = ""
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection by the script, then close it."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        peer = Peer(reader, writer, self.connections)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._script(peer)
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def stop(self) -> None:
        """End every script."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def serve(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Served]:
    """Run a script for each connection."""
    served = Served(script)
    server = await asyncio.start_server(served.accept, host, 0, ssl=tls, limit=1 << 20, backlog=1024)
    served.port = server.sockets[0].getsockname()[1]
    where = f"[{host}]" if ":" in host else host
    served.url = f"{'https' if tls else 'http'}://{where}:{served.port}"
    try:
        yield served
    finally:
        server.close()
        await served.stop()
        await server.wait_closed()


def post(url: str, body: bytes = b"{}", **headers: str) -> Request:
    """A request with a key in it that must never be seen anywhere else."""
    return Request(url=url, body=body, headers={"authorization": f"Bearer {CANARY}", **headers})


CANARY = "canary-7d1f"


def always(reply: bytes) -> Script:
    """Give every request the same reply."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(reply)

    return script


def ok(body: bytes, *headers: bytes) -> bytes:
    """A plain 200."""
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n%b" % (lines, len(body), body)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk on the wire."""
    return b"%x\r\n%b\r\n" % (len(data), data)
