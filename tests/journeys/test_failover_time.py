"""How much later the first token comes when the first choice fails before it."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from tests.journeys.oracle import PROVE
from tests.toxic import Toxic, refused_url

if TYPE_CHECKING:
    from tests.conftest import MakeClient
    from turnout.wiring import LLMClient

RUNS = 30
WITHIN = 0.050 if PROVE else 0.250
"""Seconds; the claim is 50 ms, and `make test` may run on a busy machine."""
HI = [{"role": "user", "content": "hi"}]


async def first_token(client: LLMClient) -> tuple[float, str | None]:
    """Seconds until the first text has come, and why the first choice did not send it."""
    began = perf_counter()
    seconds, reason = 0.0, None
    async with client:
        async for delta in client.stream("dojo", HI):
            if delta.text and not seconds:
                seconds = perf_counter() - began
            if delta.reply is not None:
                reason = delta.reply.fallback_reason
    return seconds, reason


async def timed(client: LLMClient) -> tuple[float, str | None]:
    """Seconds a plain call takes, and why the first choice did not answer."""
    began = perf_counter()
    reply = await client.call_with_fallback("dojo", HI)
    return perf_counter() - began, reply.fallback_reason


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refused", "connect_error"),
        ("500", "server_error"),
        ("reset", "connect_error"),
        ("blank-content", "blank_reply"),
        ("stream-reset-early", "truncated"),
        ("stream-error-early", "server_error"),
    ],
)
async def test_failing_over_costs_little_time(make_client: MakeClient, fault: str, reason: str) -> None:
    """The median of 30 failed-over streams begins less than 50 ms after that of the backup alone."""
    alone, over = [], []
    with ExitStack() as stack:
        nobody = stack.enter_context(refused_url())
        async with Toxic() as first, Toxic() as second:
            url = nobody if fault == "refused" else first.url_of(fault)
            for _ in range(RUNS):
                client = make_client(OPENAI_BASE_URL=second.url, ENABLE_DEEPSEEK="false")
                alone.append((await first_token(client))[0])
                seconds, why = await first_token(
                    make_client(DEEPSEEK_BASE_URL=url, OPENAI_BASE_URL=second.url)
                )
                over.append(seconds)
                assert why == reason
    added = median(over) - median(alone)
    print(
        f"{fault}: backup alone {median(alone) * 1e3:.1f} ms, failed over +{added * 1e3:.1f} ms (median of {RUNS})"
    )
    assert added < WITHIN


async def test_an_open_circuit_costs_next_to_nothing(make_client: MakeClient) -> None:
    """Once the first choice's circuit is open it is not asked, and the median call takes less than 5 ms more."""
    alone: list[float] = []
    past: list[float] = []
    async with Toxic("500") as first, Toxic() as second:
        client = make_client(OPENAI_BASE_URL=second.url, ENABLE_DEEPSEEK="false")
        sick = make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url)
        async with client, sick:
            while not any(one.state == "open" for one in sick.health()):
                await sick.call_with_fallback("dojo", HI)
            asked = len(first.requests)
            for _ in range(RUNS):
                alone.append((await timed(client))[0])
                seconds, reason = await timed(sick)
                past.append(seconds)
                assert reason == "circuit_open"
        assert len(first.requests) == asked == 5
    added = median(past) - median(alone)
    print(
        f"open circuit: backup alone {median(alone) * 1e3:.1f} ms, past it +{added * 1e3:.2f} ms (median of {RUNS})"
    )
    assert added < (0.005 if PROVE else 0.1)
