"""By model name: that one and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.routing.by_agent import ByAgent
from turnout.routing.eligibility import sift
from turnout.types import LeftOut, Reason

if TYPE_CHECKING:
    from turnout.routing.base import Facts
    from turnout.types import Call, Plan


class Pinned:
    """The caller named the model; a name nobody registered gets the agent's plan, and the caller hears so."""

    def plan(self, call: Call, facts: Facts) -> Plan:
        """The one model. Raises `MissingKey` or `ConfigError` when it cannot serve the call."""
        name = call.model or ""
        if name in facts.registry.models:
            if facts.stand_ins:
                facts = msgspec.structs.replace(facts, stand_ins=())
            return sift(call, facts, [name], f"model {name} was asked for")
        plan = ByAgent().plan(call, facts)
        notice = f"there is no model {name!r}: {plan.why} instead"
        unknown = LeftOut(name, Reason.UNKNOWN_MODEL, "nobody registered it", ahead=True)
        return msgspec.structs.replace(
            plan, left_out=(unknown, *plan.left_out), notices=(notice, *plan.notices), why=notice
        )
