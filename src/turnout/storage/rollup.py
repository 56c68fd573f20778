"""An additive latency histogram: one whole number, and merging is `+`.

Bucket b counts the latencies in [0.1 ms x 1.08^b, 0.1 ms x 1.08^(b+1)), in bits 32b to 32b+31 of the number; the
first also holds everything shorter and the last everything from 50 minutes on. A quantile is off by half a bucket,
4 %, at most.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE = 1.08
BUCKETS = 224
SHORTEST_US = 100
BITS = 32
_BYTES = BITS // 8
_BEGINNINGS = [math.ceil(SHORTEST_US * BASE**bucket) for bucket in range(1, BUCKETS)]
_UNIT = [1 << (BITS * bucket) for bucket in range(BUCKETS)]
_MIDDLES = [SHORTEST_US * BASE ** (bucket + 0.5) for bucket in range(BUCKETS)]


def bucket(microseconds: int) -> int:
    """The bucket of a latency."""
    return bisect_right(_BEGINNINGS, microseconds)


def one(microseconds: int) -> int:
    """The histogram of a single latency."""
    return _UNIT[bucket(microseconds)]


def pack(histogram: int) -> bytes:
    """As it is stored: how many buckets at the beginning are empty, then the others up to the last that is not.

    A byte and little-endian lanes of four; nothing of an empty histogram.
    """
    if not histogram:
        return b""
    empty = ((histogram & -histogram).bit_length() - 1) // BITS
    rest = histogram >> (BITS * empty)
    return bytes((empty,)) + rest.to_bytes((rest.bit_length() + BITS - 1) // BITS * _BYTES, "little")


def unpack(stored: bytes) -> int:
    """The histogram of a stored value."""
    return int.from_bytes(stored[1:], "little") << (BITS * stored[0]) if stored else 0


def counts(stored: bytes) -> tuple[int, array[int]]:
    """The first bucket that is not empty, and how many latencies in each from there to the last that is not."""
    found = array("I", stored[1:])
    if sys.byteorder == "big":
        found.byteswap()
    return (stored[0] if stored else 0), found


def quantiles(stored: Sequence[bytes], *shares: float) -> tuple[float | None, ...]:
    """The latencies in microseconds that the given shares of some stored histograms together do not exceed.

    `None` where all of them are empty.
    """
    histogram = stored[0] if len(stored) == 1 else pack(sum(map(unpack, stored)))
    if not histogram:
        return (None,) * len(shares)
    first, found = counts(histogram)
    reached = list(accumulate(found))
    total, quantiles = reached[-1], []
    for share in shares:
        quantiles.append(_MIDDLES[first + bisect_left(reached, share * total)])  # noqa: PERF401 - the quicker way
    return tuple(quantiles)
