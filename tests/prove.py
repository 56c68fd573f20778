"""`make prove`: the claims that need many rounds or a quiet machine, in full, with count, seed and figure printed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

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
    sound, fuzz = fuzzed(1_000_000, 20261125)
    lines.append(f"{'holds' if sound else 'FAILS'}  {fuzz}")
    EVIDENCE.mkdir(exist_ok=True)
    (EVIDENCE / "prove.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return int(not sound or any(got >= limit for _, got, limit in claims))


if __name__ == "__main__":
    sys.exit(main())
