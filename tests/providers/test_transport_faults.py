"""The transport where things go wrong: each failure is the right error, in time, and leaves nothing open."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.providers.raw import CANARY, CHUNKED, Peer, Served, always, chunk, ok, post, serve
from turnout.errors import (
    ConnectionLost,
    MalformedReply,
    NameNotResolved,
    ProviderError,
    ProviderTimeout,
    Unreachable,
)
from turnout.providers.base import Timeouts
from turnout.providers.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SOON = 5.0
PATIENT = Timeouts(connect=10, first_byte=10, idle=10, total=30)


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """A transport that leaves nothing open."""
    transport = HttpTransport()
    yield transport
    await transport.close()


async def fetch(
    transport: HttpTransport, url: str, timeouts: Timeouts = PATIENT, body: bytes = b"{}"
) -> tuple[int, bytes]:
    """Status and body of a call."""
    async with await transport.send(post(url, body), timeouts) as response:
        return response.status, await response.read()


async def failure(transport: HttpTransport, url: str, timeouts: Timeouts = PATIENT) -> ProviderError:
    """The error of a call, which tells no key."""
    with pytest.raises(ProviderError) as caught:
        await fetch(transport, url, timeouts)
    assert CANARY not in f"{caught.value!r} {caught.value} {caught.value.args} {caught.value.hint}"
    return caught.value


# no connection


async def test_refused(transport: HttpTransport) -> None:
    """Nobody listens there: unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    error = await failure(transport, f"http://127.0.0.1:{port}")
    assert type(error) is Unreachable
    assert "refused" in error.detail


async def test_no_such_name(transport: HttpTransport) -> None:
    """A name that does not resolve says so."""
    error = await failure(transport, "http://nowhere.invalid/", Timeouts(connect=20))
    assert type(error) is NameNotResolved
    assert "nowhere.invalid" in error.detail


async def test_impossible_name(transport: HttpTransport) -> None:
    """So does one that cannot be a name at all."""
    assert type(await failure(transport, f"http://{'a' * 70}.invalid/")) is NameNotResolved


# cut short, or not HTTP


async def once(peer: Peer, wire: bytes) -> None:
    """Answer one request and close."""
    await peer.request()
    await peer.send(wire)


@pytest.mark.parametrize(
    ("wire", "kind", "words"),
    [
        (b"", ConnectionLost, "before a whole head"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", ConnectionLost, "before a whole head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionLost, "before a whole head"),
        (ok(b"hello")[:-1], ConnectionLost, "in the middle of the body"),
        (CHUNKED + b"5\r\nhel", ConnectionLost, "in the middle of the body"),
        (CHUNKED + chunk(b"hello"), ConnectionLost, "in the middle of the body"),
        (CHUNKED + chunk(b"hello") + b"0\r\n", ConnectionLost, "in the middle of the body"),
        (CHUNKED + b"5\r\nhelloX", MalformedReply, "not HTTP"),
        (CHUNKED + b"g\r\nhello\r\n", MalformedReply, "not HTTP"),
        (CHUNKED + b"-5\r\nhello\r\n", MalformedReply, "not HTTP"),
        (CHUNKED + b"f" * 17 + b"\r\nhello", MalformedReply, "not HTTP"),
        (b"<html>hello</html>", MalformedReply, "not HTTP"),
        (b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", MalformedReply, "HTTP/2.0"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", MalformedReply, "101"),
        (b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", MalformedReply, "status 99"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello", MalformedReply, "not HTTP"),
        (ok(b"hello", b"content-length: 4"), MalformedReply, "not HTTP"),
        (ok(b"hello", b"transfer-encoding: chunked"), MalformedReply, "not HTTP"),
        (CHUNKED.replace(b"chunked", b"gzip, chunked"), MalformedReply, "transfer-encoding"),
        (CHUNKED.replace(b"chunked", b"chunked\t"), MalformedReply, "transfer-encoding"),
        (ok(b"hello", b"a: b\r\n c"), MalformedReply, "not HTTP"),
        (ok(b"hello", b"a: b\0c"), MalformedReply, "not HTTP"),
        (ok(b"hello", b"content-encoding: br"), MalformedReply, "content-encoding"),
        (ok(b"hello", b"content-encoding: gzip, gzip"), MalformedReply, "content-encoding"),
        (ok(b"hello", b"content-encoding: gzip"), MalformedReply, "damaged"),
        (ok(b"\x1f", b"content-encoding: gzip"), MalformedReply, "compressed body is cut short"),
        (ok(b"x", b"content-encoding: deflate"), MalformedReply, "compressed body is cut short"),
        (ok(b"\x03\x00x", b"content-encoding: deflate"), MalformedReply, "bytes follow"),
    ],
)
async def test_broken_replies(
    transport: HttpTransport, wire: bytes, kind: type[ProviderError], words: str
) -> None:
    """A reply that is cut short or no HTTP is never a success, and its connection is not used again."""
    async with serve(lambda peer: once(peer, wire)) as server:
        error = await failure(transport, server.url)
        assert type(error) is kind
        assert words in error.detail
        assert "127.0.0.1" in error.detail or kind is MalformedReply


