"""`turnout costs`: what was spent, on whose behalf."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import click

from turnout.cli.shared import as_json, money, print_json
from turnout.clock import Clock
from turnout.settings import load_settings
from turnout.types import dollars

if TYPE_CHECKING:
    from turnout.storage.reports import By, CostLine, Line

KEYS = ("agent", "model", "user", "session", "key")
_HEADS, _WIDTHS = ("calls", "tries", "fall", "input", "cached", "output"), (6, 6, 5, 8, 8, 8)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
COUNTS = ("calls", "attempts", "fallbacks", "input_tokens", "cached_input_tokens", "output_tokens")


class Since(click.ParamType):  # type: ignore[type-arg]  # generic for the type checker only
    """Such as 7d, 24h, 30m, 2w, or a date: microseconds UTC."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The moment."""
        now = datetime.now(UTC)
        if found := re.fullmatch(r"(\d{1,6})([mhdw])", str(value)):
            moment = now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        else:
            try:
                moment = datetime.fromisoformat(str(value))
            except ValueError:
                self.fail(
                    f"{value!r} is no time; write 7d, 24h, 30m, 2w or a date such as 2026-11-01", param, ctx
                )
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1e6)


@click.command(name="costs")
@click.option(
    "--by", type=click.Choice(KEYS), default="agent", show_default=True, help="One line for each of these."
)
@click.option(
    "--since", type=Since(), default="7d", show_default=True, help="7d, 24h, 30m, 2w, or a date (UTC)."
)
@as_json
def command(by: str, since: int, as_json: bool) -> None:  # noqa: FBT001
    """Show what was spent, by agent, model, user, session or key.

    A call is counted where its first attempt went. Attempts still under way do not count.

    \b
    turnout costs
    turnout costs --by model --since 30d --json
    """
    from turnout.storage import access, reports  # noqa: PLC0415 - loads SQLAlchemy

    settings = load_settings()
    with access.using(settings) as store:
        behind = access.catch_up(store, access.spool_of(settings), Clock())
        lines = reports.Reports(store).costs(cast("By", by), since)
    facts = {
        "rows": [{"key": line.key, **_facts(line)} for line in lines],
        "total": _facts(total(lines)),
        "behind": [{"owner": one.owner, "bytes": one.bytes} for one in behind],
    }
    if as_json:
        print_json(facts)
        return
    _print(by, facts)


def total(lines: list[CostLine]) -> Line:
    """The sum of all lines."""
    from turnout.storage.reports import Line  # noqa: PLC0415 - loads SQLAlchemy

    return Line(**{name: sum(getattr(line, name) for line in lines) for name in Line.__struct_fields__})


def _facts(line: Line) -> dict[str, Any]:
    return {
        **{name: getattr(line, name) for name in COUNTS},
        "cost_usd": dollars(line.cost_nano),
        "baseline_usd": None,  # until savings are reckoned
        "unpriced": line.unpriced,
    }


def _print(by: str, facts: dict[str, Any]) -> None:
    """Eighty columns."""
    head = "".join(f"{name:>{width}}" for name, width in zip(_HEADS, _WIDTHS, strict=True))
    click.echo(f"{by:14}{head}{'cost':>12}")
    for row in [*facts["rows"], {"key": "total", **facts["total"]}]:
        counts = "".join(
            f"{_short(row[name], width):>{width}}" for name, width in zip(COUNTS, _WIDTHS, strict=True)
        )
        name = "-" if row["key"] is None else row["key"]
        click.echo(f"{name[:13]:14}{counts}{money(row['cost_usd']):>12}")
    if unpriced := facts["total"]["unpriced"]:
        click.echo(f"{unpriced} attempts have no known price: they are not in the sums of money.", err=True)
    for one in facts["behind"]:
        click.echo(f"{one['bytes']} bytes of the process {one['owner']} are not in yet.", err=True)


def _short(count: int, width: int) -> str:
    """A count with a blank before it, in thousands or more where it is too long."""
    text, size = str(count), 1
    for letter in ("k", "M", "G", "T"):
        if len(text) < width:
            break
        size *= 1_000
        text = f"{count // size}{letter}"
    return text
