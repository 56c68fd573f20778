"""Runs tests on a copy of the repository, each time in a fresh fork of a process that has the libraries loaded."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import coverage
import pytest
from hypothesis import Phase, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

ROOT = Path(__file__).parents[2]
LIBRARIES = ("alembic.command", "alembic.config", "psycopg", "sqlalchemy.dialects.postgresql")
SPAWNS = frozenset({"subprocess.Popen", "os.fork", "os.posix_spawn"})
SLACK_SECONDS = 4.0
"""A test that takes five times as long as usual, and this, hangs."""
MEMORY_BYTES = 4 << 30
NOTHING_RAN = int(pytest.ExitCode.NO_TESTS_COLLECTED)
BROKEN = 70
"""Exit code of a fork that did not get as far as pytest's own."""


class Seen(NamedTuple):
    """What one test did while the program was right."""

    seconds: float
    lines: dict[str, list[int]]
    """Of each file under test, those that ran while it did."""
    spawns: bool
    """It starts processes, whose lines are not seen."""


class Observer:
    """A pytest plugin that notes what each test does; tests that need a PostgreSQL server are left out."""

    def __init__(self, files: list[Path]) -> None:
        self._coverage = coverage.Coverage(data_file=None, include=[*map(str, files)], config_file=False)
        self._coverage.start()
        self._seconds: dict[str, float] = {}
        self._spawning: set[str] = set()
        self._now = ""
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: object) -> None:
        if event in SPAWNS:
            self._spawning.add(self._now)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """See `without_server`."""
        items[:] = without_server(items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note one test."""
        self._now = item.nodeid
        self._coverage.switch_context(item.nodeid)
        began = time.perf_counter()
        result = yield
        self._seconds[item.nodeid] = time.perf_counter() - began
        self._coverage.switch_context("")
        return result

    def seen(self) -> dict[str, Seen]:
        """Everything, by test."""
        self._coverage.stop()
        data = self._coverage.get_data()
        found = {test: Seen(seconds, {}, test in self._spawning) for test, seconds in self._seconds.items()}
        for file in data.measured_files():
            for line, tests in data.contexts_by_lineno(file).items():
                for test in tests:
                    if test:
                        found[test].lines.setdefault(Path(file).name, []).append(line)
        return found


class Quickest:
    """A pytest plugin: only these tests, in this order, and none may take much longer than it did."""

    def __init__(self, limits: dict[str, float]) -> None:
        self._limits = limits

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose and sort."""
        order = {test: place for place, test in enumerate(self._limits)}
        items[:] = sorted(
            (item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid]
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """The alarm ends the process."""
        signal.setitimer(signal.ITIMER_REAL, self._limits[item.nodeid])
        return (yield)


def without_server(items: list[pytest.Item]) -> list[pytest.Item]:
    """Tests that start no PostgreSQL server: seconds each time, and no mutant lives in its dialect."""
    return [
        item
        for item in items
        if "postgres" not in getattr(item, "fixturenames", ()) and "postgresql" not in item.name
    ]


class Trial:
    """A copy of the repository to break, and what its tests do while it is whole."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self._seed = seed
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for library in LIBRARIES:
            import_module(library)

    def observe(self, files: list[str], tests: list[str]) -> dict[str, Seen]:
        """Run the tests on the right program. Raises `RuntimeError` with their output when one fails."""
        notes = self.folder / "seen.json"

        def run() -> int:
            observer = Observer([self.folder / file for file in files])
            code = pytest.main([*self._options(), *tests], plugins=[observer])
            notes.write_text(json.dumps(observer.seen()))
            return code

        if (status := self._forked(run, seconds=600)) != 0:
            raise RuntimeError(f"the tests fail on the right program ({status}):\n{self.said()}")
        read = json.loads(notes.read_text())
        return {test: Seen(*fields) for test, fields in read.items()}

    def kills(self, file: str, mutated: bytes, tests: dict[str, Seen]) -> str:
        """Run the tests, in their order, on the program with one file changed: `killed`, `timeout` or `survived`."""
        path = self.folder / file
        right = path.read_bytes()
        limits = {test: 5 * seen.seconds + SLACK_SECONDS for test, seen in tests.items()}
        files = sorted({test.partition("::")[0] for test in tests})

        def run() -> int:
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            try:
                return pytest.main([*self._options(), "-x", *files], plugins=[Quickest(limits)])
            except pytest.PytestUnhandledThreadExceptionWarning:
                return int(pytest.ExitCode.TESTS_FAILED)  # a thread of the mutant's died while pytest ended

        for stale in path.parent.glob(f"__pycache__/{path.stem}.*"):
            stale.unlink()
        path.write_bytes(mutated)
        try:
            status = self._forked(run, seconds=60)
        finally:
            path.write_bytes(right)
        if status in {NOTHING_RAN, BROKEN}:
            raise RuntimeError(f"no test ran ({status}):\n{self.said()}")
        if status == -signal.SIGALRM:
            return "timeout"
        return "survived" if status == 0 else "killed"

    def said(self) -> str:
        """What the last run printed, its end."""
        return (self.folder / "output.txt").read_text(errors="replace")[-4_000:]

    def _options(self) -> list[str]:
        quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        return [*quiet, f"--basetemp={self.folder / 'tmp'}", f"--rootdir={self.folder}"]

    def _forked(self, run: Callable[[], int], *, seconds: int) -> int:
        """The exit code of `run` in a fork, negative a signal; `seconds` may pass before its first test begins."""
        pid = os.fork()
        if not pid:
            code = BROKEN
            try:
                self._settle_in(seconds)
                code = int(run())
            finally:
                traceback.print_exc()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(status)

    def _settle_in(self, seconds: int) -> None:
        """Be a process of its own that sees the copy and nothing else of the project."""
        os.setsid()
        signal.alarm(seconds)
        output = os.open(self.folder / "output.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        os.chdir(self.folder)
        here = [str(self.folder / "src"), str(self.folder)]
        sys.path[:] = here + [path for path in sys.path if Path(path) not in {Path(), ROOT, ROOT / "src"}]
        os.environ["PYTHONPATH"] = os.pathsep.join(here)
        forget_project(sys.modules)
        random.seed(self._seed)
        settings.register_profile(
            "mutants", database=None, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate]
        )
        settings.load_profile("mutants")
        if not (import_module("turnout").__file__ or "").startswith(here[0]):
            raise RuntimeError("the copy is not what is imported")
        forget_project(sys.modules)


def forget_project(loaded: Collection[str]) -> None:
    """Let the project's modules be imported anew."""
    for name in [name for name in loaded if name.partition(".")[0] in {"tests", "turnout"}]:
        del sys.modules[name]
