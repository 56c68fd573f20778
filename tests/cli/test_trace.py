"""`turnout trace` over a real journal and a real store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.trace.stage import Stage
from turnout.cli.trace import command
from turnout.clock import Clock
from turnout.errors import NoSuchTrace
from turnout.settings import load_settings
from turnout.storage import access
from turnout.storage.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from click.testing import Result

    from turnout.types import Event


@pytest.fixture
def played() -> Stage:
    """Two traces of a session and one of nobody's, journalled by a process that has ended."""
    stage = Stage()
    for name, user in (("first", "alice"), ("second", "bob")):
        with stage.spans.start_trace("s1", user, name=name):
            stage.fallback(stage.call(user=user, session="s1"))
        stage.clock.wait(60)
    stage.attempt(stage.call("dojo"))
    journal(event for trace in stage.memory.latest_traces()[::-1] for event in stage.memory.trace(trace))
    return stage


def journal(events: Iterable[Event]) -> None:
    """Write events as a process does that then ends in good order."""
    made = Journal(spool(), Clock())
    for event in events:
        made.append(event)
    made.close()


def spool() -> Path:
    """Where this test's processes journal."""
    settings = load_settings()
    return settings.home / "spool" / access.configured(settings).spool_id


def turnout(*args: str) -> Result:
    """`turnout trace ARGS`."""
    return CliRunner().invoke(command, args, catch_exceptions=False)


def names(stage: Stage) -> list[str]:
    """The traces, newest first."""
    return stage.memory.latest_traces()


@pytest.mark.parametrize("view", ["tree", "timeline", "summary"])
def test_show(played: Stage, view: str) -> None:
    """Each view of a trace, for people: the story of a fallback in at most 80 columns."""
    done = turnout("show", names(played)[2], "--view", view)
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "1 fallback · 1,240 tokens · $0.0002040" in done.stdout
    assert "gpt-4o-mini" in done.stdout


def test_show_as_json(played: Stage) -> None:
    """--json has the summary always, the nested tree with every event's kind, and the timeline on demand."""
    trace = names(played)[2]
    tree = json.loads(turnout("show", trace, "--json").stdout)
    assert (tree["trace_id"], tree["session_id"], tree["user_id"]) == (trace, "s1", "alice")
    assert [event["kind"] for event in tree["events"]] == [
        "SESSION_START",
        "LLM_CALL_START",
        "LLM_CALL_END",
        "MODEL_FALLBACK",
        "LLM_CALL_START",
        "LLM_CALL_END",
        "SESSION_END",
    ]
    call = tree["tree"][0]["children"][0]
    assert [child["state"] for child in call["children"]] == ["failed", "ok", "ok"]
    assert (call["cost_usd"], tree["summary"]["cost_usd"]) == (0.000204, 0.000204)
    timeline = json.loads(turnout("show", trace, "--json", "--view", "timeline").stdout)
    assert [(line["offset"], line["what"]) for line in timeline["timeline"]] == [
        (0.0, "trace"),
        (0.0, "call"),
        (0.0, "attempt"),
        (0.21, "event"),
        (0.21, "attempt"),
    ]
    assert set(json.loads(turnout("show", trace, "--json", "--view", "summary").stdout)) == {
        "trace_id",
        "session_id",
        "user_id",
        "started_at",
        "ended_at",
        "summary",
    }


def test_an_id_in_any_form(played: Stage) -> None:
    """Hex digits and a traceparent name the same trace."""
    trace = names(played)[0]
    digits = trace.replace("-", "")
    for name in (digits, digits.upper(), f"00-{digits}-b7ad6b7169203331-01"):
        assert f"trace {trace}" in turnout("show", name).stdout


def test_no_such_trace() -> None:
    """An id that is not there is an error that says what to do."""
    with pytest.raises(NoSuchTrace) as caught:
        turnout("show", "019ab000-0000-7000-8000-00000000dead")
    assert "turnout trace list" in caught.value.hint


