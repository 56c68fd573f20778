"""On whose behalf? The supervisor chooses the agent that answers."""

from turnout.agents.supervisor import Decision, Supervisor, route_query

__all__ = ["Decision", "Supervisor", "route_query"]
