"""The specification's promise on real wires: DeepSeek first, OpenAI when it fails, and never twice for nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from llmock.scenarios import Delay, Fail, Reply
from llmock.testing import LLMockServer

from tests.toxic import ToxicThread, refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from tests.conftest import Turnout

ASK = ("ask", "--agent", "debugger", "Why does my loop never end?", "--json")


@pytest.fixture
def second() -> Iterator[LLMockServer]:
    """The healthy server behind OPENAI_BASE_URL."""
    with LLMockServer() as server:
        yield server


def answered(done: CompletedProcess[str]) -> dict[str, Any]:
    """The reply that `ask --json` printed."""
    assert done.returncode == 0, done.stderr
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def bodies(server: LLMockServer) -> list[dict[str, Any]]:
    """The requests a llmock server saw."""
    return [record.body for record in server.state.journal.records()]


def test_debugger_is_served_by_the_reasoner(turnout: Turnout, second: LLMockServer) -> None:
    """The debugger's call goes to deepseek-reasoner, whose wire says thinking enabled, and nobody else is asked."""
    with LLMockServer() as first:
        reply = answered(turnout(*ASK, DEEPSEEK_BASE_URL=first.base_url(), OPENAI_BASE_URL=second.base_url()))
        seen = bodies(first)
    assert (reply["model"], reply["provider"], reply["fallback_reason"]) == (
        "deepseek-reasoner",
        "deepseek",
        None,
    )
    assert [(body["model"], body["thinking"]) for body in seen] == [("deepseek-flash", {"type": "enabled"})]
    assert bodies(second) == []
    assert reply["usage"]["input_tokens"] > 0
    assert reply["cost_usd"] > 0


def test_chat_agents_say_thinking_disabled(turnout: Turnout) -> None:
    """The chat tier turns thinking off on the wire, and a base URL without a path reaches /v1."""
    with LLMockServer() as first:
        reply = answered(turnout("ask", "--agent", "dojo", "hi", "--json", DEEPSEEK_BASE_URL=first.url))
        assert reply["model"] == "deepseek-chat"
        assert [body["thinking"] for body in bodies(first)] == [{"type": "disabled"}]


LLMOCK_FAULTS: dict[str, tuple[Fail | Reply | Delay, str]] = {
    "401": (Fail(401, times=None), "auth_error"),
    "402": (Fail(402, times=None), "payment_required"),
    "403": (Fail(403, times=None), "auth_error"),
    "408": (Fail(408, times=None), "timeout"),
    "409": (Fail(409, times=None), "server_error"),
    "429": (Fail(429, retry_after=30, times=None), "rate_limit"),
    "500": (Fail(500, times=None), "server_error"),
    "503": (Fail(503, times=None), "server_error"),
    "blank": (Reply(text="  ", times=None), "blank_reply"),
    "hang": (Delay(30, times=None), "timeout"),
}


@pytest.mark.parametrize("name", LLMOCK_FAULTS)
def test_second_answers_for_llmock_faults(turnout: Turnout, second: LLMockServer, name: str) -> None:
    """With the first server failing, the second answers within the deadline and fallback_reason says why."""
    fault, reason = LLMOCK_FAULTS[name]
    with LLMockServer() as first:
        first.state.scenarios.add(fault)
        env = {"TURNOUT_TIMEOUT": "4"} if name == "hang" else {}
        done = turnout(*ASK, DEEPSEEK_BASE_URL=first.base_url(), OPENAI_BASE_URL=second.base_url(), **env)
        reply = answered(done)
    assert (reply["provider"], reply["model"], reply["fallback_reason"]) == ("openai", "gpt-4o-mini", reason)
    assert [attempt["outcome"] for attempt in reply["attempts"]] == [reason, "ok"]
    assert len(bodies(second)) == 1


TOXIC_FAULTS = {
    "html-200": "html_reply",
    "empty-200": "blank_reply",
    "malformed-json": "malformed_reply",
    "truncated-json": "malformed_reply",
    "no-choices": "malformed_reply",
    "finish-missing": "malformed_reply",
    "finish-insufficient": "server_error",
    "error-200": "server_error",
    "reset": "connect_error",
    "close": "connect_error",
    "reset-mid-body": "truncated",
    "short-body": "truncated",
    "404-html": "misconfigured",
    "404-model": "model_retired",
    "400-unknown-model": "model_retired",
    "429-quota": "payment_required",
    "302": "misconfigured",
}


@pytest.mark.parametrize("transport", ["turnout", "aiohttp"])
@pytest.mark.parametrize("fault", TOXIC_FAULTS)
def test_second_answers_for_toxic_faults(
    turnout: Turnout, second: LLMockServer, fault: str, transport: str
) -> None:
    """Broken bodies and connections fail over at once on either transport; the first server is asked once."""
    with ToxicThread(fault) as first:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.base_url()}
        done = turnout(*ASK, TURNOUT_TRANSPORT=transport, **env)
        reply = answered(done)
        assert len(first.requests) == 1
    assert (reply["provider"], reply["fallback_reason"]) == ("openai", TOXIC_FAULTS[fault])


