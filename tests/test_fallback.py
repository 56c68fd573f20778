"""The one retry loop: order, verdicts, rounds and the deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.toxic import Toxic
from turnout import errors

if TYPE_CHECKING:
    from tests.conftest import MakeClient

HI = [{"role": "user", "content": "hi"}]


async def test_one_answer_costs_one_attempt(make_client: MakeClient) -> None:
    """A healthy first choice is asked once and nobody else is."""
    async with Toxic() as first, Toxic() as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            reply = await client.call_with_fallback("dojo", HI)
        assert (len(first.requests), len(second.requests)) == (1, 0)
    assert reply.fallback_reason is None
    assert [attempt.outcome for attempt in reply.attempts] == ["ok"]


async def test_rounds_end(make_client: MakeClient) -> None:
    """When all fail, the best candidate gets two more tries and then every attempt is listed."""
    async with Toxic("503") as first, Toxic("401") as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            with pytest.raises(errors.AllProvidersFailed) as caught:
                await client.call_with_fallback("dojo", HI)
        assert (len(first.requests), len(second.requests)) == (3, 2)
    attempts = [(attempt.model, attempt.outcome) for attempt in caught.value.attempts]
    assert attempts == [
        ("deepseek-chat", "server_error"),
        ("gpt-4o-mini", "auth_error"),
        ("gpt-6-luna", "auth_error"),
        ("deepseek-chat", "server_error"),
        ("deepseek-chat", "server_error"),
    ]
    assert caught.value.status == 502


async def test_a_later_round_can_answer(make_client: MakeClient) -> None:
    """A provider that recovers within the deadline still answers."""
    async with Toxic() as first:
        first.script("500", "500")
        async with make_client(DEEPSEEK_BASE_URL=first.url) as client:
            reply = await client.call_with_fallback("dojo", HI)
    assert [attempt.outcome for attempt in reply.attempts] == ["server_error", "server_error", "ok"]
    assert reply.cost_usd == reply.attempts[-1].cost_usd


async def test_nobody_is_asked_again_for_a_refused_key(make_client: MakeClient) -> None:
    """With only final failures there is no second round."""
    async with Toxic("402") as first:
        async with make_client(DEEPSEEK_BASE_URL=first.url) as client:
            with pytest.raises(errors.AllProvidersFailed):
                await client.call_with_fallback("dojo", HI)
        assert len(first.requests) == 1


async def test_retry_after_beyond_the_deadline_is_not_waited_for(make_client: MakeClient) -> None:
    """A huge Retry-After ends the call at once and is passed on to the caller."""
    async with Toxic("429-retry-after-huge") as first:
        async with make_client(DEEPSEEK_BASE_URL=first.url) as client:
            began = time.monotonic()
            with pytest.raises(errors.AllProvidersFailed) as caught:
                await client.call_with_fallback("dojo", HI)
    assert time.monotonic() - began < 2
    assert caught.value.retry_after == 1e9


async def test_the_deadline_is_absolute(make_client: MakeClient) -> None:
    """Every attempt and every pause together end within the call's timeout, and the status is 504."""
    async with Toxic("hang") as first, Toxic("hang") as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            began = time.monotonic()
            with pytest.raises(errors.AllProvidersFailed) as caught:
                await client.call_with_fallback("dojo", HI, timeout=1.0)
            took = time.monotonic() - began
    assert 0.9 < took < 1.0 * 1.1 + 0.1
    assert caught.value.status == 504


async def test_overflow_everywhere(make_client: MakeClient) -> None:
    """When no window is large enough the overflow itself is the error, with its attempts."""
    async with Toxic("400-overflow") as first:
        async with make_client(DEEPSEEK_BASE_URL=first.url) as client:
            with pytest.raises(errors.ContextOverflow) as caught:
                await client.call_with_fallback("dojo", HI)
        assert len(first.requests) == 1
    assert len(caught.value.attempts) == 1


async def test_a_rejection_carries_its_attempts(make_client: MakeClient) -> None:
    """A stop verdict after a failover tells of both attempts."""
    async with Toxic("500") as first, Toxic("422") as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            with pytest.raises(errors.RequestRejected) as caught:
                await client.call_with_fallback("dojo", HI)
    outcomes: list[Any] = [attempt.outcome for attempt in caught.value.attempts]
    assert outcomes == ["server_error", "rejected"]


async def test_our_own_bugs_are_not_retried(make_client: MakeClient) -> None:
    """What is no ProviderError comes out as it is, once."""

    class Broken:
        calls = 0

        async def send(self, request: Any, timeouts: Any) -> Any:
            self.calls += 1
            raise ZeroDivisionError

        async def close(self) -> None:
            """Nothing is held."""

    broken = Broken()
    async with make_client(transports={"scripted": broken}) as client:
        with pytest.raises(ZeroDivisionError):
            await client.call("scripted", HI)
    assert broken.calls == 1
