"""By agent, the normal way: the models of the agent's tier, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.routing.eligibility import sift

if TYPE_CHECKING:
    from turnout.routing.base import Facts
    from turnout.types import Call, Plan


class ByAgent:
    """The tier decides; an agent nobody registered is served as the default one, and hears so."""

    def plan(self, call: Call, facts: Facts) -> Plan:
        """The agent's tier. Raises `MissingKey` or `ConfigError` when none of it can be called."""
        agents = facts.registry.agents
        agent = agents.get(call.scope.agent)
        notices: tuple[str, ...] = ()
        if agent.id != call.scope.agent:
            notices = (f"there is no agent {call.scope.agent!r}: served as the default agent, {agent.id}",)
        return sift(call, facts, agents.tiers[agent.tier], f"agent {agent.id}: tier {agent.tier}", notices)
