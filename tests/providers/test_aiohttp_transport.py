"""The aiohttp transport against a server that misbehaves on the wire."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.toxic import Toxic, refused_url
from turnout import errors
from turnout.providers.aiohttp_transport import AiohttpTransport
from turnout.providers.base import Request, Timeouts

QUICK = Timeouts(connect=1, first_byte=0.4, idle=0.4, total=1.0)


def request(url: str) -> Request:
    """A small chat request."""
    return Request(
        url=f"{url}/v1/chat/completions", body=b'{"model":"m"}', headers={"content-type": "application/json"}
    )


async def exchange(url: str, timeouts: Timeouts = QUICK, max_body: int = 1 << 20) -> tuple[int, bytes]:
    """One exchange on a transport of its own."""
    transport = AiohttpTransport(max_body=max_body)
    try:
        async with await transport.send(request(url), timeouts) as response:
            return response.status, await response.read()
    finally:
        await transport.close()


@pytest.mark.parametrize("fault", ["ok", "gzip", "deflate", "close-delimited", "blank-lines", "103", "100"])
async def test_odd_but_right_replies_are_read(fault: str) -> None:
    """Compression, early hints, blank lines and bodies that end with the connection are all read whole."""
    async with Toxic(fault) as server:
        status, body = await exchange(server.url)
    assert status == 200
    assert b"finish_reason" in body


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", errors.Unreachable),
        ("close", errors.Unreachable),
        ("short-body", errors.Unreachable),
        ("reset-mid-body", errors.Unreachable),
        ("bad-chunk-size", errors.MalformedReply),
        ("gzip-bad", errors.Unreachable),
        ("gzip-bomb-4m", errors.OversizedReply),
        ("huge-4m", errors.OversizedReply),
        ("bad-status-line", errors.MalformedReply),
        ("header-bomb", errors.MalformedReply),
        ("hang", errors.ProviderTimeout),
        ("trickle-headers", errors.ProviderTimeout),
        ("stall-body", errors.ProviderTimeout),
        ("slow-loris", errors.ProviderTimeout),
    ],
)
async def test_wrong_replies_are_named(fault: str, error: type[Exception]) -> None:
    """Each way a connection can fail becomes the one error of ours that says so, in bounded time."""
    began = time.monotonic()
    async with Toxic(fault) as server:
        with pytest.raises(error):
            await exchange(server.url)
    assert time.monotonic() - began < 3


async def test_nobody_listens() -> None:
    """A refused connection and a name that does not resolve are told apart."""
    with refused_url() as url, pytest.raises(errors.Unreachable, match="Connect call failed"):
        await exchange(url)
    with pytest.raises(errors.NameNotResolved):
        await exchange("http://turnout.invalid:1")


async def test_redirects_are_not_followed() -> None:
    """The key goes where it was sent and nowhere else."""
    async with Toxic("302") as server:
        status, _ = await exchange(server.url)
        assert (status, len(server.requests)) == (302, 1)


async def test_line_breaks_in_a_header_are_refused() -> None:
    """A key with a line break in it is never sent, and not quoted in the error."""
    transport = AiohttpTransport()
    async with Toxic() as server:
        bad = Request(url=server.url, body=b"", headers={"authorization": "Bearer canary\r\nx: y"})
        with pytest.raises(errors.Unreachable) as caught:
            await transport.send(bad, QUICK)
        assert "canary" not in str(caught.value)
        assert server.requests == []
    await transport.close()


async def test_cancelling_closes_the_connection() -> None:
    """A call that is given up stops costing: the provider sees the connection close at once."""
    transport = AiohttpTransport()
    async with Toxic("hang") as server:
        call = asyncio.create_task(transport.send(request(server.url), Timeouts()))
        await server.until(lambda: len(server.requests) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.until(lambda: len(server.closed_at) == 1)
    await transport.close()


def test_one_transport_on_several_loops() -> None:
    """Each event loop gets connections of its own."""
    transport = AiohttpTransport()

    async def once() -> int:
        async with Toxic() as server:
            async with await transport.send(request(server.url), QUICK) as response:
                await response.read()
            await transport.close()
            return response.status

    assert [asyncio.run(once()), asyncio.run(once())] == [200, 200]
