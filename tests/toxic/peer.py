"""One accepted connection: bytes out, pauses that notice the peer's close, and the ways to end it."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable

BUFFER = 2**20


class PeerGoneError(ConnectionError):
    """The peer closed while a fault was waiting."""


class Peer(asyncio.StreamReaderProtocol):
    """A connection that knows when the other side has closed."""

    def __init__(self, number: int, serve: "Serve", changed: "Callable[[Peer], None]") -> None:
        self.number = number
        self.reader = asyncio.StreamReader(limit=BUFFER)
        self.gone = asyncio.Event()
        self.lost = asyncio.Event()
        self.closed_at: float | None = None
        self.ended = False
        self._serve = serve
        self._changed = changed
        super().__init__(self.reader, self._connected)

    def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        # With no buffer of our own, drain() means the kernel has every byte, so a reset loses none.
        writer.transport.set_write_buffer_limits(high=0)
        self.task = self._serve(self)

    def eof_received(self) -> bool:
        """Note that the peer has closed its side."""
        super().eof_received()
        self._note()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing is left of the connection."""
        super().connection_lost(exc)
        self._note()
        self.lost.set()
        self._changed(self)

    def _note(self) -> None:
        self.gone.set()
        if not self.ended and self.closed_at is None:
            self.closed_at = time.monotonic()
        self._changed(self)

    async def send(self, data: bytes) -> None:
        """Hand bytes to the kernel."""
        self.writer.write(data)
        await self.writer.drain()

    async def pause(self, seconds: float) -> None:
        """Wait, unless the peer closes first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        if self.gone.is_set():
            raise PeerGoneError

    async def stall(self) -> None:
        """Wait until the peer closes; the server bounds every fault in time."""
        await self.gone.wait()
        raise PeerGoneError

    def close(self) -> None:
        """Send what is buffered, then FIN."""
        self.ended = True
        self.writer.close()

    def reset(self) -> None:
        """Send RST: a lingering time of zero makes the kernel skip FIN."""
        self.ended = True
        raw: socket.socket | None = self.writer.get_extra_info("socket")
        if raw is not None and not self.writer.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def abort(self) -> None:
        """Drop what is buffered and close."""
        self.ended = True
        self.writer.transport.abort()


Serve = Callable[[Peer], asyncio.Task[None]]
