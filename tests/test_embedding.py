"""Texts as vectors: the wire, the order, the retries, and what no vector may be."""

from __future__ import annotations

import json
import math
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from llmock.scenarios import Fail
from llmock.testing import LLMockServer

from tests.providers.raw import ok, serve
from tests.toxic import Toxic
from turnout import embedding, errors
from turnout.providers.scripted import ScriptedTransport, Turn
from turnout.types import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import MakeClient
    from tests.providers.raw import Peer
    from turnout.wiring import LLMClient

SMALL = "text-embedding-3-small"


@pytest.fixture(scope="module")
def llmock() -> Iterator[LLMockServer]:
    """A server that speaks OpenAI's dialect."""
    with LLMockServer() as server:
        yield server


@pytest.fixture
def server(llmock: LLMockServer) -> LLMockServer:
    """The server, with nothing left of the test before."""
    llmock.state.reset()
    return llmock


def at(make_client: MakeClient, server: LLMockServer, **env: str) -> LLMClient:
    """A client of this server."""
    return make_client(OPENAI_BASE_URL=server.base_url("openai"), **{"OPENAI_API_KEY": "sk-canary", **env})


def scripted(make_client: MakeClient, *turns: Turn, **env: str) -> tuple[LLMClient, ScriptedTransport]:
    """A client whose OpenAI plays these turns."""
    script = ScriptedTransport({SMALL: turns})
    env = {"OPENAI_BASE_URL": "scripted:/v1", "OPENAI_API_KEY": "sk-canary", **env}
    return make_client(transports={"scripted": script}, **env), script


def vectors(*rows: Any, model: str = SMALL, usage: Any = None, start: int = 0) -> Turn:
    """A 200 with these vectors; NaN and infinity go out as Python writes them."""
    data = ",".join(f'{{"index":{n},"embedding":{json.dumps(row)}}}' for n, row in enumerate(rows, start))
    tail = "" if usage is None else f',"usage":{msgspec.json.encode(usage).decode()}'
    return Turn(body=f'{{"model":"{model}","data":[{data}]{tail}}}'.encode())


async def test_vectors_of_texts(make_client: MakeClient, server: LLMockServer) -> None:
    """Texts become vectors of 1,536 numbers in their order, with model, version, usage, cost and the attempt."""
    async with at(make_client, server) as client:
        found = await client.embed(["first text", "second text", "first text"])
        alone = await client.embed(["second text"])
    assert (found.model, found.version, found.dimensions, found.operation) == (SMALL, SMALL, 1536, "search")
    assert len(found) == 3
    assert {len(vector) for vector in found} == {1536}
    assert found[0] == found[2] != found[1] == alone[0]
    assert found.usage.input_tokens
    assert found.usage.output_tokens == 0
    assert found.cost_usd == Decimal(found.usage.input_tokens) * Decimal("0.02") / 1_000_000
    (attempt,) = found.attempts
    assert (attempt.outcome, attempt.model, attempt.provider, attempt.status) == ("ok", SMALL, "openai", 200)
    assert server.state.journal.records()[0].body == {
        "model": SMALL,
        "input": ["first text", "second text", "first text"],
        "encoding_format": "float",
    }


def test_the_blocking_twin(make_client: MakeClient, server: LLMockServer) -> None:
    """`client.sync.embed` gives the same vectors."""
    with at(make_client, server).sync as client:
        assert client.embed(["one"]).dimensions == 1536


async def test_dimensions_are_asked_for(make_client: MakeClient) -> None:
    """`dimensions` goes out in the body, with the endpoint's own key, and the reply is held to it."""
    async with Toxic() as toxic:
        env = {"OPENAI_BASE_URL": toxic.url, "OPENAI_API_KEY": "sk-canary", "TURNOUT_TIMEOUT": "0.9"}
        async with make_client(**env) as client:
            found = await client.embed(["a", "b"], dimensions=3)
            with pytest.raises(errors.MalformedReply, match="has 3 numbers, not 4"):
                await client.embed(["a"], dimensions=4)
    assert found.vectors == [[0.5, -0.25, 0.0], [0.5, -0.25, 0.125]]
    assert (toxic.requests[0].json or {})["dimensions"] == 3
    assert toxic.requests[0].path == "/v1/embeddings"
    assert toxic.requests[0].headers["authorization"] == "Bearer sk-canary"


