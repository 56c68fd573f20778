"""The command line in this process: the same `run()` as `python -m turnout`, without the imports of a new one."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import KEPT
from turnout.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Turnout


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turnout:
    """As `turnout`, but in this process, so that an error nobody caught fails the test by itself."""

    def call(*args: str, stdin: str | None = None, **env: str) -> CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        own = {"HOME": str(tmp_path), "TURNOUT_HOME": str(tmp_path / "home"), **env}
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in set(os.environ).difference(KEPT):
                patch.delenv(name)
            for name, value in own.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.StringIO(stdin or ""))
            code = run(list(args))
        return CompletedProcess(args, code, out.getvalue(), err.getvalue())

    return call
