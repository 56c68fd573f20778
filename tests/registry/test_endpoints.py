"""Provider rows: bound to keys and addresses, and what a bad row is told."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import msgspec
import pytest

from turnout import registry
from turnout.errors import ConfigError
from turnout.registry.reading import shipped
from turnout.settings import Settings, load_settings
from turnout.types import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.registry.endpoints import Endpoint

VENDOR = (
    '[endpoints.vendor]\ntitle = "Vendor"\nbase_url = "https://api.vendor.example/v2"\n'
    'codec = "openai"\nkey_vars = ["VENDOR_API_KEY", "VENDOR_OLD_API_KEY"]\n'
)


def load(home: Path, environ: dict[str, str] | None = None, toml: str = "") -> dict[str, Endpoint]:
    """All endpoints, as a process with this environment and this turnout.toml has them."""
    (home / "turnout.toml").write_text(toml, encoding="utf-8")
    settings = load_settings(environ={"TURNOUT_HOME": str(home)} | (environ or {}), folder=home)
    return registry.load(settings).endpoints


def test_every_shipped_row_loads(tmp_path: Path) -> None:
    """Each row of endpoints.toml becomes an endpoint; without keys only the keyless ones can be called."""
    endpoints = load(tmp_path)
    assert endpoints.keys() == shipped("endpoints.toml")["endpoints"].keys()
    assert {name for name, endpoint in endpoints.items() if endpoint.callable} == {
        "local",
        "minilm",
        "scripted",
    }


@pytest.mark.parametrize(
    ("environ", "provider", "url"),
    [
        ({}, "openai", "https://api.openai.com/v1"),
        ({}, "deepseek", "https://api.deepseek.com"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1"}, "openai", "http://127.0.0.1:1/v1"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/"}, "openai", "http://127.0.0.1:1/v1"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "openai", "http://127.0.0.1:1/v1"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1/"}, "openai", "http://127.0.0.1:1/v1"),
        ({"OPENAI_BASE_URL": " https://proxy.example/openai "}, "openai", "https://proxy.example/openai"),
        ({"OPENAI_BASE_URL": "  "}, "openai", "https://api.openai.com/v1"),
        ({"DEEPSEEK_BASE_URL": "http://127.0.0.1:1"}, "deepseek", "http://127.0.0.1:1/v1"),
        ({"DEEPSEEK_BASE_URL": "http://127.0.0.1:1/beta"}, "deepseek", "http://127.0.0.1:1/beta"),
    ],
)
def test_the_address(tmp_path: Path, environ: dict[str, str], provider: str, url: str) -> None:
    """`<NAME>_BASE_URL` replaces the row's address, and has the row's path when it has none of its own."""
    assert load(tmp_path, environ)[provider].base_url == url


@pytest.mark.parametrize(
    ("url", "needed"),
    [
        ("http://127.0.0.1:11434", False),
        ("http://localhost:11434/v1", False),
        ("http://[::1]:8080", False),
        ("http://LOCALHOST:8080", False),
        ("https://api.deepseek.com", True),
        ("http://127.0.0.1.example", True),
        ("https://localhost.example/v1", True),
    ],
)
def test_loopback_needs_no_key(tmp_path: Path, url: str, *, needed: bool) -> None:
    """An address on this machine can be called without a key, and no other can."""
    endpoint = load(tmp_path, {"DEEPSEEK_BASE_URL": url})["deepseek"]
    assert endpoint.needs_key is needed
    assert endpoint.callable is not needed


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("sk-canary", (Secret("sk-canary"),)),
        ("  sk-canary\n", (Secret("sk-canary"),)),
        ("sk-...", ()),
        (" sk-... ", ()),
        ("sk-a, sk-b\nsk-...", (Secret("sk-a"), Secret("sk-b"))),
        ("", ()),
        ("   ", ()),
    ],
)
def test_a_placeholder_is_no_key(tmp_path: Path, value: str, keys: tuple[Secret, ...]) -> None:
    """An empty variable, or the `sk-...` of an example file, counts as no key; several keys are each one."""
    endpoint = load(tmp_path, {"OPENAI_API_KEY": value})["openai"]
    assert endpoint.keys == keys
    assert endpoint.callable is bool(keys)


def test_keys_in_the_order_of_the_row(tmp_path: Path) -> None:
    """A vendor may have several variables; what is set in them are its keys, in the row's order."""
    environ = {"VENDOR_OLD_API_KEY": "old", "VENDOR_API_KEY": "new,newer", "OPENAI_API_KEY": "other"}
    found = load(tmp_path, environ, VENDOR)["vendor"].keys
    assert found == (Secret("new"), Secret("newer"), Secret("old"))
    assert load(tmp_path, {"VENDOR_OLD_API_KEY": "old"}, VENDOR)["vendor"].keys == (Secret("old"),)


