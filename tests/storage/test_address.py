"""Addresses: read without a database, equal for the same store, silent about passwords."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from turnout.errors import ConfigError
from turnout.storage import address


def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address is a file in the data folder; each form of one is read as what it says."""
    monkeypatch.chdir(tmp_path)
    read = address.read
    assert read(None, tmp_path).file == tmp_path / "turnout.db"
    assert read("", tmp_path).file == tmp_path / "turnout.db"
    assert read("sqlite:///data/x.db", tmp_path).file == tmp_path / "data" / "x.db"
    assert read("sqlite:////var/my%20data/x.db?mode=rw", tmp_path).file == Path("/var/my data/x.db")
    assert read("sqlite://", tmp_path).is_memory
    assert read("sqlite:///:memory:", tmp_path).is_memory
    assert read("postgres://h/db", tmp_path).url == "postgresql://h/db"
    assert read("postgresql+psycopg://h/db", tmp_path).is_postgres


def test_the_same_store_has_the_same_spool(tmp_path: Path) -> None:
    """User, password and spelling do not matter to where the journal is; host, port and database do."""
    ids = [
        address.read(url, tmp_path).spool_id
        for url in (
            "postgresql://a:1@h:5432/db",
            "postgres://b:2@h:5432/db",
            "postgresql://h:5432/other",
            "postgresql://i:5432/db",
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert address.read(f"sqlite:///{tmp_path}/turnout.db", Path("/")) == address.read(None, tmp_path)


def test_no_password_is_shown(tmp_path: Path) -> None:
    """Neither str nor repr nor an error repeats a password."""
    where = address.read("postgresql://anna:c4nary@h/db?password=c4nary", tmp_path)
    assert "c4nary" not in f"{where} {where!r}"
    for url in ("postgresql://anna:c4nary@h:port/db", "mysql://anna:c4nary@h/db", "sqlite://c4nary/x"):
        with pytest.raises(ConfigError) as caught:
            address.read(url, tmp_path)
        assert "c4nary" not in f"{caught.value} {caught.value.hint}"
        assert caught.value.hint


def test_it_loads_no_database() -> None:
    """Finding the spool does not load SQLAlchemy."""
    program = (
        "import sys, turnout.storage.address, turnout.storage.ledger; sys.exit('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603
