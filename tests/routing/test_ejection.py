"""Health at work, through the client: who is no longer asked, and who is asked all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import pytest

from tests.toxic import Toxic
from turnout import errors
from turnout.attempt import Attempts
from turnout.grant import Grant
from turnout.providers.base import Timeouts
from turnout.routing.health import Health
from turnout.types import Call, Options, Scope
from turnout.wiring import SHIPPED_CODECS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.conftest import MakeClient
    from tests.routing.conftest import SetClock

HI = [{"role": "user", "content": "hi"}]
ANSWER = b'{"model": "m", "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'


class Narrow:
    """A provider that works on a few requests at once, 20 ms each, and says 429 to the others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.busy = 0
        self.refused = 0

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        if self.busy >= self._most:
            self.refused += 1
            status, body = b"429 Too Many Requests", b"{}"
        else:
            self.busy += 1
            await asyncio.sleep(0.02)
            self.busy -= 1
            status, body = b"200 OK", ANSWER
        writer.write(b"HTTP/1.1 %b\r\nConnection: close\r\n" % status)
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def test_a_failing_provider_is_no_longer_asked(make_client: MakeClient) -> None:
    """After five faults in a row the next call goes straight to the next provider, and says why."""
    async with Toxic("500") as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(**env) as client:
            replies = [await client.call_with_fallback("dojo", HI) for _ in range(7)]
        assert (len(first.requests), len(second.requests)) == (5, 7)
    assert [reply.fallback_reason for reply in replies] == ["server_error"] * 5 + ["circuit_open"] * 2
    assert [len(reply.attempts) for reply in replies] == [2] * 5 + [1] * 2


async def test_a_provider_with_a_refused_key_is_not_asked_by_everybody(make_client: MakeClient) -> None:
    """One refusal is enough, as the others would hear the same."""
    async with Toxic("401") as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(**env, DEEPSEEK_API_KEY="sk-a") as client:
            replies = [await client.call_with_fallback("dojo", HI) for _ in range(3)]
        assert len(first.requests) == 1
    assert [reply.fallback_reason for reply in replies] == ["auth_error", "circuit_open", "circuit_open"]


async def test_retry_after_is_kept(make_client: MakeClient) -> None:
    """A provider that said when it wants to hear of us again does not before, as long as another answers."""
    async with Toxic("429-retry-after") as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(**env) as client:
            replies = [await client.call_with_fallback("dojo", HI) for _ in range(3)]
        assert len(first.requests) == 1
    assert [reply.fallback_reason for reply in replies] == ["rate_limit", "benched", "benched"]


async def test_the_only_provider_is_asked_however_ill_it_is(make_client: MakeClient) -> None:
    """Where nobody else is left, every call is tried, and the first answer makes all well."""
    async with Toxic("500") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        for _ in range(8):
            with pytest.raises(errors.AllProvidersFailed):
                await client.call_with_fallback("dojo", HI, timeout=0.2)
        assert len(server.requests) == 8
        server.default = "ok"
        assert (await client.call_with_fallback("dojo", HI)).content
        assert [(one.state, one.faults) for one in client.health()] == [("closed", 0)]


async def test_a_callers_errors_eject_nobody(make_client: MakeClient) -> None:
    """Requests the provider rejects, or that end by a short deadline of the caller's own, are nobody's fault."""
    async with Toxic("400") as first, Toxic() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        async with make_client(**env) as client:
            for _ in range(8):
                with pytest.raises(errors.RequestRejected):
                    await client.call_with_fallback("dojo", HI)
            first.default = "hang"
            hurried = (client.call_with_fallback("dojo", HI, timeout=1) for _ in range(8))
            await asyncio.gather(*hurried)
            first.default = "ok"
            assert (await client.call_with_fallback("dojo", HI)).model == "deepseek-chat"


async def test_who_falls_ill_after_the_plan_was_made_is_passed_over(
    make_client: MakeClient, tmp_path: Path
) -> None:
    """A call that comes to a model which others have found ill meanwhile asks the one behind it first."""
    async with Toxic("hang") as first, Toxic("401") as second, Toxic() as third:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url, "MOONSHOT_BASE_URL": third.url}
        models = '"deepseek-chat", "gpt-4o-mini", "kimi-k2.6"'
        (tmp_path / "turnout.toml").write_text(f"[tiers]\nchat = [{models}]\n")
        async with make_client(**env) as client:
            slow = asyncio.create_task(client.call_with_fallback("dojo", HI, timeout=2))
            await first.until(lambda: len(first.requests) == 1)
            with pytest.raises(errors.AllProvidersFailed):
                await client.call("gpt-4o-mini", HI)
            reply = await slow
        assert len(second.requests) == 1
    assert [attempt.provider for attempt in reply.attempts] == ["deepseek", "moonshot"]


