"""How much every sum changes when rows are posted. Pure.

An attempt is reserved, then expired_estimated or settled. A higher state replaces a lower one and every sum changes
by the difference; the same state again, or a lower one, changes nothing. So any order, repetition and split of the
same events gives the same tables.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from turnout.storage import rollup
from turnout.storage.batch import DAY_US
from turnout.storage.lines import RANK, CostRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from turnout.storage.batch import UsageDay

HOUR_US = 3_600_000_000


Series = tuple[int, str, str, str]
"""What the hourly sums are kept by: hour, agent, model, provider."""
_Key = TypeVar("_Key")
Totals = tuple[int, ...]
"""In the order of `tables.TOTALS`."""
_Parts = dict[_Key, list[Totals]]


class Changes:
    """The rows to write, and by how much each sum changes."""

    def __init__(self) -> None:
        self.new: list[CostRow] = []
        self.higher: list[CostRow] = []
        self.traces: dict[str, Totals] = {}
        self.days: dict[UsageDay, Totals] = {}
        self.hours: dict[Series, Totals] = {}
        self.latency: defaultdict[Series, int] = defaultdict(int)

    def count(self, *rows: CostRow, sign: int = 1) -> None:
        """Add what rows contribute to every sum they belong to, or take it away again."""
        traces: _Parts[str] = {}
        days: _Parts[UsageDay] = {}
        hours: _Parts[Series] = {}
        latency = self.latency
        for row in rows:
            totals = contribution(row)
            if totals is None:
                continue
            if sign < 0:
                totals = tuple([-value for value in totals])
            at = row.at
            series = (at - at % HOUR_US, row.agent, row.model, row.provider)
            traces.setdefault(row.trace_id, []).append(totals)
            days.setdefault((at - at % DAY_US, row.user_id or "", row.session_id or ""), []).append(totals)
            hours.setdefault(series, []).append(totals)
            if row.outcome == "ok" and row.duration_us is not None:
                latency[series] += sign * rollup.one(row.duration_us)
        _add(self.traces, traces)
        _add(self.days, days)
        _add(self.hours, hours)

    def add(self, series: Series, totals: Totals, latency: int) -> None:
        """More of an hour."""
        _add(self.hours, {series: [totals]})
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
    found.count(*found.new, *found.higher)
    found.count(*[standing[row.id] for row in found.higher if row.id in standing], sign=-1)
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


def _add(sums: dict[_Key, Totals], parts: _Parts[_Key]) -> None:
    for key, totals in parts.items():
        if key in sums:
            totals.append(sums[key])
        sums[key] = totals[0] if len(totals) == 1 else tuple(map(sum, zip(*totals, strict=True)))
