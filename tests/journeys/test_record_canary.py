"""Keys and prompts through faults with the record on, then searched for in every file and in all that is shown."""

from __future__ import annotations

import asyncio
import base64
import urllib.parse
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from tests.journeys.oracle import listening
from tests.toxic import FAULTS, Toxic, last_words
from turnout import errors
from turnout.storage import address, tables
from turnout.storage.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeClient, Turnout
    from turnout.wiring import LLMClient

KEY = "sk-canary-77/ab+c9-5d1e"
SHAPES = (KEY, urllib.parse.quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode().rstrip("=")[:-1])
PROMPT = "prompt-canary-93ab"
SLOW = ("hang", "stall", "trickle", "slow", "huge", "gzip-bomb", "stream-endless", "header-flood", "together")
NAMES = sorted(name for name in FAULTS if not name.startswith(SLOW) and "stall" not in name)
VIEWS = ("tree", "timeline", "summary")


async def through_faults(client: LLMClient, server: Toxic) -> list[str]:
    """A plain and a streamed call for each fault, within spans that are told everything; the traces."""
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": f"say {PROMPT}"}]
    spans, traces = client.recorder.spans, []
    for name in NAMES:
        server.default = name
        with spans.start_trace("s1", "u1", name=name) as trace:
            traces.append(trace.trace_id)
            with spans.start_span("TOOL_INVOCATION", {"query": PROMPT}, api_key=KEY, note=f"Bearer {KEY}"):
                for streamed in (False, True):
                    try:
                        if streamed:
                            async for _ in client.stream(
                                "dojo", messages, model="deepseek-chat", timeout=0.25
                            ):
                                pass
                        else:
                            await client.call("deepseek-chat", messages, tags={"key": KEY}, timeout=0.25)
                    except errors.TurnoutError as error:
                        spans.log_event("ERROR", error=error, header=KEY)
                spans.end_span(outputs=PROMPT)
    return traces


def found(folder: Path, words: tuple[str, ...]) -> set[str]:
    """Which files of a data folder hold any of some words."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.stat().st_size for path in files)
    return {path.name for path in files for word in words if word.encode() in path.read_bytes()}


def shown(turnout: Turnout, traces: list[str], **env: str) -> str:
    """What the commands say of some of the traces."""
    commands: list[tuple[str, ...]] = [
        ("trace", "show", trace, "--view", view) for trace in traces[::60] for view in VIEWS
    ]
    commands += [("trace", "show", traces[0], "--json"), ("trace", "list", "--session", "s1", "--json")]
    commands += [("costs", "--json"), ("costs", "--by", "session", "--json"), ("doctor", "--json")]
    said = [turnout(*command, **env) for command in commands]
    assert [(done.args[3:], done.stderr, done.stdout) for done in said if done.returncode] == []
    return "".join(done.stdout + done.stderr for done in said)


@pytest.mark.parametrize("capture", ["metadata", "full"])
async def test_neither_keys_nor_prompts(
    make_client: MakeClient, turnout: Turnout, tmp_path: Path, capture: str
) -> None:
    """No key in any file, log, trace or command; at `metadata` no prompt either, at `full` in bodies alone."""
    home = tmp_path / "home"
    url = f"sqlite:///{home}/turnout.db"
    env = {"TURNOUT_DATABASE_URL": url, "TURNOUT_CAPTURE": capture, "TURNOUT_TIMEOUT": "2"}
    keys = {"DEEPSEEK_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    words = (*SHAPES, PROMPT) if capture == "metadata" else SHAPES
    with listening() as log:
        async with Toxic(replies=last_words) as server, Toxic(replies=last_words) as second:
            urls = {"DEEPSEEK_BASE_URL": server.url, "OPENAI_BASE_URL": second.url}
            async with make_client(**env, **keys, **urls) as client:
                traces = await through_faults(client, server)
                assert found(home, words) == set()
                read = [await asyncio.to_thread(client.reports.trace, trace) for trace in traces]
            seen = {request.fault for request in server.requests}
            assert len(seen) > 0.9 * len(NAMES), (
                "most were seen, though a hurried call may end before it is sent"
            )
    assert sum(map(len, read)) > 4 * len(NAMES)
    assert found(home, words) == set()
    said = await asyncio.to_thread(shown, turnout, traces, **env, **keys)
    everything = [*log.lines, said, repr(read)]
    assert [word for word in SHAPES for text in everything if word in text] == []
    if capture == "metadata":
        assert [text for text in everything if PROMPT in text] == []
    assert [line for line in log.lines if PROMPT in line] == []
    store = Store(address.read(url, home))
    with store.read() as connection:
        holding = {
            name
            for name, table in tables.metadata.tables.items()
            if PROMPT in repr(connection.execute(select(table)).fetchall())
        }
    store.close()
    assert holding == ({"bodies"} if capture == "full" else set())
