"""turnout: LLM calls by agent name.

    from turnout import LLMClient

    async with LLMClient() as client:
        reply = await client.call_with_fallback("debugger", [{"role": "user", "content": "Why does this fail?"}])

Every name here is loaded when first used: importing turnout reads no file and starts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from turnout import current

if TYPE_CHECKING:
    from turnout.types import Model, Options, Usage
    from turnout.wiring import CurrentModels, LLMClient, get_model_config, get_model_for_agent

    llm_client: LLMClient
    MODEL_REGISTRY: CurrentModels

__version__ = "0.1.0"

_HOMES = {
    "LLMClient": "turnout.wiring",
    "get_model_config": "turnout.wiring",
    "get_model_for_agent": "turnout.wiring",
    "Model": "turnout.types",
    "Options": "turnout.types",
    "Usage": "turnout.types",
}

__all__ = [
    "MODEL_REGISTRY",
    "LLMClient",
    "Model",
    "Options",
    "Usage",
    "get_model_config",
    "get_model_for_agent",
    "llm_client",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in __all__:
        wiring = importlib.import_module("turnout.wiring")
        found = wiring.CurrentClient() if name == "llm_client" else wiring.CurrentModels()
    else:
        raise AttributeError(f"module 'turnout' has no attribute {name!r}")
    globals()[name] = found
    return found


def _wire() -> LLMClient:
    from turnout.wiring import wire  # noqa: PLC0415 - the heavy part, when somebody calls

    return wire()


current.leave(_wire)
