"""The project's own HTTP/1.1 client: what a gateway cannot do without, at the cost of a few dict lookups."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from turnout.providers.deadlines import Deadlines
from turnout.providers.pool import Pool
from turnout.providers.reply import Caps, Reply
from turnout.providers.request_head import head_of, locate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from turnout.providers.base import Request, Timeouts
    from turnout.providers.request_head import Origin

_MIB = 1024 * 1024


class _Share:
    """What belongs to one event loop."""

    __slots__ = ("deadlines", "pools")

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.pools: dict[Origin, Pool] = {}


def _no_loop() -> None:
    return None


class HttpTransport:
    """Carries requests over pooled connections; implements `Transport`. One serves any number of loops.

    It follows no redirect, knows no proxy, and sends a request a second time only if a connection used before
    closed without a byte of reply. `close` it in each loop it was used in.
    """

    def __init__(
        self,
        *,
        connections: int = 1000,
        keep: float = 15.0,
        max_body: int = 32 * _MIB,
        max_stream: int = 32 * _MIB,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Limit `connections` per origin, the seconds an idle one is kept, the bytes of an inflated body."""
        self._connections = connections
        self._keep = keep
        self._caps = Caps(max_body, max_stream)
        self._context = ssl_context
        self._shares: WeakKeyDictionary[asyncio.AbstractEventLoop, _Share] = WeakKeyDictionary()
        self._recent: tuple[Callable[[], asyncio.AbstractEventLoop | None], _Share] = (_no_loop, _Share())
        self._lock = threading.Lock()

    async def send(self, request: Request, timeouts: Timeouts) -> Reply:
        """Send and wait for the head. Raises `ProviderTimeout`, `Unreachable` or `NameNotResolved`.

        A certificate that fails is `EndpointMisconfigured`, a head that is not HTTP `MalformedReply`.
        """
        target = locate(request.url)
        head, alive = head_of(request, target)
        loop = asyncio.get_running_loop()
        share = self._recent[1] if self._recent[0]() is loop else self._share(loop)
        pool = share.pools.get(target.origin) or self._new_pool(share, target.origin)
        reply = Reply(share.deadlines, timeouts, target.origin, self._caps)
        connection = pool.take() or await pool.acquire(reply)
        connection.start(reply, head, request.body, alive=alive)
        if not await reply.head():
            connection = await pool.acquire(reply, fresh=True)
            connection.start(reply, head, request.body, alive=alive)
            await reply.head()
        return reply

    async def close(self) -> None:
        """Give back every connection of the running loop; a later `send` opens new ones."""
        with self._lock:
            share = self._shares.pop(asyncio.get_running_loop(), None)
            self._recent = (_no_loop, _Share())
        for pool in share.pools.values() if share else ():
            await pool.shut()

    def _share(self, loop: asyncio.AbstractEventLoop) -> _Share:
        with self._lock:
            if loop not in self._shares:
                # its own connections would keep a closed loop, and so its key, alive
                for closed in [other for other in self._shares if other.is_closed()]:
                    del self._shares[closed]
                self._shares[loop] = _Share()
            share = self._shares[loop]
            self._recent = (ref(loop), share)
        return share

    def _new_pool(self, share: _Share, origin: Origin) -> Pool:
        pool = Pool(origin, limit=self._connections, keep=self._keep, context=self._context)
        share.pools[origin] = pool
        return pool