@pytest.mark.parametrize(
    ("environ", "toml"),
    [
        ({"ENABLE_DEEPSEEK": "false"}, ""),
        ({}, "enable_deepseek = false\n"),
        ({}, "[endpoints.deepseek]\nenabled = false\n"),
    ],
)
def test_a_provider_is_switched_off(tmp_path: Path, environ: dict[str, str], toml: str) -> None:
    """What is switched off cannot be called, key or not; the others can."""
    keys = {"DEEPSEEK_API_KEY": "sk-a", "OPENAI_API_KEY": "sk-b"}
    endpoints = load(tmp_path, keys | environ, toml)
    assert (endpoints["deepseek"].enabled, endpoints["deepseek"].callable) == (False, False)
    assert endpoints["openai"].callable is True


def test_one_field_is_changed_and_the_rest_kept(tmp_path: Path) -> None:
    """A user's row for a shipped endpoint changes the fields it names and no other."""
    ours = load(tmp_path)
    theirs = load(tmp_path, toml='[endpoints.openai]\nauth_prefix = "Key "\nheaders = { x = "y" }\n')
    changed = msgspec.structs.replace(ours["openai"], auth_prefix="Key ", headers={"x": "y"})
    assert theirs == ours | {"openai": changed}


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ('[endpoints.openai]\nbase_ur = "x"', "unknown field 'base_ur'", "did you mean 'base_url'?"),
        ("[endpoints.openai]\nneeds_key = 1", "Expected `bool`, got `int` - at `$.needs_key`", "that field"),
        ('[endpoints.openai]\nkey_vars = "K"', "Expected `array`, got `str` - at `$.key_vars`", "that field"),
        ('[endpoints.vendor]\ntitle = "V"', "missing required field `base_url`", "correct that field"),
        ('[endpoints.openai]\nbase_url = "api.openai.com/v1"', "is not an address", "OPENAI_BASE_URL"),
        ('[endpoints.openai]\nbase_url = "ftp://host/v1"', "'ftp://host/v1' is not an address", "https://"),
        (
            '[endpoints.openai]\nbase_url = "https:///v1"',
            "'https:///v1' is not an address",
            "OPENAI_BASE_URL",
        ),
        ('[endpoints.openai]\nbase_url = ""', "'' is not an address", "OPENAI_BASE_URL"),
        ("[endpoints]\nopenai = 'x'", "must be a table, not str", "write [endpoints.openai] on a line"),
    ],
)
def test_a_bad_row_is_told(tmp_path: Path, toml: str, message: str, hint: str) -> None:
    """What is wrong with an endpoint is one line that names the row, and a hint with the fix."""
    with pytest.raises(ConfigError) as caught:
        registry.load(Settings(home=tmp_path, tables=tomllib.loads(toml)))
    assert message in str(caught.value)
    assert "[endpoints." in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint


def test_a_bad_address_in_the_environment(tmp_path: Path) -> None:
    """A variable that is no address is told as such, with the variable's name in the hint."""
    with pytest.raises(ConfigError, match=r"'127\.0\.0\.1:1' is not an address") as caught:
        load(tmp_path, {"DEEPSEEK_BASE_URL": "127.0.0.1:1"})
    assert "DEEPSEEK_BASE_URL" in caught.value.hint
