"""The node's own last minutes: totals per interval and the busiest edges, so that a node can be asked without a server.

Bounded by time and by the number of edges kept of each interval; what is not among the busiest is in the totals only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fathom.agent.questions import SeriesAnswer, SeriesEdge, SeriesTotals
from fathom.agent.sums import COUNTERS
from fathom.events.edges import Edge

_POINT = ("connections", "failures", "bytes_sent", "bytes_received")


@dataclass(slots=True)
class _Interval:
    bucket: int
    counts: list[int]
    busiest: list[tuple[int, tuple[int, int, int, int]]]


class NodeSeries:
    """The intervals of the last ``kept_s`` seconds, each with its ``top`` busiest edges."""

    def __init__(self, interval_s: int, kept_s: int, top: int) -> None:
        self.interval_s = interval_s
        self._top = top
        self._intervals: deque[_Interval] = deque(maxlen=max(kept_s // interval_s, 1))
        self._edges: dict[int, Edge] = {}

    def add(self, bucket: int, facts: npt.NDArray[np.void], edges: list[Edge]) -> None:
        """Take in an interval: ``facts`` (dtype ``FACT``) of ``bucket``, ``edges[i]`` that of ``facts[i]``."""
        counts = [int(facts.size), *(int(facts[name].sum()) for name in COUNTERS)]
        weight = facts["bytes_sent"] + facts["bytes_received"] + facts["connections"] + facts["failures"]
        order = np.argsort(weight, kind="stable")[::-1][: self._top]
        busiest: list[tuple[int, tuple[int, int, int, int]]] = []
        for row in order.tolist():
            edge = int(facts["edge"][row])
            self._edges[edge] = edges[row]
            opened, failed, sent, received = (int(facts[name][row]) for name in _POINT)
            busiest.append((edge, (opened, failed, sent, received)))
        late = next((interval for interval in self._intervals if interval.bucket == bucket), None)
        if late:
            late.counts = [a + b for a, b in zip(late.counts, counts, strict=True)]
            late.busiest += busiest
        else:
            self._intervals.append(_Interval(bucket, counts, busiest))
        used = {edge for interval in self._intervals for edge, _ in interval.busiest}
        self._edges = {edge: self._edges[edge] for edge in used}

    def answer(self, top: int) -> SeriesAnswer:
        """All intervals, oldest first, and the ``top`` edges that moved most bytes in them."""
        points: dict[int, list[tuple[int, int, int, int, int]]] = {}
        for interval in self._intervals:
            for edge, point in interval.busiest:
                points.setdefault(edge, []).append((interval.bucket, *point))
        ranked = sorted(points, key=lambda edge: -sum(p[3] + p[4] for p in points[edge]))[:top]
        return SeriesAnswer(
            interval_s=self.interval_s,
            totals=[SeriesTotals(interval.bucket, *interval.counts) for interval in self._intervals],
            edges=[_series_edge(edge, self._edges[edge], points[edge]) for edge in ranked],
        )


def _series_edge(number: int, edge: Edge, points: list[tuple[int, int, int, int, int]]) -> SeriesEdge:
    return SeriesEdge(
        id=str(number),
        workload=str(edge.workload),
        direction=edge.direction,
        peer=edge.peer,
        protocol=edge.protocol,
        port=edge.port,
        verdict=edge.verdict,
        points=points,
    )
