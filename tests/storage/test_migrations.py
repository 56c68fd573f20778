"""The schema: what the tables say is what the migrations make, whoever comes first and whatever was there."""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Text, inspect, select, text

from tests.storage.calls import attempt
from tests.storage.conftest import MARK
from tests.storage.test_meeting import just_after
from tests.storage.test_store import run
from tests.storage.test_stores import rows
from turnout.errors import StoreFailed
from turnout.storage import address, schema, tables
from turnout.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.storage.conftest import MakeStore

OPEN = """
import sys
from pathlib import Path
from turnout.storage import address
from turnout.storage.store import Store
sys.stdin.read()
store = Store(address.read(sys.argv[1], Path("/")))
store.open()
store.close()
"""


VIEWS = [name for name, table in tables.metadata.tables.items() if table.info.get("is_view")]


def is_table(thing: Any, name: str | None, _kind: str, reflected: bool, _other: Any) -> bool:
    """Views are compared column by column below, and a partition is its table."""
    return not thing.info.get("is_view") and not (reflected and name == "events_default")


def test_tables_are_what_migrations_make(store: Store) -> None:
    """A migrated store has every table, view, column and index of `tables.py`, and no other."""
    store.open()
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_table})
        assert compare_metadata(context, tables.metadata) == []
        assert {*inspect(connection).get_view_names()} == {"harness_traces", *VIEWS}
        for name in VIEWS:
            assert connection.execute(select(tables.metadata.tables[name])).fetchall() == []
        checks = inspect(connection).get_check_constraints("cost_records")
        keys = inspect(connection).get_foreign_keys("leases")
    assert "expired_estimated" in checks[0]["sqltext"]
    assert [key["referred_table"] for key in keys] == ["owners"]


def test_the_revision_is_the_last_one() -> None:
    """`tables.REVISION` is the newest file, and the files count up one by one."""
    names = sorted(file.name for file in (schema.FOLDER / "versions").glob("r*.py"))
    assert [name[1:5] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]
    assert names[-1][1:5] == tables.REVISION


def test_an_older_schema_with_data(store: Store) -> None:
    """A store of the first revision keeps its rows and gets what came later."""
    schema.migrate(store.backend, to="0001")
    store._checked = True
    store.post(attempt(), MARK)
    assert schema.revision(store.backend) == "0001"
    before = rows(store, "events")
    store._checked = False
    store.post(attempt(id="a2"), MARK)
    assert schema.revision(store.backend) == tables.REVISION
    with store.read() as connection:
        traces = connection.execute(text("SELECT count(*) FROM harness_traces")).scalar()
    assert traces == 1
    assert set(before) <= set(rows(store, "events"))


