"""`turnout config`: every value and where it came from, and never a key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Turnout

CANARY = "sk-canary-1f2e3d4c5b6a"
TABLES = """
timeout = 30
dev_mode = true
[models.deepseek-chat]
max_output = 9000
[endpoints.vendor]
title = "Vendor"
base_url = "https://us3r:pa55@vendor.example/v1?token=t0ken"
codec = "openai"
key_vars = ["VENDOR_API_KEY"]
[tiers]
chat = ["deepseek-chat"]
[[prices]]
models = ["gpt-4o"]
from = 2026-01-01T00:00:00Z
input = "1"
output = "1"
source = "a contract"
checked = 2026-11-01
"""


def named(rows: list[dict[str, Any]], field: str = "name") -> dict[str, dict[str, Any]]:
    """Rows by one of their fields."""
    return {row[field]: row for row in rows}


def test_show_defaults(inside: Turnout) -> None:
    """Without any configuration every value is a default and every key is missing."""
    facts = json.loads(inside("config", "show", "--json").stdout)
    assert facts["file"] is None
    settings = named(facts["settings"])
    assert settings.pop("home")["origin"] == "environment (TURNOUT_HOME)"
    assert {row["origin"] for row in settings.values()} == {"default"}
    assert (settings["timeout"]["value"], settings["dev_mode"]["value"]) == (120.0, None)
    assert {(row["state"], row["origin"]) for row in facts["keys"]} == {("missing", None)}
    assert {row["origin"] for row in facts["base_urls"]} == {"default"}
    assert facts["tables"] == []


def test_show_origins(turnout: Turnout, tmp_path: Path) -> None:
    """Flag, environment, .env, file and default are told apart, for settings, keys and base URLs."""
    file = tmp_path / "turnout.toml"
    file.write_text(TABLES)
    (tmp_path / "own.gguf").write_bytes(b"")
    (tmp_path / ".env").write_text(
        f"VENDOR_API_KEY={CANARY}\nTURNOUT_IDLE_TIMEOUT=9\nOPENAI_BASE_URL=http://127.0.0.1:9\nEMPTY\n"
    )
    env = {"DEEPSEEK_API_KEY": CANARY, "ENABLE_DEEPSEEK": "no", "DEEPSEEK_BASE_URL": "https://d.example"}
    done = turnout("config", "show", "--json", "--model-file", "own.gguf", **env)
    facts = json.loads(done.stdout)
    assert facts["file"] == str(file)
    settings = {name: (row["value"], row["origin"]) for name, row in named(facts["settings"]).items()}
    assert settings["timeout"] == (30.0, str(file))
    assert settings["idle_timeout"] == (9.0, ".env (TURNOUT_IDLE_TIMEOUT)")
    assert settings["model_file"] == ("own.gguf", "flag")
    assert settings["disabled_providers"] == (["deepseek"], "environment (ENABLE_DEEPSEEK)")
    keys = {name: (row["state"], row["origin"]) for name, row in named(facts["keys"], "variable").items()}
    assert keys["DEEPSEEK_API_KEY"] == ("set", "environment (DEEPSEEK_API_KEY)")
    assert keys["VENDOR_API_KEY"] == ("set", ".env (VENDOR_API_KEY)")
    assert keys["OPENAI_API_KEY"] == ("missing", None)
    urls = {name: (row["url"], row["origin"]) for name, row in named(facts["base_urls"], "provider").items()}
    assert urls["deepseek"] == ("https://d.example/v1", "environment (DEEPSEEK_BASE_URL)")
    assert urls["openai"] == ("http://127.0.0.1:9/v1", ".env (OPENAI_BASE_URL)")
    assert urls["vendor"] == ("https://vendor.example/v1?***", str(file))
    assert facts["tables"] == ["models.deepseek-chat", "endpoints.vendor", "tiers.chat", "prices"]


def test_show_for_people(inside: Turnout, tmp_path: Path) -> None:
    """People read the same in four sections; only with --origin does a line end with its source."""
    (tmp_path / "turnout.toml").write_text(TABLES)
    plain = inside("config", "show", DEEPSEEK_API_KEY=CANARY)
    lines = [line.split() for line in plain.stdout.splitlines()]
    assert ["timeout", "30"] in lines
    assert ["dev_mode", "true"] in lines
    assert ["model_file", "not", "set"] in lines
    assert ["disabled_providers", "none"] in lines
    assert ["deepseek:", "DEEPSEEK_API_KEY", "set"] in lines
    assert ["tiers.chat", "changes", "the", "registry"] in lines
    assert f"file: {tmp_path / 'turnout.toml'}" in plain.stdout
    told = inside("config", "show", "--origin", DEEPSEEK_API_KEY=CANARY).stdout
    assert "environment (DEEPSEEK_API_KEY)" in told
    assert "environment (DEEPSEEK_API_KEY)" not in plain.stdout
    (tmp_path / "turnout.toml").unlink()
    assert "no turnout.toml was found" in inside("config", "show").stdout


@pytest.mark.parametrize(
    ("env", "origin"),
    [
        ({"TURNOUT_HOME": "", "XDG_DATA_HOME": "data"}, "environment (XDG_DATA_HOME)"),
        ({"TURNOUT_HOME": ""}, "default"),
    ],
)
def test_show_home(inside: Turnout, env: dict[str, str], origin: str) -> None:
    """The home folder's source is the variable that decided, or the default."""
    facts = json.loads(inside("config", "show", "--json", **env).stdout)
    assert named(facts["settings"])["home"]["origin"] == origin


