"""Structured logs: one event a line, with the trace id and without secrets."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

from tests.toxic import ToxicThread
from turnout import logs

if TYPE_CHECKING:
    import pytest

    from tests.conftest import Turnout

ASK = ("ask", "--agent", "dojo", "a prompt canary", "--json")


def test_json_lines(turnout: Turnout) -> None:
    """TURNOUT_LOG=json gives one object an attempt on stderr, under the reply's trace id."""
    with ToxicThread("500") as first, ToxicThread() as second:
        env = {"DEEPSEEK_BASE_URL": first.url, "OPENAI_BASE_URL": second.url, "TURNOUT_LOG": "json"}
        done = turnout(*ASK, OPENAI_API_KEY="sk-canary", **env)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["level"], line["outcome"]) for line in lines] == [
        ("attempt failed", "warning", "server_error"),
        ("attempt answered", "info", "ok"),
    ]
    assert {line["trace_id"] for line in lines} == {json.loads(done.stdout)["trace_id"]}
    assert "canary" not in done.stderr


def test_text(turnout: Turnout) -> None:
    """TURNOUT_LOG=text gives the same for people; without it nothing is logged."""
    with ToxicThread() as server:
        assert (
            "info: attempt answered agent=dojo model=deepseek-chat"
            in turnout(*ASK, DEEPSEEK_BASE_URL=server.url, TURNOUT_LOG="text").stderr
        )
        assert turnout(*ASK, DEEPSEEK_BASE_URL=server.url).stderr == ""


def test_an_exception_is_one_line() -> None:
    """A logged exception stays inside its JSON object, and a foreign record is formatted too."""
    try:
        raise ValueError("boom")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "it broke", None, sys.exc_info())
    line = logs.JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError: boom" in json.loads(line)["error"]


class Broken(logging.Handler):
    """A handler of the application's with a bug."""

    def emit(self, record: logging.LogRecord) -> None:
        """Break."""
        raise OSError("the log server is away")


def test_a_handler_that_raises(capsys: pytest.CaptureFixture[str]) -> None:
    """It takes nothing with it; why is on stderr, as with logging's own handlers."""
    broken = Broken()
    logs.LOGGER.addHandler(broken)
    try:
        logs.event(logging.ERROR, "something", "t")
    finally:
        logs.LOGGER.removeHandler(broken)
    assert "OSError: the log server is away" in capsys.readouterr().err
