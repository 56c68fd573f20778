"""Processes that fork after their client was used: everybody has a journal of his own, and nobody loses a call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.toxic import ToxicThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Turnout

ROOT = Path(__file__).parents[2]
CHILDREN, CALLS = 3, 5
PATIENCE = 30


def environment(server: ToxicThread, home: Path) -> dict[str, str]:
    """Of a process that finds the worker's module."""
    places = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": places,
        "DEEPSEEK_BASE_URL": server.url,
        "TURNOUT_HOME": str(home),
    }


@contextmanager
def parent_of_children(way: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The process that forks; it and its children are ended when they take too long."""
    command = [sys.executable, "-m", "tests.journeys.fork_worker", way, str(CHILDREN), str(CALLS)]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, start_new_session=True
    ) as parent:
        late = threading.Timer(PATIENCE, os.killpg, (parent.pid, signal.SIGKILL))
        late.start()
        yield parent
        late.cancel()


@pytest.mark.parametrize("way", ["fork", "process", "unused"])
def test_a_server_that_forks(tmp_path: Path, turnout: Turnout, way: str) -> None:
    """Children and parent each journal under an owner of their own; the parent's lives on; every call is counted."""
    with ToxicThread() as server:
        home = {"TURNOUT_HOME": str(tmp_path / "home")}
        with parent_of_children(way, environment(server, tmp_path / "home")) as parent:
            assert parent.stdout is not None
            said: list[dict[str, Any]] = []
            for line in parent.stdout:
                said.append(json.loads(line))
                if "ended" in said[-1]:
                    break
            meanwhile = json.loads(turnout("costs", "--by", "session", "--json", **home).stdout)
            out, _ = parent.communicate()
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
        env = environment(server, tmp_path / "home")
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


def test_a_child_that_outlives_its_parent(tmp_path: Path, turnout: Turnout) -> None:
    """A child that does nothing does not keep its dead parent's journal locked: it is taken over at once."""
    script = (
        "import os, signal, sys\n"
        "from tests.journeys.fork_worker import call\n"
        "from turnout import llm_client\n"
        "call('parent')\n"
        "llm_client.recorder.spans.start_span('TOOL_INVOCATION')\n"
        "if os.fork():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.stdin.read()\n"
    )
    home = tmp_path / "home"
    with ToxicThread() as server:
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", script], env=environment(server, home), stdin=subprocess.PIPE
        ) as parent:
            parent.wait(PATIENCE)
            told = json.loads(turnout("costs", "--by", "session", "--json", TURNOUT_HOME=str(home)).stdout)
            assert list(home.rglob("*.lock")) == [home / "turnout.db.lock"]
            assert parent.stdin is not None
            parent.stdin.close()
    assert ([row["key"] for row in told["rows"]], told["behind"]) == (["parent"], [])


def test_one_record_on_both_sides(tmp_path: Path, turnout: Turnout) -> None:
    """A record that was written to before the fork goes on in both, under an owner each, and all is in the tables."""
    script = (
        "import os, sys\n"
        "from tests.storage.journals import CLOCK, end, start\n"
        "from turnout.settings import load_settings\n"
        "from turnout.storage import address\n"
        "from turnout.storage.record import DiskRecord\n"
        "settings = load_settings()\n"
        "record = DiskRecord(settings, address.read(None, settings.home), CLOCK)\n"
        "def call(who):\n"
        "    began = start()\n"
        "    assert record.append(began) and record.append(end(began))\n"
        "    print(who, record.status()[0].owner, flush=True)\n"
        "call('parent')\n"
        "if not (pid := os.fork()):\n"
        "    call('child')\n"
        "    record.close()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "call('parent')\n"
        "record.close()\n"
    )
    with ToxicThread() as server:
        env = environment(server, tmp_path / "home")
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", script], env=env, cwd=tmp_path, check=True, timeout=PATIENCE,
            capture_output=True, text=True,
        )  # fmt: skip
    (_, first), (_, child), (_, again) = (line.split() for line in done.stdout.splitlines())
    assert first == again != child
    told = json.loads(turnout("costs", "--json").stdout)
    assert (told["total"]["attempts"], told["behind"]) == (3, [])
