"""The transport on aiohttp: proxies from the environment, odd TLS."""

from __future__ import annotations

import asyncio
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import aiohttp

from turnout.errors import (
    ConnectionLost,
    MalformedReply,
    NameNotResolved,
    OversizedReply,
    ProviderTimeout,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from types import TracebackType

    from turnout.providers.base import Request, Response, Timeouts

MAX_BODY = 32 * 1024 * 1024
"""Bytes, after decompression."""


class AiohttpTransport:
    """One session per event loop, made when first used."""

    def __init__(self, *, max_body: int = MAX_BODY) -> None:
        self._max_body = max_body
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            weakref.WeakKeyDictionary()
        )

    async def send(self, request: Request, timeouts: Timeouts) -> Response:
        """Send and wait for the head. Raises `ProviderTimeout`, `Unreachable` or `NameNotResolved`."""
        ends = time.monotonic() + timeouts.total
        patience = min(timeouts.total, timeouts.connect + timeouts.first_byte)
        with _as_ours(f"no reply within {patience:g} s"):
            async with asyncio.timeout(patience):
                reply = await self._session().request(
                    request.method,
                    request.url,
                    data=request.body,
                    headers=request.headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect),
                )
        return _Reply(reply, ends, timeouts.idle, self._max_body)

    async def close(self) -> None:
        """Close the running loop's session."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        return session


class _Reply:
    """aiohttp's response, read under our deadlines."""

    def __init__(self, reply: aiohttp.ClientResponse, ends: float, idle: float, max_body: int) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in reply.headers.items()}
        self._reply, self._ends, self._idle, self._max_body = reply, ends, idle, max_body

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        size = 0
        while chunk := await self._next():
            size += len(chunk)
            if size > self._max_body:
                raise OversizedReply(f"more than {self._max_body} bytes")
            yield chunk

    async def _next(self) -> bytes:
        left = self._ends - time.monotonic()
        what = f"nothing more for {self._idle:g} s" if self._idle < left else "the call's time is up"
        with _as_ours(what):
            async with asyncio.timeout(min(self._idle, left)):
                return await self._reply.content.readany()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reply.close()


@contextmanager
def _as_ours(late: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        slow_connect = isinstance(error, aiohttp.ConnectionTimeoutError)
        late_error = ProviderTimeout("no connection in time" if slow_connect else late)
        late_error.sent = not slow_connect
        raise late_error from None
    except aiohttp.ClientConnectorDNSError as error:
        raise NameNotResolved(str(error.os_error)) from error
    except aiohttp.ClientConnectorError as error:
        raise Unreachable(str(error.os_error)) from error
    except (aiohttp.ClientPayloadError, aiohttp.http_exceptions.ContentEncodingError) as error:
        raise ConnectionLost("the reply was cut short") from error
    except aiohttp.ClientResponseError as error:
        raise MalformedReply(f"not HTTP: {' '.join(error.message.split())}") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise ConnectionLost("the connection broke before a reply came") from error
    except ValueError as error:
        raise Unreachable(
            "the address or a header cannot be sent", hint="look for line breaks in key and URL"
        ) from error