async def test_reset(transport: HttpTransport) -> None:
    """A reset before the reply, or in the middle of a body without length, is unreachable."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
            await peer.reader.read(1)
        peer.reset()

    async with serve(script) as server:
        assert "before a whole head" in (await failure(transport, server.url)).detail
        async with await transport.send(post(server.url), PATIENT) as response:
            pieces = response.chunks()
            assert await anext(pieces) == b"hello"
            transport_of(response).write(b"now")
            with pytest.raises(Unreachable, match="reset the connection in the middle"):
                await anext(pieces)


def transport_of(response: object) -> asyncio.WriteTransport:
    """The socket under a reply."""
    carrier = response._carrier  # type: ignore[attr-defined]
    found: asyncio.WriteTransport = carrier._transport
    return found


async def test_what_came_is_given_first(transport: HttpTransport) -> None:
    """A stream that breaks gives every piece it had before it raises."""
    wire = CHUNKED + chunk(b"one") + b"rubbish"
    async with (
        serve(lambda peer: once(peer, wire)) as server,
        await transport.send(post(server.url), PATIENT) as response,
    ):
        pieces = response.chunks()
        assert await anext(pieces) == b"one"
        for _ in range(2):
            with pytest.raises(MalformedReply):
                await anext(pieces)


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x-one: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 64),
        (b"HTTP/1.1 200 ", b"y" * 64),
        (CHUNKED + b"1;", b"y" * 64),
        (CHUNKED + chunk(b"x") + b"0\r\n", b"trailer: 1\r\n"),
    ],
)
@pytest.mark.parametrize("together", [1, 10_000])
async def test_endless_heads(transport: HttpTransport, start: bytes, drip: bytes, together: int) -> None:
    """What is not body is limited, wherever it comes: heads, interim heads, chunk extensions, trailers."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        for _ in range(20_000 // together):
            await peer.send(drip * together)
        await peer.gone()

    async with serve(script) as server:
        assert type(await failure(transport, server.url)) is MalformedReply


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([b"x-%d: 1" % number for number in range(200)], "200 fields"),
        ([b"x: 1"] * 200, "200 fields"),
        ([b"x: " + b"y" * 66_000], "65536 bytes"),
        ([b"x-%d: " % number + b"y" * 700 for number in range(100)], "65536 bytes"),
    ],
)
async def test_large_heads(transport: HttpTransport, fields: list[bytes], words: str) -> None:
    """A head with too many fields or bytes is refused, even if it came in one read."""
    async with serve(always(ok(b"", *fields))) as server:
        error = await failure(transport, server.url)
        assert type(error) is MalformedReply
        assert words in error.detail or "of head came" in error.detail


async def test_head_just_in_bounds(transport: HttpTransport) -> None:
    """199 fields and a length, 60 KB in all, are read, whatever the size of the body after them."""
    fields = [b"x-%d: " % number + b"y" * 290 for number in range(199)]
    async with serve(always(ok(bytes(500_000), *fields))) as server:
        assert await fetch(transport, server.url) == (200, bytes(500_000))


# deadlines


