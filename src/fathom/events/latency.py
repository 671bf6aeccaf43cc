"""Latency histograms: one set of bucket bounds from the agent's arrays to SQL columns and Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: Upper bounds (``le``) in nanoseconds; one more bucket above the last is unbounded.
BOUNDS_NS: tuple[int, ...] = tuple(
    int(x * 1000)
    for x in (
        50,
        100,
        250,
        500,
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
    )
)
BUCKETS = len(BOUNDS_NS) + 1
_EDGES = np.array(BOUNDS_NS, dtype=np.int64)


def bucket_of(latency_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bucket index of each latency (``int64`` nanoseconds, any shape): the first whose bound is not below it."""
    return np.searchsorted(_EDGES, latency_ns, side="left").astype(np.int64)


def quantile_ns(q: float, histogram: Sequence[int], low_ns: int, high_ns: int) -> float:
    """Quantile ``q`` (0..1) in nanoseconds of a histogram of ``BUCKETS`` counts, linear inside a bucket.

    The result is held between the smallest and the largest latency seen, so equal latencies give themselves.
    Returns 0.0 for an empty histogram. Method: Prometheus ``histogram_quantile``.
    """
    total = sum(histogram)
    if total == 0:
        return 0.0
    rank, below = q * total, 0
    for index, count in enumerate(histogram):
        if count and below + count >= rank:
            start = BOUNDS_NS[index - 1] if index else 0
            end = BOUNDS_NS[index] if index < len(BOUNDS_NS) else max(high_ns, start)
            value = start + (end - start) * max(rank - below, 0.0) / count
            return float(min(max(value, low_ns), high_ns))
        below += count
    return float(high_ns)
