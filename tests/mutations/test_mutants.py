"""The mutation tester itself: what it changes, and that it can tell a noticed change from one that is not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib

import pytest

from tests.mutations.__main__ import EQUIVALENT, TESTED_BY, offered, sample
from tests.mutations.mutants import mutants
from tests.mutations.trial import ROOT

SOURCE = b'''"""Prose 1."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

LIMIT: int | None = 3


def f(x: int | None, *, on: bool = True) -> str | None:
    """Prose 2."""
    while x < LIMIT and not on:
        x += 1
        if x:
            continue
    raise ValueError(f"{x} is 2", "ready")
'''


def test_what_is_changed() -> None:
    """Operators, constants, tests and statements that do something; annotations, docstrings and prose are not."""
    found = {(mutant.line, mutant.after) for mutant in mutants("m", SOURCE)}
    assert found == {
        (7, "LIMIT: int | None = 4"),
        (10, "def f(x: int | None, *, on: bool = False) -> str | None:"),
        (12, "while (x < LIMIT or not on):"),
        (12, "while (x <= LIMIT) and not on:"),
        (12, "while x < LIMIT and (on):"),
        (13, "pass"),
        (13, "x += 2"),
        (14, "if (not x):"),
        (15, "break"),
        (16, "pass"),
        (16, "raise ValueError(f\"{x} is 2\", 'readyready')"),
    }


@pytest.mark.parametrize("module", TESTED_BY)
def test_mutants_are_programs(module: str) -> None:
    """Each mutant of the record can be compiled, is another program than the right one, and has a name of its own."""
    right = ast.dump(ast.parse((ROOT / f"src/turnout/storage/{module}.py").read_bytes()))
    found = offered(module)
    assert len({mutant.name for mutant in found}) == len(found) > 10
    for mutant in found:
        assert ast.dump(ast.parse(mutant.source)) != right
        assert mutant.line in mutant.lines


def test_a_sample_grows() -> None:
    """The same seed gives the same mutants, and a larger sample holds the smaller."""
    found = offered("writer")
    small, large = sample(found, 10, 7), sample(found, 20, 7)
    assert small == sample(found, 10, 7) != sample(found, 10, 8)
    assert [mutant for mutant in large if mutant in small] == small
    assert len(sample(found, 10_000, 7)) == len(found)


def test_no_equivalent_mutant_is_out_of_date() -> None:
    """Every mutant that is listed as equivalent is still offered, and its reason is given."""
    names = {mutant.name for module in TESTED_BY for mutant in offered(module)}
    listed = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))
    assert set(listed) - names == set()
    assert all(len(why) > 20 for why in listed.values())


def test_a_slice() -> None:
    """Of five seeded mutants of the frames at least four are noticed, and the report says how many."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations", "--only", "frames", "--sample", "5"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all           5 mutants" in done.stdout
