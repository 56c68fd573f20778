"""Settings: five layers in order, each value with its origin, each mistake with its fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from turnout.errors import ConfigError
from turnout.settings import Settings, load_settings
from turnout.types import Secret

LAYERS = [
    ("default", 120.0, None),
    ("turnout.toml", 11.0, "{folder}/turnout.toml"),
    (".env", 22.0, ".env (TURNOUT_TIMEOUT)"),
    ("environment", 33.0, "environment (TURNOUT_TIMEOUT)"),
    ("flag", 44.0, "flag"),
]


def load(
    folder: Path, environ: dict[str, str] | None = None, *, toml: str = "", dotenv: str = ""
) -> Settings:
    """Settings of a process with this environment in a folder with these files."""
    if toml:
        (folder / "turnout.toml").write_text(toml, encoding="utf-8")
    if dotenv:
        (folder / ".env").write_text(dotenv, encoding="utf-8")
    return load_settings(environ={"TURNOUT_HOME": str(folder / "home")} | (environ or {}), folder=folder)


@pytest.mark.parametrize("top", range(len(LAYERS)), ids=[name for name, _, _ in LAYERS])
def test_the_highest_layer_wins(tmp_path: Path, top: int) -> None:
    """Flag over environment over .env over turnout.toml over default, and `origins` says which it was."""
    environ = {"TURNOUT_HOME": str(tmp_path / "home")}
    if top >= 1:
        (tmp_path / "turnout.toml").write_text("timeout = 11\n", encoding="utf-8")
    if top >= 2:
        (tmp_path / ".env").write_text("TURNOUT_TIMEOUT=22\n", encoding="utf-8")
    if top >= 3:
        environ["TURNOUT_TIMEOUT"] = "33"
    flags = {"timeout": 44 if top >= 4 else None}
    settings = load_settings(flags, environ=environ, folder=tmp_path)
    _, value, origin = LAYERS[top]
    assert settings.timeout == value
    assert settings.origins.get("timeout") == (origin and origin.format(folder=tmp_path))


def test_defaults(tmp_path: Path) -> None:
    """A process that was told nothing has the documented defaults and no origins."""
    assert load(tmp_path) == Settings(home=tmp_path / "home")


def test_every_setting_from_the_file(tmp_path: Path) -> None:
    """turnout.toml may hold every setting; tables are kept for the registry, unchecked."""
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"GGUF")
    settings = load(
        tmp_path,
        toml=(
            "timeout = 1\nconnect_timeout = 2\nfirst_token_timeout = 3.5\nidle_timeout = 4\n"
            f'dev_mode = true\nenable_deepseek = false\nmodel_file = "{weights}"\n'
            '[tiers]\nchat = ["gpt-4o"]\n[[prices]]\nanything = "goes"\n'
        ),
    )
    file = tmp_path / "turnout.toml"
    names = (
        "timeout",
        "connect_timeout",
        "first_token_timeout",
        "idle_timeout",
        "dev_mode",
        "enable_deepseek",
        "model_file",
    )
    assert settings == Settings(
        home=tmp_path / "home",
        file=file,
        timeout=1,
        connect_timeout=2,
        first_token_timeout=3.5,
        idle_timeout=4,
        dev_mode=True,
        model_file=weights,
        disabled_providers=frozenset({"deepseek"}),
        tables={"tiers": {"chat": ["gpt-4o"]}, "prices": [{"anything": "goes"}]},
        origins=dict.fromkeys(names, str(file)),
    )
    assert settings.file_name == str(file)


@pytest.mark.parametrize(
    ("name", "variable", "text", "value"),
    [
        ("timeout", "TURNOUT_TIMEOUT", "0.5", 0.5),
        ("timeout", "TURNOUT_TIMEOUT", "86400", 86_400.0),
        ("connect_timeout", "TURNOUT_CONNECT_TIMEOUT", "7", 7.0),
        ("first_token_timeout", "TURNOUT_FIRST_TOKEN_TIMEOUT", "8", 8.0),
        ("idle_timeout", "TURNOUT_IDLE_TIMEOUT", " 9 ", 9.0),
        ("dev_mode", "TURNOUT_DEV_MODE", "1", True),
        ("dev_mode", "TURNOUT_DEV_MODE", " ON ", True),
        ("dev_mode", "TURNOUT_DEV_MODE", "off", False),
        ("dev_mode", "NEXT_PUBLIC_DEV_MODE", "True", True),
        ("dev_mode", "NEXT_PUBLIC_DEV_MODE", "no", False),
        ("disabled_providers", "ENABLE_DEEPSEEK", "false", frozenset({"deepseek"})),
        ("disabled_providers", "ENABLE_DEEPSEEK", "yes", frozenset()),
    ],
)
def test_every_variable(tmp_path: Path, name: str, variable: str, text: str, value: Any) -> None:
    """Each variable sets its field, in the environment as in .env."""
    assert getattr(load(tmp_path, {variable: text}), name) == value
    assert getattr(load(tmp_path, dotenv=f'{variable}="{text}"\n'), name) == value


@pytest.mark.parametrize(("ours", "theirs", "value"), [("0", "1", False), ("1", "0", True)])
def test_our_dev_mode_wins(tmp_path: Path, ours: str, theirs: str, *, value: bool) -> None:
    """TURNOUT_DEV_MODE decides where NEXT_PUBLIC_DEV_MODE says otherwise."""
    settings = load(tmp_path, {"TURNOUT_DEV_MODE": ours, "NEXT_PUBLIC_DEV_MODE": theirs})
    assert settings.dev_mode is value
    assert settings.origins == {"dev_mode": "environment (TURNOUT_DEV_MODE)"}


def test_the_file_of_the_folder_comes_before_that_of_home(tmp_path: Path) -> None:
    """turnout.toml is looked for in the folder, then in home."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "turnout.toml").write_text("timeout = 1\n", encoding="utf-8")
    assert load(tmp_path).file == home / "turnout.toml"
    assert load(tmp_path, toml="timeout = 2\n").timeout == 2


