"""Every endpoint row, found by listing, against a real server of its dialect; a made-up row passes without an edit."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from llmock.scenarios import Fail, Reply
from llmock.testing import LLMockServer

from turnout import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import MakeClient
    from turnout.wiring import LLMClient

SHIPPED: dict[str, Any] = tomllib.loads(
    resources.files("turnout.registry").joinpath("endpoints.toml").read_text(encoding="utf-8")
)["endpoints"]
MADE_UP = {
    "codec": "openai",
    "title": "Made Up",
    "base_url": "https://made-up.invalid/v1",
    "key_vars": ["MADE_UP_API_KEY"],
    "auth_header": "x-made-up",
    "auth_prefix": "Key ",
    "query": {"version": "7"},
}
ROWS = {name: row for name, row in SHIPPED.items() if row["base_url"].startswith("http")} | {
    "made-up": MADE_UP
}
HI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def server() -> Iterator[LLMockServer]:
    """One server that speaks every dialect."""
    with LLMockServer() as llmock:
        yield llmock


@pytest.fixture(params=ROWS)
def client(
    request: pytest.FixtureRequest, make_client: MakeClient, tmp_path: Path, server: LLMockServer
) -> LLMClient:
    """A client whose model `probe` is served by this row, pointed at the server by its variable."""
    name, row = request.param, ROWS[request.param]
    made_up = f'title = "Made Up"\ncodec = "openai"\nbase_url = "{MADE_UP["base_url"]}"\n'
    made_up += 'key_vars = ["MADE_UP_API_KEY"]\nauth_header = "x-made-up"\nauth_prefix = "Key "\n'
    made_up += 'query = { version = "7" }\n'
    (tmp_path / "turnout.toml").write_text(
        f"[endpoints.{name}]\nenabled = true\n{made_up if name == 'made-up' else ''}\n"
        f'[models.probe]\nprovider = "{name}"\nupstream = "probe-1"\ncontext_window = 1000\n'
        'max_output = 100\ndefault_output = 10\ncapabilities = ["tools"]\n'
    )
    server.state.reset()
    dialect = "anthropic" if row["codec"] == "anthropic" else "openai"
    env = {f"{name.replace('-', '_').upper()}_BASE_URL": server.base_url(dialect)}
    env |= dict.fromkeys(row.get("key_vars", []), "sk-canary")
    return make_client(**env)


async def test_an_answer(client: LLMClient, server: LLMockServer) -> None:
    """The row's model answers with text, a finish reason, the provider's own name and reported usage."""
    server.state.scenarios.add(Reply(text="Hello."))
    async with client:
        reply = await client.call("probe", HI, max_tokens=5)
    assert (reply.content, reply.finish_reason, reply.model) == ("Hello.", "stop", "probe")
    assert reply.attempts[0].upstream_model == "probe-1"
    assert (reply.usage.input_tokens or 0) > 0
    assert (reply.usage.output_tokens or 0) > 0
    assert reply.cost_usd is None
    assert server.state.journal.records()[0].body["model"] == "probe-1"


async def test_a_stream(client: LLMClient, server: LLMockServer) -> None:
    """The row's model streams the same: its deltas add up to the reply, its usage is reported, its end is seen."""
    server.state.scenarios.add(Reply(text="Hello there, Ulm."))
    async with client:
        deltas = [delta async for delta in client.stream("dojo", HI, model="probe", max_tokens=5)]
    reply = deltas[-1].reply
    assert reply is not None
    assert "".join(delta.text for delta in deltas) == reply.content == "Hello there, Ulm."
    assert (reply.finish_reason, reply.model) == ("stop", "probe")
    assert (reply.usage.output_tokens or 0) > 0
    assert reply.usage.source == "reported"
    assert server.state.journal.records()[0].body["stream"] is True


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (400, errors.RequestRejected, "rejected"),
        (401, errors.AllProvidersFailed, "auth_error"),
        (402, errors.AllProvidersFailed, "payment_required"),
        (422, errors.RequestRejected, "rejected"),
        (429, errors.AllProvidersFailed, "rate_limit"),
        (500, errors.AllProvidersFailed, "server_error"),
        (503, errors.AllProvidersFailed, "server_error"),
    ],
)
async def test_a_failure(
    client: LLMClient, server: LLMockServer, status: int, kind: type[errors.TurnoutError], outcome: str
) -> None:
    """Each status means the same on every row, in the row's own error shape, and shows no key."""
    server.state.scenarios.add(Fail(status, retry_after=999, times=None))
    async with client:
        with pytest.raises(kind) as caught:
            await client.call("probe", HI, timeout=0.4)
    assert caught.value.attempts[0].outcome == outcome
    assert "canary" not in f"{caught.value} {caught.value!r} {caught.value.attempts}"
