"""Who of a list of models can serve a call, and why the others cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.errors import ConfigError, MissingKey
from turnout.types import LeftOut, Plan, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from turnout.registry import Registry
    from turnout.routing.base import Facts
    from turnout.types import Call, Model


def sift(call: Call, facts: Facts, names: Iterable[str], why: str, notices: tuple[str, ...] = ()) -> Plan:
    """A plan of those that can serve the call, in order, with the stand-ins behind them.

    Raises `MissingKey` when nobody is left and a key is missing, else `ConfigError`.
    """
    models: dict[str, Model] = {}
    left_out: dict[str, LeftOut] = {}
    said = list(notices)
    for name in (*names, *facts.stand_ins):
        model, notice = heir(facts.registry, name, facts.today)
        if notice:
            said.append(notice)
        obstacle = _obstacle(call, facts, model)
        if obstacle is not None:
            left_out.setdefault(model.name, msgspec.structs.replace(obstacle, ahead=not models))
        else:
            models.setdefault(model.name, model)
    if not models:
        raise _nobody(list(left_out.values()))
    return Plan(
        models=tuple(models.values()), why=why, left_out=tuple(left_out.values()), notices=tuple(said)
    )


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


def _obstacle(call: Call, facts: Facts, model: Model) -> LeftOut | None:
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
    lacking = sorted(_needs(call) - model.capabilities)
    if lacking:
        return LeftOut(model.name, Reason.CAPABILITY, f"it cannot do: {', '.join(lacking)}")
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