@pytest.mark.parametrize("keys", ["sk-a", "sk-a,sk-b"])
async def test_waiting_for_a_turn_ends_with_the_deadline(make_client: MakeClient, keys: str) -> None:
    """A call whose turn does not come fails in its own time, with one attempt that was never sent and costs 0."""
    async with Toxic("429") as server:
        async with make_client(DEEPSEEK_BASE_URL=server.url, DEEPSEEK_API_KEY=keys) as client:
            with pytest.raises(errors.AllProvidersFailed):
                await client.call_with_fallback("dojo", HI, timeout=3)
            server.default, before = "hang", len(server.requests)
            long = asyncio.create_task(client.call_with_fallback("dojo", HI, timeout=30))
            await server.until(lambda: len(server.requests) > before)
            with pytest.raises(errors.AllProvidersFailed) as caught:
                await client.call_with_fallback("dojo", HI, timeout=0.3)
            long.cancel()
            await asyncio.wait([long])
        assert len(server.requests) == before + 1
    rows = [(attempt.outcome, attempt.cost_nano) for attempt in caught.value.attempts]
    assert rows == [("rate_limit", 0)]
    assert 0.25 < caught.value.attempts[0].seconds < 1.0


async def test_the_wait_for_a_turn_is_taken_off_the_attempt(make_client: MakeClient) -> None:
    """A call that waited for its turn and then gets no answer still ends at its deadline."""
    async with Toxic("429") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        with pytest.raises(errors.AllProvidersFailed):
            await client.call_with_fallback("dojo", HI, timeout=3)
        server.default, before = "hang", len(server.requests)
        long = asyncio.create_task(client.call_with_fallback("dojo", HI, timeout=0.7))
        await server.until(lambda: len(server.requests) > before)
        with pytest.raises(errors.AllProvidersFailed) as caught:
            await client.call_with_fallback("dojo", HI, timeout=1)
        await asyncio.wait([long])
        assert long.exception() is not None
        assert len(server.requests) == before + 2
    assert 0.9 < sum(attempt.seconds for attempt in caught.value.attempts) < 1.4


async def test_waiting_in_vain_is_no_reason_to_ask_again(make_client: MakeClient, clock: SetClock) -> None:
    """An attempt whose turn never came used no key: free keys do not queue it at the same model again."""
    health = Health(clock)
    async with make_client(DEEPSEEK_API_KEY="sk-a,sk-b") as client:
        rows, recorder = client.registry, client.recorder
        attempts = Attempts(rows, SHIPPED_CODECS, client.transports, health, recorder, clock)
        model = rows.models["deepseek-chat"]
        health.enter(model).done(errors.RateLimited(status=429))
        health.enter(model)
        call = Call(id="c", messages=b"[]", options=Options(), scope=Scope(agent="dojo"))
        outcome = await attempts.make(call, model, Grant(timeouts=Timeouts(total=0.05)))
    assert (outcome.attempt.outcome, outcome.attempt.cost_nano, outcome.again) == ("rate_limit", 0, False)


async def test_a_turn_of_the_circuit_is_logged(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """That a circuit opened is a warning, once, and that it closed is said too."""
    caplog.set_level("INFO", logger="turnout")
    async with Toxic("401") as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        for _ in range(2):
            with pytest.raises(errors.AllProvidersFailed):
                await client.call_with_fallback("dojo", HI)
        server.default = "ok"
        await client.call_with_fallback("dojo", HI)
    told = [(one.levelname, one.message) for one in caplog.records if "circuit" in one.message]
    assert told == [("WARNING", "circuit open"), ("INFO", "circuit closed")]


async def test_a_burst_over_the_concurrency_limit_is_served(make_client: MakeClient) -> None:
    """Sixty calls at once at a provider that takes four: all are answered, and few are refused after the first wave."""
    async with Narrow(4) as server, make_client(DEEPSEEK_BASE_URL=server.url) as client:
        replies = await asyncio.gather(*(client.call_with_fallback("dojo", HI) for _ in range(60)))
        assert [reply.content for reply in replies] == ["yes"] * 60
        print(f"{server.refused} refused of {60 + server.refused}")
        assert server.refused <= 56 + 10
        assert [one.in_flight for one in client.health()] == [0]