def test_a_named_file_comes_before_both(tmp_path: Path) -> None:
    """TURNOUT_CONFIG names the only file that is read."""
    named = tmp_path / "named.toml"
    named.write_text("timeout = 3\n", encoding="utf-8")
    settings = load(tmp_path, {"TURNOUT_CONFIG": str(named)}, toml="timeout = 2\n")
    assert (settings.timeout, settings.file) == (3, named)


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Home is TURNOUT_HOME, else below XDG_DATA_HOME, else below ~/.local/share."""
    monkeypatch.setenv("HOME", str(tmp_path))
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}
    assert load_settings(environ=data | {"TURNOUT_HOME": "/h"}, folder=tmp_path).home == Path("/h")
    assert load_settings(environ=data, folder=tmp_path).home == tmp_path / "data" / "turnout"
    assert load_settings(environ={}, folder=tmp_path).home == tmp_path / ".local" / "share" / "turnout"


def test_the_process_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments the process's own environment and folder are read."""
    monkeypatch.setenv("TURNOUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TURNOUT_IDLE_TIMEOUT", "5")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "turnout.toml").write_text("connect_timeout = 6\n", encoding="utf-8")
    settings = load_settings()
    assert (settings.idle_timeout, settings.connect_timeout) == (5, 6)
    assert settings.file == tmp_path / "turnout.toml"


def test_keys_and_addresses(tmp_path: Path) -> None:
    """Every *_API_KEY is a secret and every *_BASE_URL an address; the environment's win over .env's."""
    settings = load(
        tmp_path,
        {
            "OPENAI_API_KEY": "from-environment",
            "OPENAI_BASE_URL": " http://127.0.0.1:1 ",
            "EMPTY_BASE_URL": "",
        },
        dotenv="OPENAI_API_KEY=from-dotenv\nDEEPSEEK_API_KEY=' k '\nUNSET_API_KEY\nKIMI_API_KEY=sk-...\n",
    )
    assert settings.keys == {
        "OPENAI_API_KEY": (Secret("from-environment"),),
        "DEEPSEEK_API_KEY": (Secret("k"),),
    }
    assert settings.base_urls == {"openai": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a ,\n b\n", ["a", "b"]),
        ("a,sk-...,b", ["a", "b"]),
        ("sk-...", None),
        (" , ", None),
        (" ", None),
    ],
)
def test_several_keys_in_one_variable(tmp_path: Path, text: str, keys: list[str] | None) -> None:
    """Commas and line breaks stand between keys, in a variable as in the file a variable names."""
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    expected = {"OPENAI_API_KEY": tuple(map(Secret, keys))} if keys else {}
    assert load(tmp_path, {"OPENAI_API_KEY": text}).keys == expected
    assert load(tmp_path, {"OPENAI_API_KEY_FILE": str(file), "OTHER_FILE": str(file)}).keys == expected


