"""The verbs: what they accept, what they refuse, and what the reply says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.toxic import Toxic
from turnout import errors
from turnout.types import Options, Reason

if TYPE_CHECKING:
    from tests.conftest import MakeClient

HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "messages is empty"),
        ("hi", "messages must be a list, not str"),
        (None, "messages must be a list"),
        (["hi"], "Expected `object`, got `str`"),
        ([{"content": "hi"}], "missing required field `role`"),
        ([{"role": "wizard", "content": "hi"}], "Invalid enum value 'wizard'"),
        ([{"role": "user", "content": 5}], r"\$\[0\].content"),
        ([{"role": "user", "content": "a", "x": math.nan}], r"messages\[0\]\['x'\] holds nan"),
        ([{"role": "user", "content": [{"type": "text", "w": math.inf}]}], "holds inf"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
        ([{"role": "user", "content": "a", "x": object()}], "object"),
    ],
)
async def test_bad_messages(make_client: MakeClient, messages: Any, says: str) -> None:
    """Malformed messages are refused with the place and the fix, before anybody is asked."""
    async with Toxic() as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url) as client:
            with pytest.raises(errors.InvalidRequest, match=says) as caught:
                await client.call_with_fallback("dojo", messages)
        assert server.requests == []
    assert caught.value.hint
    assert "\n" not in str(caught.value)


async def test_bottomless_messages(make_client: MakeClient) -> None:
    """Nesting without end is refused, not a RecursionError."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    async with make_client() as client:
        with pytest.raises(errors.InvalidRequest, match="nested more than 64 deep"):
            await client.call("scripted", [{"role": "user", "content": "a", "x": deep}])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temprature": 0}, "there is no option 'temprature'"),
        ({"temperature": math.nan}, "temperature must be between 0 and 2, not nan"),
        ({"temperature": 3}, "between 0 and 2"),
        ({"temperature": "hot"}, "temperature must be a number, not str"),
        ({"max_tokens": 0}, "at least 1"),
        ({"max_tokens": True}, "whole number, not bool"),
        ({"tools": "hammer"}, "tools must be list, not str"),
        ({"thinking": "hard"}, "thinking must be true, false"),
        ({"timeout": -1}, "timeout must be between"),
        ({"extra": {"top_p": math.nan}}, r"extra\['top_p'\] holds nan"),
        ({"options": {"temperature": 0}}, "options must be turnout.Options, not dict"),
    ],
)
async def test_bad_options(make_client: MakeClient, options: dict[str, Any], says: str) -> None:
    """A wrong or unknown option is refused in one line with the nearest right name."""
    async with make_client() as client:
        with pytest.raises(errors.InvalidRequest, match=says) as caught:
            await client.call_with_fallback("dojo", HI, **options)
    assert isinstance(caught.value, ValueError)
    if "temprature" in options:
        assert "'temperature'" in caught.value.hint


async def test_names_must_be_text(make_client: MakeClient) -> None:
    """An agent or a model that is no text is refused."""
    async with make_client() as client:
        with pytest.raises(errors.InvalidRequest, match="are names, so text"):
            await client.call_with_fallback(7, HI)  # type: ignore[arg-type]


async def test_unknown_agent(make_client: MakeClient) -> None:
    """An agent nobody registered is served as the default agent, and the reply says so."""
    async with Toxic() as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url) as client:
            reply = await client.call_with_fallback("wizard", HI)
    assert (reply.agent, reply.model) == ("dojo", "deepseek-chat")
    assert reply.notices == ("there is no agent 'wizard': served as the default agent, dojo",)


async def test_unknown_model(make_client: MakeClient) -> None:
    """A model nobody registered gets the default plan, and the reply says so."""
    async with Toxic() as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url) as client:
            reply = await client.call("gpt-99", HI)
    assert (reply.model, reply.fallback_reason) == ("deepseek-chat", Reason.UNKNOWN_MODEL)
    assert reply.notices == ("there is no model 'gpt-99': agent dojo: tier chat instead",)


async def test_a_pinned_model_has_nobody_behind_it(make_client: MakeClient) -> None:
    """`call` asks the one model and no other, even when that fails."""
    async with Toxic("401") as first, Toxic() as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            with pytest.raises(errors.AllProvidersFailed):
                await client.call("deepseek-chat", HI)
        assert second.requests == []


async def test_a_name_that_ends_soon(make_client: MakeClient) -> None:
    """A model within 90 days of its end says when and what follows."""
    async with Toxic() as server:
        async with make_client(OPENAI_BASE_URL=server.url) as client:
            reply = await client.call("gpt-4o-mini", HI, Options(max_tokens=5), agent="librarian")
    assert reply.agent == "librarian"
    assert reply.notices in {
        ("gpt-4o-mini retires on 2027-01-14, then gpt-6-luna stands in its place",),
        ("gpt-4o-mini retired on 2027-01-14: gpt-6-luna stands in its place",),
    }