async def test_order_is_the_reply_s_index(make_client: MakeClient) -> None:
    """Vectors that come in another order are put back in the order of the texts, over a real socket."""

    async def script(peer: Peer) -> None:
        asked = msgspec.json.decode((await peer.request()).partition(b"\r\n\r\n")[2])["input"]
        data = [{"index": n, "embedding": [float(text), 0.5]} for n, text in enumerate(asked)]
        await peer.send(ok(msgspec.json.encode({"model": "v", "data": data[::-1]})))

    async with serve(script) as served, make_client(OPENAI_BASE_URL=served.url) as client:
        found = await client.embed([str(n) for n in range(20)], dimensions=2)
    assert [vector[0] for vector in found] == list(range(20))
    assert found.version == "v"
    assert (found.usage.input_tokens, found.usage.source) == (20, "counted")
    assert found.cost_usd is not None
    assert found.cost_usd > 0


async def test_many_texts_go_in_batches(make_client: MakeClient, server: LLMockServer) -> None:
    """600 texts are three requests of at most 256; order and usage are of the whole."""
    async with at(make_client, server) as client:
        found = await client.embed([f"text {n}" for n in range(600)])
        single = await client.embed(["text 599"])
    sent = [(record.body or {})["input"] for record in server.state.journal.records()]
    assert [len(texts) for texts in sent] == [256, 256, 88, 1]
    assert [text for texts in sent[:3] for text in texts] == [f"text {n}" for n in range(600)]
    assert (len(found), len(found.attempts)) == (600, 3)
    assert found[599] == single[0]
    assert found.usage.input_tokens == sum((a.usage or Usage()).input_tokens or 0 for a in found.attempts)


async def test_long_texts_go_in_smaller_batches(make_client: MakeClient) -> None:
    """A request holds no more than 300,000 estimated tokens, whatever the number of its texts."""
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    turns = [vectors(*[[0.5]] * count, usage=usage) for count in (36, 14)]
    client, script = scripted(make_client, *turns)
    async with client:
        found = await client.embed(["word " * 5_000] * 50, dimensions=1)
    assert [len(body["input"]) for body in script.seen] == [36, 14]
    assert (found.usage.input_tokens, found.cost_usd) == (14, Decimal("0.00000028"))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "at least one text"),
        ("text", "must be a list"),
        (None, "must be a list"),
        (["a", ""], r"texts\[1\] is empty"),
        (["a", "b", " \n"], r"texts\[2\] is empty"),
        (["a", 5], r"texts\[1\] must be text, not int"),
        ([b"a"], r"texts\[0\] must be text, not bytes"),
        (["\ud800"], r"texts\[0\] is no text"),
        (
            ["a", "word " * 6_000],
            r"texts\[1\] is about 9,750 tokens long; text-embedding-3-small reads 8,192",
        ),
        (["漢" * 7_000], r"texts\[0\] is about 9,100 tokens long"),
    ],
)
async def test_what_cannot_be_embedded(make_client: MakeClient, texts: Any, says: str) -> None:
    """What is no text, empty or too long is refused by its index before anything is sent."""
    client, script = scripted(make_client, vectors([1.0]))
    async with client:
        with pytest.raises(errors.InvalidRequest, match=says):
            await client.embed(texts)
    assert script.seen == []


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"dimensions": 0}, "from 1 to 1536"),
        ({"dimensions": 1537}, "from 1 to 1536"),
        ({"dimensions": True}, "from 1 to 1536"),
        ({"dimensions": "3"}, "dimensions must be a whole number"),
        ({"model": "gpt-4o"}, "gpt-4o is no embedding model"),
        ({"model": 5}, "model is a name"),
        ({"model": "minilm-l6-v2", "dimensions": 100}, "minilm-l6-v2 has 384 dimensions and no others"),
    ],
)
async def test_what_cannot_be_asked_for(make_client: MakeClient, keywords: Any, says: str) -> None:
    """A length no vector can have and a model that does not embed are refused before anything is sent."""
    client, script = scripted(make_client, vectors([1.0]))
    async with client:
        with pytest.raises(errors.InvalidRequest, match=says):
            await client.embed(["hi"], **keywords)
    assert script.seen == []


