"""Who of a list of models can serve a call, and why the others cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.errors import ConfigError, MissingKey
from turnout.routing.base import upstream
from turnout.types import LeftOut, Plan, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from turnout.registry import Registry
    from turnout.routing.base import Facts, Obstacle, Upstream
    from turnout.types import Call, Model


def sift(call: Call, facts: Facts, names: Iterable[str], why: str, notices: tuple[str, ...] = ()) -> Plan:
    """A plan of those that can serve the call, in order, with the stand-ins behind them.

    Who is not well is left out, and who is busy is put behind, unless nobody else is left.
    Raises `MissingKey` when nobody can serve it and a key is missing, else `ConfigError`.
    """
    seen: dict[str, Model] = {}
    against: dict[str, LeftOut] = {}
    said = list(notices)
    needs = _needs(call)
    for name in (*names, *facts.stand_ins):
        model, notice = heir(facts.registry, name, facts.today)
        if notice:
            said.append(notice)
        seen.setdefault(model.name, model)
        if (obstacle := _obstacle(needs, facts, model)) is not None:
            against.setdefault(model.name, obstacle)
    able = [model for model in seen.values() if model.name not in against]
    if not able:
        raise _nobody(list(against.values()))
    if facts.health:
        able, unwell, forced = _by_health(able, facts.health)
        against |= unwell
        why += forced
    left_out = _in_order(list(seen), against, able[0].name) if against else ()
    return Plan(models=tuple(able), why=why, left_out=left_out, notices=tuple(said))


def _in_order(order: list[str], against: Mapping[str, LeftOut], first: str) -> tuple[LeftOut, ...]:
    """Who is left out, each with whether it stands before the first that is tried."""
    behind = order[order.index(first) :]
    left_out = (against[name] for name in order if name in against)
    return tuple(msgspec.structs.replace(out, ahead=out.model not in behind) for out in left_out)


def _by_health(
    able: list[Model], health: Mapping[Upstream, Obstacle]
) -> tuple[list[Model], dict[str, LeftOut], str]:
    """Who is tried, and why the others are not or only after them; in words, why one that is not well is tried."""
    unwell = {model.name: health[upstream(model)] for model in able if upstream(model) in health}
    free = [model for model in able if model.name not in unwell]
    busy = [model for model in able if model.name in unwell and unwell[model.name].reason is Reason.BUSY]
    chosen, forced = free + busy, ""
    if not chosen:
        # the last one standing: a sick provider may have recovered, and no provider surely does not answer
        best = min(able, key=lambda model: unwell[model.name].seconds)
        chosen, forced = [best], f"; nobody is well, so {best.name} is asked though {unwell[best.name].why}"
    first = free or chosen
    against = {
        model.name: LeftOut(model.name, unwell[model.name].reason, unwell[model.name].why)
        for model in able
        if model not in first
    }
    return chosen, against, forced


def heir(registry: Registry, name: str, today: date) -> tuple[Model, str]:
    """The model, or the successor of one that has retired, and what to say about it."""
    model = registry.models[name]
    while model.retires_on is not None and model.retires_on <= today and model.successor is not None:
        model = registry.models[model.successor]
    notice = (
        ""
        if model.name == name
        else f"{name} retired on {registry.models[name].retires_on}: {model.name} stands in its place"
    )
    return model, notice


def _obstacle(needs: set[str], facts: Facts, model: Model) -> LeftOut | None:
    endpoint = facts.registry.endpoints[model.provider]
    if not endpoint.enabled:
        return LeftOut(model.name, Reason.DISABLED, f"{endpoint.title} is switched off")
    if not endpoint.callable:
        return LeftOut(
            model.name,
            Reason.NO_API_KEY,
            f"no key for {endpoint.title}: set {' or '.join(endpoint.key_vars)}",
        )
    if model.retires_on is not None and model.retires_on <= facts.today:
        return LeftOut(
            model.name, Reason.MODEL_RETIRED, f"retired on {model.retires_on}, no successor is named"
        )
    if model.kind != "chat":
        return LeftOut(model.name, Reason.CAPABILITY, f"a model of kind {model.kind} does not chat")
    if not needs <= model.capabilities:
        lacking = ", ".join(sorted(needs - model.capabilities))
        return LeftOut(model.name, Reason.CAPABILITY, f"it cannot do: {lacking}")
    if facts.least_tokens > model.context_window:
        return LeftOut(
            model.name, Reason.CONTEXT_OVERFLOW, f"its window of {model.context_window:,} tokens is too small"
        )
    return None


def _needs(call: Call) -> set[str]:
    needs = set()
    if call.options.tools:
        needs.add("tools")
    if call.has_images:
        needs.add("vision")
    kind = (call.options.response_format or {}).get("type")
    if kind == "json_schema":
        needs.add("json_schema")
    elif kind == "json_object":
        needs.add("json")
    return needs


def _nobody(left_out: list[LeftOut]) -> ConfigError | MissingKey:
    lines = "; ".join(f"{out.model}: {out.why}" for out in left_out)
    if any(out.reason is Reason.NO_API_KEY for out in left_out):
        return MissingKey(
            f"no model can be called ({lines})",
            hint='put a key in the environment or in .env; pip install "turnout[local]" needs none',
        )
    return ConfigError(
        f"no model can serve this call ({lines})", hint="see `turnout models` for what each can do"
    )
