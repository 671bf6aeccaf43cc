"""The edge: who, in which direction, talks to whom, over which protocol and server port, with which verdict.

An edge is identity only. What was counted on it in one interval is a *fact* (``FACT``). The edge's id is a hash of
its identity, so that agents, stores and replicas agree on it without asking one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from fathom.events.latency import BUCKETS

Direction = Literal["egress", "ingress", "unknown"]
Verdict = Literal["forwarded", "failed", "dropped", "unknown"]

#: Why an edge's connections failed (verdict ``failed``), or ``""``.
FAILURES = ("refused", "reset", "unreachable", "timeout", "abandoned", "local_error")


class Workload(msgspec.Struct, frozen=True, order=True):
    """Who did it. All fields are strings, ``""`` where not known; nothing is guessed.

    ``kind`` is the kind of workload: ``unit`` (systemd unit), ``container``, ``session`` (a user's login session),
    ``process`` (by executable name), ``host`` (unknown process on the host), or a Kubernetes kind such as
    ``Deployment``. ``owner_source`` of an accepted connection is not identity and lives in events only.
    """

    cluster: str = ""
    node: str = ""
    namespace: str = ""
    kind: str = ""
    name: str = ""
    pod: str = ""
    container: str = ""

    def __str__(self) -> str:
        scope = f"{self.namespace}/" if self.namespace else ""
        return f"{scope}{self.kind}/{self.name}" if self.kind else self.name


class Edge(msgspec.Struct, frozen=True):
    """Identity of an edge.

    ``peer`` is the name that is known for the other side (a workload, a DNS name) or its address; ``peer_address``
    is the address as text without port. ``protocol`` is ``TCP``, ``UDP``, ``ICMP``, ``ICMPv6`` or the IP protocol
    number as text. ``port`` is the server's port, 0 where the protocol has none or the server is not known.
    ``reason`` says why, for verdicts ``failed`` (one of ``FAILURES``) and ``dropped`` (the kernel's reason).
    """

    workload: Workload
    direction: Direction
    peer: str
    peer_address: str
    protocol: str
    port: int
    verdict: Verdict = "forwarded"
    reason: str = ""

    @property
    def id(self) -> int:
        """63-bit id: BLAKE2b of the identity, never 0."""
        w = self.workload
        text = "\x1f".join(
            (
                w.cluster,
                w.node,
                w.namespace,
                w.kind,
                w.name,
                w.pod,
                w.container,
                self.direction,
                self.peer,
                self.peer_address,
                self.protocol,
                str(self.port),
                self.verdict,
                self.reason,
            )
        )
        return (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1) or 1


class EdgeColumns(NamedTuple):
    """Edges column by column, for work on many at once: entry n of each is of edge n. ``workloads`` are texts, each a
    JSON array of the fields of ``Workload`` in their order: most edges share theirs, so that few are decoded."""

    ids: Sequence[int] = ()
    workloads: Sequence[str] = ()
    directions: Sequence[str] = ()
    peers: Sequence[str] = ()
    peer_addresses: Sequence[str] = ()
    protocols: Sequence[str] = ()
    ports: Sequence[int] = ()
    verdicts: Sequence[str] = ()

    @classmethod
    def of(cls, edges: Iterable[tuple[int, Edge]]) -> EdgeColumns:
        """The columns of (id, edge) pairs."""
        rows = [
            (
                number,
                msgspec.json.encode(msgspec.structs.astuple(edge.workload)).decode(),
                edge.direction,
                edge.peer,
                edge.peer_address,
                edge.protocol,
                edge.port,
                edge.verdict,
            )
            for number, edge in edges
        ]
        return cls(*zip(*rows, strict=True)) if rows else cls()


def workload_of(text: str) -> Workload:
    """The workload of an entry of ``EdgeColumns.workloads``. Raises ValueError if it is none."""
    fields = msgspec.json.decode(text, type=list[str])
    if len(fields) != len(Workload.__struct_fields__):
        raise ValueError(f"a workload has {len(fields)} fields")
    return Workload(*fields)


#: One fact: what was counted on one edge in one interval. All integers, base units, all but min and max add up.
#: ``bucket`` is the interval's start in epoch seconds (UTC). ``connections`` counts connections that were opened,
#: each once; ``failures`` counts attempts that failed. Bytes are payload for TCP and IP packet lengths for the rest.
#: ``latency_*`` is the handshake latency in nanoseconds over ``latency_count`` handshakes; min and max are 0 when
#: the count is 0. Columns ``latency_b0`` … are the histogram of ``fathom.events.latency``.
FACT = np.dtype(
    [
        ("edge", "<i8"),
        ("bucket", "<i8"),
        ("connections", "<i8"),
        ("failures", "<i8"),
        ("bytes_sent", "<i8"),
        ("bytes_received", "<i8"),
        ("packets_sent", "<i8"),
        ("packets_received", "<i8"),
        ("retransmits", "<i8"),
        ("latency_count", "<i8"),
        ("latency_sum", "<i8"),
        ("latency_min", "<i8"),
        ("latency_max", "<i8"),
        *[(f"latency_b{i}", "<i8") for i in range(BUCKETS)],
    ]
)

#: Fact columns that add up.
SUMMED = tuple(n for n in FACT.names or () if n not in ("edge", "bucket", "latency_min", "latency_max"))
