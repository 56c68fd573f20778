"""The composition root: dev mode, the blocking twin, and who closes what."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import turnout
from tests.toxic import Toxic, ToxicThread
from turnout import current, errors
from turnout.agents import route_query
from turnout.types import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeClient

HI = [{"role": "user", "content": "hi"}]


def names(client: turnout.LLMClient, agent: str) -> list[str]:
    """The plan's models."""
    return [model.name for model in client.plan(agent).models]


async def test_without_keys_the_local_model_answers(make_client: MakeClient) -> None:
    """No provider can be called: dev mode, and the local model is the whole plan."""
    async with make_client() as client:
        assert names(client, "debugger") == ["smollm2-135m"]


async def test_a_missing_model_file_is_told(make_client: MakeClient, tmp_path: Path) -> None:
    """A model file that is not there is a ConfigError before anything starts."""
    with pytest.raises(errors.ConfigError, match="is not a file"):
        make_client(TURNOUT_MODEL_FILE=str(tmp_path / "no.gguf"))


async def test_dev_mode_stands_behind_the_providers(make_client: MakeClient) -> None:
    """TURNOUT_DEV_MODE=true puts the local model behind a plan, false leaves nobody, unset depends on keys."""
    async with make_client(DEEPSEEK_API_KEY="sk-1", TURNOUT_DEV_MODE="true") as client:
        assert names(client, "dojo") == ["deepseek-chat", "smollm2-135m"]
    async with make_client(DEEPSEEK_API_KEY="sk-1") as client:
        assert names(client, "dojo") == ["deepseek-chat"]
    async with make_client(TURNOUT_DEV_MODE="false") as client:
        with pytest.raises(errors.MissingKey, match="DEEPSEEK_API_KEY") as caught:
            await client.call_with_fallback("dojo", HI)
        assert "turnout[local]" in caught.value.hint


def test_the_blocking_twin(make_client: MakeClient) -> None:
    """`client.sync` gives the same reply to code without an event loop, from many threads at once."""
    with ToxicThread() as server, make_client(DEEPSEEK_BASE_URL=server.url).sync as client:
        assert client.call("deepseek-chat", HI).content
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: client.call_with_fallback("debugger", HI), range(16)))
        assert {reply.model for reply in replies} == {"deepseek-reasoner"}
    assert "turnout-sync" not in {thread.name for thread in threading.enumerate()}


def test_the_blocking_twin_gives_up_with_its_caller(make_client: MakeClient) -> None:
    """An error in the call reaches the blocking caller as itself."""
    with make_client(TURNOUT_DEV_MODE="false").sync as client, pytest.raises(errors.MissingKey):
        client.call("gpt-4o", HI)


def test_closing_an_unused_twin(make_client: MakeClient) -> None:
    """Closing what was never used is no error."""
    make_client().sync.close()


def test_the_process_wide_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """`llm_client` and `route_query` share one client, wired from the environment at first use."""
    with ToxicThread() as server:
        monkeypatch.setenv("DEEPSEEK_BASE_URL", server.url)
        reply = turnout.llm_client.sync.call_with_fallback("debugger", HI)
        assert reply.model == "deepseek-reasoner"
        assert current.runtime() is current.runtime()
        assert asyncio.run(route_query("")).agent_id == "dojo"
        assert turnout.get_model_for_agent("debugger") == "deepseek-reasoner"
        current.forget().sync.close()


async def test_one_client_many_calls_at_once(make_client: MakeClient) -> None:
    """A hundred calls at once each get their own answer."""

    def echo(request: dict[str, object]) -> str:
        messages = request["messages"]
        assert isinstance(messages, list)
        return str(messages[-1]["content"])

    async with Toxic(replies=echo) as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url) as client:
            replies = await asyncio.gather(
                *(
                    client.call_with_fallback("dojo", [{"role": "user", "content": f"nonce {n}"}])
                    for n in range(100)
                )
            )
    assert [reply.content for reply in replies] == [f"nonce {n}" for n in range(100)]
    assert len({reply.trace_id for reply in replies}) == 100


def test_usage_is_public() -> None:
    """`turnout.Usage` is the struct replies carry."""
    assert Usage is turnout.Usage


def test_an_endpoint_with_an_unknown_codec(make_client: MakeClient, tmp_path: Path) -> None:
    """A codec nobody wrote is a ConfigError with the nearest name, before any call."""
    (tmp_path / "turnout.toml").write_text('[endpoints.deepseek]\ncodec = "deepsek"\n')
    with pytest.raises(errors.ConfigError, match="no codec 'deepsek'") as caught:
        make_client()
    assert "deepseek" in caught.value.hint
