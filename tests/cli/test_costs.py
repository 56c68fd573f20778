"""`turnout costs`: what was spent, to the last call that this host journalled."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.storage.calls import attempt
from turnout.cli.costs import _short, command
from turnout.clock import Clock
from turnout.storage import address
from turnout.storage.journal import Journal
from turnout.types import Event

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3_600_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """The journal of a process on this test's home folder."""
    home = tmp_path / "home"
    return Journal(home / "spool" / address.read(None, home).spool_id, Clock())


def note(journal: Journal, *payloads: bytes) -> None:
    """Append what a call leaves."""
    for payload in payloads:
        journal.append(msgspec.json.decode(payload, type=Event))
    assert journal.settled()


def costs(*args: str) -> dict[str, Any]:
    """What the command says as JSON."""
    done = CliRunner().invoke(command, [*args, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout, parse_float=Decimal)
    return found


def test_costs_of_a_process_that_has_ended(journal: Journal) -> None:
    """What an ended process left in its journal is counted, a failover as one call, two attempts, one fallback."""
    now = Clock().now()
    note(journal, *attempt(id="a1", at=now, outcome="server_error", cost=0, usage=None))
    note(
        journal,
        *attempt(
            id="a2",
            at=now,
            number=2,
            model="gpt-4o-mini",
            provider="openai",
            fallback="server_error",
            cost=27_000,
        ),
    )
    journal.close()
    found = costs()
    (row,) = found["rows"]
    assert row == {
        "key": "debugger", "calls": 1, "attempts": 2, "fallbacks": 1, "input_tokens": 100, "cached_input_tokens": 40,
        "output_tokens": 20, "cost_usd": Decimal("0.000027"), "baseline_usd": None, "unpriced": 0,
    }  # fmt: skip
    assert found["total"] == {name: value for name, value in row.items() if name != "key"}
    assert found["behind"] == []


@pytest.mark.parametrize(
    ("by", "key"),
    [("agent", "dojo"), ("model", "deepseek-chat"), ("user", "alice"), ("session", "s1"), ("key", "k1")],
)
def test_by(journal: Journal, by: str, key: str) -> None:
    """Each of the five keys has its line."""
    note(journal, *attempt(at=Clock().now(), agent="dojo", key="k1"))
    journal.close()
    assert [row["key"] for row in costs("--by", by)["rows"]] == [key]


def test_since(journal: Journal) -> None:
    """Only what began in the period counts, to the minute; dates are UTC."""
    now = Clock().now()
    for hours in (1, 30, 24 * 10):
        note(journal, *attempt(id=f"a{hours}", call=f"c{hours}", at=now - hours * HOUR))
    journal.close()
    found = {
        since: costs("--since", since)["total"]["calls"]
        for since in ("59m", "61m", "2d", "7d", "2w", "2020-01-01")
    }
    assert found == {"59m": 0, "61m": 1, "2d": 2, "7d": 2, "2w": 3, "2020-01-01": 3}


def test_a_process_that_has_not_posted(journal: Journal) -> None:
    """What a living process has journalled and not posted is told after two seconds at most, not counted."""
    note(journal, *attempt(at=Clock().now()))
    began = Clock().monotonic()
    found = costs()
    assert Clock().monotonic() - began < 5
    assert found["total"]["attempts"] == 0
    (behind,) = found["behind"]
    assert behind["owner"] == journal.owner
    assert behind["bytes"] > 0
    journal.close()


def test_a_cost_that_is_not_known(journal: Journal) -> None:
    """An attempt without a price is counted as such and adds nothing."""
    note(journal, *attempt(at=Clock().now(), cost=None))
    journal.close()
    row = costs()["total"]
    assert (row["cost_usd"], row["unpriced"]) == (0, 1)


def test_for_people(journal: Journal) -> None:
    """A table within 80 columns, dearest first, its total below, what it leaves out on stderr."""
    now = Clock().now()
    note(journal, *attempt(id="a1", at=now, cost=5_000))
    note(journal, *attempt(id="a2", call="c2", at=now, agent="dojo", cost=1_234_000_000, user=None))
    note(journal, *attempt(id="a3", call="c3", at=now, agent="dojo", cost=None, user=None))
    journal.close()
    done = CliRunner().invoke(command, ["--by", "agent"])
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["agent", "dojo", "debugger", "total"]
    assert "$1.234" in lines[1]
    assert done.stderr.startswith("1 attempts have no known price")
    assert "$0.000005000" in lines[2]
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in CliRunner().invoke(command, ["--by", "user"]).stdout.splitlines()][
        1
    ] == "-"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (99_999, "99999"), (100_000, "100k"), (12_345_678, "12M"), (10**16, "10000T")],
)
def test_counts_fit(count: int, text: str) -> None:
    """A count takes its six columns at most, one of them blank, until there is no letter left."""
    assert _short(count, 6) == text


def test_no_calls_yet() -> None:
    """Before the first call there is an empty table, not an error."""
    assert costs()["rows"] == []
    assert costs()["total"]["cost_usd"] == 0


@pytest.mark.parametrize("since", ["yesterday", "7", "7y", "-1d"])
def test_a_period_that_is_none(since: str) -> None:
    """A period nobody can read ends with 2 and says how one is written."""
    done = CliRunner().invoke(command, ["--since", since])
    assert done.exit_code == 2
    assert "7d, 24h" in done.stderr


def test_a_store_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away is one sentence with its address and a way out, and no password."""
    from turnout.errors import StoreFailed  # noqa: PLC0415

    monkeypatch.setenv("TURNOUT_DATABASE_URL", "postgresql://anna:c4nary@127.0.0.1:1/db")
    done = CliRunner().invoke(command, ["--json"])
    assert isinstance(done.exception, StoreFailed)
    assert "postgresql://127.0.0.1:1/db" in str(done.exception)
    assert "c4nary" not in str(done.exception)
