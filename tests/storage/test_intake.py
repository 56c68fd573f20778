"""From the spool into the store: pieces, refusals, and who is behind."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from tests.storage.calls import attempt
from tests.storage.conftest import MARK
from tests.storage.journals import CLOCK, end, note, start
from tests.storage.test_stores import rows
from turnout.errors import StoreFailed
from turnout.storage import address, intake
from turnout.storage.frames import framed
from turnout.storage.intake import REFUSED, Behind, Intake, Piece, behind, read_piece, segment_sizes
from turnout.storage.segments import Spool, segment_name
from turnout.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    assert read_piece(path, second) == Piece(payloads[2:], second + len(lines[2]), 0, 4)
    assert read_piece(path, second + len(lines[2])) == Piece([], second + len(lines[2]), 0, 4)
    monkeypatch.setattr(intake, "PIECE_BYTES", len(lines[0]) + 4)
    assert read_piece(path, second) == Piece(payloads[2:], second + len(lines[2]), 0, 0)
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


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, object]]]:
    """Level, name and facts of what was logged."""
    return [(one.levelname, one.getMessage(), vars(one)["facts"]) for one in caplog.records]


def test_all_but_the_culprits(into: Intake, caplog: pytest.LogCaptureFixture) -> None:
    """Of a batch with events that the database refuses, those are kept in a file and the others are posted."""
    into.store.open()
    with into.store.write() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.trace_id = 'bad'"
                " BEGIN SELECT RAISE(ABORT, 'never'); END"
            )
        )
    sound = [payload for number in range(5) for payload in attempt(id=f"a{number}", call=f"c{number}")]
    bad = attempt(id="b", call="bad")
    with caplog.at_level(logging.ERROR, "turnout"):
        into.post([*sound[:7], *bad, *sound[7:]], MARK)
    assert (into.posted, into.refused) == (10, 2)
    assert (into.spool.folder / REFUSED).read_bytes().splitlines() == [*bad]
    assert [row[0] for row in rows(into.store, "cost_records")] == [f"a{number}" for number in range(5)]
    assert told(caplog) == [("ERROR", "event_refused", {"events": 1, "why": "never", "file": REFUSED})] * 2


@pytest.mark.parametrize("events", [1, 2])
def test_a_later_schema_refuses_no_event(into: Intake, events: int) -> None:
    """Where the database takes no event because its schema is a later one, that is said, and none is set aside."""
    into.store.open()
    with into.store.write() as connection:
        connection.execute(
            text("CREATE TRIGGER later BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'not NULL'); END")
        )
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreFailed, match="later turnout"):
        into.post([*attempt()][:events], MARK)
    assert into.refused == 0
    assert not (into.spool.folder / REFUSED).exists()


def test_a_store_that_is_away_is_no_refusal(into: Intake) -> None:
    """What a database cannot do now is raised, and nothing is kept as refused."""
    into.store.open()
    with into.store.write() as connection:
        connection.execute(text("ALTER TABLE events RENAME TO elsewhere"))
    with pytest.raises(OperationalError, match="no such table"):
        into.post([*attempt()], MARK)
    assert (into.posted, into.refused) == (0, 0)
    assert not (into.spool.folder / REFUSED).exists()


def test_another_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A database in the place of the one that was written to is told of, once, by the names of both."""
    spool = Spool(tmp_path / "spool")
    identities, where = [], ""
    with caplog.at_level(logging.INFO, "turnout"):
        for name in ("first", "second"):
            store = Store(address.read(f"sqlite:///{tmp_path}/{name}.db", tmp_path))
            for _ in range(2):
                mine = Intake(store, spool, "me", CLOCK)
                mine.post([attempt()[0]], MARK)
                mine.post([attempt()[1]], MARK)
            identities.append(store.identity)
            where = str(store.address)
            store.close()
    ((level, event, facts),) = told(caplog)
    assert (level, event) == ("ERROR", "database_lost")
    assert "a new one was made in its place" in str(facts.pop("what"))
    assert facts == {"store": where, "was": identities[0], "now": identities[1]}
    assert None not in identities


def test_the_dead_and_their_open_calls(into: Intake, caplog: pytest.LogCaptureFixture) -> None:
    """Calls that a dead process began and never ended are charged, and the log says whose and how many."""
    for owner, open_calls in (("one", 2), ("two", 0)):
        ended = start()
        lines = [ended, end(ended), *(start() for _ in range(open_calls))]
        (into.spool.folder / segment_name(owner, 1)).write_bytes(b"".join(map(framed, lines)))
    with caplog.at_level(logging.INFO, "turnout"):
        assert into.adopt() == 2
        assert into.adopt() == 0
    assert told(caplog) == [("WARNING", "calls_expired", {"owner": "one", "calls": 2})]
    assert sorted(row[5] for row in rows(into.store, "cost_records")) == [
        "expired_estimated", "expired_estimated", "settled", "settled",
    ]  # fmt: skip
    assert (into.adopted, into.posted) == (2, 8)
    assert rows(into.store, "owners") == []
    assert list(into.spool.folder.iterdir()) == []


def test_a_damaged_legacy(into: Intake, caplog: pytest.LogCaptureFixture) -> None:
    """A dead process's damaged segment is kept aside and named in the log; what can be read of it is posted."""
    path = into.spool.folder / segment_name("one", 1)
    path.write_bytes(framed(note()) + b"??\n" + framed(note()))
    with caplog.at_level(logging.INFO, "turnout"):
        assert into.adopt() == 1
    assert told(caplog) == [("ERROR", "segment_damaged", {"segment": path.name})]
    assert [file.name for file in into.spool.folder.iterdir()] == [f"{path.name}.damaged"]
    assert into.posted == 2


def test_who_writes(into: Intake) -> None:
    """The table of owners says who has posted how far, from which host since which boot, out of which spool."""
    path = into.spool.folder / segment_name("me", 3)
    path.write_bytes(framed(note()))
    before = CLOCK.now()
    into.drain(path, 0)
    ((owner, host, boot, spool, _, segment, position, at),) = rows(into.store, "owners")
    assert (owner, host, spool) == ("me", socket.gethostname(), "spool")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (segment, position) == (path.name, path.stat().st_size)
    assert before <= at <= CLOCK.now()