async def test_a_model_without_a_known_price(make_client: MakeClient, tmp_path: Any) -> None:
    """An unknown price is None, never 0, in the attempt and in the reply."""
    (tmp_path / "turnout.toml").write_text(
        '[models.mystery]\nprovider = "openai"\nupstream = "mystery"\n'
        'context_window = 1000\nmax_output = 100\ndefault_output = 10\nsuccessor = "gpt-4o"\n'
        "retires_on = 2099-01-01\n"
    )
    async with Toxic() as server:
        async with make_client(OPENAI_BASE_URL=server.url) as client:
            reply = await client.call("mystery", HI)
    assert reply.cost_usd is None
    assert reply.attempts[0].price_id is None
    assert reply.notices == ()


async def test_images_need_a_model_that_sees(make_client: MakeClient) -> None:
    """A call with an image leaves out models without vision, with the reason."""
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    async with make_client(TURNOUT_DEV_MODE="true") as client:
        with pytest.raises(errors.MissingKey, match="smollm2-135m: it cannot do: vision"):
            await client.call_with_fallback("dojo", [{"role": "user", "content": picture}])


async def test_replies_add_up(make_client: MakeClient) -> None:
    """Usage, cost and the message to append come from the attempt that answered."""
    async with Toxic("reasoning") as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url) as client:
            reply = await client.call_with_fallback(
                "debugger", HI, session_id="s", user_id="u", tags={"k": "v"}
            )
    attempt = reply.attempts[0]
    assert reply.usage == attempt.usage
    assert reply.cost_usd == attempt.cost_usd
    assert reply.message["reasoning_content"] == reply.reasoning
    assert attempt.upstream_model == "deepseek-flash"


async def test_tool_calls_come_back(make_client: MakeClient) -> None:
    """An answer that is a tool call is a reply, ready to be appended to the history."""
    async with Toxic("tool-call") as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url) as client:
            reply = await client.call_with_fallback(
                "dojo", HI, tools=[{"type": "function", "function": {"name": "f"}}]
            )
    assert reply.finish_reason == "tool_calls"
    assert reply.message["tool_calls"] == list(reply.tool_calls)


async def test_headers_query_and_auth_of_an_endpoint_row(make_client: MakeClient, tmp_path: Any) -> None:
    """A compatible vendor is a row: its auth header, fixed headers and query go out."""
    async with Toxic() as server:
        (tmp_path / "turnout.toml").write_text(
            f'[endpoints.azure]\ntitle = "Azure"\nbase_url = "{server.url}/v1"\ncodec = "openai"\n'
            'key_vars = ["AZURE_API_KEY"]\nauth_header = "api-key"\nauth_prefix = ""\n'
            'headers = { x-extra = "1" }\nquery = { api-version = "2026-10-21" }\n'
            '[models.mine]\nprovider = "azure"\nupstream = "m"\n'
            "context_window = 1000\nmax_output = 100\ndefault_output = 10\n"
        )
        async with make_client(AZURE_API_KEY="sk-azure") as client:
            await client.call("mine", HI)
        seen = server.requests[0]
    assert seen.path == "/v1/chat/completions?api-version=2026-10-21"
    assert (seen.headers["api-key"], seen.headers["x-extra"]) == ("sk-azure", "1")
    assert "authorization" not in seen.headers


async def test_a_key_that_cannot_be_sent(make_client: MakeClient) -> None:
    """A key with a character no header can hold fails over and is not quoted."""
    async with Toxic() as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(DEEPSEEK_API_KEY="sk-canary\x00", **env) as client:
            reply = await client.call_with_fallback("dojo", HI)
        assert first.requests == []
    assert (reply.provider, reply.fallback_reason) == ("openai", Reason.MISCONFIGURED)
    assert "canary" not in str(reply.attempts)


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        ("hang", True),
        ("blank-content", True),
        ("html-200", True),
        ("finish-insufficient", True),
        ("500", False),
        ("401", False),
        ("408", False),
        ("reset", True),
    ],
)
async def test_what_a_failed_attempt_cost(make_client: MakeClient, fault: str, billed: bool) -> None:
    """A request the provider read and did not answer is priced by its estimated input; a refused one costs 0."""
    async with Toxic(fault) as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(**env) as client:
            reply = await client.call_with_fallback("dojo", HI, timeout=1.5)
    failed, answered = reply.attempts[0], reply.attempts[-1]
    assert failed.cost_nano is not None
    assert (failed.cost_nano > 0) is billed
    assert (failed.usage is not None and failed.usage.source == "estimated") is billed
    assert reply.cost_usd is not None
    assert answered.cost_usd is not None
    assert (reply.cost_usd > answered.cost_usd) is billed
