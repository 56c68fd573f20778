"""The demo on the real local model: its words, its usage, and its death."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from turnout.agents import Supervisor
from turnout.cli.demo import QUERIES

if TYPE_CHECKING:
    from tests.conftest import MakeClient, Turnout
    from turnout.providers.local import LocalTransport


def test_the_demo_answers_from_the_local_model(turnout: Turnout) -> None:
    """Without any key at least four queries are routed by keyword or default and answered by SmolLM2 itself."""
    done = turnout("demo", "--once", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == len(QUERIES) >= 4
    assert {row["method"] for row in rows} == {"keyword", "default"}
    for row in rows:
        assert (row["provider"], row["model"], row["cost_usd"]) == ("local", "smollm2-135m", 0)
        assert row["usage"]["source"] == "reported"
        assert row["usage"]["input_tokens"] > 0
        assert 0 < row["usage"]["output_tokens"] <= 40
        assert row["attempts"][0]["upstream_model"].startswith("SmolLM2")
    assert len({row["content"] for row in rows}) == len(rows)


def test_the_demo_as_people_see_it(turnout: Turnout) -> None:
    """Each row shows agent, method, model, provider=local, tokens, cost and time; the foot says what it is."""
    done = turnout("demo", "--once", COLUMNS="80")
    assert done.stdout.count("provider=local") == len(QUERIES)
    assert done.stdout.count("keyword") + done.stdout.count("default") >= len(QUERIES)
    assert "135 million parameters" in done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


async def test_killing_the_child_is_told_and_survived(make_client: MakeClient) -> None:
    """After kill -9 of the model's process the next call says what happened and is answered by a new one."""
    client = make_client()
    local: LocalTransport = client.transports["local"]  # type: ignore[assignment]
    async with client:
        agent = (await Supervisor(client).route("debug this")).agent_id
        ask = [{"role": "user", "content": "hi"}]
        await client.call_with_fallback(agent, ask, max_tokens=2)
        first = local.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        reply = await client.call_with_fallback(agent, ask, max_tokens=2)
        assert local.pid not in {None, first}
    assert [attempt.outcome for attempt in reply.attempts] == ["connect_error", "ok"]
    assert "the local model's process ended (signal 9)" in (reply.attempts[0].error or "")
    assert local.pid is None
