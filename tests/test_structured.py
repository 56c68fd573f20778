"""Answers as values: validated, repaired once, then the next model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.toxic import ToxicThread
from turnout import errors
from turnout.providers.scripted import ScriptedTransport, Turn

if TYPE_CHECKING:
    from tests.conftest import MakeClient
    from turnout.wiring import LLMClient

HI = [{"role": "user", "content": "Which city?"}]
RIGHT = '{"name": "Lyon", "people": 522250}'


class City(msgspec.Struct):
    """A city as a Struct."""

    name: str
    people: int


@dataclasses.dataclass
class Town:
    """A city as a dataclass."""

    name: str
    people: int


JSON_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
    "required": ["name", "people"],
}


def client_of(
    make_client: MakeClient, *turns: Turn | str, second: Turn | str = "no"
) -> tuple[LLMClient, Any]:
    """A client whose DeepSeek plays these turns and whose OpenAI plays one."""
    script = ScriptedTransport({"deepseek-flash": turns, "gpt-4o-mini": [second], "gpt-6-luna": [second]})
    env = {
        f"{name}_{what}": value
        for name in ("DEEPSEEK", "OPENAI")
        for what, value in (("BASE_URL", "scripted:/v1"), ("API_KEY", "sk-1"))
    }
    return make_client(transports={"scripted": script}, **env), script


@pytest.mark.parametrize("text", [RIGHT, f"```json\n{RIGHT}\n```", f"```\n{RIGHT}```", f"  {RIGHT}\n"])
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (City, City("Lyon", 522250)),
        (Town, Town("Lyon", 522250)),
        (JSON_SCHEMA, {"name": "Lyon", "people": 522250}),
    ],
)
async def test_a_value_of_the_type_asked_for(
    make_client: MakeClient, text: str, schema: Any, value: Any
) -> None:
    """A Struct, a dataclass or a JSON Schema gives its value, with or without a fence around the JSON."""
    client, script = client_of(make_client, text)
    async with client:
        assert await client.call_json("dojo", HI, schema=schema) == value
    sent = script.seen[0]
    assert sent["response_format"] == {"type": "json_object"}
    assert "JSON schema" in sent["messages"][0]["content"]
    assert sent["messages"][1] == HI[0]


@pytest.mark.parametrize(
    "wrong",
    ["Lyon.", '{"name": "Lyon"}', '{"name": "Lyon", "people": "many"}', "[]", '{"name": "Lyon", "peo'],
)
@pytest.mark.parametrize("schema", [City, JSON_SCHEMA])
async def test_one_repair(make_client: MakeClient, wrong: str, schema: Any) -> None:
    """The model is shown its mistake once, behind the same prefix, and its correction counts."""
    client, script = client_of(make_client, wrong, RIGHT)
    async with client:
        await client.call_json("dojo", HI, schema=schema)
    first, second = script.seen
    assert second["messages"][:2] == first["messages"]
    assert second["messages"][2] == {"role": "assistant", "content": wrong}
    assert "not the JSON asked for" in second["messages"][3]["content"]


async def test_then_the_next_model(make_client: MakeClient) -> None:
    """A model that is wrong twice, or blank, gives way to the next one."""
    for first in ("nonsense", Turn(text="  ")):
        client, script = client_of(make_client, first, second=RIGHT)
        async with client:
            assert await client.call_json("dojo", HI, schema=City) == City("Lyon", 522250)
        asked = [body["model"] for body in script.seen]
        assert asked == (["deepseek-flash"] * (2 if first == "nonsense" else 1)) + ["gpt-4o-mini"]


async def test_what_does_not_fit_is_recorded_so(make_client: MakeClient) -> None:
    """An answer that is not what was asked for is an error in the record, with all that it cost."""
    client, _ = client_of(make_client, "no", RIGHT)
    async with client:
        await client.call_json("dojo", HI, schema=City)
        (call,) = {row.call_id for row in client.record.reports.latest_calls()}
        wrong, right = client.record.reports.call(call)
    assert (wrong.outcome, wrong.error is not None, right.outcome, right.error) == (
        "malformed_reply",
        True,
        "ok",
        None,
    )
    assert wrong.output_tokens
    assert wrong.cost_nano


async def test_nobody_fits(make_client: MakeClient) -> None:
    """When no answer fits, every attempt is listed with what was wrong, and what it cost is kept."""
    client, _ = client_of(make_client, "nonsense")
    async with client:
        with pytest.raises(errors.AllProvidersFailed) as caught:
            await client.call_json("dojo", HI, schema=City, timeout=1)
    attempts = caught.value.attempts
    assert {attempt.outcome for attempt in attempts} == {"malformed_reply"}
    assert all(attempt.cost_nano for attempt in attempts)
    assert "not the JSON asked for" in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "says"), [({"type": "wizard"}, "schema is no JSON Schema"), (object, "schema cannot be used")]
)
async def test_a_schema_that_is_none(make_client: MakeClient, schema: Any, says: str) -> None:
    """What is no schema is refused before anybody is asked."""
    client, script = client_of(make_client, RIGHT)
    async with client:
        with pytest.raises(errors.InvalidRequest, match=says):
            await client.call_json("dojo", HI, schema=schema)
    assert script.seen == []


def test_the_blocking_twin(make_client: MakeClient) -> None:
    """`client.sync.call_json` gives the same value."""
    with ToxicThread(replies=lambda _: RIGHT) as server:
        with make_client(DEEPSEEK_BASE_URL=server.url).sync as client:
            assert client.call_json("dojo", HI, schema=City) == City("Lyon", 522250)


async def test_a_pinned_model(make_client: MakeClient) -> None:
    """`model` is the one that is asked, and nobody stands behind it."""
    client, script = client_of(make_client, "never asked", second=RIGHT)
    async with client:
        assert await client.call_json("dojo", HI, schema=City, model="gpt-4o-mini") == City("Lyon", 522250)
    assert [sent["model"] for sent in script.seen] == ["gpt-4o-mini"]


class Odd(msgspec.Struct):
    """A type with a bug."""

    name: str

    def __post_init__(self) -> None:
        raise LookupError(self.name)


async def test_a_type_that_breaks(make_client: MakeClient) -> None:
    """A bug in the caller's own type comes out as it is; the answer is settled and its place given back."""
    client, _ = client_of(make_client, '{"name": "Lyon"}')
    async with client:
        with pytest.raises(LookupError):
            await client.call_json("dojo", HI, schema=Odd)
        (row,) = client.record.reports.latest_calls()
        (health,) = client.health()
    assert (row.state, row.outcome, bool(row.cost_nano)) == ("settled", "ok", True)
    assert health.in_flight == 0


@pytest.mark.parametrize("schema", [list, dict, JSON_SCHEMA])
async def test_an_answer_nested_without_end(make_client: MakeClient, schema: Any) -> None:
    """A model that answers with ten thousand brackets has answered wrongly, whatever reads it."""
    client, _ = client_of(make_client, "[" * 10_000, "[" * 10_000, second="[" * 10_000)
    async with client:
        with pytest.raises(errors.AllProvidersFailed) as caught:
            await client.call_json("dojo", HI, schema=schema)
        assert {health.in_flight for health in client.health()} == {0}
    assert {attempt.outcome for attempt in caught.value.attempts} == {"malformed_reply"}