def test_lists(played: Stage) -> None:
    """The latest, a session's, a user's: newest first, one line each."""
    newest = names(played)
    for args, expected in (
        ((), newest),
        (("--limit", "1"), newest[:1]),
        (("--session", "s1"), newest[1:]),
        (("--session", "s1", "--limit", "1"), newest[1:2]),
        (("--user", "alice"), newest[2:]),
        (("--user", "nobody"), []),
    ):
        told = json.loads(turnout("list", *args, "--json").stdout)
        assert [one["trace_id"] for one in told] == expected, args
        lines = turnout("list", *args).stdout.splitlines()
        assert [line.split()[0] for line in lines] == expected
        assert all(len(line) <= 80 for line in lines)


def test_a_line_of_a_list(played: Stage) -> None:
    """A trace in a line: when, for whom, what it cost, and that it fell back."""
    trace = names(played)[2]
    assert turnout("list", "--user", "alice").stdout == (
        f"{trace} 11-18 12:00 debugger $0.0002040 fell back\n"
    )


def test_list_asks_for_one_of_them() -> None:
    """A session and a user at once are a usage error."""
    assert turnout("list", "--session", "s", "--user", "u").exit_code == 2


def test_nothing_yet() -> None:
    """Without any trace, stdout is empty and stderr says how one is made."""
    done = turnout("list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "every call makes one" in done.stderr


def test_tail(played: Stage) -> None:
    """The latest steps in the order they ended, as lines or as JSON objects."""
    assert played.memory.latest_traces()
    lines = turnout("tail", "-n", "3").stdout.splitlines()
    assert [line.split(" ", 2)[2].split("  ")[0] for line in lines] == [
        "gpt-4o-mini answered: 1,200 in, 40 out",
        "session second",
        "deepseek-chat answered: 100 in, 20 out",
    ]
    objects = [json.loads(line) for line in turnout("tail", "--json").stdout.splitlines()]
    assert len(objects) == 9
    assert objects[-1]["trace_id"] == names(played)[0]
    assert turnout("tail", "-n", "0").stdout == ""


def test_tail_follows() -> None:
    """What happens while it runs appears once, and Ctrl-C ends it."""
    stage = Stage()

    def happens(name: str) -> None:
        with stage.spans.start_trace(name=name) as trace:
            stage.clock.wait(1)
        journal(stage.memory.trace(trace))

    happens("one")
    code = "from turnout.cli.trace import command; command(['tail', '--follow', '--json'])"
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as tail:  # noqa: S603
        assert tail.stdout is not None
        told = [json.loads(tail.stdout.readline())["name"]]
        happens("two")
        told.append(json.loads(tail.stdout.readline())["name"])
        tail.send_signal(signal.SIGINT)
        assert tail.stdout.read() == ""
    assert told == ["one", "two"]


CHILD = """
import os, sys
from pathlib import Path
from tests.trace.stage import Stage
from turnout.clock import Clock
from turnout.storage.journal import Journal
from turnout.trace.recorder import Recorder

stage = Stage()
journal = Journal(Path(sys.argv[1]), Clock())
stage.recorder = Recorder(journal, stage.clock)
with stage.recorder.spans.start_trace("s1", name="killed") as trace:
    stage.attempt(stage.call(session="s1"))
    stage.attempt(stage.call(session="s1"), ends=False)
    assert journal.settled()
    print(trace, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_process() -> None:
    """The trace of a process killed in a call: adopted, shown closed, marked, with the hold as its cost."""
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", CHILD, str(spool())], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    shown = turnout("show", done.stdout.strip()).stdout
    assert "cut off" in shown.splitlines()[2]
    assert "($0.0005000 of it held)" in shown
    assert "deepseek-chat was asked, no answer known" in shown
    summary = json.loads(turnout("list", "--session", "s1", "--json").stdout)[0]
    assert (summary["state"], summary["attempts"], summary["held_nano"]) == ("cut off", 2, 500_000)
    assert summary["ended_at"] is not None


def test_the_store_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store that cannot be opened is an error in words."""
    monkeypatch.setenv("TURNOUT_DATABASE_URL", f"sqlite:///{tmp_path}")
    with pytest.raises(Exception, match="sqlite") as caught:
        turnout("list")
    assert getattr(caught.value, "hint", "")
