"""Wall and CPU time of the reports over a month of calls in a seeded SQLite store.

    python -m benchmarks.reports [--calls 1000000] [--rounds 5] [--store FILE]

The store is built by posting every call (some minutes for a million; a FILE that exists is used as it is). The
reports read hourly and daily sums; what is left of a day at the beginning of a period is read from the rows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.storage.calls import NOON, many
from turnout.storage import address
from turnout.storage.reports import Reports
from turnout.storage.store import Mark, Store

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400_000_000
MARK = Mark(owner="benchmark", host="", boot="", spool="", at=NOON)


def build(store: Store, calls: int) -> None:
    """Thirty days of calls, a thousand a transaction."""
    payloads: list[bytes] = []
    for pair in many(calls, seed=1, spread=30 * DAY):
        payloads += pair
        if len(payloads) >= 2_000:
            store.post(payloads, MARK)
            payloads = []
    store.post(payloads, MARK)


def main() -> None:
    """Print the median of each report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = options.store or Path(folder) / "reports.db"
        is_new = not file.exists()
        store = Store(address.read(f"sqlite:///{file}", file.parent))
        if is_new:
            began = time.monotonic()
            build(store, options.calls)
            print(f"built in {time.monotonic() - began:.0f} s, {file.stat().st_size / 1e6:.0f} MB")
        report(Reports(store), options.rounds)
        store.close()


def report(reports: Reports, rounds: int) -> None:
    """Time each report."""
    week = NOON + 23 * DAY
    some = reports.latest_calls(user="user-9")[-1]
    views: dict[str, Callable[[], list[object]]] = {
        "series by hour, 30 d": lambda: [*reports.series(("hour",), NOON)],
        "series by hour and model, 30 d": lambda: [*reports.series(("hour", "model"), NOON)],
        "series by hour and agent, 30 d": lambda: [*reports.series(("hour", "agent"), NOON)],
        "series by model and agent, 30 d": lambda: [*reports.series(("model", "agent"), NOON)],
        "series by hour, model and agent, 30 d": lambda: [*reports.series(("hour", "model", "agent"), NOON)],
        "series by hour and model, 24 h": lambda: [*reports.series(("hour", "model"), NOON + 29 * DAY)],
        "costs by model, 30 d": lambda: [*reports.costs("model", NOON)],
        "costs by agent, 7 d": lambda: [*reports.costs("agent", week)],
        "costs by user, 7 d": lambda: [*reports.costs("user", week)],
        "costs by session, 30 d": lambda: [*reports.costs("session", NOON)],
        "costs by session, 7 d": lambda: [*reports.costs("session", week)],
        "costs by key, 24 h": lambda: [*reports.costs("key", NOON + 29 * DAY)],
        "one call": lambda: [*reports.call(some.call_id)],
        "one trace": lambda: [*reports.trace(some.trace_id)],
        "latest calls of a user": lambda: [*reports.latest_calls(user="user-7")],
        "latest calls of a session": lambda: [*reports.latest_calls(session="session-7")],
        "latest traces of a user": lambda: [*reports.user_traces("user-7", 50)],
        "latest traces": lambda: [*reports.latest_traces(50)],
    }
    print(f"{'report':40}{'lines':>8}{'wall ms':>9}{'CPU ms':>9}")
    for name, view in views.items():
        walls, cpus, lines = [], [], 0
        for _ in range(rounds):
            began, spent = time.perf_counter(), time.process_time()
            lines = len(view())
            walls.append(time.perf_counter() - began)
            cpus.append(time.process_time() - spent)
        print(f"{name:40}{lines:8}{statistics.median(walls) * 1e3:9.1f}{statistics.median(cpus) * 1e3:9.1f}")


if __name__ == "__main__":
    main()
