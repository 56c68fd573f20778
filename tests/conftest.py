"""What tests share: clients over given servers, and the command line as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from turnout import current, registry
from turnout.settings import load_settings
from turnout.wiring import LLMClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from turnout.providers.base import Transport
    from turnout.types import Model

    MakeClient = Callable[..., LLMClient]
    Turnout = Callable[..., subprocess.CompletedProcess[str]]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts jobs in the background deaf to Ctrl-C, and so would be the processes that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("prove", max_examples=3_000, deadline=None)
if os.environ.get("TURNOUT_PROVE"):
    settings.load_profile("prove")

KEPT = ("PATH", "SYSTEMROOT", "TMPDIR", "LANG")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test sees the machine's keys, `.env` or turnout.toml, nor another test's runtime."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.startswith("TURNOUT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TURNOUT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    if (left := current.forget()) is not None:
        left.sync.close()


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Model]:
    """The shipped model rows."""
    return registry.load(load_settings(environ={"TURNOUT_HOME": str(tmp_path)}, folder=tmp_path)).models


@pytest.fixture
def make_client(tmp_path: Path) -> MakeClient:
    """A client from environment variables, given as keywords; it finds nothing else."""

    def make(transports: Mapping[str, Transport] | None = None, **env: str) -> LLMClient:
        environ = {"TURNOUT_HOME": str(tmp_path / "home"), "TURNOUT_DATABASE_URL": "sqlite://", **env}
        return LLMClient(load_settings(environ=environ, folder=tmp_path), transports=transports)

    return make


@pytest.fixture
def turnout(tmp_path: Path) -> Turnout:
    """Run `turnout ARGS` as a process whose environment is only what is given."""

    def run(*args: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        kept = {
            name: value for name, value in os.environ.items() if name in KEPT or name.startswith("COVERAGE")
        }
        return subprocess.run(  # noqa: S603
            [sys.executable, "-m", "turnout", *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            cwd=tmp_path,
            env={**kept, "HOME": str(tmp_path), "TURNOUT_HOME": str(tmp_path / "home"), **env},
        )

    return run
