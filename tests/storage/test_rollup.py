"""The additive histogram: adding is exact, quantiles are close."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.storage import rollup

latencies = st.lists(st.integers(min_value=0, max_value=2**40), max_size=60)


def histogram(values: list[int]) -> int:
    """All of them in one."""
    return sum(map(rollup.one, values))


@given(latencies, latencies)
def test_merging_is_adding(one: list[int], other: list[int]) -> None:
    """The histogram of both is the sum of each, and taking one away leaves the other."""
    assert histogram(one) + histogram(other) == histogram(one + other)
    assert histogram(one + other) - histogram(other) == histogram(one)


@given(latencies)
def test_stored_and_back(values: list[int]) -> None:
    """What is stored is what was, and no longer than from its lowest to its highest bucket."""
    stored = rollup.pack(histogram(values))
    assert rollup.unpack(stored) == histogram(values)
    used = [rollup.bucket(value) for value in values]
    assert len(stored) == (1 + 4 * (max(used) - min(used) + 1) if used else 0)
    assert sum(rollup.counts(stored)[1]) == len(values)


@given(
    st.lists(st.integers(min_value=200, max_value=2_500_000_000), min_size=1, max_size=200), st.floats(0, 1)
)
def test_quantiles_are_close(values: list[int], share: float) -> None:
    """Between 0.2 ms and 41 minutes a quantile is within 4 % of the exact one."""
    exact = sorted(values)[max(1, -(-round(share * len(values) * 1e9) // 10**9)) - 1]
    (found,) = rollup.quantiles([rollup.pack(histogram(values))], share)
    assert found == pytest.approx(exact, rel=0.04)


def test_the_ends_of_the_scale() -> None:
    """Nothing is too short or too long to be counted, and an empty histogram has no quantile."""
    assert [rollup.bucket(value) for value in (0, 100, 107, 109, 2**62)] == [0, 0, 0, 1, rollup.BUCKETS - 1]
    assert rollup.quantiles([b"", b""], 0.5, 0.95) == rollup.quantiles([b""], 0.5, 0.95) == (None, None)


def test_a_hundred_thousand_in_one_bucket() -> None:
    """A bucket holds more than a busy hour's calls without touching its neighbour."""
    assert rollup.counts(rollup.pack(rollup.one(100) * 3_000_000 + rollup.one(109))) == (
        0,
        array("I", [3_000_000, 1]),
    )


def test_error_of_a_realistic_day() -> None:
    """p50 and p95 of 20,000 log-normal latencies are within 2 % of the exact ones."""
    rng = random.Random(11)  # noqa: S311
    values = sorted(round(1e6 * rng.lognormvariate(0.3, 0.8)) for _ in range(20_000))
    p50, p95 = rollup.quantiles(
        [rollup.pack(histogram(values[:7_000])), rollup.pack(histogram(values[7_000:]))], 0.5, 0.95
    )
    assert p50 == pytest.approx(values[9_999], rel=0.02)
    assert p95 == pytest.approx(values[18_999], rel=0.02)


def test_the_last_bucket() -> None:
    """There are 224 buckets: the last begins at 47 minutes and holds everything longer."""
    assert [rollup.bucket(value) for value in (2_830_000_000, 2_860_000_000, 2**62)] == [222, 223, 223]


def test_as_many_as_a_bucket_holds() -> None:
    """A bucket counts to 2^32 - 1, and also what only its highest bits tell is in it."""
    assert rollup.pack(rollup.one(100) << 31) == bytes((0, 0, 0, 0, 128))
    full = rollup.one(109) * (2**32 - 1)
    assert rollup.unpack(rollup.pack(full)) == full
