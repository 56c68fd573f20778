"""The scripted provider, which users' tests stand on."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from turnout import errors
from turnout.providers.base import Request, Timeouts
from turnout.providers.scripted import SAYS, ScriptedTransport, Turn

if TYPE_CHECKING:
    from tests.conftest import MakeClient

HI = [{"role": "user", "content": "one two"}]


async def test_it_says_what_it_is(make_client: MakeClient) -> None:
    """Without a script the reply admits that no model wrote it."""
    async with make_client() as client:
        reply = await client.call("scripted", HI)
    assert (reply.content, reply.provider, reply.cost_usd) == (SAYS, "scripted", Decimal(0))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (2, len(SAYS.split()))


async def test_turns_are_played_in_order_and_the_last_repeats(make_client: MakeClient) -> None:
    """A model's turns come in order; what was asked is kept for the test to read."""
    script = ScriptedTransport({"scripted": ["first", Turn(text="last", usage={"prompt_tokens": 5})]})
    async with make_client(transports={"scripted": script}) as client:
        said = [(await client.call("scripted", HI)).content for _ in range(3)]
    assert said == ["first", "last", "last"]
    assert [body["model"] for body in script.seen] == ["scripted"] * 3


async def test_faults(make_client: MakeClient) -> None:
    """A status, a refused connection, a body and a delay each happen as scripted, and a retry gets past them."""
    script = ScriptedTransport({"scripted": [Turn(status=500, text="boom"), Turn(refused=True), "fine"]})
    async with make_client(transports={"scripted": script}) as client:
        reply = await client.call("scripted", HI)
    assert [attempt.outcome for attempt in reply.attempts] == ["server_error", "connect_error", "ok"]
    script = ScriptedTransport({"scripted": [Turn(body=b"<html>"), Turn(delay=60)]})
    async with make_client(transports={"scripted": script}) as client:
        with pytest.raises(errors.AllProvidersFailed) as caught:
            await client.call("scripted", HI, timeout=1.2)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["html_reply", "timeout"]


async def test_chunks() -> None:
    """The body can also be had in pieces."""
    transport = ScriptedTransport({"m": [Turn(body=b"abc")]})
    request = Request(url="scripted:", body=b'{"model":"m","messages":[]}', headers={})
    async with await transport.send(request, Timeouts()) as response:
        assert [chunk async for chunk in response.chunks()] == [b"abc"]
