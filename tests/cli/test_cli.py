"""The command line as people and programs use it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.toxic import Toxic, ToxicThread
from turnout.cli.main import COMMANDS, cli, run
from turnout.cli.shared import money

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Turnout


def test_help_leads_with_examples(turnout: Turnout) -> None:
    """`turnout --help` shows examples first, and names every command."""
    text = turnout("--help").stdout
    assert text.index('turnout ask "Help me debug my code"') < text.index("Options:")
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command: str) -> None:
    """Each command explains itself and takes --json."""
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output


def test_help_loads_no_command(turnout: Turnout) -> None:
    """Help is quick because it imports neither the engine nor an HTTP client."""
    code = (
        "import sys; from turnout.cli.main import run; run(['--help']);"
        "print([m for m in ('turnout.wiring', 'aiohttp', 'asyncio') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stderr.strip() == "[]"
    assert turnout("--version").stdout == "turnout 0.1.0\n"


@pytest.mark.parametrize(
    ("args", "env", "code", "says"),
    [
        (("ask",), {}, 2, "Missing argument"),
        (("ask", " "), {}, 2, "the question is empty"),
        (("ask", "hi", "--bogus"), {}, 2, "No such option"),
        (("ask", "hi", "--temperature", "5"), {}, 2, "temperature must be between 0 and 2"),
        (("ask", "hi", "--temperature", "nan"), {}, 2, "not nan"),
        (("ask", "hi", "--max-tokens", "many"), {}, 2, "not a valid integer"),
        (("askk", "hi"), {}, 2, "did you mean `turnout ask`?"),
        (("xyzzy",), {}, 2, "commands are: demo"),
        (("models",), {"TURNOUT_CONFIG": "nowhere.toml"}, 3, "nowhere.toml, which is not a file"),
        (("models",), {"TURNOUT_TIMEOUT": "soon"}, 3, "'soon' is not a time"),
        (("ask", "hi"), {"DEEPSEEK_BASE_URL": "not a url"}, 3, "DEEPSEEK_BASE_URL"),
        (("ask", "hi", "--model-file", "no.gguf"), {}, 3, "no.gguf is not a file"),
        (("ask", "hi", "--model", "gpt-4o"), {}, 4, "set OPENAI_API_KEY"),
        (("ask", "hi", "--agent", "dojo"), {"TURNOUT_DEV_MODE": "no"}, 4, "set DEEPSEEK_API_KEY"),
    ],
)
def test_bad_input(inside: Turnout, args: tuple[str, ...], env: dict[str, str], code: int, says: str) -> None:
    """Each mistake gets its exit code and a message with the fix on stderr, and never a traceback."""
    done = inside(*args, **env)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_bad_row(turnout: Turnout, tmp_path: Path) -> None:
    """A misspelt field in turnout.toml is named with file, row and the right word."""
    (tmp_path / "turnout.toml").write_text('[models.deepseek-chat]\nupstrem = "x"\n')
    done = turnout("models")
    assert done.returncode == 3
    assert "[models.deepseek-chat]: unknown field 'upstrem'" in done.stderr
    assert "did you mean 'upstream'?" in done.stderr


def test_ask_for_people(turnout: Turnout) -> None:
    """The answer alone is on stdout; who answered, tokens, cost and notices are on stderr."""
    with ToxicThread("503") as first, ToxicThread() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url}
        done = turnout("ask", "--agent", "wizard", "--system", "Be brief.", "hi", "there", **env)
        messages = json.loads(second.requests[0].body)["messages"]
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi there"}]
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "note: there is no agent 'wizard'" in done.stderr
    assert "gpt-4o-mini (openai)" in done.stderr
    assert "first choice left: server_error · 2 attempts" in done.stderr


def test_ask_reads_stdin_and_lets_the_supervisor_choose(turnout: Turnout) -> None:
    """`-` reads the question from stdin, and without --agent the routing is in the JSON."""
    with ToxicThread() as server:
        done = turnout("ask", "-", "--json", stdin="debug this traceback", DEEPSEEK_BASE_URL=server.url)
    reply = json.loads(done.stdout)
    assert (reply["agent"], reply["routing"]["method"]) == ("debugger", "keyword")
    expected = {"content", "agent", "model", "provider", "finish_reason", "usage", "cost_usd", "attempts"}
    assert expected | {"fallback_reason", "trace_id", "notices", "routing"} == set(reply)


def test_ask_json_pins_a_model(turnout: Turnout) -> None:
    """--model asks that model, and money in JSON is an exact number."""
    with ToxicThread() as server:
        done = turnout(
            "ask", "--model", "gpt-4o", "--agent", "builder", "hi", "--json", OPENAI_BASE_URL=server.url
        )
    reply = json.loads(done.stdout, parse_float=Decimal)
    assert (reply["model"], reply["agent"]) == ("gpt-4o", "builder")
    assert reply["cost_usd"] == Decimal(reply["attempts"][0]["cost_nano"]) / 10**9


def test_an_unknown_usage_is_not_zero(inside: Turnout) -> None:
    """Tokens that a reply does not report are counted here, and said to be."""
    with ToxicThread("usage-missing") as server:
        done = inside("ask", "--agent", "dojo", "hi", DEEPSEEK_BASE_URL=server.url)
        assert " out (counted) · $" in done.stderr
        done = inside("ask", "--agent", "dojo", "hi", "--json", DEEPSEEK_BASE_URL=server.url)
    usage = json.loads(done.stdout)["usage"]
    assert (usage["source"], usage["input_tokens"] > 0, usage["output_tokens"] > 0) == ("counted", True, True)


def test_route_for_people(turnout: Turnout) -> None:
    """`route` says who, how, why and with which models."""
    done = turnout("route", "Help me debug my code")
    assert done.stdout.splitlines() == [
        "debugger  (keyword, confidence 0.5)",
        "  no provider can be called without a key; the query says: debug",
        "  models: smollm2-135m",
    ]
    assert turnout("route", "-", stdin="find my notes").stdout.startswith("librarian")


def test_models(inside: Turnout) -> None:
    """`models` lists every row with its price now, what is missing and when a name ends."""
    text = inside("models").stdout
    assert "deepseek-reasoner" in text
    assert "no key, until 2027-01-14, then gpt-6-luna" in text or "retired 2027-01-14" in text
    rows = {row["name"]: row for row in json.loads(inside("models", "--json", OPENAI_API_KEY="sk-1").stdout)}
    assert rows["gpt-4o"]["callable"] is True
    assert rows["deepseek-chat"]["callable"] is False
    assert rows["deepseek-chat"]["price"]["id"].startswith("deepseek-chat@")
    assert rows["text-embedding-3-small"]["dimensions"] == 1536


def test_models_without_a_price(inside: Turnout, tmp_path: Path) -> None:
    """A model without a price row says `not known`, and null in JSON."""
    (tmp_path / "turnout.toml").write_text(
        '[models.mystery]\nprovider = "openai"\nupstream = "m"\ncontext_window = 1000\n'
        "max_output = 10\ndefault_output = 10\nretires_on = 2020-01-01\n"
    )
    line = next(line for line in inside("models").stdout.splitlines() if line.startswith("mystery"))
    assert "not known" in line
    assert "retired 2020-01-01" in line


def test_agents(turnout: Turnout) -> None:
    """`agents` lists everyone with tier and models, and marks the default."""
    text = turnout("agents").stdout
    assert "dojo  (default)" in text
    assert "supervisor  (not routed to)" in text
    rows = {row["id"]: row for row in json.loads(turnout("agents", "--json").stdout)}
    assert rows["debugger"]["models"][0] == "deepseek-reasoner"
    assert rows["builder"]["models"][0] == "deepseek-chat"


def test_demo_with_a_provider(turnout: Turnout) -> None:
    """With keys the demo's queries go to the real providers, and a failover is told in its row."""
    with ToxicThread() as server:
        server.script("ok", "500")
        done = turnout("demo", "--once", DEEPSEEK_BASE_URL=server.url, OPENAI_BASE_URL=server.url)
    assert done.returncode == 0
    assert "provider=openai" in done.stdout
    assert "! deepseek-reasoner: The provider had a fault of its own" in done.stdout


