"""Hooks of the application: change, refuse, look; and what their own failure does."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.toxic import Toxic
from turnout import errors, logs
from turnout.providers.scripted import ScriptedTransport
from turnout.settings import load_settings
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.types import Call, Reply

HI = [{"role": "user", "content": "hi"}]


class Watch:
    """A hook that notes its name and leaves things as they are."""

    fail_open = False

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def before_call(self, call: Call) -> None:
        """Note it."""
        self.seen.append(f"before {self.name} {call.scope.agent}")

    async def after_call(self, call: Call, reply: Reply) -> None:
        """Note it."""
        self.seen.append(f"after {self.name} {reply.model}")


class Change(Watch):
    """A hook that puts a call's tokens down and its reply in capitals."""

    async def before_call(self, call: Call) -> Call:  # type: ignore[override]
        """Fewer tokens."""
        return msgspec.structs.replace(call, options=msgspec.structs.replace(call.options, max_tokens=3))

    def after_call(self, call: Call, reply: Reply) -> Reply:  # type: ignore[override]
        """Louder."""
        return msgspec.structs.replace(reply, content=reply.content.upper())


class Refuse(Watch):
    """A hook that refuses every call."""

    def before_call(self, call: Call) -> None:
        """No."""
        raise errors.InvalidRequest("not on a Sunday", request_id=call.id)


class Broken(Watch):
    """A hook with a bug in both verbs."""

    def before_call(self, call: Call) -> None:
        """Break."""
        raise KeyError("canary")

    async def after_call(self, call: Call, reply: Reply) -> None:
        """Break."""
        raise ZeroDivisionError


class Careless(Broken):
    """The same, declared to be dispensable."""

    fail_open = True


@pytest.fixture
def script() -> ScriptedTransport:
    """A model that says fine."""
    return ScriptedTransport({"scripted": ["fine"]})


def client_of(tmp_path: Path, script: ScriptedTransport, *hooks: Any) -> LLMClient:
    """A client with these hooks."""
    settings = load_settings(environ={"TURNOUT_HOME": str(tmp_path)}, folder=tmp_path)
    return LLMClient(settings, transports={"scripted": script}, hooks=hooks)


async def test_order(tmp_path: Path, script: ScriptedTransport) -> None:
    """The first hook is the outermost: first before the call, last after it."""
    seen: list[str] = []
    async with client_of(tmp_path, script, Watch("a", seen), Watch("b", seen)) as client:
        await client.call("scripted", HI, agent="librarian")
    assert seen == ["before a librarian", "before b librarian", "after b scripted", "after a scripted"]


async def test_a_hook_may_change_call_and_reply(tmp_path: Path, script: ScriptedTransport) -> None:
    """What a hook returns is what is sent, and what is given back."""
    async with client_of(tmp_path, script, Change("c", [])) as client:
        reply = await client.call("scripted", HI)
    assert (reply.content, script.seen[0]["max_tokens"]) == ("FINE", 3)


async def test_a_hook_may_refuse(tmp_path: Path, script: ScriptedTransport) -> None:
    """A TurnoutError from a hook reaches the caller, and nobody is asked, by either verb."""
    async with client_of(tmp_path, script, Refuse("r", [])) as client:
        with pytest.raises(errors.InvalidRequest, match="not on a Sunday"):
            await client.call("scripted", HI)
        with pytest.raises(errors.InvalidRequest, match="not on a Sunday"):
            await client.call_json("dojo", HI, schema=dict)
    assert script.seen == []


async def test_a_broken_hook_fails_closed(tmp_path: Path, script: ScriptedTransport) -> None:
    """A hook's own bug stops the call, named and with its cause, unless it is declared to fail open."""
    async with client_of(tmp_path, script, Broken("b", [])) as client:
        with pytest.raises(errors.HookFailed, match=r"Broken.before_call: KeyError") as caught:
            await client.call("scripted", HI)
    assert isinstance(caught.value.__cause__, KeyError)
    assert script.seen == []


async def test_a_broken_hook_may_fail_open(
    tmp_path: Path, script: ScriptedTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that is declared to fail open is logged with the trace id, and the call goes on."""
    with caplog.at_level(logging.INFO, logger="turnout"):
        async with client_of(tmp_path, script, Careless("c", [])) as client:
            reply = await client.call("scripted", HI)
    assert reply.content == "fine"
    lines = [
        json.loads(logs.JsonLines().format(record)) for record in caplog.records if record.name == "turnout"
    ]
    assert [line["event"] for line in lines] == ["hook failed", "attempt answered", "hook failed"]
    assert {line["trace_id"] for line in lines} == {reply.trace_id}
    assert "canary" not in str(lines)


async def test_embeddings_pass_the_hooks_too(tmp_path: Path) -> None:
    """`before_call` sees the texts of `embed`, may change them, and may refuse."""

    class Redact(Watch):
        def before_call(self, call: Call) -> Call:  # type: ignore[override]
            return msgspec.structs.replace(call, messages=call.messages.replace(b"secret", b"******"))

    async with Toxic() as server:
        environ = {
            "TURNOUT_HOME": str(tmp_path),
            "TURNOUT_DATABASE_URL": "sqlite://",
            "OPENAI_BASE_URL": server.url,
        }
        settings = load_settings(environ=environ, folder=tmp_path)
        async with LLMClient(settings, hooks=[Redact("r", [])]) as client:
            await client.embed(["my secret"], dimensions=3)
        async with LLMClient(settings, hooks=[Refuse("n", [])]) as client:
            with pytest.raises(errors.InvalidRequest, match="not on a Sunday"):
                await client.embed(["my secret"], dimensions=3)
        assert [(seen.json or {})["input"] for seen in server.requests] == [["my ******"]]


async def test_what_a_hook_changes_in_place_is_one_calls(tmp_path: Path, script: ScriptedTransport) -> None:
    """A hook that writes into what it is given changes that call and no later one."""

    class Scribble(Watch):
        async def after_call(self, call: Call, reply: Reply) -> None:
            """Nothing to note."""

        def before_call(self, call: Call) -> None:
            call.options.extra[f"field_{len(self.seen)}"] = 1
            call.scope.tags[f"tag_{len(self.seen)}"] = "x"
            self.seen.append(",".join(sorted(call.options.extra) + sorted(call.scope.tags)))

    seen: list[str] = []
    async with client_of(tmp_path, script, Scribble("s", seen)) as client:
        for _ in range(3):
            await client.call("scripted", HI, user_id="alice")
    assert seen == ["field_0,tag_0", "field_1,tag_1", "field_2,tag_2"]
    assert [sorted(name for name in sent if name.startswith("field")) for sent in script.seen] == [
        ["field_0"],
        ["field_1"],
        ["field_2"],
    ]


async def test_messages_of_a_hook_are_looked_through(tmp_path: Path) -> None:
    """Reasoning that a hook puts into the messages is not sent to a model that does not want it back."""

    class Think(Watch):
        def before_call(self, call: Call) -> Call:  # type: ignore[override]
            thought = b'[{"role":"assistant","content":"a","reasoning_content":"r"},'
            return msgspec.structs.replace(call, messages=thought + call.messages[1:])

    script = ScriptedTransport({"gpt-4o-mini": ["fine"]})
    env = {"TURNOUT_HOME": str(tmp_path), "OPENAI_BASE_URL": "scripted:/v1", "OPENAI_API_KEY": "sk-1"}
    settings = load_settings(environ=env, folder=tmp_path)
    async with LLMClient(settings, transports={"scripted": script}, hooks=[Think("t", [])]) as client:
        await client.call("gpt-4o-mini", HI)
    assert script.seen[0]["messages"] == [{"role": "assistant", "content": "a"}, *HI]
