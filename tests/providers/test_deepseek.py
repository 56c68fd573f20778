"""DeepSeek's differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.providers.test_openai import body, call
from tests.toxic import Toxic
from turnout.providers.deepseek import DeepSeekCodec

if TYPE_CHECKING:
    from tests.conftest import MakeClient
    from turnout.types import Model

CODEC = DeepSeekCodec()
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
OFF, ON = {"type": "disabled"}, {"type": "enabled"}


def sent(
    model: Model, messages: bytes = b'[{"role":"user","content":"hi"}]', **options: Any
) -> dict[str, Any]:
    """The body for these options, and what was dropped under `dropped`."""
    encoded, dropped = CODEC.encode(call(messages, **options), model)
    body_: dict[str, Any] = msgspec.json.decode(encoded)
    return body_ | {"dropped": dropped}


def test_both_tiers_say_thinking(models: dict[str, Model]) -> None:
    """Thinking is on unless told otherwise upstream, so it is always told; the wire name is the same for both."""
    chat, reasoner = sent(models["deepseek-chat"]), sent(models["deepseek-reasoner"])
    assert (chat["model"], chat["thinking"]) == ("deepseek-flash", OFF)
    assert (reasoner["model"], reasoner["thinking"]) == ("deepseek-flash", ON)


def test_effort(models: dict[str, Model]) -> None:
    """An effort turns thinking on and names itself."""
    body_ = sent(models["deepseek-chat"], thinking="max")
    assert (body_["thinking"], body_["reasoning_effort"]) == (ON, "max")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_a_forced_tool_turns_thinking_off(models: dict[str, Model], choice: Any) -> None:
    """A forced tool is a 400 while thinking (DeepSeek-V3 1376, 2026-08-21): thinking gives way and is told."""
    body_ = sent(models["deepseek-reasoner"], tools=TOOLS, tool_choice=choice, thinking="high")
    assert body_["thinking"] == OFF
    assert "reasoning_effort" not in body_
    assert "thinking" in body_["dropped"]


def test_history_of_another_model_turns_thinking_off(models: dict[str, Model]) -> None:
    """With tools, an assistant turn without its reasoning is a 400 while thinking; so thinking gives way."""
    foreign = (
        b'[{"role":"user","content":"q"},{"role":"assistant","content":"a"},{"role":"user","content":"q"}]'
    )
    own = foreign.replace(b'"content":"a"', b'"content":"a","reasoning_content":"r"')
    assert sent(models["deepseek-reasoner"], foreign, tools=TOOLS)["thinking"] == OFF
    assert sent(models["deepseek-reasoner"], foreign)["thinking"] == ON
    kept = sent(models["deepseek-reasoner"], own, tools=TOOLS)
    assert kept["thinking"] == ON
    assert kept["messages"][1]["reasoning_content"] == "r"


async def test_a_server_that_enforces_the_rule_accepts_a_foreign_history(make_client: MakeClient) -> None:
    """History from a fallback model goes to DeepSeek with tools without a 400, and our own is replayed whole."""
    async with Toxic("reasoning", enforce_reasoning=True) as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url) as client:
            history = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "from gpt-4o-mini"}]
            ask = {"role": "user", "content": "again"}
            reply = await client.call("deepseek-reasoner", [*history, ask], tools=TOOLS)
            assert reply.attempts[0].dropped == ("thinking",)
            assert reply.reasoning
            again = await client.call("deepseek-reasoner", [ask, reply.message, ask], tools=TOOLS)
            assert again.attempts[0].dropped == ()


def test_cache_hits_under_deepseeks_own_name(models: dict[str, Model]) -> None:
    """prompt_cache_hit_tokens is the cached input; without it OpenAI's field is read."""
    usage = {
        "prompt_tokens": 100,
        "prompt_cache_hit_tokens": 64,
        "prompt_cache_miss_tokens": 36,
        "completion_tokens": 5,
    }
    assert CODEC.decode(body(usage=usage), models["deepseek-chat"]).usage.cached_input_tokens == 64
    assert CODEC.decode(body(), models["deepseek-chat"]).usage.cached_input_tokens == 4
