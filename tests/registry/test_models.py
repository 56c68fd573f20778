"""Model rows: the shipped ones load, the user's are laid over them, a bad one is told what is wrong."""

from __future__ import annotations

import tomllib
from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from turnout import registry
from turnout.errors import ConfigError
from turnout.providers.openai import OpenAICodec
from turnout.registry.reading import shipped
from turnout.settings import Settings
from turnout.types import Call, Model, Options, Scope

if TYPE_CHECKING:
    from pathlib import Path

    from turnout.registry import Registry

NEW = (
    '[models.kimi]\nprovider = "openai"\nupstream = "kimi-k3"\n'
    "context_window = 1000\nmax_output = 100\ndefault_output = 10\n"
)


def load(home: Path, toml: str = "") -> Registry:
    """The shipped rows, with a user's TOML over them."""
    return registry.load(Settings(home=home, tables=tomllib.loads(toml)))


def test_every_shipped_row_loads(tmp_path: Path) -> None:
    """Each row of models.toml becomes a model with the row's own values."""
    models, rows = load(tmp_path).models, shipped("models.toml")["models"]
    assert models.keys() == rows.keys()
    for name, row in rows.items():
        model = models[name]
        assert (model.name, model.provider, model.upstream) == (name, row["provider"], row["upstream"])
        assert model.capabilities == frozenset(row.get("capabilities", []))


def test_one_row_as_a_whole(tmp_path: Path) -> None:
    """The row of gpt-4o-mini, its end and its heir included, is read field by field."""
    assert load(tmp_path).model("gpt-4o-mini") == Model(
        name="gpt-4o-mini",
        provider="openai",
        upstream="gpt-4o-mini",
        context_window=128_000,
        max_output=16_384,
        default_output=4_096,
        capabilities=frozenset({"json", "json_schema", "tools", "vision"}),
        recommended_for=("fallback",),
        retires_on=date(2027, 1, 14),
        successor="gpt-6-luna",
    )


def test_thinking_of_the_endpoint_unless_the_model_has_its_own(tmp_path: Path) -> None:
    """A model without a thinking table has its endpoint's; one with a table keeps it."""
    loaded = load(tmp_path)
    assert loaded.models["deepseek-chat"].thinking == loaded.endpoints["deepseek"].thinking
    assert loaded.models["gpt-6-luna"].thinking["high"] == {"reasoning_effort": "high"}
    assert loaded.models["gpt-4o"].thinking == {}


def test_one_field_is_changed_and_the_rest_kept(tmp_path: Path) -> None:
    """A user's row for a shipped model changes the fields it names and no other."""
    ours = load(tmp_path).models
    theirs = load(tmp_path, "[models.gpt-4o]\ncontext_window = 64_000\n").models
    assert theirs["gpt-4o"] == msgspec.structs.replace(ours["gpt-4o"], context_window=64_000)
    assert {**theirs, "gpt-4o": ours["gpt-4o"]} == ours


def test_loading_leaves_the_shipped_rows_alone(tmp_path: Path) -> None:
    """A user's change is not seen by the next registry of the same process."""
    before = load(tmp_path)
    load(tmp_path, "[models.gpt-4o]\ncontext_window = 64_000\n")
    assert load(tmp_path).models == before.models


def test_a_model_is_added(tmp_path: Path) -> None:
    """A row under a new name is a new model."""
    assert load(tmp_path, NEW).model("kimi") == Model(
        name="kimi",
        provider="openai",
        upstream="kimi-k3",
        context_window=1_000,
        max_output=100,
        default_output=10,
    )


def test_successors_may_follow_one_another(tmp_path: Path) -> None:
    """A successor may have a successor of its own, as long as they come to an end."""
    toml = '[models.gpt-6-luna]\nsuccessor = "gpt-4o"\n'
    models = load(tmp_path, toml).models
    assert models["gpt-4o-mini"].successor == "gpt-6-luna"
    assert models["gpt-6-luna"].successor == "gpt-4o"


