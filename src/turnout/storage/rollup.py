"""An additive latency histogram: one whole number, and merging is `+`.

Bucket b counts the latencies in [0.1 ms x 1.08^b, 0.1 ms x 1.08^(b+1)), in bits 32b to 32b+31 of the number; the
first also holds everything shorter and the last everything from 50 minutes on. A quantile is off by half a bucket,
4 %, at most.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left
from itertools import accumulate

BASE = 1.08
BUCKETS = 224
SHORTEST_US = 100
BITS = 32
_BYTES = BITS // 8
_SCALE = 1 / math.log(BASE)
_UNIT = [1 << (BITS * bucket) for bucket in range(BUCKETS)]
_MIDDLES = [SHORTEST_US * BASE ** (bucket + 0.5) for bucket in range(BUCKETS)]


def bucket(microseconds: int) -> int:
    """The bucket of a latency."""
    if microseconds <= SHORTEST_US:
        return 0
    return min(int(math.log(microseconds / SHORTEST_US) * _SCALE), BUCKETS - 1)


def one(microseconds: int) -> int:
    """The histogram of a single latency."""
    return _UNIT[bucket(microseconds)]


def pack(histogram: int) -> bytes:
    """As it is stored: how many buckets at the beginning are empty, then the others up to the last that is not.

    A byte and little-endian lanes of four; nothing of an empty histogram.
    """
    empty, found = counts(histogram)
    if sys.byteorder == "big":
        found.byteswap()
    return bytes((empty,)) + found.tobytes() if found else b""


def unpack(stored: bytes) -> int:
    """The histogram of a stored value."""
    return int.from_bytes(stored[1:], "little") << (BITS * stored[0]) if stored else 0


def counts(histogram: int) -> tuple[int, array[int]]:
    """The first bucket that is not empty, and how many latencies in each from there to the last that is not."""
    empty = ((histogram & -histogram).bit_length() - 1) // BITS if histogram else 0
    rest = histogram >> (BITS * empty)
    found = array("I", rest.to_bytes((rest.bit_length() + BITS - 1) // BITS * _BYTES, "little"))
    if sys.byteorder == "big":
        found.byteswap()
    return empty, found


def quantiles(histogram: int, *shares: float) -> tuple[float | None, ...]:
    """The latencies in microseconds that the given shares do not exceed; `None` of an empty histogram."""
    first, found = counts(histogram)
    if not found:
        return (None,) * len(shares)
    reached = list(accumulate(found))
    ranks = [max(1, math.ceil(share * reached[-1])) for share in shares]
    return tuple([_MIDDLES[first + bisect_left(reached, rank)] for rank in ranks])
