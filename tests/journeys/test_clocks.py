"""Deadlines: each fires when it should, and by no clock that can be set."""

from __future__ import annotations

import asyncio
import time
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from tests.journeys.oracle import PROVE
from tests.toxic import Toxic
from turnout import errors

if TYPE_CHECKING:
    from tests.conftest import MakeClient
    from turnout.wiring import LLMClient

HI = [{"role": "user", "content": "hi"}]
TOTAL, FIRST_TOKEN, IDLE = "1.2", "0.6", "0.4"
HOUR = 3_600
LATE = 0.1 if PROVE else 0.5
"""Seconds beyond 10 %: in `make test` the machine may have other things to do."""


@pytest.fixture(params=["steady", "jumping"])
def _clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock as it is, or one that is an hour early or late whenever it is looked at."""
    if request.param == "steady":
        return
    real, jumps = time.time_ns, cycle((0, HOUR, -HOUR))
    monkeypatch.setattr(time, "time_ns", lambda: real() + next(jumps) * 10**9)
    monkeypatch.setattr(time, "time", lambda: real() / 1e9 + next(jumps))


def hurried(make_client: MakeClient, server: Toxic, transport: str = "turnout", **env: str) -> LLMClient:
    """A client with short deadlines and nobody behind the server."""
    deadlines = {
        "TURNOUT_TIMEOUT": TOTAL,
        "TURNOUT_FIRST_TOKEN_TIMEOUT": FIRST_TOKEN,
        "TURNOUT_IDLE_TIMEOUT": IDLE,
    }
    return make_client(DEEPSEEK_BASE_URL=server.url, TURNOUT_TRANSPORT=transport, **deadlines | env)


def assert_within(seconds: float, deadline: str) -> None:
    """Not before it, and at most a tenth after it."""
    limit = float(deadline)
    assert limit - 0.05 <= seconds <= limit * 1.1 + LATE


def ways(*faults: str) -> list[tuple[str, str]]:
    """Each of them on both transports."""
    return [(fault, transport) for fault in faults for transport in ("turnout", "aiohttp")]


@pytest.mark.usefixtures("_clock")
async def test_total_deadline(make_client: MakeClient) -> None:
    """An answer that never is complete ends at the call's deadline, however busy the server looks."""

    async def ends(fault: str, transport: str) -> None:
        async with Toxic(fault) as server, hurried(make_client, server, transport) as client:
            began = time.monotonic()
            with pytest.raises(errors.AllProvidersFailed) as caught:
                await client.call("deepseek-chat", HI)
            assert_within(time.monotonic() - began, TOTAL)
        assert caught.value.status == 504
        assert_within(caught.value.attempts[0].seconds, TOTAL)

    endless = ways("hang", "trickle-headers", "stall-headers", "trickle-body", "slow-loris")
    await asyncio.gather(*(ends(*way) for way in endless))


@pytest.mark.usefixtures("_clock")
async def test_first_token_deadline(make_client: MakeClient) -> None:
    """A stream without a token ends at the deadline for it, and another model is asked at once."""

    async def falls(fault: str, transport: str) -> None:
        async with Toxic(fault) as server, Toxic() as second:
            env = {"OPENAI_BASE_URL": second.url, "TURNOUT_TIMEOUT": "9"}
            async with hurried(make_client, server, transport, **env) as client:
                began = time.monotonic()
                deltas = client.stream("dojo", HI)
                await anext(deltas)
                took = time.monotonic() - began
                *_, last = [delta async for delta in deltas]
        # silence after the head is idle before it is late
        deadline = IDLE if fault in {"stall-first-byte", "stream-stall-early"} else FIRST_TOKEN
        assert_within(took, deadline)
        assert last.reply is not None
        assert_within(last.reply.attempts[0].seconds, deadline)
        assert last.reply.fallback_reason == "timeout"

    silent = ways("hang", "trickle-headers", "stream-comments-500", "stall-first-byte", "stream-stall-early")
    await asyncio.gather(*(falls(*way) for way in silent))


@pytest.mark.usefixtures("_clock")
async def test_deadlines_after_the_first_token(make_client: MakeClient) -> None:
    """Silence half-way ends at the idle deadline, and talk without end at the total one."""

    async def breaks(fault: str, transport: str) -> None:
        async with Toxic(fault) as server, hurried(make_client, server, transport) as client:
            began = time.monotonic()
            deltas = client.stream("dojo", HI)
            await anext(deltas)
            with pytest.raises(errors.ProviderTimeout) as caught:
                async for _ in deltas:
                    pass
            assert_within(time.monotonic() - began, IDLE if fault == "stream-stall-mid" else TOTAL)
        attempt = caught.value.attempts[0]
        assert (attempt.outcome, attempt.usage is None) == ("timeout", False)

    await asyncio.gather(*(breaks(*way) for way in ways("stream-stall-mid", "stream-endless")))


async def test_a_streams_deadline_is_the_calls(make_client: MakeClient) -> None:
    """A stream that had to fail over first has what was left of the call's own timeout, and no more."""
    async with Toxic("hang") as server, Toxic("stream-endless") as second:
        env = {"OPENAI_BASE_URL": second.url, "TURNOUT_TIMEOUT": "9"}
        async with hurried(make_client, server, **env) as client:
            began = time.monotonic()
            with pytest.raises(errors.ProviderTimeout) as caught:
                async for _ in client.stream("dojo", HI, timeout=1.2):
                    pass
            assert_within(time.monotonic() - began, "1.2")
    assert [attempt.provider for attempt in caught.value.attempts] == ["deepseek", "openai"]


@pytest.mark.usefixtures("_clock")
async def test_pauses_are_not_the_wall_clocks(make_client: MakeClient) -> None:
    """What Retry-After asks for is waited for, and no more, whatever the wall clock does meanwhile."""
    async with Toxic() as server:
        server.script("429-retry-after")
        async with hurried(make_client, server, TURNOUT_TIMEOUT="3") as client:
            began = time.monotonic()
            reply = await client.call("deepseek-chat", HI)
            assert_within(time.monotonic() - began, "1.0")
    assert [attempt.outcome for attempt in reply.attempts] == ["rate_limit", "ok"]
    assert all(0 <= attempt.seconds < 1 for attempt in reply.attempts)


@pytest.mark.usefixtures("_clock")
async def test_a_benched_key_stays_benched(make_client: MakeClient) -> None:
    """A refused key is not tried again because the wall clock has leapt over its bench."""
    async with Toxic() as server:
        server.script("401")
        async with make_client(DEEPSEEK_BASE_URL=server.url, DEEPSEEK_API_KEY="sk-one,sk-two") as client:
            for _ in range(6):
                await client.call("deepseek-chat", HI)
        keys = [seen.headers["authorization"] for seen in server.requests]
    assert sorted(map(keys.count, set(keys))) == [1, 6]
