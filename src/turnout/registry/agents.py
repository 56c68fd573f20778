"""Agent rows: who may speak, on which tier, and the words that tell a query is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from turnout.errors import ConfigError
from turnout.registry.reading import check, did_you_mean, overlay, shipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.settings import Settings
    from turnout.types import Model


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `agents.toml`."""

    id: str
    name: str
    tier: str = "chat"
    description: str = ""
    when_to_use: tuple[str, ...] = ()
    when_not_to_use: tuple[str, ...] = ()
    keywords: dict[str, tuple[str, ...]] = {}
    """Weight (a whole number, as TOML keys are text) to words and phrases."""
    routable: bool = True
    """The supervisor may choose it."""
    default: bool = False


class Agents(msgspec.Struct, frozen=True, kw_only=True):
    """All agents and tiers, with exactly one default agent."""

    by_id: dict[str, Agent]
    tiers: dict[str, tuple[str, ...]]
    default: Agent

    def get(self, agent_id: str) -> Agent:
        """The agent, or the default one when nobody has that id."""
        return self.by_id.get(agent_id, self.default)

    def models_of(self, agent_id: str) -> tuple[str, ...]:
        """The agent's models in order; an unlisted agent has the default agent's."""
        return self.tiers[self.get(agent_id).tier]

    @property
    def routable(self) -> dict[str, Agent]:
        """Those the supervisor may choose."""
        return {agent_id: agent for agent_id, agent in self.by_id.items() if agent.routable}


def load(settings: Settings, models: Mapping[str, Model]) -> Agents:
    """Agents and tiers. Raises `ConfigError`."""
    ours, file = shipped("agents.toml"), settings.file_name
    theirs = settings.tables.get("agents", {})
    rows = overlay(ours["agents"], theirs, table="agents", file=file)
    if any(row.get("default") is True for row in theirs.values()):
        for agent_id, row in rows.items():
            row["default"] = theirs.get(agent_id, {}).get("default", False)
    tiers = _tiers(ours["tiers"] | settings.tables.get("tiers", {}), models)
    by_id = {
        agent_id: check({"id": agent_id, "name": agent_id, **row}, Agent, where=f"[agents.{agent_id}]")
        for agent_id, row in rows.items()
    }
    for agent in by_id.values():
        _check(agent, tiers)
    defaults = [agent for agent in by_id.values() if agent.default]
    if len(defaults) != 1:
        named = ", ".join(agent.id for agent in defaults) or "none"
        raise ConfigError(
            f"exactly one agent must be the default; now: {named}",
            hint="write `default = true` under one agent",
        )
    return Agents(by_id=by_id, tiers=tiers, default=defaults[0])


def _tiers(rows: Mapping[str, Any], models: Mapping[str, Model]) -> dict[str, tuple[str, ...]]:
    tiers = {}
    for tier, names in rows.items():
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"[tiers] {tier} must be a list of model names", hint=f'write {tier} = ["deepseek-chat"]'
            )
        for name in names:
            if name not in models:
                raise ConfigError(f"[tiers] {tier}: no model {name!r}", hint=did_you_mean(name, models))
            if models[name].kind != "chat":
                raise ConfigError(
                    f"[tiers] {tier}: {name!r} is no chat model", hint="name a model of kind chat"
                )
        tiers[tier] = tuple(names)
    return tiers


def _check(agent: Agent, tiers: Mapping[str, Any]) -> None:
    if agent.tier not in tiers:
        raise ConfigError(
            f"[agents.{agent.id}]: no tier {agent.tier!r}", hint=did_you_mean(agent.tier, tiers)
        )
    for weight in agent.keywords:
        if not (weight.isdecimal() and int(weight) > 0):
            raise ConfigError(
                f"[agents.{agent.id}]: keyword weight {weight!r} is not a whole number above 0",
                hint='write keywords = { 2 = ["word"] }',
            )