async def took(waiting: Awaitable[ProviderError], limit: float, words: str) -> None:
    """The call fails with a timeout after its limit, not much later, and says which it was."""
    start = monotonic()
    error = await waiting
    elapsed = monotonic() - start
    assert type(error) is ProviderTimeout
    assert words in error.detail
    assert limit <= elapsed < limit * 1.1 + 0.3  # 60 ms on a free machine, which this may not be


async def silent(peer: Peer) -> None:
    """Take a request and say nothing."""
    await peer.request()
    await peer.gone()


async def test_first_byte_deadline(transport: HttpTransport) -> None:
    """Silence after the request ends at the first-byte deadline, and the connection closes."""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await silent(peer)
        closed.set()

    async with serve(script) as server:
        timeouts = Timeouts(first_byte=0.2)
        await took(failure(transport, server.url, timeouts), 0.2, "first byte deadline of 0.2 s")
        await asyncio.wait_for(closed.wait(), SOON)


async def drip(peer: Peer, start: bytes, piece: bytes) -> None:
    """Send a piece every 20 ms, for ever."""
    await peer.request()
    await peer.send(start)
    while True:
        await peer.send(piece)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("piece", [b"x", b"x-one: 1\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_trickled_head(transport: HttpTransport, piece: bytes) -> None:
    """A head that comes in drips does not push the first-byte deadline on."""
    start = b"HTTP/1.1 200 OK\r\n" if not piece.startswith(b"HTTP") else b""
    async with serve(lambda peer: drip(peer, start, piece)) as server:
        await took(failure(transport, server.url, Timeouts(first_byte=0.3)), 0.3, "first byte deadline")


async def test_idle_deadline(transport: HttpTransport) -> None:
    """A body that stops ends at the idle deadline, counted from its last byte."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(5):
            await asyncio.sleep(0.1)
            await peer.send(chunk(b"\n"))
        await peer.gone()

    async with serve(script) as server:
        await took(failure(transport, server.url, Timeouts(idle=0.2)), 0.7, "idle deadline of 0.2 s")


async def test_total_deadline(transport: HttpTransport) -> None:
    """Blank lines keep the idle deadline away, the total one comes all the same."""
    async with serve(lambda peer: drip(peer, CHUNKED, chunk(b"\n"))) as server:
        timeouts = Timeouts(idle=0.2, total=0.6)
        await took(failure(transport, server.url, timeouts), 0.6, "total deadline of 0.6 s")


async def test_total_deadline_with_stalled_caller(transport: HttpTransport) -> None:
    """A caller that does not read is not the provider's idleness, but the total deadline counts on."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n")
        await peer.send(bytes(20_000_000))

    async def read_late(server: Served) -> None:
        async with await transport.send(post(server.url), Timeouts(idle=0.1, total=0.5)) as response:
            await asyncio.sleep(0.3)
            pieces = response.chunks()
            assert await anext(pieces)
            await asyncio.sleep(0.4)
            async for _ in pieces:
                pass

    async with serve(script) as server:
        with pytest.raises(ProviderTimeout, match=r"total deadline of 0\.5 s passed while reading"):
            await read_late(server)


async def test_connect_deadline(transport: HttpTransport) -> None:
    """A TLS handshake that hangs ends at the connect deadline, and its connection closes at once."""
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.gone()
        closed.set()

    async with serve(script) as server:
        url = server.url.replace("http:", "https:")
        await took(failure(transport, url, Timeouts(connect=0.2)), 0.2, "connect deadline of 0.2 s")
        await asyncio.wait_for(closed.wait(), SOON)
        await took(failure(transport, url, Timeouts(total=0.2)), 0.2, "total deadline of 0.2 s")


async def test_slow_upload(transport: HttpTransport) -> None:
    """While the server takes its time to read a large request, its time to answer has not begun."""

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # the stream's own is a ReadTransport
        await asyncio.sleep(0.5)
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
        await peer.request()
        await peer.send(ok(b"got it"))

    async with serve(script) as server:
        timeouts = Timeouts(first_byte=0.3)
        assert await fetch(transport, server.url, timeouts, bytes(20_000_000)) == (200, b"got it")


async def test_answer_before_the_end_of_the_request(transport: HttpTransport) -> None:
    """An answer to half a request is an answer, but its connection is not used again."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        if peer.number == 0:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # as above
            await asyncio.Event().wait()

    async with serve(script) as server:
        assert await fetch(transport, server.url, body=bytes(20_000_000)) == (413, b"no")
        assert await fetch(transport, server.url) == (413, b"no")
        assert server.connections == 2


# connections that die while nobody looks


async def test_stale_race(transport: HttpTransport) -> None:
    """A server that closes each connection just after its reply loses 0 of 300 calls made at once after it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"x"))

    async with serve(script) as server:
        for _ in range(300):
            assert await fetch(transport, server.url) == (200, b"x")


