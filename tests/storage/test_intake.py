"""From the spool into the store: pieces, refusals, and who is behind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from tests.storage.calls import attempt
from tests.storage.conftest import MARK
from tests.storage.journals import CLOCK, note
from turnout.storage import address, intake
from turnout.storage.frames import framed
from turnout.storage.intake import REFUSED, Behind, Intake, Piece, behind, read_piece, segment_sizes
from turnout.storage.segments import Spool, segment_name
from turnout.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def into(tmp_path: Path) -> Iterator[Intake]:
    """An intake from a spool into a store in memory."""
    store = Store(address.read("sqlite://", tmp_path))
    yield Intake(store, Spool(tmp_path / "spool"), "me", CLOCK)
    store.close()


def test_pieces_end_where_a_record_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece says where the next begins and what in it is no record; the last, what is not whole behind it."""
    lines = [framed(note("x" * 400)) for _ in range(3)]
    path = tmp_path / "segment"
    path.write_bytes(lines[0] + b"??\n" + b"".join(lines[1:]) + b"torn")
    monkeypatch.setattr(intake, "PIECE_BYTES", len(lines[0]) + 5)
    payloads = [line[18:-1] for line in lines]
    first = len(lines[0]) + 3
    assert read_piece(path, 0) == Piece(payloads[:1], first, 3, 0)
    second = first + len(lines[1])
    assert read_piece(path, first) == Piece(payloads[1:2], second, 0, 0)
    assert read_piece(path, second).end == second + len(lines[2])
    assert read_piece(path, second + len(lines[2])) == Piece([], second + len(lines[2]), 0, 4)
    monkeypatch.setattr(intake, "PIECE_BYTES", 10)
    assert read_piece(path, first).payloads[0] == payloads[1]


def test_whole_or_not(into: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drained segment was whole unless something in any piece of it, or at its end, was no record."""
    monkeypatch.setattr(intake, "PIECE_BYTES", 700)
    lines = [framed(note("x" * 500)) for _ in range(4)]
    path = into.spool.folder / segment_name("me", 1)
    for damage, whole in ((b"", True), (b"??\n", False)):
        path.write_bytes(lines[0] + damage + b"".join(lines[1:]))
        assert into.drain(path, 0) == (path.stat().st_size, whole)
    path.write_bytes(b"".join(lines) + b"torn")
    assert into.drain(path, 0) == (path.stat().st_size - 4, False)
    assert into.drain(path, path.stat().st_size - 4)[1] is False
    assert into.posted == 12


def test_what_cannot_be_read_is_kept(into: Intake, caplog: pytest.LogCaptureFixture) -> None:
    """Payloads that are no event go into a file, a line each, the user's alone; the others are posted."""
    start, end = attempt()
    with caplog.at_level(logging.ERROR, "turnout"):
        into.post([start, b"{two\nlines}", end], MARK)
        into.post([b"{more}"], MARK)
    kept = into.spool.folder / REFUSED
    assert kept.read_bytes() == b"{two lines}\n{more}\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (into.posted, into.refused) == (2, 2)
    assert [record.getMessage() for record in caplog.records] == ["event_refused"] * 2


def test_who_is_behind(into: Intake) -> None:
    """Of each owner, the bytes behind its position; not of segments before it, gone ones or those read to the end."""
    into.store.post([attempt()[0]], replace(MARK, owner="a", segment=segment_name("a", 2), position=10))
    into.store.post([attempt()[1]], replace(MARK, owner="d", segment=segment_name("d", 1), position=30))
    files = {("a", 1): 100, ("a", 2): 25, ("a", 3): 7, ("b", 1): 5, ("b", 2): 1, ("c", 1): 0, ("d", 1): 30}
    sizes = {into.spool.folder / segment_name(*which): size for which, size in files.items()}
    for path, size in sizes.items():
        path.write_bytes(b"x" * size)
    assert segment_sizes(into.spool) == sizes
    gone = {into.spool.folder / segment_name("a", 0): 9, into.spool.folder / segment_name("e", 1): 9}
    for known in (None, sizes, gone | sizes):
        assert behind(into.store, into.spool, known) == [Behind("a", 22), Behind("b", 6)]


class Limit(Exception):
    """What a driver says, with its code."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def test_what_a_database_will_never_take() -> None:
    """Data and constraints, and PostgreSQL's own limits, are refusals; a server that is away is none."""
    refused = [
        DataError("", {}, Exception()),
        IntegrityError("", {}, Exception()),
        OperationalError("", {}, Limit("54000")),
    ]
    assert [intake._is_refusal(error) for error in refused] == [True] * 3
    assert not intake._is_refusal(OperationalError("", {}, Limit("57P01")))
    assert not intake._is_refusal(OperationalError("", {}, Exception()))
