"""Latency buckets and quantiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.events.latency import BOUNDS_NS, BUCKETS, bucket_of, quantile_ns


def test_a_bound_belongs_to_its_own_bucket() -> None:
    values = np.array([0, BOUNDS_NS[0], BOUNDS_NS[0] + 1, BOUNDS_NS[-1], BOUNDS_NS[-1] + 1])
    assert bucket_of(values).tolist() == [0, 0, 1, BUCKETS - 2, BUCKETS - 1]


def test_nothing_seen_is_zero() -> None:
    assert quantile_ns(0.5, [0] * BUCKETS, 0, 0) == 0.0


def histogram(values: list[int]) -> list[int]:
    return np.bincount(bucket_of(np.array(values)), minlength=BUCKETS).tolist()


@given(st.integers(0, 20_000_000_000), st.integers(1, 1000), st.floats(0, 1))
def test_equal_latencies_give_themselves(value: int, count: int, q: float) -> None:
    assert quantile_ns(q, histogram([value] * count), value, value) == value


@given(st.lists(st.integers(0, 20_000_000_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_falls_into_the_bucket_of_the_exact_one(values: list[int], q: float) -> None:
    exact = sorted(values)[max(int(np.ceil(q * len(values))) - 1, 0)]
    got = quantile_ns(q, histogram(values), min(values), max(values))
    index = int(bucket_of(np.array([exact]))[0])
    low = BOUNDS_NS[index - 1] if index else 0
    high = BOUNDS_NS[index] if index < len(BOUNDS_NS) else max(values)
    assert low <= got <= high


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=50))
def test_quantiles_rise(values: list[int]) -> None:
    counts = histogram(values)
    got = [quantile_ns(q, counts, min(values), max(values)) for q in (0.0, 0.5, 0.9, 0.99, 1.0)]
    assert got == sorted(got)
    assert got[-1] == pytest.approx(max(values)) or got[-1] <= max(values)