async def test_stale_when_used(transport: HttpTransport) -> None:
    """A server that closes a used connection on the next request loses 0 of 300: each is sent once more."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        while await peer.request():
            requests += 1
            if requests % 3 == 2:
                peer.reset() if requests % 2 else peer.close()
                return
            await peer.send(ok(b"x"))

    async with serve(script) as server:
        for _ in range(300):
            assert await fetch(transport, server.url) == (200, b"x")


@pytest.mark.parametrize(("fresh_answers", "partial"), [(False, b""), (True, b"H")])
async def test_resent_once_only(transport: HttpTransport, fresh_answers: bool, partial: bytes) -> None:
    """Not a third time if the fresh connection fails too, and not at all once a byte of the reply has come."""
    requests: list[int] = []

    async def script(peer: Peer) -> None:
        while await peer.request():
            requests.append(peer.number)
            if len(requests) == 1:
                await peer.send(ok(b"x"))
            elif len(requests) == 2:
                await peer.send(partial)
                return
            elif not fresh_answers:
                return

    async with serve(script) as server:
        await fetch(transport, server.url)
        assert type(await failure(transport, server.url)) is ConnectionLost
    assert requests == ([0, 0] if partial else [0, 0, 1])


async def test_fresh_is_not_resent(transport: HttpTransport) -> None:
    """A fresh connection that closes without a reply may have acted on the request: it is sent only once."""
    async with serve(lambda peer: once(peer, b"")) as server:
        assert type(await failure(transport, server.url)) is ConnectionLost
        assert server.connections == 1


async def test_resent_past_other_stale_ones(transport: HttpTransport) -> None:
    """The second try takes no used connection either, even where the pool is full of them."""
    transport = HttpTransport(connections=2)
    both = asyncio.Barrier(2)

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number < 2:
            await both.wait()
        await peer.send(ok(b"x"))
        if peer.number < 2:
            await peer.request()

    async with serve(script) as server:
        await asyncio.gather(fetch(transport, server.url), fetch(transport, server.url))
        assert await fetch(transport, server.url) == (200, b"x")
        assert server.connections == 3
        await transport.close()


async def test_stale_in_a_small_pool(transport: HttpTransport) -> None:
    """Where a dead connection holds the only place, the call waits for that place, not for ever."""
    transport = HttpTransport(connections=1)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"x"))

    async with serve(script) as server:
        for _ in range(20):
            calls = [fetch(transport, server.url) for _ in range(3)]
            assert await asyncio.gather(*calls) == [(200, b"x")] * 3
        await transport.close()


async def test_bytes_while_idle(transport: HttpTransport) -> None:
    """A connection on which something came unasked carries nothing more."""
    spoken = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(ok(b"%d" % peer.number))
            await asyncio.sleep(0)
            await peer.send(ok(b"of another"))
            spoken.set()

    async with serve(script) as server:
        assert await fetch(transport, server.url) == (200, b"0")
        await asyncio.wait_for(spoken.wait(), SOON)
        assert await fetch(transport, server.url) == (200, b"1")


# callers who leave


async def closes(
    script: Callable[[Peer], Awaitable[None]], leave: Callable[[Served], Awaitable[None]]
) -> None:
    """The provider sees its connection closed as soon as the caller has left."""
    closed = asyncio.Event()

    async def watched(peer: Peer) -> None:
        await script(peer)
        await peer.gone()
        closed.set()

    async with serve(watched) as server:
        await leave(server)
        await asyncio.wait_for(closed.wait(), 1.0)


async def test_cancel_before_first_byte(transport: HttpTransport) -> None:
    """A call cancelled before the reply began closes the provider's connection at once."""
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()

    async def leave(server: Served) -> None:
        call = asyncio.create_task(fetch(transport, server.url))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    await closes(script, leave)


