"""`make prove`: the claims that need many rounds or a quiet machine, in full, with count, seed and figure printed.

`python -m tests.prove --without-mutations` and `--sample=N` (mutants a module, 20 else) take less time, and say so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
EVIDENCE = Path(__file__).parent.parent / "docs" / "evidence"


def best_of(rounds: int, *command: str) -> float:
    """Wall milliseconds of the quickest run."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        times.append((time.perf_counter() - began) * 1_000)
    return min(times)


def import_milliseconds() -> float:
    """`python -X importtime`: cumulative time of `import turnout`, best of 5."""
    times = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import turnout"],
            check=True,
            capture_output=True,
            text=True,
        )
        times.append(int(done.stderr.splitlines()[-1].split("|")[1]) / 1_000)
    return min(times)


def demo_seconds() -> float:
    """A demo once the environment stands."""
    began = time.perf_counter()
    env = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    subprocess.run([BIN / "turnout", "demo", "--once"], check=True, capture_output=True, env=env)  # noqa: S603
    return time.perf_counter() - began


def fuzzed(cases: int, seed: int) -> tuple[bool, str]:
    """The transport's parser against `cases` generated and mutated replies in random pieces."""
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "tests.providers.fuzz", str(cases), str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    said = (done.stdout + done.stderr).strip().splitlines()[-1:]
    return (
        done.returncode == 0,
        f"transport fuzz: {cases:,} cases, seed {seed}, {seconds:.0f} s: {' '.join(said)}",
    )


def isolated() -> tuple[bool, str]:
    """A thousand traces at once: whose events ended up in another's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.trace.test_isolation"], capture_output=True, text=True, check=False
    )
    said = (done.stdout + done.stderr).strip().splitlines()[-1:]
    return done.returncode == 0, f"traces: {' '.join(said)}"


def mutating() -> subprocess.Popen[str]:
    """The share of seeded mutants of the record that its tests notice; survivors will be in `mutation.txt`."""
    sample = [given for given in sys.argv if given.startswith("--sample=")]
    command = [sys.executable, "-m", "tests.mutations", *sample]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


def mutated(run: subprocess.Popen[str]) -> tuple[bool, str]:
    """What came of it."""
    said = run.communicate()[0].strip().splitlines()[-1:]
    return run.returncode == 0, " ".join(said).removeprefix("holds  ").removeprefix("FAILS  ")


BREADTH = (
    "tests/conformance",
    "tests/providers/test_anthropic_history.py",
    "tests/providers/test_anthropic_messages.py",
)
SURVIVAL = (
    "tests/journeys/test_faults.py",
    "tests/journeys/test_streams.py",
    "tests/journeys/test_failover_time.py",
    "tests/journeys/test_clocks.py",
)
RECORD = (
    "tests/journeys/test_record.py",
    "tests/journeys/test_record_canary.py",
    "tests/journeys/test_store_trouble.py",
    "tests/journeys/test_fork.py",
    "tests/storage/test_record.py",
)


def in_full(*files: str) -> Iterator[tuple[bool, str]]:
    """Test files with the full number of everything: the figures they print, each file in a process of its own."""
    for file in files:
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pytest", "-q", "-s", file],
            env={**os.environ, "TURNOUT_PROVE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout.splitlines()
        figures = [
            line for line in said if re.match(r"\.*[\w ,:`-]*\d", line) and not line.startswith((" ", "E "))
        ]
        seconds = time.perf_counter() - began
        for line in figures[:-1]:
            yield done.returncode == 0, f"{Path(file).stem}: {line.lstrip('.')}"
        yield done.returncode == 0, f"{file}, {seconds:.0f} s: {(said or ['it said nothing'])[-1]}"


def main() -> int:
    """Measure, print, keep; 1 when a claim does not hold."""
    claims = [
        ("import turnout, ms, best of 5", import_milliseconds(), 150.0),
        ("turnout --help as a process, ms, best of 5", best_of(5, str(BIN / "turnout"), "--help"), 300.0),
        ("turnout demo --once, environment ready, s", demo_seconds(), 20.0),
    ]
    lines = [f"make prove, {datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}"]
    lines += [
        f"{'holds' if got < limit else 'FAILS'}  {what}: {got:.1f} (< {limit:g})"
        for what, got, limit in claims
    ]
    mutants = None if "--without-mutations" in sys.argv else mutating()  # one core's work, beside the fuzz
    sound, fuzz = fuzzed(1_000_000, 20261125)
    lines.append(f"{'holds' if sound else 'FAILS'}  {fuzz}")
    apart, isolation = isolated()
    lines.append(f"{'holds' if apart else 'FAILS'}  {isolation}")
    if mutants is None:
        noticed, score = True, "mutation score: not measured in this run, see mutation.txt"
    else:
        noticed, score = mutated(mutants)
    said = "-----" if "not measured" in score else "holds" if noticed else "FAILS"
    lines.append(f"{said}  {score}")
    proofs = list(in_full(*BREADTH, *SURVIVAL, *RECORD))
    lines += [f"{'holds' if holds else 'FAILS'}  {what}" for holds, what in proofs]
    EVIDENCE.mkdir(exist_ok=True)
    (EVIDENCE / "prove.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    slow = any(got >= limit for _, got, limit in claims)
    return int(slow or not (sound and apart and noticed and all(holds for holds, _ in proofs)))


if __name__ == "__main__":
    sys.exit(main())
