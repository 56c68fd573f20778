"""From an origin to an open connection: name, TCP, TLS, each failure in words."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
from typing import TYPE_CHECKING

from aiohappyeyeballs import start_connection

from turnout.errors import EndpointMisconfigured, NameNotResolved, Unreachable
from turnout.providers.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout.providers.request_head import Origin

    Address = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[str, int]]

_SECOND_ADDRESS_AFTER = 0.25  # RFC 8305, 5
_UNBOUNDED = 3600.0  # the connect deadline ends a handshake; the loop's own limit must not come first


@functools.cache
def default_context() -> ssl.SSLContext:
    """The one TLS context of the process: making one costs more than 10 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def resolve(origin: Origin) -> Sequence[Address]:
    """The addresses of a host. Raises `NameNotResolved`."""
    family = _family(origin.host)
    if family is not None:
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (origin.host, origin.port))]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NameNotResolved(f"{origin.host} ({error.strerror or 'unknown'})") from None
    except UnicodeError:
        raise NameNotResolved(f"{origin.host} (not a host name)") from None
    return found  # type: ignore[return-value] # typeshed has wider address tuples than TCP ever gets


def _family(host: str) -> socket.AddressFamily | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family
    return None


async def dial(origin: Origin, addresses: Sequence[Address], context: ssl.SSLContext | None) -> Connection:
    """Connect. Raises `Unreachable`, or `EndpointMisconfigured` for a certificate that does not verify."""
    try:
        connection, transport = await _connect(origin, addresses)
    except (OSError, RuntimeError) as error:  # uvloop turns some connect failures into RuntimeError
        raise Unreachable(f"{origin}: {_words(error)}") from None
    if origin.secure:
        await _secure(connection, transport, context or default_context())
    if connection.gone:
        raise Unreachable(f"{origin} closed the connection at once")
    return connection


async def _secure(connection: Connection, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
    origin = connection.origin
    try:
        await _handshake(connection, transport, context)
    except BaseException as error:
        transport.abort()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise _untrusted(origin, error) from None
        if isinstance(error, OSError):
            raise Unreachable(f"{origin}: the TLS handshake failed ({_words(error)})") from None
        raise


async def _connect(origin: Origin, addresses: Sequence[Address]) -> tuple[Connection, asyncio.Transport]:
    loop = asyncio.get_running_loop()
    sock = await start_connection(addresses, happy_eyeballs_delay=_SECOND_ADDRESS_AFTER, interleave=1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(origin, sock)
    # shielded: uvloop, cancelled here, closes the descriptor behind the back of `sock`
    opening = asyncio.ensure_future(loop.create_connection(lambda: connection, sock=sock))
    try:
        transport, _ = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_abandon)
        raise
    return connection, transport


def _abandon(opening: asyncio.Future[tuple[asyncio.Transport, Connection]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()


async def _handshake(connection: Connection, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
    # not create_connection(ssl=...): that closes a hanging handshake politely, in its own time
    secured = await asyncio.get_running_loop().start_tls(
        transport,
        connection,
        context,
        server_hostname=connection.origin.host,
        ssl_handshake_timeout=_UNBOUNDED,
    )
    if secured is None:
        raise ConnectionResetError("closed during the handshake")
    connection.connection_made(secured)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown reason").replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _untrusted(origin: Origin, error: ssl.SSLCertVerificationError) -> EndpointMisconfigured:
    return EndpointMisconfigured(
        f"the certificate of {origin} was not accepted: {error.verify_message}",
        hint="Check the base URL and the clock; a private CA belongs into the transport's SSL context.",
    )
