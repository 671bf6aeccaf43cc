"""From the store's rows to what REST answers: base units become seconds and text, histograms become quantiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from fathom.events import edges as events
from fathom.events.latency import quantile_ns
from fathom.server.answers import Coverage, Edge, Gap, Identity, Latency, Loss, Point, Window, Workload
from fathom.server.times import text_s
from fathom.store import interface as store

#: Gaps that one answer names; the longest come first to be kept.
MAX_GAPS = 1_000
_NS = 1e9
NOTHING = store.Sums(0, 0, 0, 0, 0, 0, 0, store.Latency(0, 0, 0, 0, ()))


class _Counted(TypedDict):
    connections: int
    failures: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    retransmits: int
    latency: Latency


def edge(row: store.EdgeRow) -> Edge:
    """One edge."""
    return edge_of(row.id, row.edge, row.sums, text_s(row.first_seen), text_s(row.last_seen))


def edge_of(number: int, of: events.Edge, sums: store.Sums, first_seen: str | None, last_seen: str | None) -> Edge:
    """One edge from its parts."""
    return Edge(
        id=str(number),
        workload=str(of.workload),
        identity=identity(of.workload),
        direction=of.direction,
        peer=of.peer,
        peer_address=of.peer_address,
        protocol=of.protocol,
        port=of.port,
        verdict=of.verdict,
        reason=of.reason,
        first_seen=first_seen,
        last_seen=last_seen,
        **_counted(sums),
    )


def workload(row: store.WorkloadRow) -> Workload:
    """One workload."""
    return Workload(
        workload=str(row.workload),
        identity=identity(row.workload),
        peers=row.peers,
        edges=row.edges,
        first_seen=text_s(row.first_seen),
        last_seen=text_s(row.last_seen),
        **_counted(row.sums),
    )


def point(row: store.SeriesPoint) -> Point:
    """One point of a series."""
    return Point(time=text_s(row.time_s), **_counted(row.sums))


def identity(of: events.Workload) -> Identity:
    """What is known about a workload."""
    return Identity(of.kind, of.name, of.namespace, of.pod, of.container, of.node, of.cluster)


def latency(of: store.Latency) -> Latency:
    """Handshake latency in seconds; no quantiles where nothing was measured."""
    if of.count == 0:
        return Latency(0, 0.0, None, None, None)
    p50, p90, p99 = (quantile_ns(q, of.histogram, of.min_ns, of.max_ns) / _NS for q in (0.5, 0.9, 0.99))
    return Latency(of.count, of.sum_ns / _NS, p50, p90, p99)


def window(of: store.Window, coverage: store.Coverage) -> Window:
    """The stretch of time of an answer and how much of it was observed."""
    longest = sorted(coverage.gaps, key=lambda gap: gap.start_s - gap.end_s)[:MAX_GAPS]
    gaps = sorted(longest, key=lambda gap: (gap.node, gap.start_s))
    return Window(
        text_s(of.since_s),
        text_s(of.until_s),
        Coverage(
            coverage.share,
            coverage.node_seconds,
            coverage.observed_seconds,
            [Gap(gap.node, text_s(gap.start_s), text_s(gap.end_s)) for gap in gaps],
            len(coverage.gaps) - len(gaps),
        ),
    )


def losses(rows: Iterable[store.LossRow]) -> list[Loss]:
    """What was lost, in a stable order."""
    return [
        Loss(row.hop, row.probe, row.reason, row.node, row.count, row.packets, row.bytes_sent, row.bytes_received)
        for row in sorted(rows, key=lambda row: (row.hop, row.probe, row.reason, row.node))
    ]


def _counted(sums: store.Sums) -> _Counted:
    return _Counted(
        connections=sums.connections,
        failures=sums.failures,
        bytes_sent=sums.bytes_sent,
        bytes_received=sums.bytes_received,
        packets_sent=sums.packets_sent,
        packets_received=sums.packets_received,
        retransmits=sums.retransmits,
        latency=latency(sums.latency),
    )