async def streaming(peer: Peer) -> None:
    """Begin a stream and leave it open."""
    await peer.request()
    await peer.send(CHUNKED + chunk(b"token"))


async def test_cancel_mid_stream(transport: HttpTransport) -> None:
    """So does one cancelled while it waits for the next piece, with `async with` or without."""
    reading = asyncio.Event()

    async def read(server: Served) -> None:
        response = await transport.send(post(server.url), PATIENT)
        async for _ in response.chunks():
            reading.set()

    async def leave(server: Served) -> None:
        call = asyncio.create_task(read(server))
        await reading.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    await closes(streaming, leave)


async def test_leave_early(transport: HttpTransport) -> None:
    """And leaving the `async with` after the first piece does the same; nothing more can be read then."""

    async def leave(server: Served) -> None:
        async with await transport.send(post(server.url), PATIENT) as response:
            pieces = response.chunks()
            assert await anext(pieces) == b"token"
        with pytest.raises(Unreachable, match="left before its end"):
            await anext(pieces)

    await closes(streaming, leave)


async def test_cancel_while_connecting(transport: HttpTransport) -> None:
    """A call cancelled in the TLS handshake closes the connection at once, and its place is free again."""
    transport, hello = HttpTransport(connections=1), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        hello.set()

    async def leave(server: Served) -> None:
        call = asyncio.create_task(fetch(transport, server.url.replace("http:", "https:")))
        await hello.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    await closes(script, leave)
    await transport.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_cancel_at_any_step(transport: HttpTransport, scheme: str) -> None:
    """Wherever a call is cancelled, its connection closes and its place in the pool is free again."""
    transport, open_now, emptied = HttpTransport(connections=1), 0, asyncio.Condition()

    async def script(peer: Peer) -> None:
        nonlocal open_now
        open_now += 1
        try:
            await peer.gone()
        finally:
            open_now -= 1
            async with emptied:
                emptied.notify_all()

    async with serve(script) as server:
        url = server.url.replace("http", scheme)
        for steps in range(40):
            call = asyncio.create_task(fetch(transport, url))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert type(await failure(transport, url, Timeouts(connect=0.1, first_byte=0.1))) is ProviderTimeout
        async with emptied:
            await asyncio.wait_for(emptied.wait_for(lambda: open_now == 0), SOON)
        await transport.close()


async def test_close_while_connecting(transport: HttpTransport) -> None:
    """`close` does not wait for a TLS handshake that hangs: its call fails and its connection closes."""
    hello = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        hello.set()

    async def leave(server: Served) -> None:
        call = asyncio.create_task(fetch(transport, server.url.replace("http:", "https:")))
        await hello.wait()
        await transport.close()
        with pytest.raises(Unreachable, match="transport was closed"):
            await call

    await closes(script, leave)


async def test_place_after_failure(transport: HttpTransport) -> None:
    """However a call ends, its place in the pool is free again."""
    transport = HttpTransport(connections=1)

    async def script(peer: Peer) -> None:
        while await peer.request():
            match peer.number:
                case 0:
                    await peer.send(b"rubbish\r\n")
                case 1:
                    await peer.gone()
                case 2:
                    return
                case _:
                    await peer.send(ok(b"x"))

    async with serve(script) as server:
        for kind in (MalformedReply, ProviderTimeout, ConnectionLost):
            assert type(await failure(transport, server.url, Timeouts(first_byte=0.05))) is kind
        assert await fetch(transport, server.url) == (200, b"x")
        await transport.close()


async def test_half_read_is_not_kept(transport: HttpTransport) -> None:
    """A caller that leaves a complete reply unread gives the connection back all the same."""
    async with serve(always(ok(b"x"))) as server:
        for _ in range(3):
            async with await transport.send(post(server.url), PATIENT) as response:
                assert response.status == 200
        assert server.connections == 1
