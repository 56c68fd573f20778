"""Every endpoint row that needs no network, found by listing: the real thing answers, or says why not."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.test_endpoints import HI
from turnout import errors
from turnout.providers.scripted import ScriptedTransport, Turn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeClient
    from turnout.wiring import LLMClient

SHIPPED: dict[str, Any] = tomllib.loads(
    resources.files("turnout.registry").joinpath("endpoints.toml").read_text(encoding="utf-8")
)["endpoints"]
KEYLESS = [name for name, row in SHIPPED.items() if not row["base_url"].startswith("http")]
VECTORS = "minilm"
CHATS = [name for name in KEYLESS if name != VECTORS]


def probe(make_client: MakeClient, home: Path, name: str, **fields: Any) -> LLMClient:
    """A client whose model `probe` is served by this row."""
    row = {
        "provider": name,
        "upstream": name,
        "context_window": 100_000,
        "max_output": 100,
        "default_output": 10,
    }
    lines = [f"{field} = {value!r}" for field, value in (row | fields).items()]
    (home / "turnout.toml").write_text("[models.probe]\n" + "\n".join(lines) + "\n")
    return make_client()


def test_each_row_is_proven_somewhere() -> None:
    """The rows without a network are those that are run here; all others are run against a server of their dialect."""
    assert KEYLESS == ["local", "minilm", "scripted"]


@pytest.mark.parametrize("name", CHATS)
async def test_an_answer(make_client: MakeClient, tmp_path: Path, name: str) -> None:
    """Without a key the row's model answers with text, a finish reason, a name and reported usage."""
    async with probe(make_client, tmp_path, name) as client:
        reply = await client.call("probe", HI, max_tokens=5)
    assert reply.content.strip()
    assert reply.finish_reason in {"stop", "length"}
    assert (reply.model, reply.provider, reply.usage.source) == ("probe", name, "reported")
    assert reply.attempts[0].upstream_model
    assert (reply.usage.input_tokens or 0) > 0
    assert (reply.usage.output_tokens or 0) > 0
    assert reply.cost_usd is None


@pytest.mark.parametrize("name", CHATS)
async def test_a_stream(make_client: MakeClient, tmp_path: Path, name: str) -> None:
    """Asked for a stream, whatever the transport makes of it, the deltas add up to the reply the last one carries."""
    async with probe(make_client, tmp_path, name) as client:
        deltas = [delta async for delta in client.stream("dojo", HI, model="probe", max_tokens=5)]
    last = deltas[-1].reply
    assert last is not None
    assert "".join(delta.text for delta in deltas) == last.content != ""
    assert (last.usage.output_tokens or 0) > 0


async def test_vectors(make_client: MakeClient, tmp_path: Path) -> None:
    """The embedding row turns texts into vectors of its size, in their order."""
    client = probe(make_client, tmp_path, VECTORS, kind="embedding", dimensions=384)
    async with client:
        first, second, again = await client.embed(
            ["rain in Ulm", "a failing test", "rain in Ulm"], model="probe"
        )
    assert (len(first), len(second)) == (384, 384)
    assert first == again != second


async def test_more_than_the_local_window(make_client: MakeClient, tmp_path: Path) -> None:
    """What does not fit the real model's window is a context overflow, as on every other row."""
    long = [{"role": "user", "content": "rain " * 9_000}]
    async with probe(make_client, tmp_path, "local") as client:
        with pytest.raises(errors.ContextOverflow) as caught:
            await client.call("probe", long, max_tokens=5)
    assert (caught.value.status, caught.value.provider) == (400, "local")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, "rejected"),
        (401, "auth_error"),
        (402, "payment_required"),
        (429, "rate_limit"),
        (500, "server_error"),
    ],
)
async def test_a_scripted_failure(make_client: MakeClient, tmp_path: Path, status: int, outcome: str) -> None:
    """A scripted status means what the same status means from a provider."""
    probe(make_client, tmp_path, "scripted")
    scripted = ScriptedTransport({"scripted": [Turn(status=status)]})
    async with make_client(transports={"scripted": scripted}) as client:
        with pytest.raises(errors.TurnoutError) as caught:
            await client.call("probe", HI, timeout=0.4)
    assert caught.value.attempts[0].outcome == outcome