@pytest.mark.parametrize(
    ("name", "thinking", "sent", "dropped"),
    [
        ("kimi-k2.6", None, {"thinking": {"type": "disabled"}}, ("temperature",)),
        ("kimi-k2.6", True, {"thinking": {"type": "enabled"}}, ("temperature",)),
        ("kimi-k2.6", "low", {"thinking": {"type": "disabled"}}, ("thinking", "temperature")),
        ("kimi-k3", None, {}, ("temperature",)),
        ("kimi-k3.1-pro", "max", {"reasoning_effort": "max"}, ("temperature",)),
        ("gemini-3.8-flash", "max", {"reasoning_effort": "high", "temperature": 0.5}, ()),
        ("gemini-3.8-flash", True, {"reasoning_effort": "medium", "temperature": 0.5}, ()),
        ("openrouter-deepseek-flash", False, {"reasoning": {"effort": "none"}, "temperature": 0.5}, ()),
        ("openrouter-auto", "max", {"reasoning": {"effort": "xhigh"}, "temperature": 0.5}, ()),
        ("gpt-6-luna", "low", {"reasoning_effort": "low"}, ("temperature",)),
    ],
)
def test_what_a_row_means_on_the_wire(
    tmp_path: Path, name: str, thinking: Any, sent: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    """Thinking and temperature go out as the row says its vendor takes them, and what it does not take is told."""
    call = Call(
        id="c",
        messages=b"[]",
        options=Options(thinking=thinking, temperature=0.5),
        scope=Scope(agent="dojo"),
    )
    assert OpenAICodec().fields(call, load(tmp_path).model(name)) == (sent, dropped)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("deepseek-caht", "did you mean 'deepseek-chat'?"),
        ("gpt-4o-mimi", "did you mean 'gpt-4o-mini'?"),
        ("xyzzy", "known are: claude-haiku-5-5, deepseek-chat,"),
    ],
)
def test_an_unknown_name_gets_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    """Asking for a model that is not registered says which name was probably meant."""
    with pytest.raises(ConfigError, match=f"there is no model '{name}'") as caught:
        load(tmp_path).model(name)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ("[models.gpt-4o]\nmax_ouput = 5", "unknown field 'max_ouput'", "did you mean 'max_output'?"),
        ("[models.gpt-4o]\nzzz = 5", "unknown field 'zzz'", "known are: capabilities, context_window,"),
        (
            '[models.gpt-4o]\nmax_output = "many"',
            "Expected `int`, got `str` - at `$.max_output`",
            "that field",
        ),
        ("[models.gpt-4o]\nstand_in = 1", "Expected `bool`, got `int`", "correct that field"),
        (
            '[models.gpt-4o]\nkind = "chatty"',
            "Invalid enum value 'chatty' - at `$.kind`",
            "correct that field",
        ),
        ('[models.gpt-4o]\nretires_on = "soon"', "at `$.retires_on`", "correct that field"),
        ('[models.gpt-4o]\nprovider = "opnai"', "no endpoint 'opnai'", "did you mean 'openai'?"),
        ('[models.gpt-4o]\nsuccessor = "gpt-6-lunar"', "no successor 'gpt-6-lunar'", "'gpt-6-luna'?"),
        (
            '[models.gpt-4o]\nsuccessor = "gpt-4o"',
            "its successors go in a circle",
            "break it at 'gpt-4o'",
        ),
        (
            '[models.gpt-4o]\nsuccessor = "gpt-4o-mini"\n[models.gpt-6-luna]\nsuccessor = "gpt-4o"',
            "its successors go in a circle",
            "break it at",
        ),
        ("[models.gpt-4o]\ncontext_window = 0", "context_window must be positive", "now: 0, 4096, 16384"),
        (
            "[models.gpt-4o]\ndefault_output = 20_000",
            "default_output between 0 and max_output",
            "now: 128000, 20000, 16384",
        ),
        ("[models.gpt-4o]\ndefault_output = -1", "default_output between 0", "now: 128000, -1, 16384"),
        ('[models.kimi]\nprovider = "openai"', "missing required field `upstream`", "correct that field"),
        ("[models]\ngpt-4o = 5", "must be a table, not int", "write [models.gpt-4o] on a line of its own"),
    ],
)
def test_a_bad_row_is_told(tmp_path: Path, toml: str, message: str, hint: str) -> None:
    """What is wrong with a model is one line that names the row, and a hint with the fix."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml)
    assert message in str(caught.value)
    assert "[models." in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint
