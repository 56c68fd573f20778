"""Documentation that runs: every block of TOML is a configuration that loads, every block of Python a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from turnout import registry
from turnout.cli.main import COMMANDS
from turnout.settings import load_settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (page.name, number, language, text)
    for page in PAGES
    for number, (language, text) in enumerate(
        re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
]


def blocks(language: str) -> list[tuple[str, int, str, str]]:
    """Blocks of one language."""
    return [block for block in BLOCKS if block[2] == language]


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: f"{block[0]}-{block[1]}")
def test_toml_loads(tmp_path: Path, block: tuple[str, int, str, str]) -> None:
    """A documented row is a row that loads, and everything it names can be called by that name."""
    text = block[3]
    document = tomllib.loads(text)
    if "project" in document:
        assert set(document["project"]["entry-points"]) == {
            "turnout.providers",
            "turnout.strategies",
            "turnout.agents",
        }
        return
    (tmp_path / "turnout.toml").write_text(text)
    rows = registry.load(load_settings(environ={"TURNOUT_HOME": str(tmp_path)}, folder=tmp_path))
    assert set(document.get("models", {})) <= set(rows.models)
    assert set(document.get("agents", {})) <= set(rows.agents.by_id)
    assert set(document.get("endpoints", {})) <= set(rows.endpoints)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"{block[0]}-{block[1]}")
def test_python_runs(tmp_path: Path, block: tuple[str, int, str, str]) -> None:
    """A documented program runs to its end on the local model, without a key, and prints something."""
    kept = {
        name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE")
    }
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", block[3]],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**kept, "HOME": str(tmp_path)},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_readme_names_every_command() -> None:
    """Each command stands in the README, and each variable of it in .env.example or the table of keys."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [command for command in COMMANDS if f"turnout {command}" not in readme] == []
