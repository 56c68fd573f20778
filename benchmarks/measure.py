"""How the benchmarks measure: this process's CPU time for a unit of work, and ratios within one run."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

IN_FLIGHT = 32


async def cpu_per_unit(call: Callable[[], Awaitable[int]], calls: int, expected: int, unit: int) -> float:
    """Microseconds of this process's user and system time for each of `calls` times `unit`."""

    async def worker(count: int) -> None:
        for _ in range(count):
            got = await call()
            if got != expected:
                raise RuntimeError(f"expected {expected}, got {got}")

    gc.collect()
    before = time.process_time()
    await asyncio.gather(*(worker(calls // IN_FLIGHT) for _ in range(IN_FLIGHT)))
    return (time.process_time() - before) * 1e6 / (calls // IN_FLIGHT * IN_FLIGHT * unit)


def report(title: str, figures: dict[str, list[float]], ours: str = "own") -> None:
    """Least, median and most of each, and how `ours` compares, round by round."""
    own = figures.get(ours)
    print(f"{title:<30}{'min':>9}{'median':>9}{'max':>9}   {ours} costs")
    for name, values in figures.items():
        share = [mine / theirs for mine, theirs in zip(own or [], values, strict=False)]
        ratio = f"1/{1 / statistics.median(share):.1f} of it" if share and name != ours else ""
        print(
            f"  {name:<28}{min(values):>9.1f}{statistics.median(values):>9.1f}{max(values):>9.1f}   {ratio}"
        )
