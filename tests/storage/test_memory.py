"""The record without a disk answers as the one with."""

from __future__ import annotations

import msgspec

from tests.storage.calls import NOON, attempt
from turnout.storage.memory import MemoryRecord
from turnout.types import Event


async def test_appended_is_reported() -> None:
    """What is appended is in the next report, once."""
    record = MemoryRecord()
    for payload in attempt(cost=42):
        assert record.append(msgspec.json.decode(payload, type=Event))
    await record.durable()
    assert [line.cost_nano for line in record.reports.costs("agent", NOON)] == [42]
    assert [line.cost_nano for line in record.reports.costs("agent", NOON)] == [42]
    assert [event.id for event in record.reports.trace("c1")] == ["a1s", "a1e"]
    record.close()


def test_each_has_its_own() -> None:
    """Two records share nothing."""
    one, other = MemoryRecord(), MemoryRecord()
    one.append(msgspec.json.decode(attempt()[1], type=Event))
    assert len(one.reports.costs("agent", 0)) == 1
    assert other.reports.costs("agent", 0) == []
    one.close()
    other.close()
