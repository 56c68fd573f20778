"""`turnout models`: what may be called, what it costs now, when its name ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from turnout import registry
from turnout.cli.shared import as_json, print_json
from turnout.settings import load_settings


@click.command(name="models")
@as_json
def command(as_json: bool) -> None:  # noqa: FBT001
    """List the models, their prices now and when a name ends."""
    rows = registry.load(load_settings())
    now = datetime.now(UTC)
    facts = [_facts(rows, name, now) for name in rows.models]
    if as_json:
        print_json(facts)
        return
    click.echo(f"{'model':24}{'provider':11}{'window':>10}  {'in / cached / out, $ per million now':38}state")
    for row in facts:
        price = row["price"]
        words = "not known"
        if price is not None:
            cached = "-" if price["cached_input"] is None else price["cached_input"]
            words = f"{price['input']} / {cached} / {price['output']}"
        click.echo(
            f"{row['name']:24}{row['provider']:11}{row['context_window']:>10,}  {words:38}{_state(row)}"
        )


def _facts(rows: registry.Registry, name: str, now: datetime) -> dict[str, Any]:
    model = rows.models[name]
    endpoint = rows.endpoints[model.provider]
    price = rows.prices.at(name, now)
    facts = msgspec.structs.asdict(model)
    facts["capabilities"] = sorted(model.capabilities)
    return facts | {
        "callable": endpoint.callable,
        "retired": model.retires_on is not None and model.retires_on <= now.date(),
        "price": None if price is None else msgspec.structs.asdict(price),
    }


def _state(row: dict[str, Any]) -> str:
    state = "ready" if row["callable"] else "no key"
    if row["retires_on"] is None:
        return state
    heir = f", then {row['successor']}" if row["successor"] else ""
    return f"{state}, {'retired' if row['retired'] else 'until'} {row['retires_on']}{heir}"
