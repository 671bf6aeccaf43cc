"""From observations to facts: rows are grouped into edges and intervals without becoming Python objects.

An edge's port is the server's: the remote one of an egress, the local one of an ingress, 0 where nobody knows who
serves; ephemeral ports end here. A row counts in the interval of its own time, however late it comes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fathom.agent.edges import EdgeTable
from fathom.agent.sums import Sums
from fathom.events.rows import take
from fathom.identity.slots import I32, distinct

_NS = 1_000_000_000
#: How many intervals back a row may count; an older one counts in the oldest of them.
_REACH = 6


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that no edge could take: how many, and what they carried."""

    count: int = 0
    packets: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def __add__(self, other: Dropped) -> Dropped:
        return Dropped(
            self.count + other.count,
            self.packets + other.packets,
            self.bytes_sent + other.bytes_sent,
            self.bytes_received + other.bytes_received,
        )

    def __sub__(self, other: Dropped) -> Dropped:
        return self + Dropped(-other.count, -other.packets, -other.bytes_sent, -other.bytes_received)


class Reducer:
    """Open intervals of ``interval_s`` seconds over one table of at most ``max_edges`` edges."""

    def __init__(self, interval_s: int, max_edges: int) -> None:
        self.interval_s = interval_s
        self.edges = EdgeTable(max_edges)
        self.open: dict[int, Sums] = {}

    def bucket(self, wall_ns: int) -> int:
        """Start of the interval that holds ``wall_ns``, epoch seconds."""
        return wall_ns // (self.interval_s * _NS) * self.interval_s

    def apart(
        self, records: npt.NDArray[np.void], times: tuple[int, int], offset_ns: int
    ) -> list[tuple[int, npt.NDArray[np.void]]]:
        """``records`` by the interval of their ``time``, which is ``offset_ns`` before wall time: a probe may make one
        row of many records, and a row counts in one interval. ``times``: the least and the greatest."""
        if not records.size:
            return []
        first, last = (self.bucket(time + offset_ns) for time in times)
        if first == last:
            return [(first, records)]
        buckets = (records["time"].astype(np.int64) + offset_ns) // (self.interval_s * _NS) * self.interval_s
        several = np.sort(buckets[distinct(buckets)[0]]).tolist()
        return [(bucket, take(records, buckets == bucket)) for bucket in several]

    def add(self, rows: npt.NDArray[np.void], numbers: I32, offset_ns: int, latest_ns: int) -> Dropped:
        """Count ``rows`` (dtype ``OBSERVATION``), whose edges are ``numbers``, below 0 where there was no room.

        Wall time is theirs plus ``offset_ns``, at most ``latest_ns``.
        """
        if not rows.size:
            return Dropped()
        dropped = Dropped()
        if numbers.min() < 0:
            lost = take(rows, numbers < 0)
            rows, numbers = take(rows, numbers >= 0), numbers[numbers >= 0]
            dropped = Dropped(
                lost.size,
                int(lost["packets_sent"].sum() + lost["packets_received"].sum()),
                int(lost["bytes_sent"].sum()),
                int(lost["bytes_received"].sum()),
            )
            if not rows.size:
                return dropped
        wall = np.minimum(rows["time"] + offset_ns, latest_ns)
        oldest = self.bucket(latest_ns) - _REACH * self.interval_s
        first, last = max(self.bucket(int(wall.min())), oldest), self.bucket(int(wall.max()))
        if first >= last:
            self._count(max(first, last), numbers, rows)
            return dropped
        buckets = np.maximum(wall // (self.interval_s * _NS) * self.interval_s, oldest)
        for bucket in buckets[distinct(buckets)[0]].tolist():
            there = buckets == bucket
            self._count(bucket, numbers[there], take(rows, there))
        return dropped

    def close(self, current: int | None) -> list[Sums]:
        """Take out all intervals but ``current`` (None: all), oldest first."""
        return [self.open.pop(bucket) for bucket in sorted(self.open) if bucket != current]

    def tidy(self) -> None:
        """Make room: forget edges that no open interval uses, once half of the table is taken."""
        if 2 * len(self.edges) <= self.edges.limit:
            return
        used = np.zeros(len(self.edges), np.bool_)
        for sums in self.open.values():
            used[sums.numbers()] = True
        kept = np.flatnonzero(used)
        self.edges.keep(kept)
        for sums in self.open.values():
            sums.keep(kept)

    def _count(self, bucket: int, numbers: I32, rows: npt.NDArray[np.void]) -> None:
        sums = self.open.get(bucket)
        if sums is None:
            sums = self.open[bucket] = Sums(bucket, len(self.edges))
        sums.add(numbers, rows, len(self.edges))
