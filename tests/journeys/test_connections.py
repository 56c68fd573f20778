"""Connections that are refused, or that die between two calls: one attempt each, and no call is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.journeys.oracle import Way, made
from tests.toxic import Toxic, refused_url

if TYPE_CHECKING:
    from tests.conftest import MakeClient

REUSED = ("reset-once-on-reuse", "close-on-reuse", "stale", "stale-2ms")


@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize("fault", REUSED)
async def test_a_stale_connection_is_one_attempt(make_client: MakeClient, fault: str, mode: str) -> None:
    """A kept connection that has died meanwhile is replaced within the same attempt: sent again once at most."""
    way = Way(mode, backup=True, transport="turnout")
    async with Toxic(fault) as first, Toxic() as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            for _ in range(2):
                _, came = await made(client, way)
                assert [attempt.outcome for attempt in came.attempts] == ["ok"]
        assert len(first.requests) == (3 if fault in REUSED[:2] else 2)
        assert second.requests == []


@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize("fault", REUSED)
async def test_a_stale_connection_of_aiohttp(make_client: MakeClient, fault: str, mode: str) -> None:
    """The other transport sends nothing twice: what dies on a kept connection is an attempt of its own."""
    way = Way(mode, backup=True, transport="aiohttp")
    async with Toxic(fault) as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(TURNOUT_TRANSPORT="aiohttp", **env) as client:
            came = [(await made(client, way))[1] for _ in range(2)]
        outcomes = [attempt.outcome for each in came for attempt in each.attempts]
        read = fault in REUSED[:2]
        lost = outcomes.count("connect_error")
        assert len(outcomes) - (0 if read else lost) == len(first.requests) + len(second.requests)
    assert outcomes == (["ok", "connect_error", "ok"] if read or lost else ["ok", "ok"])


@pytest.mark.parametrize("transport", ["turnout", "aiohttp"])
@pytest.mark.parametrize("mode", ["plain", "stream"])
async def test_nobody_listens(make_client: MakeClient, mode: str, transport: str) -> None:
    """A refused connection costs nothing, and the backup answers."""
    way = Way(mode, backup=True, transport=transport)
    with refused_url() as nobody:
        async with Toxic() as second:
            env = {"DEEPSEEK_BASE_URL": nobody, "OPENAI_BASE_URL": second.url}
            async with make_client(TURNOUT_TRANSPORT=transport, **env) as client:
                _, came = await made(client, way)
    assert [(attempt.outcome, attempt.usage is None) for attempt in came.attempts] == [
        ("connect_error", True),
        ("ok", False),
    ]
    assert came.attempts[0].cost_nano == 0