def test_check(inside: Turnout, tmp_path: Path) -> None:
    """`check` says ok and which file: the one named, the one found, or none."""
    assert inside("config", "check").stdout == "ok: no turnout.toml, only environment and defaults\n"
    other = tmp_path / "other.toml"
    other.write_text(TABLES)
    assert inside("config", "check", "other.toml").stdout == "ok: other.toml\n"
    done = inside("config", "check", "--json", "other.toml")
    assert json.loads(done.stdout) == {"ok": True, "file": "other.toml"}
    assert json.loads(inside("config", "check", "--json").stdout)["file"] is None
    other.rename(tmp_path / "turnout.toml")
    assert inside("config", "check").stdout == f"ok: {tmp_path / 'turnout.toml'}\n"


@pytest.mark.parametrize("args", [("check", "bad.toml"), ("check", "bad.toml", "--json")])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timeout = ", "bad.toml is not TOML"),
        ("timeuot = 3", "did you mean 'timeout'?"),
        ('[models.deepseek-chat]\nupstrem = "x"', "did you mean 'upstream'?"),
        ('[endpoints.deepseek]\nbase_url = "ftp://us3r:pa55@h"', "base_url 'ftp://h' is not an address"),
        ('[endpoints.deepseek]\ncodec = "opneai"', "no codec 'opneai'"),
    ],
)
def test_check_says_what_is_wrong(
    inside: Turnout, tmp_path: Path, args: tuple[str, ...], text: str, says: str
) -> None:
    """A file that cannot be used ends with 3 and the fix, and no password is repeated."""
    (tmp_path / "bad.toml").write_text(text)
    done = inside("config", *args)
    assert (done.returncode, done.stdout) == (3, "")
    assert says in done.stderr
    assert "fix: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "pa55" not in done.stderr


def test_check_of_no_file(turnout: Turnout) -> None:
    """A file that is not there ends with 3, as a file that is wrong does."""
    done = turnout("config", "check", "nowhere.toml")
    assert (done.returncode, done.stdout) == (3, "")
    assert "nowhere.toml is not a file" in done.stderr


def test_what_cannot_be_read(turnout: Turnout, tmp_path: Path) -> None:
    """A .env in another encoding and a path beyond all bounds are errors with a fix, not tracebacks."""
    (tmp_path / ".env").write_bytes(b"DEEPSEEK_API_KEY=\xff\xfe")
    done = turnout("config", "check")
    assert done.returncode == 3
    assert ".env cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / ".env").unlink()
    done = turnout("config", "check", TURNOUT_CONFIG="x" * 5000)
    assert done.returncode == 3
    assert "which is not a file" in done.stderr


def test_a_key_in_a_file(turnout: Turnout, tmp_path: Path) -> None:
    """A key that comes from a file is as secret as one in a variable, and its origin is that variable."""
    (tmp_path / "key").write_text(f"{CANARY}\n")
    env = {"DEEPSEEK_API_KEY_FILE": "key", "DEEPSEEK_BASE_URL": f"https://api.example/{CANARY}"}
    facts = turnout("config", "show", "--json", **env).stdout
    origin = named(json.loads(facts)["keys"], "variable")["DEEPSEEK_API_KEY"]["origin"]
    assert origin == "environment (DEEPSEEK_API_KEY_FILE)"
    assert "https://api.example/***" in facts
    (tmp_path / "key").unlink()
    assert turnout("config", "show", **env).returncode == 3


@pytest.mark.parametrize(
    ("args", "says"), [(("shwo",), "Did you mean 'show'?"), ((), "config show --origin")]
)
def test_usage(inside: Turnout, args: tuple[str, ...], says: str) -> None:
    """A misspelt subcommand is answered with the right one, none at all with examples."""
    done = inside("config", *args)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    "args", [("show",), ("show", "--origin"), ("show", "--json"), ("check",), ("check", "--json")]
)
@pytest.mark.parametrize(
    "env",
    [
        {},
        {"TURNOUT_TIMEOUT": CANARY},
        {"DEEPSEEK_BASE_URL": f"https://{CANARY}@api.example"},
        {"DEEPSEEK_API_KEY": f"{CANARY},{CANARY}-two", "TURNOUT_TIMEOUT": f"{CANARY}-two"},
        {"DEEPSEEK_BASE_URL": f"https://api.example/{CANARY}/v1"},
        {"DEEPSEEK_BASE_URL": f"ftp://api.example/{CANARY}"},
        {"DEEPSEEK_BASE_URL": f"http://[{CANARY}"},
        {"TURNOUT_CONFIG": f"{CANARY}.toml"},
    ],
    ids=["sound", "timeout", "user", "two", "path", "scheme", "host", "file"],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_canary(
    inside: Turnout, tmp_path: Path, args: tuple[str, ...], env: dict[str, str], place: str
) -> None:
    """A key is in no output, not even where it strayed into another variable or an error."""
    variables = {"DEEPSEEK_API_KEY": CANARY, **env}
    if place == ".env":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        variables = {}
    done = inside("config", *args, **variables)
    assert done.returncode in {0, 3}
    assert CANARY[3:] not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