@pytest.mark.parametrize("fault", ["hang", "trickle-headers", "trickle-body", "stall-body"])
def test_slow_servers_do_not_hold_the_call(turnout: Turnout, second: LLMockServer, fault: str) -> None:
    """A server that gives nothing, or gives it a byte at a time, loses its share of the time and no more."""
    with ToxicThread(fault) as first:
        done = turnout(
            *ASK, DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.base_url(), TURNOUT_TIMEOUT="3"
        )
        reply = answered(done)
    assert (reply["provider"], reply["fallback_reason"]) == ("openai", "timeout")
    assert 1.7 <= reply["attempts"][0]["seconds"] <= 1.8 * 1.1


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_rejected_request_is_not_sent_twice(turnout: Turnout, second: LLMockServer, status: int) -> None:
    """What is wrong with the request itself stays wrong elsewhere: the second server is not called."""
    with ToxicThread(str(status)) as first:
        done = turnout(*ASK, DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.base_url())
        assert len(first.requests) == 1
    assert done.returncode == 1
    assert f"HTTP {status}" in done.stderr
    assert "Traceback" not in done.stderr
    assert bodies(second) == []


def test_overflow_goes_only_to_a_wider_window(turnout: Turnout, second: LLMockServer) -> None:
    """A conversation too long for DeepSeek's window skips gpt-4o-mini's smaller one for luna's larger."""
    with ToxicThread("400-overflow") as first:
        reply = answered(turnout(*ASK, DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.base_url()))
    assert [attempt["model"] for attempt in reply["attempts"]] == ["deepseek-reasoner", "gpt-6-luna"]
    assert reply["fallback_reason"] == "context_overflow"


def test_both_down(turnout: Turnout) -> None:
    """With nobody listening the exit code is 6, each attempt is listed and no key is shown."""
    env = {"DEEPSEEK_API_KEY": "sk-canary-deepseek", "OPENAI_API_KEY": "sk-canary-openai"}
    with refused_url() as nobody:
        done = turnout(*ASK, DEEPSEEK_BASE_URL=nobody, OPENAI_BASE_URL=nobody, **env)
    assert done.returncode == 6
    assert done.stdout == ""
    for model in ("deepseek-reasoner", "gpt-4o-mini", "gpt-6-luna"):
        assert model in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_echoed_key_is_blotted_out(turnout: Turnout) -> None:
    """A server that quotes our key back in its errors does not get it into ours."""
    with ToxicThread("401-echo") as first:
        env = {"DEEPSEEK_API_KEY": "sk-canary-deepseek", "DEEPSEEK_BASE_URL": first.url}
        done = turnout("ask", "--model", "deepseek-chat", "hi", **env)
    assert done.returncode == 6
    assert "canary" not in done.stdout + done.stderr


def test_missing_key_falls_to_the_next_provider(turnout: Turnout, second: LLMockServer) -> None:
    """Without a DeepSeek key OpenAI answers, and the reason is the missing key."""
    reply = answered(turnout(*ASK, OPENAI_BASE_URL=second.base_url()))
    assert (reply["model"], reply["fallback_reason"]) == ("gpt-4o-mini", "no_api_key")


def test_deepseek_switched_off(turnout: Turnout, second: LLMockServer) -> None:
    """ENABLE_DEEPSEEK=false leaves a healthy DeepSeek uncalled."""
    with LLMockServer() as first:
        env = {"DEEPSEEK_BASE_URL": first.base_url(), "ENABLE_DEEPSEEK": "false"}
        reply = answered(turnout(*ASK, OPENAI_BASE_URL=second.base_url(), **env))
        assert bodies(first) == []
    assert (reply["provider"], reply["fallback_reason"]) == ("openai", "disabled")


def test_routing_goes_through_the_model(turnout: Turnout) -> None:
    """With a provider that answers in form, `route` says llm and what the model said."""
    verdict = {"agent_id": "debugger", "confidence": 0.93, "reasoning": "it is about a bug"}
    with LLMockServer() as first:
        first.state.scenarios.add(Reply(text=json.dumps(verdict), times=None))
        done = turnout("route", "Help me debug my code", "--json", DEEPSEEK_BASE_URL=first.base_url())
        asked = bodies(first)[0]
    decision = answered(done)
    assert {name: decision[name] for name in ("agent_id", "method", "confidence", "fallback", "model")} == {
        "agent_id": "debugger",
        "method": "llm",
        "confidence": 0.93,
        "fallback": None,
        "model": "deepseek-reasoner",
    }
    assert json.loads(asked["messages"][1]["content"])["query"] == "Help me debug my code"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "deepseek_error"),
        ("429", "rate_limit"),
        ("html-200", "deepseek_error"),
        ("ok", "malformed_reply"),
    ],
)
def test_routing_survives_its_model(turnout: Turnout, fault: str, reason: str) -> None:
    """When the supervisor's model fails, keywords route the specification's own example to the debugger."""
    with ToxicThread(fault) as first:
        decision = answered(turnout("route", "Help me debug my code", "--json", DEEPSEEK_BASE_URL=first.url))
    assert (decision["agent_id"], decision["method"], decision["fallback"]) == ("debugger", "keyword", reason)
