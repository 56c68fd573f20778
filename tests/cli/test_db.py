"""`turnout db`: status, backup, export, migrate, rebuild."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.storage.calls import many
from turnout.cli.db import command
from turnout.clock import Clock
from turnout.storage import address, tables
from turnout.storage.journal import Journal
from turnout.types import Event

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder in whose spool an ended process has left calls."""
    folder = tmp_path / "home"
    journal = Journal(folder / "spool" / address.read(None, folder).spool_id, Clock())
    for pair in many(20, seed=1):
        for payload in pair:
            journal.append(msgspec.json.decode(payload, type=Event))
    journal.close()
    return folder


def db(*args: str) -> Any:
    """What the command says as JSON."""
    done = CliRunner().invoke(command, [*args, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def exported(table: str) -> list[dict[str, Any]]:
    """The rows of an export."""
    done = CliRunner().invoke(command, ["export", table], catch_exceptions=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_status_changes_nothing(home: Path) -> None:
    """Before anything is posted the status says so, and makes no store; afterwards it counts."""
    before = db("status")
    assert (before["schema"], before["schema_here"], before["rows"]) == (None, tables.REVISION, {})
    assert before["store"] == f"sqlite:///{home}/turnout.db"
    assert before["spool_bytes"] > 0
    db("rebuild")
    after = db("status")
    attempts = len(list(many(20, seed=1)))
    assert (after["schema"], after["behind_bytes"], after["spool_bytes"]) == (tables.REVISION, 0, 0)
    assert (after["rows"]["cost_records"], after["rows"]["events"]) == (attempts, 2 * attempts)
    assert len(after["id"]) == 36
    assert "cost_records" in CliRunner().invoke(command, ["status"]).stdout


def test_export_is_the_tables(home: Path) -> None:
    """An export catches up first and prints every row of a table with its columns' names."""
    rows = exported("cost_records")
    assert len(rows) == len(list(many(20, seed=1)))
    assert set(rows[0]) == {column.name for column in tables.cost_records.columns}
    connection = sqlite3.connect(home / "turnout.db")
    assert (
        sum(row["cost_nano"] for row in rows)
        == connection.execute("SELECT sum(cost_nano) FROM cost_records").fetchone()[0]
    )
    connection.close()
    assert len(exported("events")) == 2 * len(rows)


def test_backup_and_back(home: Path, tmp_path: Path) -> None:
    """A backup put in the store's place is the store."""
    before = exported("cost_records")
    done = db("backup", str(tmp_path / "copy.db"))
    assert done["bytes"] == (tmp_path / "copy.db").stat().st_size
    for file in home.glob("turnout.db*"):
        file.unlink()
    (tmp_path / "copy.db").rename(home / "turnout.db")
    assert exported("cost_records") == before


def test_migrate_says_what_it_did() -> None:
    """The first time there is something to do, the second time not."""
    assert db("migrate") == {"before": None, "after": tables.REVISION, "migrated": True}
    assert db("migrate") == {"before": tables.REVISION, "after": tables.REVISION, "migrated": False}


def test_rebuild_repairs(home: Path) -> None:
    """A table that was spoilt by hand is as it was."""
    before = exported("sessions")
    connection = sqlite3.connect(home / "turnout.db")
    with connection:
        connection.execute("DELETE FROM usage_days")
    connection.close()
    assert exported("sessions") == []
    attempts = len(list(many(20, seed=1)))
    assert db("rebuild") == {"events": 2 * attempts, "attempts": attempts, "since": None}
    assert exported("sessions") == before
    assert "attempts" in CliRunner().invoke(command, ["rebuild"]).stdout
