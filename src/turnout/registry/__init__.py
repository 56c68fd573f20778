"""What can be called? Models, prices, agents and endpoints, as data that is checked when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.errors import ConfigError
from turnout.registry import agents, endpoints, models, prices
from turnout.registry.agents import Agents
from turnout.registry.endpoints import Endpoint
from turnout.registry.prices import PriceTable
from turnout.registry.reading import did_you_mean
from turnout.types import Model

if TYPE_CHECKING:
    from turnout.settings import Settings


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """One consistent reading of every table."""

    models: dict[str, Model]
    endpoints: dict[str, Endpoint]
    agents: Agents
    prices: PriceTable

    def model_for_agent(self, agent: str) -> str:
        """The first model of the agent's tier; an unlisted agent has the default agent's."""
        return self.agents.models_of(agent)[0]

    def model(self, name: str) -> Model:
        """A model's row. Raises `ConfigError` with the nearest name when there is none."""
        try:
            return self.models[name]
        except KeyError:
            raise ConfigError(f"there is no model {name!r}", hint=did_you_mean(name, self.models)) from None


def load(settings: Settings) -> Registry:
    """Read and check every table. Raises `ConfigError`."""
    reach = endpoints.load(settings)
    rows = models.load(settings, reach)
    return Registry(
        models=rows,
        endpoints=reach,
        agents=agents.load(settings, rows),
        prices=prices.load(settings, rows),
    )
