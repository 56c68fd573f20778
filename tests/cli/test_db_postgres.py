"""`turnout db` and `doctor --reach` over PostgreSQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.storage.calls import many
from tests.storage.server import running
from turnout.cli.db import command
from turnout.cli.doctor import log_days
from turnout.clock import Clock
from turnout.settings import load_settings
from turnout.storage import address, tables
from turnout.storage.journal import Journal
from turnout.types import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A database of this file's own."""
    with running() as server:
        yield server.url


@pytest.fixture
def home(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in whose spool an ended process has left calls of today, and an event of a clock that was wrong."""
    monkeypatch.setenv("TURNOUT_DATABASE_URL", url)
    journal = Journal(tmp_path / "home" / "spool" / address.read(url, tmp_path).spool_id, Clock())
    for pair in many(20, seed=1, since=Clock().now() - 3_600_000_000):
        for payload in pair:
            journal.append(msgspec.json.decode(payload, type=Event))
    journal.append(Event(id="stray", trace="stray", kind=Kind.CONTEXT_BUILD, at=7))
    journal.close()
    return tmp_path / "home"


def db(*args: str) -> Any:
    """What the command says as JSON."""
    done = CliRunner().invoke(command, [*args, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_commands(home: Path) -> None:
    """Status before and after, rebuild, export and the doctor's look; a copy is PostgreSQL's own business."""
    (unmade,) = log_days(load_settings())
    assert unmade.state == "ok"
    assert db("status")["stray_events"] is None
    attempts = len(list(many(20, seed=1)))
    assert db("rebuild") == {"events": 2 * attempts + 1, "attempts": attempts, "since": None}
    after = db("status")
    assert (after["schema"], after["stray_events"]) == (tables.REVISION, 1)
    assert (after["rows"]["events"], after["rows"]["cost_records"]) == (2 * attempts + 1, attempts)
    plain = CliRunner().invoke(command, ["status"])
    assert "stray_events lie in no day" in plain.stderr
    lines = CliRunner().invoke(command, ["export", "events"]).stdout.splitlines()
    assert [json.loads(line)["at"] for line in lines if '"stray"' in line] == [7]
    assert len(lines) == 2 * attempts + 1
    (check,) = log_days(load_settings())
    assert (check.state, check.what.partition(": ")[2]) == ("warn", "1")
    refused = CliRunner().invoke(command, ["backup", str(home / "copy.db")])
    assert "pg_dump" in str(getattr(refused.exception, "hint", ""))


def test_a_database_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor says that it is away, and not its password."""
    monkeypatch.setenv("TURNOUT_DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/none")
    (check,) = log_days(load_settings())
    assert check.state == "fail"
    assert "s3cret" not in f"{check.what}{check.fix}"
    monkeypatch.setenv("TURNOUT_DATABASE_URL", "sqlite://")
    assert [*log_days(load_settings())] == []