async def test_an_unknown_model(make_client: MakeClient) -> None:
    """A name nobody registered is a ConfigError with the nearest one: no other model stands in."""
    async with make_client() as client:
        with pytest.raises(errors.ConfigError) as caught:
            await client.embed(["hi"], model="text-embedding-3-smal")
    assert SMALL in caught.value.hint


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        (vectors([0.5, math.nan]).body, "vector 0 holds NaN or infinity"),
        (vectors([0.5, -math.inf]).body, "vector 0 holds NaN or infinity"),
        (vectors([0.5, 0.5], [0.5, 0.5]).body, "its 2 vectors are not those of the 1 texts"),
        (vectors([0.5]).body, "has 1 numbers, not 2"),
        (vectors([]).body, "has 0 numbers, not 2"),
        (vectors().body, "its 0 vectors are not those of the 1 texts"),
        (vectors([0.5, 0.5], start=1).body, "not those of the 1 texts"),
        (b'{"data":[{"index":0,"embedding":[1e999,0]}]}', "holds NaN or infinity"),
        (b'{"data":[{"index":0,"embedding":[null,0]}]}', "cannot be read"),
        (b'{"data":[{"index":0,"embedding":"AACAPw=="}]}', "cannot be read"),
        (b'{"data":[{"embedding":[1,0]}]}', "cannot be read"),
        (b"[]", "cannot be read"),
    ],
)
async def test_what_no_vector_may_be(make_client: MakeClient, turn: bytes, says: str) -> None:
    """NaN, infinity, a wrong length, a vector too few or a false index is a MalformedReply, not a result."""
    client, script = scripted(make_client, Turn(body=turn), TURNOUT_TIMEOUT="0.5")
    async with client:
        with pytest.raises(errors.MalformedReply, match=says) as caught:
            await client.embed(["hi"], dimensions=2)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["malformed_reply"] * len(script.seen)


async def test_one_width_where_the_row_names_none(make_client: MakeClient, tmp_path: Path) -> None:
    """A model whose row has no `dimensions` is held to the length of its first vector."""
    (tmp_path / "turnout.toml").write_text(
        '[models.mine]\nprovider = "scripted"\nupstream = "mine"\nkind = "embedding"\ncontext_window = 100\n'
        'max_output = 0\ndefault_output = 0\nparams = { input_type = "query" }\n'
    )
    script = ScriptedTransport({"mine": [vectors([1, 2], [3, 4]), vectors([1, 2], [3])]})
    async with make_client(transports={"scripted": script}, TURNOUT_TIMEOUT="0.5") as client:
        found = await client.embed(["a", "b"], model="mine")
        with pytest.raises(errors.MalformedReply, match="vector 1 has 1 numbers, not 2"):
            await client.embed(["a", "b"], model="mine")
    assert (found.vectors, found.dimensions) == ([[1.0, 2.0], [3.0, 4.0]], 2)
    assert script.seen[0]["input_type"] == "query"


async def test_versions_are_not_mixed(make_client: MakeClient) -> None:
    """A later batch that another version answered is a MalformedReply, its model named."""
    many = vectors(*[[0.5]] * 256, model="small-1")
    client, _ = scripted(make_client, many, vectors([0.5], model="small-2"), TURNOUT_TIMEOUT="0.9")
    async with client:
        with pytest.raises(
            errors.MalformedReply, match="'small-2', that of the batch before 'small-1'"
        ) as caught:
            await client.embed(["hi"] * 257, dimensions=1)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["ok", "malformed_reply"]


async def test_an_error_under_a_200(make_client: MakeClient) -> None:
    """An error object in a 200 is the error it names."""
    turn = Turn(body=b'{"error": {"code": 401, "message": "no"}}')
    client, _ = scripted(make_client, turn)
    async with client:
        with pytest.raises(errors.AuthError):
            await client.embed(["hi"])


@pytest.mark.parametrize(("status", "times"), [(429, 1), (500, 1), (503, 2)])
async def test_what_passes_is_tried_again(
    make_client: MakeClient, server: LLMockServer, status: int, times: int
) -> None:
    """A limit or a fault is tried again after 1 s, then 2 s; every try is in the result, and the failed ones cost 0."""
    server.state.scenarios.add(Fail(status, times=times))
    began = time.monotonic()
    async with at(make_client, server) as client:
        found = await client.embed(["hi"])
    assert [attempt.status for attempt in found.attempts] == [status] * times + [200]
    assert found.attempts[0].cost_nano == 0
    assert time.monotonic() - began >= sum(embedding.WAITS[:times])


async def test_three_tries_and_no_more(make_client: MakeClient, server: LLMockServer) -> None:
    """The third failure is the caller's, with all three attempts."""
    server.state.scenarios.add(Fail(500, times=None))
    async with at(make_client, server) as client:
        with pytest.raises(errors.ServerFault) as caught:
            await client.embed(["hi"])
    assert [attempt.status for attempt in caught.value.attempts] == [500] * 3


