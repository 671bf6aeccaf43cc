"""Facts as packed columns, and back, by numpy; no fact becomes a Python object of its own.

A column of zeroes is left out, buckets are differences, and of the latency histogram only the cells that are not zero
travel. Refused are columns that do not belong together and numbers so large that sums in a store could overflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.errors import WireError
from fathom.events.edges import FACT
from fathom.events.latency import BUCKETS

#: Most facts in one batch.
MAX_FACTS = 1 << 18
#: Largest counter. 128 of them still add up in 63 bits; in bytes it is 833 days of 8 Gbit/s in one interval.
MAX_COUNT = 1 << 56
#: Largest bucket: the end of the year 9999, epoch seconds.
MAX_BUCKET = 253_402_300_799

_NAMES = FACT.names or ()
_COUNTERS = tuple(name for name in _NAMES if name not in ("edge", "bucket") and not name.startswith("latency_b"))
_HISTOGRAM = _NAMES.index("latency_b0")

Facts = npt.NDArray[np.void]


def to_columns(facts: Facts, message: Any) -> None:
    """Fill ``message`` (``fathom.v1.Facts``, empty) with ``facts`` (dtype ``FACT``, 1-d).

    Raises WireError if there are too many facts, a number is negative or too large, or an edge id is not positive.
    """
    size = len(facts)
    if size == 0:
        return
    table = _table(facts)
    _check(table)
    message.edge.extend(table[:, 0].tolist())
    message.bucket.extend(np.diff(table[:, 1], prepend=0).tolist())
    used = table.max(axis=0) > 0
    for name in _COUNTERS:
        index = _NAMES.index(name)
        if used[index]:
            getattr(message, name).extend(table[:, index].tolist())
    message.buckets = BUCKETS
    histogram = np.ascontiguousarray(table[:, _HISTOGRAM:]).reshape(-1)
    cells = np.flatnonzero(histogram)
    message.histogram_cell.extend(np.diff(cells, prepend=0).tolist())
    message.histogram_count.extend(histogram[cells].tolist())


def from_columns(message: Any) -> Facts:
    """The facts (dtype ``FACT``, 1-d) of ``message`` (``fathom.v1.Facts``).

    Raises WireError if columns differ in length, a number is out of bounds, or the histogram is not this version's.
    """
    size = len(message.edge)
    if size > MAX_FACTS:
        raise WireError(f"a batch with {size} facts; at most {MAX_FACTS} are allowed")
    facts = np.zeros(size, FACT)
    edges = np.array(message.edge, dtype=np.uint64)
    if size and (edges.min() < 1 or edges.max() >= 1 << 63):
        raise WireError("a fact with an edge id that is not a positive 63-bit number")
    facts["edge"] = edges.astype(np.int64)
    facts["bucket"] = _buckets(message, size)
    for name in _COUNTERS:
        column = _bounded(name, getattr(message, name), MAX_COUNT)
        if len(column) not in (0, size):
            raise WireError(f"column {name} has {len(column)} values for {size} facts")
        if len(column):
            facts[name] = column
    _fill_histogram(message, _table(facts))
    return facts


def _table(facts: Facts) -> npt.NDArray[np.int64]:
    """All columns as one matrix of shape (facts, columns); a view where ``facts`` is contiguous."""
    table: npt.NDArray[np.int64] = np.ascontiguousarray(facts).view(np.int64).reshape(len(facts), len(_NAMES))
    return table


def _check(table: npt.NDArray[np.int64]) -> None:
    if len(table) > MAX_FACTS:
        raise WireError(f"a batch with {len(table)} facts; at most {MAX_FACTS} are allowed")
    low, high = table.min(axis=0), table.max(axis=0)
    if low[0] < 1:
        raise WireError("a fact with an edge id that is not a positive 63-bit number")
    if low[1] < 0 or high[1] > MAX_BUCKET:
        raise WireError(f"a fact with bucket {low[1] if low[1] < 0 else high[1]}")
    for name, least, most in zip(_NAMES[2:], low[2:], high[2:], strict=True):
        if least < 0 or most > MAX_COUNT:
            raise WireError(f"a fact whose {name} is negative or above {MAX_COUNT}")


def _bounded(name: str, values: Any, highest: int) -> npt.NDArray[np.int64]:
    column = np.array(values, dtype=np.uint64)
    if len(column) and column.max() > highest:
        raise WireError(f"column {name} holds {column.max()}; at most {highest} is allowed")
    return column.astype(np.int64)


def _buckets(message: Any, size: int) -> npt.NDArray[np.int64]:
    steps = np.array(message.bucket, dtype=np.int64)
    if len(steps) != size:
        raise WireError(f"column bucket has {len(steps)} values for {size} facts")
    if size and (steps.min() < -MAX_BUCKET or steps.max() > MAX_BUCKET):
        raise WireError("a bucket outside the years 1970 to 9999")
    buckets = np.cumsum(steps)  # at most MAX_FACTS * MAX_BUCKET < 2**63
    if size and (buckets.min() < 0 or buckets.max() > MAX_BUCKET):
        raise WireError("a bucket outside the years 1970 to 9999")
    return buckets


def _fill_histogram(message: Any, table: npt.NDArray[np.int64]) -> None:
    size = len(table)
    if message.buckets != (BUCKETS if size else 0):
        raise WireError(f"a latency histogram of {message.buckets} buckets; this version has {BUCKETS}")
    highest = size * BUCKETS - 1
    steps = _bounded("histogram_cell", message.histogram_cell, max(highest, 0))
    counts = _bounded("histogram_count", message.histogram_count, MAX_COUNT)
    if len(steps) != len(counts):
        raise WireError(f"{len(steps)} histogram cells with {len(counts)} counts")
    if len(steps) == 0:
        return
    if len(steps) > highest + 1 or (len(steps) > 1 and steps[1:].min() < 1):
        raise WireError("histogram cells that do not ascend")
    cells = np.cumsum(steps)  # at most highest ** 2 < 2**63
    if cells[-1] > highest:
        raise WireError(f"histogram cell {cells[-1]} of {size} facts")
    table[cells // BUCKETS, _HISTOGRAM + cells % BUCKETS] = counts
