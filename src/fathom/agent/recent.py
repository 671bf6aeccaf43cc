"""Recent raw events of one probe: a ring of records as they came from the kernel, in bounded memory.

The oldest give way; how many did is counted, and the answer to a question says from when on the ring is whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.events.rows import opaque, take


class RecentEvents:
    """The last records of one dtype, at most ``limit_bytes`` of them. ``clock`` names the field with monotonic ns."""

    def __init__(self, kind: str, limit_bytes: int, clock: str = "time") -> None:
        self.kind = kind
        self.clock = clock
        self.limit_bytes = limit_bytes
        self.added = 0
        self.overwritten = 0
        self._records: npt.NDArray[np.void] | None = None
        self._next = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def overwritten_until_ns(self) -> int:
        """Monotonic time of the newest record that was given up, 0 if none was."""
        return self._gone_ns

    _gone_ns = 0

    def add(self, records: npt.NDArray[np.void]) -> None:
        """Take in ``records``, oldest first."""
        if not records.size:
            return
        ring = self._ring(records.dtype)
        self.added += records.size
        if records.size > ring.size:
            self._lose(records[self.clock][: -ring.size])
            records = records[-ring.size :]
        excess = self._count + records.size - ring.size
        if excess > 0:
            self._lose(*self._oldest(excess))
            self._count -= excess
        first = min(records.size, ring.size - self._next)
        target, source = opaque(ring), opaque(records)
        target[self._next : self._next + first] = source[:first]
        target[: records.size - first] = source[first:]
        self._next = (self._next + records.size) % ring.size
        self._count += records.size

    def newest(self, skip: int, count: int) -> npt.NDArray[np.void]:
        """A copy of up to ``count`` records, newest first, after leaving out the ``skip`` newest."""
        if self._records is None:
            return np.zeros(0, np.dtype([(self.clock, "<u8")]))
        size = self._records.size
        count = max(min(count, self._count - skip), 0)
        return take(self._records, (self._next - 1 - skip - np.arange(count)) % size)

    def shrink(self, limit_bytes: int) -> None:
        """Keep at most ``limit_bytes`` from now on; the oldest give way."""
        self.limit_bytes = limit_bytes
        if self._records is None:
            return
        kept = self.newest(0, max(limit_bytes // self._records.itemsize, 1))[::-1]
        self._lose(*self._oldest(self._count - kept.size))
        dtype = self._records.dtype
        self._records, self._next, self._count = None, 0, 0
        ring = self._ring(dtype)
        ring[: kept.size] = kept
        self._next, self._count = kept.size % ring.size, kept.size

    def _oldest(self, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Times of the ``count`` oldest records, in two parts where the ring wraps."""
        if self._records is None:
            return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        times, size = self._records[self.clock], self._records.size
        first = (self._next - self._count) % size
        return times[first : first + count], times[: max(first + count - size, 0)]

    def _lose(self, *times: npt.NDArray[Any]) -> None:
        for part in times:
            if part.size:
                self.overwritten += part.size
                self._gone_ns = max(self._gone_ns, int(part.max()))

    def _ring(self, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
        if self._records is None:
            self._records = np.zeros(max(self.limit_bytes // dtype.itemsize, 1), dtype)
        return self._records