async def test_retry_after(make_client: MakeClient, server: LLMockServer) -> None:
    """A wait the provider asks for is kept; where there is no time for it, the failure comes at once."""
    server.state.scenarios.add(Fail(429, retry_after=2))
    began = time.monotonic()
    async with at(make_client, server, TURNOUT_TIMEOUT="20") as client:
        assert len((await client.embed(["hi"])).attempts) == 2
        assert time.monotonic() - began >= 2
        server.state.scenarios.add(Fail(429, retry_after=60, times=None))
        began = time.monotonic()
        with pytest.raises(errors.RateLimited) as caught:
            await client.embed(["hi"])
    assert caught.value.retry_after == 60
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AuthError),
        (402, errors.PaymentRequired),
        (403, errors.AuthError),
        (400, errors.RequestRejected),
        (422, errors.RequestRejected),
    ],
)
async def test_what_does_not_pass_fails_at_once(
    make_client: MakeClient, server: LLMockServer, status: int, kind: type[errors.ProviderError]
) -> None:
    """A refused key or request is one attempt, and the key is in no error."""
    server.state.scenarios.add(Fail(status, times=None))
    began = time.monotonic()
    async with at(make_client, server) as client:
        with pytest.raises(kind) as caught:
            await client.embed(["hi"])
    assert time.monotonic() - began < 1
    assert len(caught.value.attempts) == 1
    assert "canary" not in f"{caught.value} {caught.value.attempts}"


async def test_the_next_key_takes_over(make_client: MakeClient) -> None:
    """With several keys a refused one gives way to the next without a wait."""
    client, script = scripted(
        make_client, Turn(status=401), vectors([0.5]), OPENAI_API_KEY="sk-one,sk-two", TURNOUT_TIMEOUT="0.9"
    )
    async with client:
        assert len((await client.embed(["hi"], dimensions=1)).attempts) == 2
    assert len(script.seen) == 2


async def test_the_deadline_is_of_the_whole(make_client: MakeClient) -> None:
    """Batches share one deadline: a server that hangs costs no more than that, retries included."""
    async with Toxic("hang") as toxic:
        env = {"OPENAI_BASE_URL": toxic.url, "OPENAI_API_KEY": "sk-1", "TURNOUT_TIMEOUT": "0.5"}
        async with make_client(**env) as client:
            began = time.monotonic()
            with pytest.raises(errors.ProviderTimeout):
                await client.embed(["hi"] * 600, dimensions=3)
    assert time.monotonic() - began < 2


async def test_without_a_key_minilm_answers(make_client: MakeClient) -> None:
    """Nobody chose a model and there is no key: MiniLM answers for nothing, and the result says so."""
    async with make_client(DEEPSEEK_API_KEY="sk-1") as client:
        found = await client.embed(["How do I mend a bug?", "A recipe for soup"], dimensions=384)
        again = await client.embed(["A recipe for soup"])
    assert (found.model, found.version) == ("minilm-l6-v2", "all-MiniLM-L6-v2-onnx-int8")
    assert (found.dimensions, len(found)) == (384, 2)
    assert found.cost_usd == 0
    assert (found.usage.input_tokens or 0) > 10
    assert found.attempts[0].provider == "minilm"
    assert again[0] == found[1]


async def test_nobody_stands_in_for_a_named_model(make_client: MakeClient) -> None:
    """A named model without a key, or any where stand-ins are forbidden, is MissingKey with both ways out."""
    async with make_client() as client:
        with pytest.raises(errors.MissingKey, match="set OPENAI_API_KEY") as caught:
            await client.embed(["hi"], model=SMALL)
    assert 'pip install "turnout[semantic]"' in caught.value.hint
    async with make_client(TURNOUT_DEV_MODE="false") as client:
        with pytest.raises(errors.MissingKey):
            await client.embed(["hi"])
        assert (await client.embed(["hi"], model="minilm-l6-v2")).dimensions == 384


async def test_a_provider_that_is_switched_off(make_client: MakeClient, tmp_path: Path) -> None:
    """A named model of a provider that is switched off is a ConfigError, for no key would help."""
    (tmp_path / "turnout.toml").write_text("[endpoints.openai]\nenabled = false\n")
    async with make_client(OPENAI_API_KEY="sk-1") as client:
        with pytest.raises(errors.ConfigError, match="OpenAI is switched off"):
            await client.embed(["hi"], model=SMALL)


async def test_an_engine_without_an_embedder(make_client: MakeClient) -> None:
    """An engine that was wired without one says so."""
    async with make_client() as client:
        client.embedder = None
        with pytest.raises(errors.ConfigError, match="no embedder"):
            await client.embed(["hi"])
