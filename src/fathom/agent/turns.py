"""One turn of the node loop, without any waiting: drain, identify, reduce; at the end of an interval, draft a batch.

Rows of a probe that aggregates in the kernel (``flow``) are read at the end of an interval and belong to it, though
their last packet may be younger than its end by a tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fathom.agent.edges import EdgeTable
from fathom.agent.events import Events
from fathom.agent.grouping import MINE, Grouping
from fathom.agent.reduce import Dropped, Reducer
from fathom.agent.sending import Draft
from fathom.agent.series import NodeSeries
from fathom.agent.settings import AgentSettings
from fathom.agent.sink import Sink
from fathom.agent.sums import Sums
from fathom.agent.traffic_metrics import TrafficMetrics
from fathom.agent.walltime import WallTime
from fathom.agent.watched import Watched
from fathom.events.batches import Clock, Loss
from fathom.events.edges import FACT, Edge
from fathom.events.rows import joined, take
from fathom.identity.identities import Identities

_NS = 1_000_000_000
#: Use of a map above which it is read before the interval ends, but not sooner than after so long.
MAP_FULL = 0.5
_SOONEST_NS = _NS // 2
#: Records of a ring that are read at once, so that they are still in the CPU's cache when they are folded, and how
#: often in one turn: a ring of the usual size is empty then. At the end of an interval the largest is.
_PIECE, _PIECES, _ALL = 4_096, 8, 4_096
#: Probes that count in a map of the kernel and are read once in an interval.
AGGREGATING = frozenset(("flow",))


@dataclass(slots=True)
class Counts:
    """What the loop counts about itself."""

    turns: int = 0
    own_rows: int = 0
    own_bytes: int = 0
    dropped: dict[str, Dropped] = field(default_factory=dict)


class Turns:
    """The state that a turn changes. ``turn`` is called each tick with the clock of that moment."""

    def __init__(
        self,
        settings: AgentSettings,
        watched: Sequence[Watched],
        identities: Identities,
        sink: Sink,
        events: Events,
        start: Clock,
    ) -> None:
        self.counts = Counts()
        self.reducer = Reducer(settings.interval_s, settings.max_edges)
        self.grouping = Grouping(identities, self.reducer.edges, show_own=settings.own_traffic)
        self.traffic = TrafficMetrics(settings.max_series)
        self.series = NodeSeries(settings.interval_s, settings.series_s, settings.top_edges)
        self.wall = WallTime(start)
        self._settings = settings
        self._watched = watched
        self._sink = sink
        self._events = events
        self._bucket = self.reducer.bucket(start.wall_ns)
        self._told: dict[str, Dropped] = {}
        self._every_ns: dict[str, int] = {}
        self._due_ns = dict.fromkeys(AGGREGATING, start.monotonic_ns + settings.interval_s * _NS)
        # A tick less a bit, so that one that is early counts.
        self._whole_every_ns = settings.tick_ms * 900_000
        self._whole_due_ns = start.monotonic_ns
        self._snapshot_ns = start.monotonic_ns - settings.sockets_interval_s * _NS

    def turn(self, now: Clock, *, last: bool = False) -> Draft | None:
        """One turn; a draft if an interval ended. ``last``: end them all."""
        self.counts.turns += 1
        wall = self.wall.turn(now)
        bucket = self.reducer.bucket(wall)
        ended = last or bucket != self._bucket
        # What was read late belongs to the interval that ends, unless the clock was set back into an older one.
        end = (self._bucket + self._settings.interval_s) * _NS - 1
        latest = min(wall, end) if bucket >= self._bucket else wall
        whole = ended or now.monotonic_ns >= self._whole_due_ns
        if whole:
            self._whole_due_ns = now.monotonic_ns + self._whole_every_ns
        for watched in self._watched:
            if watched.name in AGGREGATING:
                self._read_map(watched, now, ended, latest if ended else wall)
            else:
                self._read_ring(watched, now, whole, _ALL if ended else _PIECES)
        if ended and (last or now.monotonic_ns - self._snapshot_ns >= self._snapshot_due_ns):
            self._snapshot_ns = now.monotonic_ns
            for watched in self._watched:
                self._count(watched.name, watched.snapshot(), now, latest)
        if not ended:
            return None
        self._relieve(now, last)
        draft = self._draft(now, None if last else bucket)
        self._bucket = bucket
        return draft

    def _relieve(self, now: Clock, last: bool) -> None:
        """Read rings again in the midst of a long turn: what ends an interval takes as long as they need to fill."""
        for watched in self._watched:
            if watched.name not in AGGREGATING:
                self._read_ring(watched, now, last, _ALL if last else _PIECES)

    @property
    def _snapshot_due_ns(self) -> int:
        """A tick less than the setting, so that a late tick does not skip an interval."""
        return self._settings.sockets_interval_s * _NS - _NS // 2

    def _read_ring(self, watched: Watched, now: Clock, whole: bool, pieces: int) -> None:
        """Take in what is there. What it means is told once a tick, however often the ring is read: much of it is the
        same, and is folded as it comes."""
        for _ in range(pieces):
            records = watched.drain(_PIECE)
            self._events.publish(records, watched.name, now)
            for bucket, part in self.reducer.apart(records, watched.times, self.wall.offset_ns):
                if watched.holds not in (None, bucket):
                    self._count(watched.name, watched.held(), now, now.wall_ns)
                self._count(watched.name, watched.observe(part, bucket), now, now.wall_ns)
            if records.size < _PIECE:
                break
        watched.look()
        if whole:
            self._count(watched.name, watched.held(), now, now.wall_ns)

    def _read_map(self, watched: Watched, now: Clock, ended: bool, latest: int) -> None:
        """Read it if its time has come."""
        if not ended and now.monotonic_ns < self._due_ns.get(watched.name, 0):
            return
        records = watched.drain()
        self._again(watched.name, watched.look(), now)
        self._events.publish(records, watched.name, now)
        self._count(watched.name, watched.probe.observe(records), now, latest)

    def _again(self, probe: str, full: float, now: Clock) -> None:
        """Read a map that was getting full sooner the next time, and one that was not later again."""
        whole = self._settings.interval_s * _NS
        every = self._every_ns.get(probe, whole)
        every = max(every // 4, _SOONEST_NS) if full > MAP_FULL else min(every * 2, whole)
        self._every_ns[probe], self._due_ns[probe] = every, now.monotonic_ns + every

    def _count(self, probe: str, rows: npt.NDArray[np.void], now: Clock, latest: int) -> None:
        if not rows.size:
            return
        numbers = self.grouping.numbers(rows, now)
        if numbers.min() == MINE:
            own = numbers == MINE
            mine = take(rows, own)
            self.counts.own_rows += mine.size
            self.counts.own_bytes += int(mine["bytes_sent"].sum() + mine["bytes_received"].sum())
            rows, numbers = take(rows, ~own), numbers[~own]
        dropped = self.reducer.add(rows, numbers, self.wall.offset_ns, latest)
        if dropped.count:
            self.counts.dropped[probe] = self.counts.dropped.get(probe, Dropped()) + dropped

    def _draft(self, now: Clock, current: int | None) -> Draft:
        edges = self.reducer.edges
        facts: list[npt.NDArray[np.void]] = []
        told: list[Edge | None] = []
        for sums in self.reducer.close(current):
            self.traffic.close(sums, edges, now.monotonic_ns // _NS)
            rows, made = _facts(sums, edges)
            self.series.add(sums.bucket, rows, made)
            facts.append(rows)
            known = self._sink.known(rows["edge"].astype(np.int64))
            told += [None if there else edge for edge, there in zip(made, known.tolist(), strict=True)]
        losses = [loss for watched in self._watched for loss in watched.losses(self._bucket)]
        draft = Draft(
            clock=now,
            bucket=self._bucket,
            facts=joined(facts, FACT),
            edges=tuple(told),
            losses=(*losses, *self._own_losses()),
            observed=self.wall.take(now.wall_ns),
        )
        self.reducer.tidy()
        return draft

    def _own_losses(self) -> list[Loss]:
        losses = []
        for probe, total in self.counts.dropped.items():
            fresh = total - self._told.get(probe, Dropped())
            if fresh.count:
                losses.append(
                    Loss(
                        self._bucket,
                        "agent",
                        probe,
                        "edges_full",
                        fresh.count,
                        fresh.packets,
                        fresh.bytes_sent,
                        fresh.bytes_received,
                    )
                )
        self._told = dict(self.counts.dropped)
        return losses


def _facts(sums: Sums, edges: EdgeTable) -> tuple[npt.NDArray[np.void], list[Edge]]:
    numbers = sums.numbers()
    made, ids = edges.told(numbers)
    return sums.facts(numbers, ids), made
