"""Agent rows and tiers: who is served by which model, and what a bad row is told."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING

import msgspec
import pytest

import turnout
from turnout import current, registry
from turnout.errors import ConfigError
from turnout.registry.reading import shipped
from turnout.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from turnout.registry import Registry

SERVED_BY = [
    ("supervisor", "deepseek-chat"),
    ("librarian", "deepseek-chat"),
    ("cost-guard", "deepseek-chat"),
    ("dojo", "deepseek-chat"),
    ("builder", "deepseek-chat"),
    ("an-agent-nobody-listed", "deepseek-chat"),
    ("debugger", "deepseek-reasoner"),
]


def load(home: Path, toml: str = "") -> Registry:
    """The shipped rows, with a user's TOML over them."""
    return registry.load(Settings(home=home, tables=tomllib.loads(toml)))


@pytest.fixture(scope="module")
def _keyless_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This process's runtime, wired without keys and files."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("TURNOUT_") or name.endswith(("_API_KEY", "_API_KEY_FILE", "_BASE_URL")):
                patch.delenv(name)
        patch.setenv("TURNOUT_HOME", str(home))
        patch.chdir(home)
        current.forget()
        current.runtime()
    yield
    if (left := current.forget()) is not None:
        left.sync.close()


@pytest.mark.parametrize(("agent", "model"), SERVED_BY)
def test_the_model_of_an_agent(tmp_path: Path, agent: str, model: str) -> None:
    """An agent is served by the first model of its tier, an unlisted one by the default agent's."""
    assert load(tmp_path).model_for_agent(agent) == model


@pytest.mark.usefixtures("_keyless_process")
@pytest.mark.parametrize(("agent", "model"), SERVED_BY)
def test_the_model_of_an_agent_in_this_process(agent: str, model: str) -> None:
    """`turnout.get_model_for_agent` gives the same answers, without a key."""
    assert turnout.get_model_for_agent(agent) == model


def test_every_shipped_row_loads(tmp_path: Path) -> None:
    """Each row of agents.toml becomes an agent; exactly dojo is the default, and two are not routable."""
    agents, rows = load(tmp_path).agents, shipped("agents.toml")["agents"]
    assert agents.by_id.keys() == rows.keys()
    assert agents.tiers == {
        "chat": ("deepseek-chat", "gpt-4o-mini", "gpt-6-luna"),
        "reasoning": ("deepseek-reasoner", "gpt-4o-mini", "gpt-6-luna"),
    }
    assert agents.default is agents.by_id["dojo"]
    assert agents.routable.keys() == rows.keys() - {"supervisor", "cost-guard"}
    assert agents.get("builder").keywords.keys() == {"3", "2", "1"}


def test_one_field_is_changed_and_the_rest_kept(tmp_path: Path) -> None:
    """A user's row for a shipped agent changes the fields it names and no other."""
    ours = load(tmp_path).agents.by_id
    theirs = load(tmp_path, '[agents.builder]\ntier = "reasoning"\n').agents.by_id
    assert theirs == ours | {"builder": msgspec.structs.replace(ours["builder"], tier="reasoning")}


def test_an_agent_and_a_tier_are_added(tmp_path: Path) -> None:
    """An agent needs nothing but its id; a tier is a list of models, best first."""
    toml = '[tiers]\ncheap = ["gpt-6-luna", "gpt-4o-mini"]\n[agents.poet]\n[agents.clerk]\ntier = "cheap"\n'
    agents = load(tmp_path, toml).agents
    assert (agents.get("poet").id, agents.get("poet").name, agents.get("poet").tier) == (
        "poet",
        "poet",
        "chat",
    )
    assert agents.models_of("clerk") == ("gpt-6-luna", "gpt-4o-mini")
    assert agents.models_of("dojo") == ("deepseek-chat", "gpt-4o-mini", "gpt-6-luna")


