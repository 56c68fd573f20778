"""The connections to one origin: so many at most, whoever waits longest is served first."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from turnout.errors import ProviderError, Unreachable
from turnout.providers.dial import dial, resolve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from turnout.providers.connection import Connection
    from turnout.providers.dial import Address
    from turnout.providers.reply import Reply
    from turnout.providers.request_head import Origin

_ADDRESSES_FOR = 10.0  # seconds a resolved name is believed: a burst of new connections asks once


def _closed() -> Unreachable:
    return Unreachable("the transport was closed")


class Pool:
    """At most `limit` connections, opening ones included; each is idle, lent, or handed to who waits."""

    def __init__(self, origin: Origin, *, limit: int, keep: float, context: ssl.SSLContext | None) -> None:
        self._origin = origin
        self._limit = limit
        self._keep = keep
        self._context = context
        self._size = 0
        self._open: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}  # oldest first
        self._turns: deque[asyncio.Future[Connection | None]] = deque()
        self._dials: set[asyncio.Timeout] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._addresses: Sequence[Address] = ()
        self._addresses_until = 0.0
        self._emptied: asyncio.Future[None] | None = None

    def take(self) -> Connection | None:
        """An idle connection that still lives, the youngest first."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if monotonic() - connection.idle_since < self._keep and connection.alive():
                return connection
            connection.abort()
        return None

    async def acquire(self, reply: Reply, *, fresh: bool = False) -> Connection:
        """Where `take` found none: wait for one, or open one; with `fresh`, one that never carried anything."""
        first = True
        while True:
            if self._size < self._limit:
                self._size += 1
                return await self._dial(reply)
            if fresh and self._idle:
                self._idle.popitem()[0].abort()
            granted = await self._turn(reply, first=first)
            if granted is None:
                return await self._dial(reply)
            if granted.alive() and not fresh:
                return granted
            granted.abort()
            first = False

    def give_back(self, connection: Connection) -> None:
        """Lend it to whoever waits longest, or keep it for later."""
        if self._emptied is not None:
            connection.abort()
        elif not self._turns or not self._grant(connection):
            self._idle[connection] = None
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(self._keep, self._expire)

    def lost(self, connection: Connection) -> None:
        """A connection has closed: another may open in its place."""
        self._idle.pop(connection, None)
        self._open.pop(connection, None)
        self._free_place()

    async def shut(self) -> None:
        """Close everything at once."""
        if self._sweep is not None:
            self._sweep.cancel()
        loop = asyncio.get_running_loop()
        self._emptied = emptied = loop.create_future()
        for deadline in self._dials:
            deadline.reschedule(loop.time())
        for turn in self._turns:
            if not turn.done():
                turn.set_exception(_closed())
        for connection in list(self._open):
            if connection.reply is not None:
                connection.reply.fail(_closed())
            connection.abort()
        if self._size:
            await emptied

    async def _turn(self, reply: Reply, *, first: bool) -> Connection | None:
        """Wait for a connection, or for a free place: None."""
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        if first:
            self._turns.append(turn)
        else:  # its turn had come, and what it got was dead
            self._turns.appendleft(turn)
        reply.queued(turn)
        try:
            granted = await turn
            reply.dequeued()
        except BaseException:
            self._pass_on(turn)
            with suppress(ProviderError):
                reply.dequeued()
            raise
        return granted

    def _pass_on(self, turn: asyncio.Future[Connection | None]) -> None:
        if not turn.done() or turn.cancelled() or turn.exception() is not None:
            with suppress(ValueError):
                self._turns.remove(turn)
            return
        granted = turn.result()
        if granted is None:
            self._free_place()
        elif not granted.closed:
            self.give_back(granted)

    def _grant(self, what: Connection | None) -> bool:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(what)
                return True
        return False

    def _free_place(self) -> None:
        if self._emptied is None and self._grant(None):
            return
        self._size -= 1
        if self._emptied is not None and not self._size and not self._emptied.done():
            self._emptied.set_result(None)

    async def _dial(self, reply: Reply) -> Connection:
        """Open a connection in a place already counted."""
        try:
            connection = await self._within_deadline(reply)
        except BaseException:
            self._free_place()
            raise
        connection.owner = self
        self._open[connection] = None
        if connection.closed or self._emptied is not None:
            connection.abort()
            raise _closed() if self._emptied is not None else Unreachable(f"{self._origin} spoke unasked")
        return connection

    async def _within_deadline(self, reply: Reply) -> Connection:
        left, limit = reply.total_at - monotonic(), reply.timeouts.connect
        deadline = asyncio.timeout(min(left, limit))
        try:
            async with deadline:
                self._dials.add(deadline)
                if monotonic() >= self._addresses_until:
                    self._addresses = await resolve(self._origin)
                    self._addresses_until = monotonic() + _ADDRESSES_FOR
                return await dial(self._origin, self._addresses, self._context)
        except TimeoutError:
            late = reply.connect_expired(total=left < limit)
            raise _closed() if self._emptied is not None else late from None
        except Unreachable:
            self._addresses_until = 0.0
            raise
        finally:
            self._dials.discard(deadline)

    def _expire(self) -> None:
        self._sweep = None
        now = monotonic()
        for connection in list(self._idle):
            left = connection.idle_since + self._keep - now
            if left > 0:
                self._sweep = asyncio.get_running_loop().call_later(left, self._expire)
                return
            del self._idle[connection]
            connection.abort()
