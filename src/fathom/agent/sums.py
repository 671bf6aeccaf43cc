"""What was counted on each edge in one interval: columns of 64-bit integers, added to by arrays, told as facts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fathom.events.edges import FACT
from fathom.events.latency import BUCKETS, bucket_of
from fathom.events.rows import take
from fathom.identity.slots import I32

I64 = npt.NDArray[np.int64]

#: Columns of an observation that add up as they are.
COUNTERS = (
    "connections",
    "failures",
    "bytes_sent",
    "bytes_received",
    "packets_sent",
    "packets_received",
    "retransmits",
)
_NONE = np.iinfo(np.int64).max


class Sums:
    """The sums of one bucket (epoch seconds), by edge number. ``counters[name]`` is a column (``int64``)."""

    def __init__(self, bucket: int, edges: int) -> None:
        self.bucket = bucket
        self._allocate(max(edges, 64))

    def _allocate(self, size: int) -> None:
        self._size = size
        self._touched = np.zeros(size, np.bool_)
        self.counters: dict[str, I64] = {name: np.zeros(size, np.int64) for name in COUNTERS}
        self.latency_count = np.zeros(size, np.int64)
        self.latency_sum = np.zeros(size, np.int64)
        self.latency_max = np.zeros(size, np.int64)
        self._latency_min = np.full(size, _NONE)
        self._histogram = np.zeros(size * BUCKETS, np.int64)

    def add(self, numbers: I32, rows: npt.NDArray[np.void], edges: int) -> None:
        """Add ``rows`` (dtype ``OBSERVATION``), whose edges are ``numbers`` (``int32``, below ``edges``)."""
        if edges > self._size:
            self._take(np.arange(self._size), 2 * edges)
        at = numbers.astype(np.intp)
        self._touched[at] = True
        for name in COUNTERS:
            column = np.ascontiguousarray(rows[name])
            if column.any():
                np.add.at(self.counters[name], at, column)
        measured = np.flatnonzero(rows["latency_count"])
        if measured.size:
            self._add_latency(at[measured], take(rows, measured))

    def _add_latency(self, at: npt.NDArray[np.intp], rows: npt.NDArray[np.void]) -> None:
        count, most = np.ascontiguousarray(rows["latency_count"]), np.ascontiguousarray(rows["latency_max"])
        np.add.at(self.latency_count, at, count)
        np.add.at(self.latency_sum, at, np.ascontiguousarray(rows["latency_sum"]))
        np.maximum.at(self.latency_max, at, most)
        np.minimum.at(self._latency_min, at, np.ascontiguousarray(rows["latency_min"]))
        np.add.at(self._histogram, at * BUCKETS + bucket_of(most), count)

    def numbers(self) -> npt.NDArray[np.intp]:
        """The numbers of the edges that count in this bucket."""
        return np.flatnonzero(self._touched)

    def histogram(self, numbers: npt.NDArray[np.intp]) -> I64:
        """Latency histograms of ``numbers``, shape (len, BUCKETS)."""
        return self._histogram.reshape(-1, BUCKETS)[numbers]

    def facts(self, numbers: npt.NDArray[np.intp], ids: I64) -> npt.NDArray[np.void]:
        """One row of dtype ``FACT`` for each of ``numbers``, whose lasting ids are ``ids``."""
        facts = np.zeros(numbers.size, FACT)
        facts["edge"], facts["bucket"] = ids, self.bucket
        for name in COUNTERS:
            facts[name] = self.counters[name][numbers]
        count = self.latency_count[numbers]
        facts["latency_count"], facts["latency_sum"] = count, self.latency_sum[numbers]
        facts["latency_max"] = self.latency_max[numbers]
        facts["latency_min"] = np.where(count > 0, self._latency_min[numbers], 0)
        histogram = self.histogram(numbers)
        for index in np.flatnonzero(histogram.any(axis=0)).tolist():
            facts[f"latency_b{index}"] = histogram[:, index]
        return facts

    def keep(self, numbers: npt.NDArray[np.intp]) -> None:
        """Renumber: edge ``numbers[i]`` is now ``i``. Every edge that counts here is among them."""
        self._take(numbers, numbers.size)

    def _take(self, numbers: npt.NDArray[np.intp], size: int) -> None:
        numbers = numbers[numbers < self._size]
        touched, counters, histogram = self._touched, self.counters, self.histogram(numbers)
        count, total, high, low = self.latency_count, self.latency_sum, self.latency_max, self._latency_min
        kept = numbers.size
        self._allocate(max(size, kept, 64))
        self._touched[:kept] = touched[numbers]
        for name in COUNTERS:
            self.counters[name][:kept] = counters[name][numbers]
        self.latency_count[:kept], self.latency_sum[:kept] = count[numbers], total[numbers]
        self.latency_max[:kept], self._latency_min[:kept] = high[numbers], low[numbers]
        self._histogram[: kept * BUCKETS] = histogram.ravel()
