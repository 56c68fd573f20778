"""What installed packages add by entry points: wires, strategies and agents.

`turnout.providers`: a `Codec` class, under the name an endpoint row gives as `codec`. `turnout.strategies`: a
`Strategy` class, chosen by the setting `strategy`. `turnout.agents`: a dict of agent rows by id, as in `[agents.ID]`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import ConfigError

if TYPE_CHECKING:
    from turnout.providers.base import Codec
    from turnout.routing.base import Strategy
    from turnout.settings import Settings


def codecs() -> dict[str, Codec]:
    """Wires of other packages, by name. Raises `ConfigError` naming the package that cannot be loaded."""
    return {name: kind() for name, kind in _found("turnout.providers").items()}


def strategies() -> dict[str, Strategy]:
    """Strategies of other packages, by name. Raises as `codecs` does."""
    return {name: kind() for name, kind in _found("turnout.strategies").items()}


def with_agents(settings: Settings) -> Settings:
    """The settings with the agents of other packages below the user's own. Raises as `codecs` does."""
    rows: dict[str, Any] = {}
    for name, agents in _found("turnout.agents").items():
        if not isinstance(agents, dict):
            raise ConfigError(
                f"entry point turnout.agents {name}: not a dict of agent rows", hint="see docs/extend.md"
            )
        rows |= agents
    if not rows:
        return settings
    theirs = settings.tables.get("agents", {})
    merged = {agent_id: rows.get(agent_id, {}) | theirs.get(agent_id, {}) for agent_id in [*rows, *theirs]}
    return msgspec.structs.replace(settings, tables={**settings.tables, "agents": merged})


@cache
def _found(group: str) -> dict[str, Any]:
    found = {}
    for point in entry_points(group=group):
        try:
            found[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist else "a package"
            raise ConfigError(
                f"{package} names {point.value} as {group}, which cannot be loaded: {error}",
                hint=f"repair or remove {package}",
            ) from None
    return found
