"""`turnout route`: which agent, and why."""

from __future__ import annotations

import click

from turnout.agents import Supervisor
from turnout.cli.shared import as_json, print_json, text_of, with_client


@click.command(name="route")
@click.argument("query", nargs=-1, required=True)
@click.option("--context", multiple=True, help="An earlier message of the conversation; may be repeated.")
@as_json
def command(query: tuple[str, ...], context: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Say which agent a query belongs to, and why.

    \b
    turnout route "Help me debug my code"
    turnout route "Find my notes on budgets" --json
    """
    text = " ".join(query) if query != ("-",) else text_of(query, "query")
    decision = with_client(lambda client: Supervisor(client).route(text, context))
    if as_json:
        print_json(decision)
        return
    click.echo(f"{decision.agent_id}  ({decision.method}, confidence {decision.confidence:g})")
    click.echo(f"  {decision.reasoning}")
    click.echo(f"  models: {' → '.join(decision.plan) or 'none can be called'}")
