"""Entry points of other packages, really installed in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.toxic import ToxicThread

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
from turnout.providers.openai import OpenAICodec
from turnout.routing.by_agent import ByAgent

class Shouting(OpenAICodec):
    def decode(self, body, model):
        import msgspec
        answer = super().decode(body, model)
        return msgspec.structs.replace(answer, content=answer.content.upper())

class Backwards:
    def plan(self, call, facts):
        import msgspec
        plan = ByAgent().plan(call, facts)
        return msgspec.structs.replace(plan, models=plan.models[::-1], why="backwards")

AGENTS = {"critic": {"name": "Critic", "tier": "reasoning", "keywords": {"9": ["criticise"]}}}
"""
POINTS = """
[turnout.providers]
shouting = more_turnout:Shouting
[turnout.strategies]
backwards = more_turnout:Backwards
[turnout.agents]
more = more_turnout:AGENTS
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with an installed package that extends turnout."""
    folder = tmp_path / "site"
    info = folder / "more_turnout-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "more_turnout.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-turnout\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    return folder


def run(package: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`turnout` with that package installed."""
    kept = {
        name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE")
    }
    home = str(package.parent)
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "turnout", *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env={**kept, "PYTHONPATH": str(package), "HOME": home, **env},
    )


def test_a_wire(package: Path) -> None:
    """An endpoint row can name the codec of an installed package."""
    (package.parent / "turnout.toml").write_text('[endpoints.deepseek]\ncodec = "shouting"\n')
    with ToxicThread(replies=lambda _: "quiet") as server:
        done = run(package, "ask", "--agent", "dojo", "hi", "--json", DEEPSEEK_BASE_URL=server.url)
    assert json.loads(done.stdout)["content"] == "QUIET"


def test_a_strategy(package: Path) -> None:
    """The setting `strategy` chooses it; an unknown name is told with the nearest."""
    with ToxicThread() as server:
        env = {"DEEPSEEK_BASE_URL": server.url, "OPENAI_BASE_URL": server.url}
        done = run(package, "ask", "--agent", "dojo", "hi", "--json", TURNOUT_STRATEGY="backwards", **env)
        assert json.loads(done.stdout)["model"] == "gpt-6-luna"
        done = run(package, "ask", "--agent", "dojo", "hi", TURNOUT_STRATEGY="backward", **env)
    assert (done.returncode, "did you mean 'backwards'?" in done.stderr) == (3, True)


def test_an_agent(package: Path) -> None:
    """An agent of an installed package is routed to like our own, and the user's turnout.toml wins over it."""
    (package.parent / "turnout.toml").write_text('[agents.critic]\nname = "My critic"\n')
    decision = json.loads(run(package, "route", "please criticise this", "--json").stdout)
    assert (decision["agent_id"], decision["agent_name"]) == ("critic", "My critic")


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ("[turnout.providers]\nx = more_turnout:Nothing\n", "more-turnout names more_turnout:Nothing"),
        ("[turnout.strategies]\nx = no_such_module:X\n", "cannot be loaded"),
        ("[turnout.agents]\nx = more_turnout:MODULE\n", "cannot be loaded"),
        ("[turnout.agents]\nx = more_turnout:Shouting\n", "not a dict of agent rows"),
    ],
)
def test_a_broken_package(package: Path, points: str, says: str) -> None:
    """A package that cannot be loaded is named, with exit code 3 and no traceback."""
    (package / "more_turnout-1.0.dist-info" / "entry_points.txt").write_text(points)
    done = run(package, "ask", "--agent", "dojo", "hi")
    assert done.returncode == 3
    assert says in done.stderr
    assert "Traceback" not in done.stderr
