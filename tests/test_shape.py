"""Our size figures, beside those of the codebases we admire; figures to look at, few of them limits."""

from __future__ import annotations

import ast
import functools
import statistics
from pathlib import Path

SRC = Path(__file__).parent.parent / "src" / "turnout"
TESTS = Path(__file__).parent
FORBIDDEN = {"utils", "util", "helpers", "common", "misc"}


@functools.cache
def trees(root: Path) -> dict[Path, ast.Module]:
    """Every Python file below a folder, parsed."""
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(root.rglob("*.py"))}


def quantile(values: list[int], share: float) -> int:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def test_figures() -> None:
    """Prints files and functions by size; no file is beyond what one sitting reads."""
    files = [len(file.read_text(encoding="utf-8").splitlines()) for file in SRC.rglob("*.py")]
    functions = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for tree in trees(SRC).values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    print(
        f"\n{'':16}p50 {'':2}p90 {'':2}p99 {'':2}max   (import-linter: files 58/284/-/498, functions 9/-/54/107)"
    )
    for name, sizes in (("lines per file", files), ("per function", functions)):
        p90, p99 = quantile(sizes, 0.9), quantile(sizes, 0.99)
        print(f"{name:14}{statistics.median(sizes):5.0f}{p90:6}{p99:6}{max(sizes):6}")
    assert max(files) <= 500


def test_no_catch_all_handler() -> None:
    """Nothing catches Exception or more, but to clean up and raise again, or where hooks run somebody else's code."""
    broad = []
    for file, tree in trees(SRC).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                name = ast.unparse(node.type) if node.type else "everything"
                raises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
                if name in {"everything", "Exception", "BaseException"} and not raises:
                    broad.append(f"{file.name}:{node.lineno}")
    assert [place.partition(":")[0] for place in broad] == ["hooks.py", "logs.py"]


def test_no_drawer_of_odds_and_ends() -> None:
    """No module's name says that anything may go in it."""
    assert [file.name for file in SRC.rglob("*.py") if file.stem in FORBIDDEN] == []


def test_every_test_states_its_claim() -> None:
    """Each test has a docstring."""
    silent = [
        f"{file.name}::{node.name}"
        for file, tree in trees(TESTS).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []
