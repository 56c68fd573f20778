"""Processes that fork after their client was used: everybody has a journal of his own, and nobody loses a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.toxic import ToxicThread

if TYPE_CHECKING:
    from tests.conftest import Turnout

ROOT = Path(__file__).parents[2]
CHILDREN, CALLS = 3, 5
PATIENCE = 60


@pytest.mark.parametrize("way", ["fork", "process", "unused"])
def test_a_server_that_forks(tmp_path: Path, turnout: Turnout, way: str) -> None:
    """Children and parent each journal under an owner of their own; the parent's lives on; every call is counted."""
    with ToxicThread() as server:
        home = {"TURNOUT_HOME": str(tmp_path / "home")}
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DEEPSEEK_BASE_URL": server.url, **home}
        command = [sys.executable, "-m", "tests.journeys.fork_worker", way, str(CHILDREN), str(CALLS)]
        with subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=tmp_path, text=True
        ) as parent:
            assert parent.stdout is not None
            said: list[dict[str, Any]] = []
            for line in parent.stdout:
                said.append(json.loads(line))
                if "ended" in said[-1]:
                    break
            meanwhile = json.loads(turnout("costs", "--by", "session", "--json", **home).stdout)
            out, _ = parent.communicate(timeout=PATIENCE)
        said += [json.loads(line) for line in out.splitlines()]
        after = json.loads(turnout("costs", "--by", "session", "--json", **home).stdout)
    assert parent.returncode == 0
    assert said.pop(-2) == {"ended": [0] * CHILDREN}
    calls = {one["session"] for one in said}
    assert len(calls) == CHILDREN * CALLS + (2 if way == "unused" else 3)
    assert len({one["attempt"] for one in said}) == len(calls) == len(server.requests)
    owners = {one["pid"]: {other["owner"] for other in said if other["pid"] == one["pid"]} for one in said}
    assert len(owners) == CHILDREN + 1
    assert sorted(map(len, owners.values())) == [1] * (CHILDREN + 1)
    assert len(set.union(*owners.values())) == CHILDREN + 1
    assert {row["key"] for row in meanwhile["rows"]} == calls - {"parent-after"}
    assert {row["key"] for row in after["rows"]} == calls
    assert after["total"]["attempts"] == len(calls)
    assert after["behind"] == []


def test_killed_children(tmp_path: Path, turnout: Turnout) -> None:
    """Children that are killed between two calls: the parent, which lives, takes over what they had journalled."""
    script = (
        "import os, signal, sys\n"
        "from tests.journeys.fork_worker import call\n"
        "call('parent-before')\n"
        "for number in range(3):\n"
        "    if not (pid := os.fork()):\n"
        "        call(f'child{number}')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    os.waitpid(pid, 0)\n"
        "call('parent-after')\n"
    )
    with ToxicThread() as server:
        home = {"TURNOUT_HOME": str(tmp_path / "home")}
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DEEPSEEK_BASE_URL": server.url, **home}
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", script], env=env, cwd=tmp_path, check=True, timeout=PATIENCE
        )
    told = json.loads(turnout("costs", "--by", "session", "--json", **home).stdout)
    names = {"parent-before", "parent-after", "child0", "child1", "child2"}
    assert {row["key"] for row in told["rows"]} == names
    assert told["total"]["attempts"] == len(server.requests) == len(names)
    assert [
        path for path in (tmp_path / "home" / "spool").rglob("*") if path.suffix in {".jnl", ".lock"}
    ] == []
