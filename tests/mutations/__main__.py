"""Mutation score of the record: `python -m tests.mutations [--sample N] [--seed N] [--only NAME]`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import tomllib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.mutations.mutants import Mutant, mutants
from tests.mutations.trial import ROOT, Seen, Trial

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SEED = 20261125
SAMPLE = 20
ENOUGH = 0.8
STORAGE = "src/turnout/storage"
SPOOL = ("test_segments", "test_journal")
JOURNAL = ("test_tail", "test_keeper", "test_journal", "test_journal_exit", "test_writer")
POSTING = ("test_expiry", "test_posting", "test_store", "test_stores")
LEDGER = ("test_intake", "test_ledger", "test_ledger_steps")
TESTED_BY = {
    "frames": ("test_frames", *SPOOL),
    "segments": SPOOL,
    "tail": JOURNAL,
    "writer": JOURNAL,
    "keeper": JOURNAL,
    "journal": JOURNAL,
    "batch": POSTING,
    "posting": POSTING,
    "expiry": POSTING,
    "intake": LEDGER,
    "ledger": LEDGER,
    "rollup": ("test_rollup", "test_stores"),
    "lines": ("test_lines", *POSTING),
    "driver": ("test_driver", "test_store"),
    "hours": ("test_hours", "test_stores"),
    "sums": ("test_sums", "test_stores"),
}
"""Each module of the claim, and the files whose tests are asked about it: those nearest, so the score is a floor."""
EVIDENCE = ROOT / "docs" / "evidence" / "mutation.txt"
EQUIVALENT = Path(__file__).with_name("equivalent.toml")


class Result(NamedTuple):
    """What became of one mutant."""

    module: str
    mutant: Mutant
    outcome: str


def offered(module: str, root: Path = ROOT) -> list[Mutant]:
    """Every mutant of a module of the repository there."""
    return mutants(module, (root / STORAGE / f"{module}.py").read_bytes())


def sample(found: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """At most `size` mutants, chosen by the seed; a larger sample holds the smaller. In the order of the lines."""
    shuffled = list(found)
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    return sorted(shuffled[:size], key=lambda mutant: mutant.line)


def asked(mutant: Mutant, file: str, tests: dict[str, Seen]) -> dict[str, Seen]:
    """Tests that run the mutant's statement, and those that start processes; all if none is known. Quickest first."""
    near = {
        test: seen
        for test, seen in tests.items()
        if not set(mutant.lines).isdisjoint(seen.lines.get(file, ()))
    }
    if near:
        near |= {test: seen for test, seen in tests.items() if seen.spawns}
    return dict(sorted((near or tests).items(), key=lambda entry: entry[1].seconds))


def tried(trial: Trial, module: str, chosen: list[Mutant], tests: dict[str, Seen]) -> Iterator[Result]:
    """Try each, and say at once what became of it."""
    for mutant in chosen:
        began = time.monotonic()
        outcome = trial.kills(f"{STORAGE}/{module}.py", mutant.source, asked(mutant, f"{module}.py", tests))
        print(f"{outcome:9}{time.monotonic() - began:5.1f} s  {module}.py:{mutant.line}", flush=True)
        if outcome == "survived":
            print(f"    - {mutant.before}\n    + {mutant.after}", flush=True)
        yield Result(module, mutant, outcome)


def observed(trial: Trial, modules: Collection[str]) -> dict[tuple[str, ...], dict[str, Seen]]:
    """What the tests of each group of modules do on the right program."""
    groups = dict.fromkeys(TESTED_BY[module] for module in modules)
    return {
        files: trial.observe(
            [f"{STORAGE}/{module}.py" for module, by in TESTED_BY.items() if by == files],
            [f"tests/storage/{name}.py" for name in files],
        )
        for files in groups
    }


def main() -> int:
    """Try, print, keep; 1 when too many survive."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, help="mutants per module, at most")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", choices=TESTED_BY, default=list(TESTED_BY), metavar="MODULE")
    options = parser.parse_args()
    equivalent = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))
    began = time.monotonic()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trial = Trial(Path(folder), options.seed)
        tests = observed(trial, options.only)
        for module in options.only:
            found = [mutant for mutant in offered(module, trial.folder) if mutant.name not in equivalent]
            chosen = sample(found, options.sample, options.seed)
            results += tried(trial, module, chosen, tests[TESTED_BY[module]])
    verdict = "holds" if score(results) >= ENOUGH else "FAILS"
    report = [
        f"mutation score, {datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}",
        f"seed {options.seed}, at most {options.sample} mutants a module, {time.monotonic() - began:.0f} s",
        *told(results),
        f"{len(equivalent)} equivalent mutants are left out; their reasons are in tests/mutations/equivalent.toml",
        "",
        f"{verdict}  mutation score {score(results):.1%} of {len(results)} mutants (>= {ENOUGH:.0%})",
    ]
    print("\n".join(report))
    if options.only == list(TESTED_BY):
        EVIDENCE.write_text("\n".join(report) + "\n", encoding="utf-8")
    return int(score(results) < ENOUGH)


def score(results: list[Result]) -> float:
    """The share that was noticed."""
    return 1 - sum(result.outcome == "survived" for result in results) / max(1, len(results))


def told(results: list[Result]) -> Iterator[str]:
    """A line for each module and one for all, then the survivors."""
    modules = dict.fromkeys(result.module for result in results)
    for name in (*modules, "all"):
        mine = [result for result in results if name in {result.module, "all"}]
        count = Counter(result.outcome for result in mine)
        yield (
            f"{name:10}{len(mine):5} mutants{count['killed']:5} killed{count['timeout']:4} hung (killed)"
            f"{count['survived']:4} survived  {score(mine):6.1%}"
        )
    for module, mutant, outcome in results:
        if outcome == "survived":
            yield f"survived: {module}.py:{mutant.line}\n    - {mutant.before}\n    + {mutant.after}"


if __name__ == "__main__":
    sys.exit(main())
