"""This process's runtime, wired at first use; `turnout/__init__` leaves the function that wires it.

Nothing at or below `wiring` imports `turnout` itself, so what is reached for from below is reached for here.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_lock = threading.Lock()
_wire: Callable[[], Any] | None = None
_runtime: Any = None


def leave(wire: Callable[[], Any]) -> None:
    """How to wire the runtime, when somebody needs it."""
    global _wire  # noqa: PLW0603
    _wire = wire


def runtime() -> Any:
    """The process-wide client, made by the first caller. Raises `ConfigError`."""
    global _runtime  # noqa: PLW0603
    with _lock:
        if _runtime is None:
            if _wire is None:
                raise RuntimeError("turnout was not imported")
            _runtime = _wire()
        return _runtime


def forget() -> Any:
    """Let go of the runtime; the next use wires a new one. Returns the old one, not closed."""
    global _runtime
    with _lock:
        old, _runtime = _runtime, None
        return old


def _forked() -> None:
    """The parent's runtime, with its sockets and threads, is not the child's: the next use wires another."""
    global _lock, _runtime
    _lock, _runtime = threading.Lock(), None


os.register_at_fork(after_in_child=_forked)