def test_a_variable_and_its_file(tmp_path: Path) -> None:
    """Keys of a variable and of its file are taken together."""
    file = tmp_path / "keys"
    file.write_text("b\n", encoding="utf-8")
    settings = load(tmp_path, {"OPENAI_API_KEY": "a", "OPENAI_API_KEY_FILE": str(file)})
    assert settings.keys == {"OPENAI_API_KEY": (Secret("a"), Secret("b"))}


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_key_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """A key file that is gone or no text is told by its variable, with the fix."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY_FILE names a file that cannot be read") as caught:
        load(tmp_path, {"OPENAI_API_KEY_FILE": str(file)})
    assert caught.value.hint == "correct the path, or set OPENAI_API_KEY itself"


def test_no_key_is_shown(tmp_path: Path) -> None:
    """A key appears in no text made of the settings."""
    canary = "sk-canary-5f1d"
    settings = load(
        tmp_path, {"OPENAI_API_KEY": canary}, dotenv=f"DEEPSEEK_API_KEY={canary}\n", toml="timeout = 1\n"
    )
    assert len(settings.keys) == 2
    for text in (repr(settings), str(settings), f"{settings}", repr(settings.keys)):
        assert canary not in text
        assert "***" in text


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ("timeout = = 1\n", "is not TOML: ", "correct that line"),
        ("timout = 1\n", "unknown key 'timout'", "did you mean 'timeout'?"),
        ("[modles.x]\n", "unknown key 'modles'", "did you mean 'models'?"),
        ("qqq = 1\n", "unknown key 'qqq'", "known are: agents, calendars, capture, connect_timeout,"),
        ("models = 5\n", "models must be a table", "write [models] on a line of its own"),
        ("[prices]\n", "prices must be a table", "write [[prices]] on a line of its own"),
        ('timeout = "soon"\n', "timeout: 'soon' is not a time", "above 0 and up to 86400"),
        ("timeout = true\n", "timeout: True is not a time", "above 0 and up to 86400"),
        ("timeout = [1]\n", "timeout: [1] is not a time", "above 0 and up to 86400"),
        ("timeout = 0\n", "timeout: 0 is not a time", "above 0 and up to 86400"),
        ("timeout = 86401\n", "timeout: 86401 is not a time", "above 0 and up to 86400"),
        ("timeout = nan\n", "timeout: nan is not a time", "above 0 and up to 86400"),
        ("idle_timeout = inf\n", "idle_timeout: inf is not a time", "above 0 and up to 86400"),
        ("dev_mode = 2\n", "dev_mode: 2 is neither true nor false", "write true or false"),
        ('model_file = "no-such.gguf"\n', "model_file: no-such.gguf is not a file", "name a GGUF"),
    ],
)
def test_a_mistake_in_the_file_is_told(tmp_path: Path, toml: str, message: str, hint: str) -> None:
    """What is wrong in turnout.toml is one line that names the file, and a hint with the fix."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml=toml)
    assert str(tmp_path / "turnout.toml") in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "message", "hint"),
    [
        ({"TURNOUT_TIMEOUT": "2 minutes"}, "TURNOUT_TIMEOUT: '2 minutes' is not a time", "seconds"),
        ({"TURNOUT_CONNECT_TIMEOUT": "-1"}, "TURNOUT_CONNECT_TIMEOUT: '-1' is not a time", "seconds"),
        ({"TURNOUT_DEV_MODE": "maybe"}, "TURNOUT_DEV_MODE: 'maybe' is neither", "write true or false"),
        ({"ENABLE_DEEPSEEK": "nope"}, "ENABLE_DEEPSEEK: 'nope' is neither", "write true or false"),
        ({"TURNOUT_MODEL_FILE": "gone.gguf"}, "TURNOUT_MODEL_FILE: gone.gguf is not a file", "GGUF"),
        ({"TURNOUT_CONFIG": "gone.toml"}, "TURNOUT_CONFIG names gone.toml, which is not a file", "unset"),
    ],
)
def test_a_mistake_in_a_variable_is_told(
    tmp_path: Path, environ: dict[str, str], message: str, hint: str
) -> None:
    """What is wrong in the environment is told by the variable's name, with the fix."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_mistake_in_a_flag_is_told(tmp_path: Path) -> None:
    """What is wrong on the command line is told as it was typed."""
    with pytest.raises(ConfigError, match="--first-token-timeout: 'x' is not a time"):
        load_settings({"first_token_timeout": "x"}, environ={"TURNOUT_HOME": "/h"}, folder=tmp_path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """A file that cannot be read is named, with what stood in the way."""
    (tmp_path / "turnout.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"turnout\.toml cannot be read: ") as caught:
        load(tmp_path)
    assert caught.value.hint == "check the file and its rights"


def test_the_name_of_no_file(tmp_path: Path) -> None:
    """Errors name turnout.toml also where none was read."""
    assert Settings(home=tmp_path).file_name == "turnout.toml"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"OPENAI_BASE_URL": "http://me:canary@host/v1"}, "OPENAI_BASE_URL has a user in it"),
    ],
)
def test_an_address_with_a_user_in_it(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    """A base URL with a password in it is refused, and the password is not quoted."""
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings(environ=environ, folder=tmp_path)
    assert "canary" not in str(caught.value) + caught.value.hint


def test_a_dotenv_that_is_no_text(tmp_path: Path) -> None:
    """A .env that is not UTF-8 is an error that names the file."""
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(ConfigError, match=r"\.env cannot be read"):
        load_settings(environ={}, folder=tmp_path)


def test_a_dotenv_is_taken_as_written(tmp_path: Path) -> None:
    """`${NAME}` in .env is not expanded, and an empty variable is as good as none."""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-${HOME}\nENABLE_DEEPSEEK=\n")
    settings = load_settings(environ={}, folder=tmp_path)
    assert settings.keys["OPENAI_API_KEY"][0].reveal() == "sk-${HOME}"
    assert settings.disabled_providers == frozenset()
