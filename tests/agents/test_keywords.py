"""Routing by words, against a labelled set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from turnout import registry
from turnout.agents.keywords import Keywords
from turnout.settings import load_settings

LABELLED = [
    line.split("\t")
    for line in Path(__file__).with_name("labelled.tsv").read_text(encoding="utf-8").splitlines()
    if line
]

if TYPE_CHECKING:
    from turnout.registry.agents import Agents


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    """The shipped agents."""
    return registry.load(load_settings(environ={"TURNOUT_HOME": str(tmp_path)}, folder=tmp_path)).agents


def routed(agents: Agents, query: str) -> str:
    """The agent that words alone give."""
    best = Keywords(agents.routable).best(query)
    return best[0] if best else agents.default.id


@pytest.mark.parametrize(
    ("query", "agent"),
    [
        ("Help me debug my code", "debugger"),
        ("find the error", "debugger"),
        ("the prefix of this showcase", "dojo"),
        ("showcase", "dojo"),
        ("DEBUG THIS", "debugger"),
        ("look \n up my prompts", "librarian"),
        ("implement the API endpoint", "builder"),
        ("", "dojo"),
        ("fix", "debugger"),
        ("fixture", "dojo"),
    ],
)
def test_whole_words(agents: Agents, query: str, agent: str) -> None:
    """Only whole words count, in any case and over line breaks, and the strongest agent wins."""
    assert routed(agents, query) == agent


def test_a_word_counts_once(agents: Agents) -> None:
    """Repeating a weak word does not outweigh a strong one."""
    assert routed(agents, "find find find find find the bug: debug it") == "debugger"


def test_ties_go_to_the_first_word(agents: Agents) -> None:
    """Of two equal scores the word that comes first decides, so that the result is stable."""
    assert routed(agents, "search the bug") == "librarian"
    assert routed(agents, "the bug in search") == "debugger"


def test_labelled_set(agents: Agents) -> None:
    """At least 85 % of a labelled set that the keyword lists were not tuned on go to the right agent."""
    wrong = [(query, agent, got) for agent, query in LABELLED if (got := routed(agents, query)) != agent]
    right = len(LABELLED) - len(wrong)
    print(f"\nkeyword routing: {right} of {len(LABELLED)}; wrong: {wrong}")
    assert right / len(LABELLED) >= 0.85
