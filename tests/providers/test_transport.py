"""The transport where all goes well: what is sent, what comes back, what happens to the connection."""

from __future__ import annotations

import asyncio
import gzip
import random
import select
import ssl
import threading
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp.http
import pytest
import trustme
from aiohttp.base_protocol import BaseProtocol
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.providers import fuzz
from tests.providers.raw import CANARY, CHUNKED, Peer, always, chunk, ok, post, serve
from turnout.errors import EndpointMisconfigured, OversizedReply, ProviderTimeout, Unreachable
from turnout.providers.base import Request, Response, Timeouts, Transport
from turnout.providers.dial import default_context
from turnout.providers.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOON = 5.0
PATIENT = Timeouts(connect=10, first_byte=10, idle=10, total=30)


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """A transport that leaves nothing open."""
    transport = HttpTransport()
    yield transport
    await transport.close()


async def fetch(transport: Transport, url: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a call."""
    async with await transport.send(post(url, b"{}", **headers), PATIENT) as response:
        return response.status, await response.read()


# what is sent


async def test_request_bytes(transport: HttpTransport) -> None:
    """The request on the wire is the caller's, with host, length and the refusal of codings added."""
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(ok(b"fine", b"X-One: 1"))

    async with serve(script) as server:
        request = Request(
            url=f"{server.url}/v1/chat?a=b#end",
            body=b'{"q": 1}',
            headers={"Authorization": "k", "x-é".replace("é", "e"): "ü"},
        )
        async with await transport.send(request, PATIENT) as response:
            assert (response.status, dict(response.headers), await response.read()) == (
                200,
                {"x-one": "1", "content-length": "4"},
                b"fine",
            )
        assert seen == [
            b"POST /v1/chat?a=b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-length: 8\r\n"
            b"accept-encoding: identity\r\nAuthorization: k\r\nx-e: \xfc\r\n\r\n"
            b'{"q": 1}' % server.port
        ]


async def test_get_has_no_length(transport: HttpTransport) -> None:
    """A GET without a body says nothing of a length, and the caller's accept-encoding stands."""
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(ok(b""))

    async with serve(script) as server:
        request = Request(url=server.url, body=b"", headers={"Accept-Encoding": "gzip"}, method="GET")
        async with await transport.send(request, PATIENT) as response:
            assert await response.read() == b""
        assert seen == [
            b"GET / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nAccept-Encoding: gzip\r\n\r\n" % server.port
        ]


@pytest.mark.parametrize(
    "headers",
    [
        {"x": f"{CANARY}\r\nhost: evil"},
        {"x": f"{CANARY}\n"},
        {"x": f"{CANARY}\0"},
        {"x": f"{CANARY}\x7f"},
        {"x": f"{CANARY}\u20ac"},
        {f"{CANARY} x": "1"},
        {f"{CANARY}\r\nx": "1"},
        {"": CANARY},
        {"Content-Length": CANARY},
        {"transfer-encoding": CANARY},
        {"host": CANARY},
    ],
)
async def test_header_injection(transport: HttpTransport, headers: dict[str, str]) -> None:
    """A header that could end its line or frame the request otherwise is refused unsent, its value unnamed."""
    async with serve(always(ok(b""))) as server:
        with pytest.raises(ValueError, match="header") as caught:
            await transport.send(Request(url=server.url, body=b"", headers=headers), PATIENT)
        assert server.connections == 0
    assert CANARY not in repr(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "http://h/a b",
        "http://h/\r\nx: y",
        "http://h/\0",
        "http://h/é",
        "http://user:canary@h/",
        "ftp://h/",
        "h/path",
        "http:///path",
        "http://h:99999/",
    ],
)
async def test_bad_url(transport: HttpTransport, url: str) -> None:
    """A URL that cannot be sent as it stands is refused."""
    with pytest.raises(ValueError, match=r"URL|ort") as caught:
        await transport.send(Request(url=url, body=b"", headers={}), PATIENT)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "post", "GET\r\nx: y", ""])
async def test_bad_method(transport: HttpTransport, method: str) -> None:
    """A method whose reply is framed otherwise, or that is none, is refused."""
    with pytest.raises(ValueError, match="method"):
        await transport.send(Request(url="http://h/", body=b"", headers={}, method=method), PATIENT)


# what comes back


@pytest.mark.parametrize(
    ("wire", "status", "body", "kept"),
    [
        (ok(b"hello"), 200, b"hello", True),
        (ok(b""), 200, b"", True),
        (CHUNKED + chunk(b"hel") + chunk(b"lo") + b"0\r\n\r\n", 200, b"hello", True),
        (CHUNKED + b"5;x=y\r\nhello\r\n0\r\ntrailer: 1\r\n\r\n", 200, b"hello", True),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", True),
        (ok(b"hello", b"connection: close"), 200, b"hello", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", 304, b"", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + ok(b"hello"),
            200,
            b"hello",
            True,
        ),
        (b"HTTP/1.1 302 Found\r\nlocation: http://evil/\r\ncontent-length: 0\r\n\r\n", 302, b"", True),
        (b"HTTP/1.1 429\r\ncontent-length: 2\r\n\r\nno", 429, b"no", True),
        (ok(b"hello", b"upgrade: h2,h2c", b"connection: upgrade, keep-alive"), 200, b"hello", True),
        (ok(b"hello") + b"HTTP/1.1 200 OK\r\n", 200, b"hello", False),
        (ok(b"hello") + b"rubbish", 200, b"hello", False),
    ],
)
async def test_bodies(transport: HttpTransport, wire: bytes, status: int, body: bytes, kept: bool) -> None:
    """Every framing gives its body, and the connection lives on exactly if both sides allow it."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(wire)
            if wire.startswith(b"HTTP/1.1 200 OK\r\n\r\n"):
                return

    async with serve(script) as server:
        for _ in range(2):
            assert await fetch(transport, server.url) == (status, body)
        assert server.connections == (1 if kept else 2)


async def test_caller_wants_close(transport: HttpTransport) -> None:
    """A caller who says `connection: close` gets a connection of its own, whatever the server would allow."""
    async with serve(always(ok(b"x"))) as server:
        for _ in range(2):
            await fetch(transport, server.url, connection="close")
        assert server.connections == 2


async def test_repeated_headers(transport: HttpTransport) -> None:
    """Headers that come twice are joined, names are lower-case, blanks around values are gone."""
    async with (
        serve(always(ok(b"", b"Vary: a", b"VARY:b \t", b"Empty:"))) as server,
        await transport.send(post(server.url), PATIENT) as response,
    ):
        assert response.headers == {"vary": "a, b", "empty": "", "content-length": "0"}


def _raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        (b"gzip", gzip.compress(b"hello" * 1000, mtime=0)),
        (b"X-GZIP", gzip.compress(b"hello" * 1000, mtime=0)),
        (b"deflate", zlib.compress(b"hello" * 1000)),
        (b"deflate", _raw_deflate(b"hello" * 1000)),
        (b"identity", b"hello" * 1000),
    ],
)
async def test_inflates(transport: HttpTransport, coding: bytes, coded: bytes) -> None:
    """A compressed body is inflated as it comes, one byte at a time included."""
    pieces = b"".join(chunk(coded[at : at + 1]) for at in range(len(coded)))
    wire = CHUNKED[:-2] + b"content-encoding: " + coding + b"\r\n\r\n" + pieces + b"0\r\n\r\n"
    async with serve(always(wire)) as server:
        assert await fetch(transport, server.url) == (200, b"hello" * 1000)
        async with await transport.send(post(server.url), PATIENT) as response:
            assert b"".join([piece async for piece in response.chunks()]) == b"hello" * 1000
        assert server.connections == 1


async def test_each_chunk_at_once(transport: HttpTransport) -> None:
    """A piece of the body is given as soon as it has come, not when more follows."""
    heard = asyncio.Queue[bytes]()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for number in range(20):
            await peer.send(chunk(b"%d" % number))
            assert await asyncio.wait_for(heard.get(), SOON) == b"%d" % number
        await peer.send(b"0\r\n\r\n")

    async with serve(script) as server, await transport.send(post(server.url), PATIENT) as response:
        async for piece in response.chunks():
            heard.put_nowait(piece)
    assert heard.empty()


async def test_read_once(transport: HttpTransport) -> None:
    """A body can be read once: a second reading is a mistake, not an empty body."""
    async with serve(always(ok(b"x"))) as server, await transport.send(post(server.url), PATIENT) as response:
        await response.read()
        with pytest.raises(RuntimeError, match="only once"):
            await response.read()
        with pytest.raises(RuntimeError, match="only once"):
            response.chunks()


# the pool


@pytest.mark.parametrize("limit", [1, 3])
async def test_pool_is_bounded_and_fair(limit: int) -> None:
    """No more connections than allowed, and who waits longest is served first."""
    transport, served = HttpTransport(connections=limit), []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            served.append(request.rpartition(b"\r\n\r\n")[2])
            await peer.send(ok(b"x"))

    async def call(number: int) -> None:
        async with await transport.send(post(server.url, b"%02d" % number), PATIENT) as response:
            await response.read()

    async with serve(script) as server:
        await asyncio.gather(*(call(number) for number in range(30)))
        assert server.connections == limit
        every = [b"%02d" % number for number in range(30)]
        assert served == every if limit == 1 else sorted(served) == every
        await transport.close()


async def test_waiter_passes_its_turn() -> None:
    """Waiters that are cancelled or time out leave the queue; the next one gets the connection."""
    transport, release = HttpTransport(connections=1), asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await release.wait()
            await peer.send(ok(b"x"))

    async with serve(script) as server:
        first = asyncio.create_task(fetch(transport, server.url))
        cancelled = asyncio.create_task(fetch(transport, server.url))
        hasty = asyncio.create_task(transport.send(post(server.url), Timeouts(total=0.05)))
        patient = asyncio.create_task(fetch(transport, server.url))
        with pytest.raises(ProviderTimeout, match=r"total deadline .* waiting for a free connection"):
            await hasty
        cancelled.cancel()
        release.set()
        assert await first == await patient == (200, b"x")
        assert cancelled.cancelled()
        assert server.connections == 1
        await transport.close()


async def test_cancelled_on_its_turn() -> None:
    """A waiter cancelled in the very moment it is given a connection hands it on."""
    transport, go = HttpTransport(connections=1), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        await go.wait()
        await peer.send(chunk(b"first") + b"0\r\n\r\n")
        while await peer.request():
            await peer.send(ok(b"x"))

    async with serve(script) as server:
        async with await transport.send(post(server.url), PATIENT) as response:
            waiting = [asyncio.create_task(fetch(transport, server.url)) for _ in range(3)]
            await asyncio.sleep(0)  # they queue
            go.set()
            assert await response.read() == b"first"
            # the connection is granted to the first waiter, whose task has not run yet
            waiting[0].cancel()
        assert await waiting[1] == await waiting[2] == (200, b"x")
        assert waiting[0].cancelled()
        assert server.connections == 1
        await transport.close()


async def test_idle_connections_expire() -> None:
    """An idle connection is closed when its own time is over, without another call."""
    transport, both, gone = HttpTransport(keep=0.2), asyncio.Barrier(2), asyncio.Queue[int]()

    async def script(peer: Peer) -> None:
        await peer.request()
        await both.wait()
        await peer.send(ok(b"x"))
        while await peer.request():
            await peer.send(ok(b"x"))
        gone.put_nowait(peer.number)

    async with serve(script) as server:
        await asyncio.gather(fetch(transport, server.url), fetch(transport, server.url))
        await asyncio.sleep(0.1)
        await fetch(transport, server.url)
        assert sorted([await asyncio.wait_for(gone.get(), SOON) for _ in range(2)]) == [0, 1]
        await transport.close()


async def test_readable_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no poll (Windows), select tells a live connection from a dead one."""
    monkeypatch.delattr(select, "poll")
    await test_pool_is_bounded_and_fair(limit=1)