def test_demo_when_nobody_answers(turnout: Turnout) -> None:
    """A demo in which no row was answered says why in each row and ends with 6."""
    with ToxicThread("401") as server:
        done = turnout("demo", "--once", DEEPSEEK_BASE_URL=server.url)
    assert done.returncode == 6
    assert done.stdout.count("no model answered") == 5


async def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C ends a call with 130, says so, and closes the provider's connection."""
    async with Toxic("hang") as server:
        command = [sys.executable, "-m", "turnout", "ask", "--agent", "dojo", "hi"]
        process = subprocess.Popen(  # noqa: ASYNC220, S603
            command,
            stderr=subprocess.PIPE,
            text=True,
            env={"DEEPSEEK_BASE_URL": server.url, "HOME": str(tmp_path), "TURNOUT_HOME": str(tmp_path)},
        )
        await server.until(lambda: len(server.requests) == 1, within=20)
        process.send_signal(signal.SIGINT)
        await server.until(lambda: len(server.closed_at) == 1)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "\ninterrupted\n")


def test_a_reader_that_leaves(turnout: Turnout) -> None:
    """`| head` is no error."""
    command = f"{sys.executable} -m turnout models --json | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)  # noqa: S603, S607
    assert "Traceback" not in done.stderr


def test_unknown_turnout_errors_are_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rejection by the provider is plain failure: exit code 1, the provider's words, no traceback."""
    with ToxicThread("422") as server:
        monkeypatch.setenv("DEEPSEEK_BASE_URL", server.url)
        assert run(["ask", "--agent", "dojo", "hi"]) == 1
    assert "error: deepseek: The provider rejected the request itself: HTTP 422" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        (None, "?"),
        (Decimal(0), "$0"),
        (Decimal("0.000686"), "$0.0006860"),
        (Decimal("0.000000003"), "$0.000000003000"),
        (Decimal("1.5"), "$1.500"),
        (Decimal(1234), "$1234.00"),
    ],
)
def test_money(dollars: Decimal | None, text: str) -> None:
    """Money keeps four significant digits and is never rounded to nothing."""
    assert money(dollars) == text
