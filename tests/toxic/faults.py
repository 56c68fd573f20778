"""The table of faults, and how a name finds its row."""

import re

from tests.toxic.bodies import BODIES
from tests.toxic.connections import CONNECTIONS
from tests.toxic.encodings import ENCODINGS
from tests.toxic.exchange import Fault
from tests.toxic.statuses import STATUSES
from tests.toxic.streams import STREAMS

FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*BODIES, *STATUSES, *ENCODINGS, *CONNECTIONS, *STREAMS)
}
_UNITS = {"": 1, "k": 2**10, "m": 2**20}


class UnknownFaultError(ValueError):
    """No fault has this name."""


def find(name: str) -> tuple[Fault, int]:
    """Give the fault of a name and its count: `huge-100m` is `huge` with 100 * 2**20."""
    if fault := FAULTS.get(name):
        return fault, fault.count
    sized = re.fullmatch(r"(.+)-(\d+)([km]?)", name)
    base = FAULTS.get(sized[1]) if sized else None
    if sized is None or base is None or not base.count:
        raise UnknownFaultError(f"unknown fault {name!r}; FAULTS lists the known ones")
    return base, int(sized[2]) * _UNITS[sized[3]]