async def test_close_ends_everything(transport: HttpTransport) -> None:
    """`close` ends idle connections, replies under way and waiters; a later call opens anew."""
    transport = HttpTransport(connections=1)

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(CHUNKED + chunk(b"a") if peer.number == 0 else ok(b"b"))

    async with serve(script) as server:
        async with await transport.send(post(server.url), PATIENT) as response:
            waiter = asyncio.create_task(fetch(transport, server.url))
            await asyncio.sleep(0)  # it queues
            pieces = response.chunks()
            assert await anext(pieces) == b"a"
            await transport.close()
            for failed in (anext(pieces), waiter):
                with pytest.raises(Unreachable, match="transport was closed"):
                    await failed
        assert await fetch(transport, server.url) == (200, b"b")
        await transport.close()
        await transport.close()


def test_forgets_closed_loops() -> None:
    """A loop that ended without `close` is forgotten when the next one comes."""
    transport = HttpTransport()

    async def session() -> None:
        async with serve(always(ok(b"x", b"connection: close"))) as server:
            await fetch(transport, server.url)

    for _ in range(3):
        asyncio.run(session())
        assert len(transport._shares) == 1


def test_serves_many_loops() -> None:
    """One transport serves a loop after another, and several at once."""
    transport = HttpTransport()

    async def session() -> bytes:
        async with serve(always(ok(b"x"))) as server:
            bodies = [(await fetch(transport, server.url))[1] for _ in range(3)]
            assert server.connections == 1
            await transport.close()
        return b"".join(bodies)

    for _ in range(3):
        assert asyncio.run(session()) == b"xxx"
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(asyncio.run(session()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [b"xxx"] * 4


async def test_ipv6(transport: HttpTransport) -> None:
    """An IPv6 literal is an address like any other."""
    async with serve(always(ok(b"six")), host="::1") as server:
        assert await fetch(transport, server.url) == (200, b"six")


async def test_localhost_by_name(transport: HttpTransport) -> None:
    """A host name is resolved, and tried address by address."""
    async with serve(always(ok(b"x"))) as server:
        assert await fetch(transport, f"http://localhost:{server.port}/") == (200, b"x")


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority nobody else trusts."""
    return trustme.CA()


@pytest.fixture
def tls_server(authority: trustme.CA) -> ssl.SSLContext:
    """For a server called provider.test, at 127.0.0.1 and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
async def trusting(authority: trustme.CA) -> AsyncIterator[HttpTransport]:
    """A transport that trusts that authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    transport = HttpTransport(ssl_context=context)
    yield transport
    await transport.close()


async def test_tls(trusting: HttpTransport, tls_server: ssl.SSLContext) -> None:
    """TLS verifies, names the host, and keeps the connection for the next call."""
    names: list[str | None] = []
    tls_server.sni_callback = lambda _socket, name, _context: names.append(name)
    async with serve(always(ok(b"secret")), tls=tls_server) as server:
        for _ in range(3):
            assert await fetch(trusting, f"https://localhost:{server.port}") == (200, b"secret")
        assert (server.connections, names) == (1, ["localhost"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tls_untrusted(transport: HttpTransport, tls_server: ssl.SSLContext, host: str) -> None:
    """A certificate of an unknown authority is refused before a byte of the request, with a hint."""
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())

    async with serve(script, tls=tls_server) as server:
        with pytest.raises(EndpointMisconfigured, match=r"certificate .* was not accepted") as caught:
            await fetch(transport, f"https://{host}:{server.port}")
    assert "CA" in caught.value.hint
    assert not any(seen)


async def test_tls_wrong_name(trusting: HttpTransport, authority: trustme.CA) -> None:
    """A certificate for another host is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.test").configure_cert(context)
    async with serve(always(ok(b"x")), tls=context) as server:
        with pytest.raises(EndpointMisconfigured, match="not valid for"):
            await fetch(trusting, server.url)


async def test_tls_spoken_to_plain(trusting: HttpTransport) -> None:
    """A server that does not speak TLS is unreachable."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serve(script) as server:
        with pytest.raises(Unreachable, match="TLS handshake failed"):
            await fetch(trusting, server.url.replace("http:", "https:"))


async def test_tls_cut_body(trusting: HttpTransport, tls_server: ssl.SSLContext) -> None:
    """A body without a length, ended by anything but a TLS farewell, is cut short (RFC 9112, 9.8)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        if peer.number == 0:
            peer.writer.close()
            await peer.writer.wait_closed()
        else:
            peer.writer.transport.abort()

    async with serve(script, tls=tls_server) as server:
        assert await fetch(trusting, server.url) == (200, b"hello")
        with pytest.raises(Unreachable, match="in the middle of the body"):
            await fetch(trusting, server.url)


def test_one_context() -> None:
    """The default TLS context is made once."""
    assert default_context() is default_context()
    assert default_context().verify_mode is ssl.CERT_REQUIRED
    assert default_context().check_hostname


# many at once, and much at once


async def test_a_thousand_streams(transport: HttpTransport) -> None:
    """A thousand streams at once, each of its own content, and none sees another's."""
    everyone = asyncio.Barrier(1000)

    async def script(peer: Peer) -> None:
        request = await peer.request()
        nonce = request.rpartition(b"\r\n\r\n")[2]
        await peer.send(CHUNKED + chunk(nonce))
        await everyone.wait()
        for number in range(5):
            await peer.send(chunk(b",%b-%d" % (nonce, number)))
        await peer.send(b"0\r\n\r\n")

    async def stream(number: int) -> None:
        nonce = b"nonce-%d" % number
        async with await transport.send(post(server.url, nonce), PATIENT) as response:
            body = b"".join([piece async for piece in response.chunks()])
        assert body == nonce + b"".join(b",%b-%d" % (nonce, part) for part in range(5))

    async with serve(script) as server:
        await asyncio.gather(*(stream(number) for number in range(1000)))


async def test_flood_with_stalled_caller() -> None:
    """600 MB offered to a caller that does not read: the server is held back after a few MB, then all comes."""
    transport = HttpTransport(max_stream=1 << 30)
    piece, offered = bytes(1 << 20), 0
    moved = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal offered
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (600 * len(piece)))
        for _ in range(600):
            await peer.send(piece)
            offered += len(piece)
            moved.set()

    async def settled() -> int:
        while True:
            moved.clear()
            try:
                await asyncio.wait_for(moved.wait(), 0.3)
            except TimeoutError:
                return offered

    async with serve(script) as server:
        async with await transport.send(post(server.url), PATIENT) as response:
            assert await settled() < 16 * len(piece)
            assert response.held < 2 * len(piece)
            got = 0
            async for data in response.chunks():
                got += len(data)
        assert got == 600 * len(piece)
        await transport.close()


async def test_bomb() -> None:
    """A small reply that inflates beyond the cap is refused, and what was inflated on the way stays small."""
    transport = HttpTransport(max_body=1 << 20, max_stream=3 << 20)
    bomb = gzip.compress(bytes(100 << 20))
    async with serve(always(ok(bomb, b"content-encoding: gzip"))) as server:
        with pytest.raises(OversizedReply, match="larger than 1048576 bytes"):
            await fetch(transport, server.url)
        async with await transport.send(post(server.url), PATIENT) as response:
            pieces = response.chunks()
            for _ in range(12):
                assert len(await anext(pieces)) == 256 * 1024
            with pytest.raises(OversizedReply, match="larger than 3145728 bytes"):
                await anext(pieces)
        await transport.close()


@pytest.mark.parametrize("wire", [ok(bytes(2000)), CHUNKED + chunk(bytes(2000)) + b"0\r\n\r\n"])
async def test_body_cap(wire: bytes) -> None:
    """A body beyond the cap is refused, announced or not; one of just that size is read."""
    tight, exact = HttpTransport(max_body=1999), HttpTransport(max_body=2000)
    async with serve(always(wire)) as server:
        with pytest.raises(OversizedReply):
            await fetch(tight, server.url)
        assert await fetch(exact, server.url) == (200, bytes(2000))
        await tight.close()
        await exact.close()


# against other readers of HTTP


def test_fuzz_slice() -> None:
    """Damaged replies, cut anywhere: one outcome for every cut, and never read otherwise than h11 reads them."""
    assert fuzz.run(5000) == 5000


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(min_value=10**9, max_value=10**12))
def test_like_h11(seed: int) -> None:
    """A reply in good order, cut anywhere, is to h11 what it is to us."""
    rng = random.Random(seed)  # noqa: S311
    intact = fuzz.meant(rng)
    pieces = fuzz.cut(rng, intact.wire)
    assert fuzz.carry(pieces) == fuzz.carry_h11(pieces) == intact.outcome


