"""The local model's own process: llama.cpp's server, which ends when the process that wants it does.

It reads one JSON line from stdin (the bearer key among it), answers one line on stdout, {"url": ...} or
{"error": ...}, and leaves at the next byte or the end of stdin. llama.cpp's log goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Load, announce, and stay while the parent does."""
    announce = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever llama.cpp prints must not pass for the announcement
    with open(0, "rb", buffering=0, closefd=False) as orders:
        line = orders.readline()
    if not line.strip():
        return
    order = json.loads(line)
    threading.Thread(target=_leave_with_the_pipe, daemon=True).start()
    _let_the_kernel_watch(on=True)
    try:
        server = _serve(order)
        news = {"url": server.listening_address}
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        news = {"error": str(error)}
    _let_the_kernel_watch(on=False)
    with announce:
        print(json.dumps(news), file=announce)
    # A process forked from our parent may hold the pipe open for longer than our parent lives.
    while "url" in news and os.getppid() == order["parent"]:
        time.sleep(0.5)
    os._exit(0 if "url" in news else 1)


def _serve(order: dict[str, Any]) -> Any:
    """Return llama.cpp's server once the model is loaded; it listens for as long as the object lives."""
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.model_alias = {Path(order["model"]).stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    params.n_ctx = order["context"]
    params.n_parallel = order["slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.use_jinja = True
    params.verbosity = 1  # errors alone: the log is a file that lives as long as we do
    params.cache_ram_mib = 0  # by default up to 8 GiB of old prompts are kept (xllamacpp 2026.10.11549)
    return xllamacpp.Server(params)


def _leave_with_the_pipe() -> None:
    os.read(0, 1)
    os._exit(0)


def _let_the_kernel_watch(*, on: bool) -> None:
    """Die of SIGIO when something happens to stdin.

    xllamacpp 2026.10.11549 holds the GIL while it loads, so no thread of ours could see the pipe close.
    PR_SET_PDEATHSIG would not do: it fires when the parent's starting *thread* ends.
    """
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(0, fcntl.F_GETFL)
        fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC if on else flags & ~os.O_ASYNC)


if __name__ == "__main__":
    main()
