"""Past SQLAlchemy: what goes in comes out, whichever columns are empty, and errors are SQLAlchemy's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.pool import StaticPool

from turnout.storage import driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

values = st.none() | st.integers(-5, 5) | st.text(max_size=3)
COLUMNS = ("n", "a", "b", "c")


def statement(filled: tuple[int, ...]) -> str:
    """Into the columns of these positions."""
    names = ", ".join(COLUMNS[position] for position in filled)
    return f"INSERT INTO t ({names}) VALUES ({', '.join('?' * len(filled))})"  # noqa: S608 - names of ours


@pytest.fixture(scope="module")
def engine_connection() -> Iterator[Connection]:
    """A database in memory with an empty table."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER NOT NULL UNIQUE, a, b, c)")
        yield connection
    engine.dispose()


@pytest.fixture
def connection(engine_connection: Connection) -> Connection:
    """The same, empty again."""
    engine_connection.exec_driver_sql("DELETE FROM t")
    return engine_connection


@given(st.lists(st.tuples(values, values, values), max_size=12), st.integers(1, 4))
def test_rows_come_back(engine_connection: Connection, rows: list[tuple[Any, ...]], at_once: int) -> None:
    """Any pattern of empty columns comes back as it was, however few rows are looked at together."""
    engine_connection.exec_driver_sql("DELETE FROM t")
    numbered = [(number, *row) for number, row in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "ROWS_AT_ONCE", at_once)
        driver.put(engine_connection, numbered, statement)
    assert driver.fetched(engine_connection, "SELECT * FROM t ORDER BY n", [()]) == numbered


def test_only_filled_columns_are_bound(connection: Connection) -> None:
    """The statement is asked for the columns that some row of those looked at together fills, in their order."""
    asked: list[tuple[int, ...]] = []

    def noted(filled: tuple[int, ...]) -> str:
        asked.append(filled)
        return statement(filled)

    rows = [(number, None, None if number else "x", None) for number in range(driver.ROWS_AT_ONCE + 1)]
    driver.put(connection, rows, noted)
    assert asked == [(0, 2), (0,)]
    driver.put(connection, [(-1, None, None, None), (-2, None, None, 3)], noted)
    assert asked[2:] == [(0, 3)]
    driver.put(connection, [], noted)
    assert len(asked) == 3


def test_a_query_for_each(connection: Connection) -> None:
    """Each of the values is asked in turn; those without a row add none."""
    driver.put(connection, [(1, "x", None, None), (2, "y", None, None)], statement)
    assert driver.fetched(connection, "SELECT a FROM t WHERE n = ?", [(2,), (3,), (1,)]) == [("y",), ("x",)]


def test_errors_are_sqlalchemys(connection: Connection) -> None:
    """A refused row, a number beyond 64 bits and a wrong statement each raise what SQLAlchemy raises for it."""
    with pytest.raises(DataError):
        driver.put(connection, [(2**63, None, None, None)], statement)
    with pytest.raises(IntegrityError):
        driver.put(connection, [(1, None, None, None), (1, None, None, None)], statement)
    with pytest.raises(OperationalError, match="no such table"):
        driver.fetched(connection, "SELECT * FROM nowhere", [()])
    with pytest.raises(OperationalError, match="syntax"):
        driver.execute(connection, "BEGIN NOTHING")