def aiohttp_reads(pieces: list[bytes]) -> fuzz.Outcome:
    """The same exchange as aiohttp reads it."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_aiohttp_reads(pieces, loop))
    finally:
        loop.close()


async def _aiohttp_reads(pieces: list[bytes], loop: asyncio.AbstractEventLoop) -> fuzz.Outcome:
    protocol = BaseProtocol(loop)
    parser: Any = aiohttp.http.HttpResponseParser(
        protocol, loop, 1 << 16, read_until_eof=True, response_with_body=True, auto_decompress=True
    )
    final: Any = None
    try:
        for piece in pieces:
            for message, payload in parser.feed_data(piece)[0]:
                if message.code >= 200 and final is None:
                    final = (message, payload)
        parser.feed_eof()
    except (aiohttp.http.HttpProcessingError, aiohttp.ClientPayloadError) as error:
        return fuzz.Outcome(0, (), b"", type(error).__name__)
    if final is None:
        return fuzz.Outcome(0, (), b"", "nothing")
    message, payload = final
    if payload.exception() is not None or not payload.is_eof():
        return fuzz.Outcome(0, (), b"", "incomplete")
    fields = [(name, value.strip(b" \t")) for name, value in message.raw_headers]
    return fuzz.Outcome(message.code, fuzz.joined(fields), await payload.read(), "")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(min_value=10**9, max_value=10**12))
def test_like_aiohttp(seed: int) -> None:
    """A reply in good order, cut anywhere, is to aiohttp what it is to us (but aiohttp knows no x-gzip)."""
    rng = random.Random(seed)  # noqa: S311
    intact = fuzz.meant(rng)
    assume(b"x-gzip" not in intact.wire)
    pieces = fuzz.cut(rng, intact.wire)
    assert fuzz.carry(pieces) == aiohttp_reads(pieces) == intact.outcome


def test_is_a_transport() -> None:
    """The classes are what the protocols ask for, by the type checker's word."""
    transport: Transport = HttpTransport()
    response: type[Response] | None = None
    assert (transport, response) == (transport, None)