def test_a_later_schema_is_left_alone(store: Store) -> None:
    """A store of a later turnout is not written to, and the error says what to do."""
    store.open()
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store._checked = False
    with pytest.raises(StoreFailed, match="schema 9999 of a later turnout") as caught:
        store.post(attempt(), MARK)
    assert "upgrade turnout" in caught.value.hint
    with store.backend.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar() == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_everybody_migrates_at_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Processes that find an empty store at the same moment all end up with one schema and one store id."""
    new: Callable[[], str] = request.getfixturevalue("new_database")
    url = new() if kind == "postgresql" else f"sqlite:///{tmp_path}/turnout.db"
    processes = [run(OPEN, url, stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4
    store = Store(address.read(url, tmp_path))
    assert schema.revision(store.backend) == tables.REVISION
    assert [row[0] for row in rows(store, "meta")] == ["store"]
    store.close()


def test_a_database_without_a_name_gets_one(store: Store) -> None:
    """Whoever opens a database whose maker has not named it yet, or never did, names it."""
    schema.migrate(store.backend)
    store.open()
    assert store.identity
    assert rows(store, "meta") == [("store", store.identity)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("newest", [tables.REVISION, "9999"])
def test_another_migrates_first(make_store: MakeStore, kind: str, newest: str) -> None:
    """Whoever waited for the lock of migrations looks again: what is done is left, what is later is refused."""
    store = make_store(kind)
    schema.migrate(store.backend, to="0001")
    names = []

    def migrate() -> None:
        with closing(Store(store.address)) as other:
            with other.write() as connection:
                connection.execute(text(f"UPDATE alembic_version SET version_num = '{newest}'"))  # noqa: S608
            names.append(other.identity)

    with just_after("SELECT version_num", migrate):
        if newest == tables.REVISION:
            store.open()
            assert [store.identity] == names
        else:
            with pytest.raises(StoreFailed, match="schema 9999 of a later turnout"):
                store.open()
    assert schema.revision(store.backend) == newest


def test_a_schema_that_is_none_of_ours(store: Store) -> None:
    """A database that another program keeps by Alembic is refused, in words for people, and left as it is."""
    store.open()
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000cafe'"))
    store._checked = False
    with pytest.raises(StoreFailed, match="another program's") as caught:
        store.post(attempt(), MARK)
    assert "TURNOUT_DATABASE_URL" in caught.value.hint
    assert schema.revision(store.backend) == "0000cafe"


def test_no_column_has_a_default(store: Store) -> None:
    """What an INSERT leaves out is NULL: neither `tables.py` nor the database puts anything else there."""
    store.open()
    with store.read() as connection:
        for name, table in tables.metadata.tables.items():
            ours = [(column.default, column.server_default) for column in table.columns]
            assert ours == [(None, None)] * len(ours), name
            found = inspect(connection).get_columns(name)
            assert len(found) == len(ours)
            assert [column["default"] for column in found] == [None] * len(found), name


def test_texts_are_compared_by_bytes(make_store: MakeStore) -> None:
    """Every text column on PostgreSQL, of partitions too, sorts as SQLite and Python do, whatever the database's."""
    store = make_store("postgresql")
    store.post(attempt(), MARK)
    with store.read() as connection:
        found = connection.execute(
            text(
                "SELECT c.table_name, c.column_name, c.collation_name FROM information_schema.columns AS c "
                "JOIN information_schema.tables AS t USING (table_schema, table_name) "
                "WHERE t.table_type = 'BASE TABLE' AND c.table_schema = 'public' AND c.data_type = 'text'"
            )
        ).fetchall()
        dialect = connection.dialect
    assert {row[2] for row in found} == {"C"}
    ours = {
        (table.name, column.name): column.type.compile(dialect)
        for table in tables.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, Text) and not table.info.get("is_view")
    }
    assert {*ours.values()} == {'TEXT COLLATE "C"'}
    partitions = {"events_default", "events_20261118"}
    assert {(row[0], row[1]) for row in found if row[0] not in partitions} == ours.keys()
    assert partitions <= {row[0] for row in found}


def test_alembic_is_loaded_only_when_due(tmp_path: Path) -> None:
    """A store that is up to date is opened without Alembic."""
    url = f"sqlite:///{tmp_path}/turnout.db"
    process = run(OPEN.replace("sys.stdin.read()", ""), url)
    assert process.wait(60) == 0
    again = OPEN.replace("sys.stdin.read()", "") + "sys.exit('alembic' in sys.modules)"
    assert run(again, url).wait(60) == 0


def test_the_log_is_kept_by_days(make_store: MakeStore) -> None:
    """On PostgreSQL `events` is what `tables.py` says it is partitioned by, with a default partition."""
    store = make_store("postgresql")
    store.open()
    with store.read() as connection:
        key = connection.execute(text("SELECT pg_get_partkeydef('events'::regclass)")).scalar()
        default = connection.execute(
            text(
                "SELECT partdefid::regclass::text FROM pg_partitioned_table WHERE partrelid = 'events'::regclass"
            )
        ).scalar()
    assert key == tables.events.dialect_options["postgresql"]["partition_by"]
    assert default == "events_default"
