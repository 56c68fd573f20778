"""Several keys of one provider: rotation, benching, and no word of them anywhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tests.toxic import Toxic
from turnout import errors
from turnout.registry.endpoints import Endpoint
from turnout.routing.health import Keys
from turnout.routing.keys import pause
from turnout.settings import load_settings
from turnout.types import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeClient
    from tests.routing.conftest import SetClock

HI = [{"role": "user", "content": "hi"}]


def keys_of(server: Toxic) -> list[str]:
    """The keys a server was shown."""
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in server.requests]


async def test_keys_take_turns(make_client: MakeClient) -> None:
    """Calls go round the keys of a provider."""
    async with Toxic() as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url, DEEPSEEK_API_KEY="sk-a,sk-b , sk-c") as client:
            for _ in range(4):
                await client.call_with_fallback("dojo", HI)
        assert keys_of(server) == ["sk-a", "sk-b", "sk-c", "sk-a"]


@pytest.mark.parametrize("fault", ["401", "402", "403", "429", "429-quota"])
async def test_a_refused_key_gives_way_to_the_next(make_client: MakeClient, fault: str) -> None:
    """Another key answers in the same call, as an attempt of its own, and the refused one rests."""
    async with Toxic() as server:
        server.script(fault)
        async with make_client(DEEPSEEK_BASE_URL=server.url, DEEPSEEK_API_KEY="sk-a,sk-b") as client:
            reply = await client.call_with_fallback("dojo", HI)
            await client.call_with_fallback("dojo", HI)
            await client.call_with_fallback("dojo", HI)
        assert keys_of(server) == ["sk-a", "sk-b", "sk-b", "sk-b"]
    assert [attempt.model for attempt in reply.attempts] == ["deepseek-chat", "deepseek-chat"]
    assert (reply.attempts[1].outcome, reply.fallback_reason) == ("ok", None)


async def test_each_key_is_tried_once_then_the_next_model(make_client: MakeClient) -> None:
    """With all keys refused the next provider answers."""
    async with Toxic("401") as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(DEEPSEEK_API_KEY="sk-a,sk-b", **env) as client:
            reply = await client.call_with_fallback("dojo", HI)
        assert keys_of(first) == ["sk-a", "sk-b"]
    assert (reply.model, reply.fallback_reason) == ("gpt-4o-mini", "auth_error")


async def test_the_last_key_is_never_benched_for_good(make_client: MakeClient) -> None:
    """A provider whose only key was refused is asked again by the next call."""
    async with Toxic() as server:
        server.script("401")
        async with make_client(DEEPSEEK_BASE_URL=server.url, DEEPSEEK_API_KEY="sk-a") as client:
            with pytest.raises(errors.AllProvidersFailed):
                await client.call_with_fallback("dojo", HI)
            assert (await client.call_with_fallback("dojo", HI)).model == "deepseek-chat"


def test_keys_from_a_file(tmp_path: Path) -> None:
    """<NAME>_API_KEY_FILE holds keys, one a line, and a missing file is told without its content."""
    (tmp_path / "secret").write_text("sk-a\nsk-b\n")
    env = {"OPENAI_API_KEY_FILE": str(tmp_path / "secret"), "TURNOUT_HOME": str(tmp_path)}
    settings = load_settings(environ=env, folder=tmp_path)
    assert [key.reveal() for key in settings.keys["OPENAI_API_KEY"]] == ["sk-a", "sk-b"]
    assert "sk-a" not in repr(settings)
    with pytest.raises(errors.ConfigError, match="OPENAI_API_KEY_FILE names a file that cannot be read"):
        load_settings(environ={"OPENAI_API_KEY_FILE": str(tmp_path / "no")}, folder=tmp_path)


@pytest.mark.parametrize("keys", ["sk-a", "sk-a,sk-b"])
async def test_retry_after_zero_is_no_hot_loop(make_client: MakeClient, keys: str) -> None:
    """A provider that says "again at once" for ever is asked once a key and round, not thousands of times."""
    async with Toxic("429-retry-after-zero") as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url, DEEPSEEK_API_KEY=keys) as client:
            with pytest.raises(errors.AllProvidersFailed):
                await client.call_with_fallback("dojo", HI, timeout=3)
        assert len(server.requests) <= 6


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, 0),
        (0, 0),
        (0.25, 0.25),
        (20, 20),
        (1e9, 300),
        (math.inf, 300),
        (-5, 0),
        (-math.inf, 0),
        (math.nan, 0),
    ],
)
def test_how_long_a_provider_asks_to_be_left_alone(asked: float | None, seconds: float) -> None:
    """A Retry-After is believed up to five minutes; what is no time is none."""
    assert pause(errors.RateLimited(retry_after=asked)) == seconds


@pytest.mark.parametrize(
    ("asked", "seconds"), [(None, 5), (0, 1), (math.nan, 1), (-1, 1), (20, 20), (1e9, 300)]
)
def test_how_long_a_limited_key_rests(asked: float | None, seconds: float, clock: SetClock) -> None:
    """A key at its rate limit rests as long as was asked, from a second to five minutes; five seconds untold."""
    first, second = Secret("sk-a"), Secret("sk-b")
    endpoint = Endpoint(name="e", title="E", base_url="https://e.test", codec="openai", keys=(first, second))
    keys = Keys(clock)
    keys.note(endpoint, first, errors.RateLimited(retry_after=asked))
    keys.note(endpoint, Secret("sk-of-yesterday"), errors.RateLimited(retry_after=asked))
    assert keys.another(endpoint, errors.RateLimited())
    clock.pass_by(seconds - 0.001)
    assert [keys.pick(endpoint) for _ in range(4)] == [second] * 4
    clock.pass_by(0.001)
    assert {keys.pick(endpoint) for _ in range(2)} == {first, second}
