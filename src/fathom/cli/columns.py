"""Which columns the tables of edges, workloads and events have, and how their cells read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fathom.cli.output import Column
from fathom.cli.trust import ago
from fathom.cli.units import latency, size
from fathom.server.answers import Edge, Workload


def edge_columns() -> list[Column[Edge]]:
    """Columns of a table of edges."""
    now = datetime.now(UTC)
    return [
        Column("WORKLOAD", lambda e: e.workload, name=True),
        Column("DIRECTION", lambda e: e.direction),
        Column("PEER", lambda e: e.peer, name=True),
        Column("PROTOCOL", lambda e: e.protocol),
        Column("PORT", lambda e: str(e.port) if e.port else "-", number=True),
        Column("CONNS", lambda e: str(e.connections), number=True),
        Column("OUT", lambda e: size(e.bytes_sent), number=True),
        Column("IN", lambda e: size(e.bytes_received), number=True),
        Column("P50", lambda e: latency(e.latency.p50), number=True),
        Column("P90", lambda e: latency(e.latency.p90), number=True, wide=True),
        Column("P99", lambda e: latency(e.latency.p99), number=True),
        Column("FAILED", lambda e: str(e.failures), number=True),
        Column("VERDICT", lambda e: f"{e.verdict} ({e.reason})" if e.reason else e.verdict),
        Column("PKTS OUT", lambda e: str(e.packets_sent), number=True, wide=True),
        Column("PKTS IN", lambda e: str(e.packets_received), number=True, wide=True),
        Column("RETRANS", lambda e: str(e.retransmits), number=True, wide=True),
        Column("NODE", lambda e: e.identity.node, wide=True),
        Column("PEER ADDRESS", lambda e: e.peer_address, wide=True),
        Column("FIRST SEEN", lambda e: ago(e.first_seen, now), wide=True),
        Column("LAST SEEN", lambda e: ago(e.last_seen, now), wide=True),
        Column("ID", lambda e: e.id, wide=True),
    ]


def workload_columns() -> list[Column[Workload]]:
    """Columns of a table of workloads."""
    now = datetime.now(UTC)
    return [
        Column("WORKLOAD", lambda w: w.workload, name=True),
        Column("NODE", lambda w: w.identity.node),
        Column("PEERS", lambda w: str(w.peers), number=True),
        Column("EDGES", lambda w: str(w.edges), number=True),
        Column("CONNS", lambda w: str(w.connections), number=True),
        Column("OUT", lambda w: size(w.bytes_sent), number=True),
        Column("IN", lambda w: size(w.bytes_received), number=True),
        Column("P50", lambda w: latency(w.latency.p50), number=True, wide=True),
        Column("P99", lambda w: latency(w.latency.p99), number=True),
        Column("FAILED", lambda w: str(w.failures), number=True),
        Column("RETRANS", lambda w: str(w.retransmits), number=True, wide=True),
        Column("FIRST SEEN", lambda w: ago(w.first_seen, now), wide=True),
        Column("LAST SEEN", lambda w: ago(w.last_seen, now)),
    ]


def cell(value: Any) -> str:
    """A field of an event as text; ``-`` where it has none."""
    if value is None or value == "":
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
