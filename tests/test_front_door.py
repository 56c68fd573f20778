"""What `import turnout` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import turnout
from turnout import wiring

NAMES = [
    "MODEL_REGISTRY",
    "LLMClient",
    "Model",
    "Options",
    "Usage",
    "get_model_config",
    "get_model_for_agent",
    "llm_client",
]

WATCH = """
import sys, threading
seen = []
def hook(event, args):
    if event in ("socket.connect", "subprocess.Popen", "os.fork", "open"):
        name = str(args[0]) if args else ""
        if event != "open" or not name.endswith((".py", ".pyc", ".so")):
            seen.append((event, name))
import collections.abc, enum, decimal, importlib.metadata, msgspec
sys.addaudithook(hook)
import turnout
turnout_only = [name for name in sys.modules if name in ("asyncio", "aiohttp", "click", "sqlalchemy")]
print(seen, threading.active_count(), turnout_only)
"""


def test_names() -> None:
    """The front door has these names and no others, all of them loadable."""
    assert sorted(turnout.__all__) == sorted(NAMES)
    assert all(getattr(turnout, name) is not None for name in NAMES)
    assert turnout.llm_client.sync is not None


def test_unknown_name() -> None:
    """A name that is not there is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = turnout.nonsense


def test_import_has_no_side_effect() -> None:
    """Importing turnout opens no file, socket or process, starts no thread and loads nothing heavy."""
    done = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[] 1 []"


def test_registry_is_a_mapping() -> None:
    """MODEL_REGISTRY reads like a dict of rows, and get_model_config gives the same row."""
    assert set(turnout.MODEL_REGISTRY) >= {"deepseek-chat", "deepseek-reasoner", "gpt-4o-mini", "gpt-6-luna"}
    assert len(turnout.MODEL_REGISTRY) == len(list(turnout.MODEL_REGISTRY))
    assert turnout.MODEL_REGISTRY["gpt-4o"] is turnout.get_model_config("gpt-4o")


def test_current_client_says_what_it_is() -> None:
    """The process-wide client prints as itself, without settings."""
    assert repr(wiring.CurrentClient()) == "<turnout.llm_client>"