def test_a_users_tier_replaces_ours(tmp_path: Path) -> None:
    """A tier of the same name is the user's list alone."""
    assert load(tmp_path, '[tiers]\nreasoning = ["gpt-4o"]\n').model_for_agent("debugger") == "gpt-4o"


@pytest.mark.parametrize(
    ("toml", "default"),
    [
        ("[agents.librarian]\ndefault = true\n", "librarian"),
        ("[agents.poet]\ndefault = true\n", "poet"),
        ("[agents.dojo]\ndefault = true\n", "dojo"),
        ("[agents.dojo]\ndefault = false\n[agents.builder]\ndefault = true\n", "builder"),
        ("[agents.librarian]\ndefault = false\n", "dojo"),
    ],
)
def test_a_users_default_replaces_ours(tmp_path: Path, toml: str, default: str) -> None:
    """The agent the user marks as default is the only default; without one, ours stays."""
    agents = load(tmp_path, toml).agents
    assert agents.default.id == default
    assert [agent.id for agent in agents.by_id.values() if agent.default] == [default]
    assert agents.get("an-agent-nobody-listed").id == default


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ('[agents.dojo]\nteir = "chat"', "[agents.dojo]: unknown field 'teir'", "did you mean 'tier'?"),
        ('[agents.dojo]\nroutable = "yes"', "[agents.dojo]: Expected `bool`, got `str`", "that field"),
        ('[agents.dojo]\ntier = "chatt"', "[agents.dojo]: no tier 'chatt'", "did you mean 'chat'?"),
        ('[agents.poet]\ntier = "zzz"', "[agents.poet]: no tier 'zzz'", "known are: chat, reasoning"),
        ("[agents.dojo]\ndefault = false", "one agent must be the default; now: none", "`default = true`"),
        (
            "[agents.builder]\ndefault = true\n[agents.debugger]\ndefault = true",
            "exactly one agent must be the default; now: debugger, builder",
            "write `default = true` under one agent",
        ),
        (
            '[agents.dojo]\nkeywords = { heavy = ["a"] }',
            "[agents.dojo]: keyword weight 'heavy' is not a whole number above 0",
            'write keywords = { 2 = ["word"] }',
        ),
        ('[agents.dojo]\nkeywords = { 0 = ["a"] }', "keyword weight '0' is not", "keywords = { 2 ="),
        ('[agents.dojo]\nkeywords = { -1 = ["a"] }', "keyword weight '-1' is not", "keywords = { 2 ="),
        ('[agents.dojo]\nkeywords = { 1.5 = ["a"] }', "Expected `array`, got `object`", "that field"),
        ('[agents.dojo]\nkeywords = { 1 = "a" }', "Expected `array`, got `str`", "correct that field"),
        ("[agents]\ndojo = true", "[agents.dojo] must be a table, not bool", "write [agents.dojo] on a line"),
        (
            "[tiers]\nchat = []",
            "[tiers] chat must be a list of model names",
            'write chat = ["deepseek-chat"]',
        ),
        (
            '[tiers]\nchat = "gpt-4o"',
            "[tiers] chat must be a list of model names",
            'chat = ["deepseek-chat"]',
        ),
        (
            "[tiers]\nchat = [4]",
            "[tiers] chat must be a list of model names",
            'write chat = ["deepseek-chat"]',
        ),
        ('[tiers]\nchat = ["gpt-4o-mni"]', "[tiers] chat: no model 'gpt-4o-mni'", "'gpt-4o-mini'?"),
        (
            '[tiers]\nchat = ["gpt-4o", "text-embedding-3-small"]',
            "[tiers] chat: 'text-embedding-3-small' is no chat model",
            "name a model of kind chat",
        ),
    ],
)
def test_a_bad_row_is_told(tmp_path: Path, toml: str, message: str, hint: str) -> None:
    """What is wrong with an agent or a tier is one line that names it, and a hint with the fix."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint
