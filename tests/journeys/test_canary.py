"""Keys pushed through every fault and every face, then searched for in all that came out: 0 hits."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from tests.toxic import FAULTS, Toxic, ToxicThread
from turnout import errors

if TYPE_CHECKING:
    from tests.conftest import MakeClient, Turnout

CANARY = "sk-canary-7f3a9c"
KEYS = {"DEEPSEEK_API_KEY": CANARY, "OPENAI_API_KEY": f"{CANARY}-2", "ANTHROPIC_API_KEY": f"{CANARY}-3"}
PLAIN = sorted(name for name, fault in FAULTS.items() if "plain" in fault.kinds)
COMMANDS = (
    ("ask", "--agent", "dojo", "hi"),
    ("ask", "--agent", "dojo", "hi", "--json"),
    ("route", "debug this", "--json"),
    ("models", "--json"),
    ("agents",),
    ("config", "show", "--origin"),
    ("config", "show", "--json"),
    ("doctor", "--reach"),
    ("doctor", "--reach", "--json"),
    ("demo", "--once"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_shows_a_key(turnout: Turnout, command: tuple[str, ...]) -> None:
    """Every command, with logs on, against a server that quotes the key back in its refusals."""
    with ToxicThread("401-echo") as first, ToxicThread("401-echo") as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url, "TURNOUT_LOG": "json"}
        done = turnout(*command, **KEYS, **env)
    assert CANARY not in done.stdout + done.stderr


async def test_no_fault_shows_a_key(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    """Every fault an upstream can do to a plain call: reply, error, its repr, traceback, and log."""
    async with Toxic() as server:
        async with make_client(**KEYS, DEEPSEEK_BASE_URL=server.url, TURNOUT_TIMEOUT="1") as client:
            for fault in PLAIN:
                server.default = fault
                try:
                    said = repr(
                        await client.call("deepseek-chat", [{"role": "user", "content": "hi"}], timeout=0.3)
                    )
                except errors.TurnoutError as error:
                    said = f"{error} {error!r} {vars(error)} {''.join(traceback.format_exception(error))}"
                assert CANARY not in said, fault
            shown = f"{client!r} {client.settings!r} {client.registry!r} {vars(client)}"
        assert len({seen.fault for seen in server.requests}) > 100
    assert CANARY not in shown
    assert CANARY not in caplog.text
