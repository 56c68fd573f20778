"""Model rows: what may be called, what it can do, and when its name ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from turnout.errors import ConfigError
from turnout.registry.reading import check, did_you_mean, overlay, shipped
from turnout.types import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout.registry.endpoints import Endpoint
    from turnout.settings import Settings

CAPABILITIES = frozenset({"json", "json_schema", "tools", "vision", "thinking"})


def load(settings: Settings, endpoints: Mapping[str, Endpoint]) -> dict[str, Model]:
    """All models by name. Raises `ConfigError`."""
    rows = overlay(
        shipped("models.toml")["models"],
        settings.tables.get("models", {}),
        table="models",
        file=settings.file_name,
    )
    models = {
        name: check({"name": name, **row}, Model, where=f"[models.{name}]") for name, row in rows.items()
    }
    return {name: _bind(model, models, endpoints) for name, model in models.items()}


def _bind(model: Model, models: Mapping[str, Model], endpoints: Mapping[str, Endpoint]) -> Model:
    where = f"[models.{model.name}]"
    if model.provider not in endpoints:
        raise ConfigError(
            f"{where}: no endpoint {model.provider!r}", hint=did_you_mean(model.provider, endpoints)
        )
    if model.context_window <= 0 or not 0 <= model.default_output <= model.max_output:
        raise ConfigError(
            f"{where}: context_window must be positive and default_output between 0 and max_output",
            hint=f"now: {model.context_window}, {model.default_output}, {model.max_output}",
        )
    strange = sorted(model.capabilities - CAPABILITIES)
    if strange:
        raise ConfigError(
            f"{where}: no capability {strange[0]!r}", hint=did_you_mean(strange[0], CAPABILITIES)
        )
    seen = {model.name}
    heir = model.successor
    while heir is not None:
        if heir not in models:
            raise ConfigError(f"{where}: no successor {heir!r}", hint=did_you_mean(heir, models))
        if heir in seen:
            raise ConfigError(f"{where}: its successors go in a circle", hint=f"break it at {heir!r}")
        seen.add(heir)
        heir = models[heir].successor
    endpoint = endpoints[model.provider]
    return msgspec.structs.replace(
        model,
        thinking=model.thinking or endpoint.thinking,
        reports_cost=model.reports_cost or endpoint.reports_cost,
    )
