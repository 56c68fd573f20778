"""One try: what a streamed one gives, what is written down of it, and what becomes of its connection."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.journeys.oracle import listening
from tests.toxic import PROMPT_TOKENS, SENTENCE, Toxic
from turnout import errors

if TYPE_CHECKING:
    from tests.conftest import MakeClient
    from turnout.types import Delta
    from turnout.wiring import LLMClient

HI = [{"role": "user", "content": "hi"}]


async def streamed(client: LLMClient, model: str | None = None) -> list[Delta]:
    """Every delta of a stream."""
    return [delta async for delta in client.stream("dojo", HI, model=model)]


async def test_a_stream(make_client: MakeClient) -> None:
    """The deltas are the answer's text, and the last one holds its usage and the whole reply, as without streaming."""
    async with Toxic() as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        *deltas, last = await streamed(client)
        plain = await client.call_with_fallback("dojo", HI)
        assert server.requests[0].json["stream_options"] == {"include_usage": True}  # type: ignore[index]
    assert "".join(delta.text for delta in deltas) == SENTENCE
    assert all(delta.reply is None and delta.usage is None for delta in deltas)
    reply = last.reply
    assert reply is not None
    assert (reply.content, reply.model, reply.finish_reason) == (SENTENCE, "deepseek-chat", "stop")
    assert last.usage == reply.usage == plain.usage
    assert (reply.cost_usd, reply.usage.source) == (plain.cost_usd, "reported")
    attempt = reply.attempts[0]
    assert attempt.first_token is not None
    assert 0 < attempt.first_token <= attempt.seconds
    assert (attempt.outcome, attempt.status, attempt.upstream_model) == ("ok", 200, "deepseek-flash")


async def test_a_stream_is_refused_at_once(make_client: MakeClient) -> None:
    """What cannot be sent is said where `stream` is called, before anybody iterates."""
    async with make_client() as client:
        with pytest.raises(errors.InvalidRequest):
            client.stream("dojo", [])


async def test_a_stream_that_is_not_wanted(make_client: MakeClient) -> None:
    """Nothing is sent until somebody iterates."""
    async with Toxic() as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        await client.stream("dojo", HI).aclose()
        assert server.requests == []


@pytest.mark.parametrize("fault", ["ok", "stream-late-end"])
async def test_streams_share_a_connection(make_client: MakeClient, fault: str) -> None:
    """A stream that was read to its end leaves its connection for the next call, though its body ends later."""
    async with Toxic(fault) as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        for _ in range(3):
            await streamed(client)
        await client.call_with_fallback("dojo", HI)
        assert server.connections == 1


async def test_a_stream_that_does_not_close(make_client: MakeClient) -> None:
    """A body that stays open after [DONE] holds up the reply for a moment only, and its connection is closed."""
    async with Toxic("stream-open-after-done") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        began = monotonic()
        *_, last = await streamed(client)
        assert monotonic() - began < 1.0
        await server.until(lambda: not server.open_connections, within=1.0)
    assert last.reply is not None
    assert last.reply.content == SENTENCE


async def test_a_stream_without_usage(make_client: MakeClient) -> None:
    """Tokens that nobody reported are counted, marked so and priced."""
    async with Toxic("usage-missing") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        *_, last = await streamed(client)
    assert last.usage is not None
    assert last.usage.source == "counted"
    assert last.usage.input_tokens
    assert last.usage.output_tokens
    assert last.reply is not None
    assert last.reply.cost_usd


async def test_what_a_dropped_stream_cost(make_client: MakeClient) -> None:
    """Who leaves later pays more: the output seen until then is counted, by its words."""
    costs = []
    with listening() as log:
        async with Toxic("stream-endless") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
            for deltas in (1, 8):
                stream = client.stream("dojo", HI)
                for _ in range(deltas):
                    await anext(stream)
                await stream.aclose()
                costs.append(log.events[-1]["cost_nano"])
    assert len(log.events) == 2
    assert 0 < costs[0] < costs[1]


@pytest.mark.parametrize(
    ("fault", "kind", "outcome"),
    [
        ("stream-reset-mid", errors.StreamTruncated, "truncated"),
        ("stream-eof-mid", errors.StreamTruncated, "truncated"),
        ("stream-error-mid", errors.ServerFault, "server_error"),
        ("stream-bad-json-mid", errors.MalformedReply, "malformed_reply"),
    ],
)
async def test_a_stream_that_breaks_off(
    make_client: MakeClient, fault: str, kind: type[errors.ProviderError], outcome: str
) -> None:
    """The error carries every attempt, and what was generated is paid for whatever the provider says of it."""
    async with Toxic("500") as first, Toxic(fault) as second:
        async with make_client(DEEPSEEK_BASE_URL=first.url, OPENAI_BASE_URL=second.url) as client:
            with pytest.raises(kind) as caught:
                await streamed(client)
    assert caught.value.provider == "openai"
    refused, broken = caught.value.attempts
    assert (refused.outcome, refused.cost_nano) == ("server_error", 0)
    assert (broken.outcome, broken.first_token is None) == (outcome, False)
    assert broken.status == (500 if fault == "stream-error-mid" else 200)
    assert broken.usage is not None
    assert (broken.usage.source, bool(broken.usage.output_tokens)) == ("estimated", True)
    assert broken.cost_nano
    assert broken.error


async def test_the_better_of_report_and_estimate(make_client: MakeClient) -> None:
    """A stream that breaks off after it has reported its usage is settled with that."""
    async with Toxic("chunks-unended") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        *_, last = await streamed(client)
    assert last.usage is not None
    assert (last.usage.input_tokens, last.usage.source) == (PROMPT_TOKENS, "reported")


async def test_a_stream_tries_the_next_key(make_client: MakeClient) -> None:
    """A refused key is followed by the provider's other key before another model is asked."""
    async with Toxic() as server:
        server.script("401")
        async with make_client(DEEPSEEK_BASE_URL=server.url, DEEPSEEK_API_KEY="sk-one,sk-two") as client:
            *_, last = await streamed(client, "deepseek-chat")
        keys = {seen.headers["authorization"] for seen in server.requests}
    assert len(keys) == 2
    assert last.reply is not None
    assert [attempt.outcome for attempt in last.reply.attempts] == ["auth_error", "ok"]


async def test_an_answer_in_one_piece(make_client: MakeClient) -> None:
    """A provider that sends JSON where a stream was asked for is read all the same."""
    async with Toxic("plain-for-stream") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        deltas = await streamed(client)
    assert [delta.text for delta in deltas] == [SENTENCE, ""]
    assert deltas[-1].reply is not None
