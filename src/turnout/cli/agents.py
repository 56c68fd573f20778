"""`turnout agents`: who there is."""

from __future__ import annotations

import click

from turnout import registry
from turnout.cli.shared import as_json, print_json
from turnout.settings import load_settings


@click.command(name="agents")
@as_json
def command(as_json: bool) -> None:  # noqa: FBT001
    """List the agents and the models behind each."""
    agents = registry.load(load_settings()).agents
    if as_json:
        print_json(
            [
                {
                    "id": agent.id,
                    "name": agent.name,
                    "description": agent.description,
                    "tier": agent.tier,
                    "models": agents.models_of(agent.id),
                    "default": agent.default,
                    "routable": agent.routable,
                    "when_to_use": agent.when_to_use,
                    "when_not_to_use": agent.when_not_to_use,
                }
                for agent in agents.by_id.values()
            ]
        )
        return
    for agent in agents.by_id.values():
        mark = "  (default)" if agent.default else "" if agent.routable else "  (not routed to)"
        click.echo(f"{agent.id}{mark}")
        click.echo(f"  {agent.description}")
        click.echo(f"  {agent.tier}: {' → '.join(agents.models_of(agent.id))}")
