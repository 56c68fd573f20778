"""Many streams at once through one client, and many that their reader leaves half-way."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.oracle import PROVE, listening, many_files
from tests.toxic import Toxic

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from tests.conftest import MakeClient
    from turnout.types import Delta
    from turnout.wiring import LLMClient

STREAMS = 1_000 if PROVE else 200
DROPS = 1_000 if PROVE else 100
SEED = 20261127
PER_STREAM = 40 * 1024
"""Bytes of memory, ours and the interpreter's."""
ROOT = Path(__file__).parent.parent.parent


@contextmanager
def another_process(*options: str) -> Iterator[str]:
    """The URL of a misbehaving server whose memory is not ours."""
    command = [sys.executable, "-m", "tests.toxic", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ask(client: LLMClient, words: str) -> AsyncGenerator[Delta, None]:
    """A stream that answers with these words."""
    return client.stream("dojo", [{"role": "user", "content": words}])


async def rest(first: Delta, stream: AsyncGenerator[Delta, None]) -> tuple[str, Any]:
    """The text of all deltas, and the reply."""
    deltas = [first, *[delta async for delta in stream]]
    return "".join(delta.text for delta in deltas), deltas[-1].reply


async def test_many_streams_at_once(make_client: MakeClient) -> None:
    """All are open at once, each ends with its own words and nobody else's, at 40 KB each.

    The last of them opens the gate at which the others wait, so the memory is that of streams under way.
    """
    many_files()
    said = [f"<{number}> is what stream {number} said </{number}>" for number in range(STREAMS)]
    with another_process("--default", f"together-{STREAMS}", "--echo") as url:
        async with make_client(DEEPSEEK_BASE_URL=url, TURNOUT_IDLE_TIMEOUT="100") as client:
            before = resident()
            began = monotonic()
            *streams, opener = [ask(client, words) for words in said]
            firsts = await asyncio.gather(*(anext(stream) for stream in streams))
            each = (resident() - before) / len(streams)
            pairs = zip([*firsts, await anext(opener)], [*streams, opener], strict=True)
            ends = await asyncio.gather(*(rest(*pair) for pair in pairs))
            seconds = monotonic() - began
    print(f"{STREAMS} streams open at once: {each / 1024:.1f} KB each, all complete after {seconds:.1f} s")
    assert [text for text, _ in ends] == said
    assert [reply.content for _, reply in ends] == said
    assert {reply.finish_reason for _, reply in ends} == {"stop"}
    assert [len(reply.attempts) for _, reply in ends] == [1] * STREAMS
    assert each <= PER_STREAM


async def left(stream: AsyncGenerator[Delta, None], how: str, deltas: int) -> float:
    """Leave a stream after so many deltas; the moment at which it was left."""
    if how == "break":
        async for _ in stream:
            deltas -= 1
            if not deltas:
                break
        return monotonic()
    if how == "aclose":
        for _ in range(deltas):
            await anext(stream)
        moment = monotonic()
        await stream.aclose()
        return moment
    begun = asyncio.Event()
    task = asyncio.create_task(read(stream, deltas, begun))
    await begun.wait()
    moment = monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return moment


async def read(stream: AsyncGenerator[Delta, None], deltas: int, begun: asyncio.Event) -> None:
    """Read on and on; `begun` once so many deltas have come."""
    for _ in range(deltas):
        await anext(stream)
    begun.set()
    async for _ in stream:
        pass


@pytest.mark.parametrize("transport", ["turnout", "aiohttp"])
async def test_many_drops(make_client: MakeClient, transport: str) -> None:
    """However a reader leaves, the provider's connection closes within a second, and the attempt is settled once."""
    chance = random.Random(SEED)  # noqa: S311
    ways = [(chance.choice(("break", "aclose", "cancel")), chance.randrange(1, 7)) for _ in range(DROPS)]
    moments: list[float] = []
    with listening() as log:
        async with Toxic("stream-endless") as server:
            env = {"DEEPSEEK_BASE_URL": server.url, "TURNOUT_TRANSPORT": transport}
            async with make_client(**env) as client:
                for at in range(0, DROPS, 50):
                    some = enumerate(ways[at : at + 50], at)
                    moments += await asyncio.gather(*(left(ask(client, f"<{n}>"), *way) for n, way in some))
                    await server.until(lambda: not server.answering, within=1.0)
    assert len(server.requests) == len(server.closed_at) == DROPS
    late = [
        server.closed_at[seen.connection] - moments[n]
        for n in range(DROPS)
        for seen in server.requests
        if f"<{n}>".encode() in seen.body
    ]
    print(
        f"{DROPS} drops, {transport}, seed {SEED}: closed {max(late) * 1_000:.0f} ms after they were left, at most"
    )
    assert len(late) == DROPS
    assert max(late) <= 1.0
    assert len({event["trace_id"] for event in log.events}) == len(log.events) == DROPS
    assert {event["outcome"] for event in log.events} == {"cancelled"}
    assert all(event["cost_nano"] > 0 for event in log.events)


@pytest.mark.parametrize("transport", ["turnout", "aiohttp"])
async def test_cancelled_before_the_first_token(make_client: MakeClient, transport: str) -> None:
    """A caller who leaves while nothing has come yet closes the connection too, and costs the estimated input."""
    with listening() as log:
        async with Toxic("hang") as server:
            env = {"DEEPSEEK_BASE_URL": server.url, "TURNOUT_TRANSPORT": transport}
            async with make_client(**env) as client:
                waiting = asyncio.create_task(anext(ask(client, "hi")))
                await server.until(lambda: bool(server.requests))
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                await server.until(lambda: not server.answering, within=1.0)
    assert [(event["outcome"], event["cost_nano"] > 0) for event in log.events] == [("cancelled", True)]
