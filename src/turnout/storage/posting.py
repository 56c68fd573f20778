"""How much every sum changes when rows are posted. Pure.

An attempt is reserved, then expired_estimated or settled. A higher state replaces a lower one and every sum changes
by the difference; the same state again, or a lower one, changes nothing. So any order, repetition and split of the
same events gives the same tables.
"""

from __future__ import annotations

from collections import defaultdict
from operator import add
from typing import TYPE_CHECKING, Any

from turnout.storage import rollup
from turnout.storage.batch import DAY_US
from turnout.storage.lines import RANK, CostRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from turnout.storage.batch import UsageDay

HOUR_US = 3_600_000_000


Series = tuple[int, str, str, str]
"""What the hourly sums are kept by: hour, agent, model, provider."""
Totals = tuple[int, ...]
"""In the order of `tables.TOTALS`."""


class Changes:
    """The rows to write, and by how much each sum changes."""

    def __init__(self) -> None:
        self.new: list[CostRow] = []
        self.higher: list[CostRow] = []
        self.traces: dict[str, Totals] = {}
        self.days: dict[UsageDay, Totals] = {}
        self.hours: dict[Series, Totals] = {}
        self.latency: defaultdict[Series, int] = defaultdict(int)

    def count(self, row: CostRow, sign: int = 1) -> None:
        """Add what a row contributes to every sum it belongs to, or take it away again."""
        totals = contribution(row)
        if totals is None:
            return
        if sign < 0:
            totals = tuple(-value for value in totals)
        _add(self.traces, row.trace_id, totals)
        at = row.at
        _add(self.days, (at - at % DAY_US, row.user_id or "", row.session_id or ""), totals)
        series = (at - at % HOUR_US, row.agent, row.model, row.provider)
        latency = row.duration_us
        self.add(series, totals, 0 if row.outcome != "ok" or latency is None else sign * rollup.one(latency))

    def add(self, series: Series, totals: Totals, latency: int) -> None:
        """More of an hour."""
        _add(self.hours, series, totals)
        if latency:
            self.latency[series] += latency


def changes(
    attempts: Iterable[CostRow], states: Mapping[str, str], standing: Mapping[str, CostRow]
) -> Changes:
    """What to write, given the state of each attempt that has a row, and those rows that already count."""
    found = Changes()
    for row in attempts:
        state = states.get(row.id)
        if state is None:
            found.new.append(row)
        elif RANK[row.state] > RANK[state]:
            found.higher.append(row)
            if row.id in standing:
                found.count(standing[row.id], -1)
        else:
            continue
        found.count(row)
    return found


def contribution(row: CostRow) -> Totals | None:
    """What a row adds to a sum, in the order of `tables.TOTALS`; `None` while it is only reserved."""
    if row.state == "reserved":
        return None
    answered = row.outcome == "ok"
    return (
        1 if row.number == 1 else 0,
        1,
        0 if answered else 1,
        1 if answered and row.fallback_reason is not None else 0,
        1 if row.cached_input_tokens else 0,
        1 if row.cost_nano is None else 0,
        row.input_tokens or 0,
        row.cached_input_tokens or 0,
        row.cache_write_tokens or 0,
        row.output_tokens or 0,
        row.reasoning_tokens or 0,
        row.cost_nano or 0,
    )


def _add(sums: dict[Any, Totals], key: Any, totals: Totals) -> None:
    known = sums.get(key)
    sums[key] = totals if known is None else tuple(map(add, known, totals))
