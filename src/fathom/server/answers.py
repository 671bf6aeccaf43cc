"""What REST answers, as plain types: the server encodes them, the client decodes them, OpenAPI is made from them.

Base units only: seconds, bytes, counts. Times are RFC 3339 text in UTC. Ids are text, because a 63-bit number does not
survive JavaScript. It refuses to import FastAPI, so that a client stays light.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct, field

T = TypeVar("T")

Time = Annotated[str, Meta(description="RFC 3339, UTC", examples=["2026-01-31T12:00:00Z"])]
Id = Annotated[str, Meta(description="63-bit number as text", examples=["4611686018427387904"])]
Count = Annotated[int, Meta(ge=0)]
Bytes = Annotated[int, Meta(ge=0, description="bytes: payload for TCP, IP packets for the rest")]
Packets = Annotated[int, Meta(ge=0, description="packets")]
Connections = Annotated[int, Meta(ge=0, description="connections opened, each once")]
Failures = Annotated[int, Meta(ge=0, description="attempts that failed")]
Retransmits = Annotated[int, Meta(ge=0, description="TCP segments sent again")]
WorkloadName = Annotated[str, Meta(description="kind/name, or namespace/kind/name", examples=["unit/nginx.service"])]
Seconds = Annotated[float, Meta(description="seconds")]


class Gap(Struct, frozen=True):
    """A stretch in which a known node was not observed, half open, whole seconds."""

    node: str
    since: Time
    until: Time


class Coverage(Struct, frozen=True):
    """How much of the window was observed. share = observed_seconds / node_seconds; 0 when no node is known. Gaps are
    the longest 1,000; gaps_omitted counts the others."""

    share: float
    node_seconds: Seconds
    observed_seconds: Seconds
    gaps: list[Gap]
    gaps_omitted: Count = 0


class Window(Struct, frozen=True):
    """The half-open stretch of time that the answer is about, and how much of it was observed."""

    since: Time
    until: Time
    coverage: Coverage


class Loss(Struct, frozen=True):
    """What was not counted where it belongs, inside the window. hop: kernel, agent, spool, server."""

    hop: str
    probe: str
    reason: str
    node: str
    count: Annotated[int, Meta(ge=0, description="events, flows or facts, by hop")]
    packets: Packets
    bytes_sent: Bytes
    bytes_received: Bytes


class Answer(Struct, Generic[T], frozen=True, kw_only=True):
    """What every answer holds: the window it is about, what was lost in it, and the cursor of the next page."""

    items: list[T]
    next_cursor: Annotated[str, Meta(description='pass it as cursor for the next page; "" after the last')] = ""
    window: Window
    loss: list[Loss]

    @property
    def lost(self) -> int:
        """All that was lost, in events, flows and facts together."""
        return sum(row.count for row in self.loss)


class Latency(Struct, frozen=True):
    """Handshake latency in seconds over count handshakes; quantiles are null where none was measured."""

    count: Count
    sum: Seconds
    p50: Seconds | None
    p90: Seconds | None
    p99: Seconds | None


class Identity(Struct, frozen=True):
    """What is known about a workload; "" where it is not known."""

    kind: str
    name: str
    namespace: str
    pod: str
    container: str
    node: str
    cluster: str


class Edge(Struct, frozen=True, kw_only=True):
    """Who (workload) talks to whom (peer), in which direction, over what, with which verdict, and what was counted.

    Sent and received are as seen by the workload. first_seen and last_seen are the starts of the first and the last
    interval of the window in which something was counted.
    """

    id: Id
    workload: WorkloadName
    identity: Identity
    direction: Annotated[str, Meta(description="who opened it: egress, ingress, unknown")]
    peer: Annotated[str, Meta(description="name of the other side, or its address")]
    peer_address: str
    protocol: Annotated[str, Meta(description="TCP, UDP, ICMP, ICMPv6 or the IP protocol number")]
    port: Annotated[int, Meta(ge=0, le=65535, description="the server's port; 0 where there is none")]
    verdict: Annotated[str, Meta(description="forwarded, failed, dropped, unknown")]
    reason: Annotated[str, Meta(description="why it failed or was dropped")]
    connections: Connections
    failures: Failures
    bytes_sent: Bytes
    bytes_received: Bytes
    packets_sent: Packets
    packets_received: Packets
    retransmits: Retransmits
    latency: Latency
    first_seen: Time | None
    last_seen: Time | None


class Edges(Answer[Edge], frozen=True, kw_only=True):
    """A page of edges."""


class EdgeAnswer(Answer[Edge], frozen=True, kw_only=True):
    """One edge: `items` holds exactly one; its counters are 0 if nothing was counted on it in the window."""


class Workload(Struct, frozen=True, kw_only=True):
    """A workload with all that was counted on its edges."""

    workload: WorkloadName
    identity: Identity
    peers: Annotated[int, Meta(ge=0, description="distinct peers")]
    edges: Annotated[int, Meta(ge=0, description="distinct edges")]
    connections: Connections
    failures: Failures
    bytes_sent: Bytes
    bytes_received: Bytes
    packets_sent: Packets
    packets_received: Packets
    retransmits: Retransmits
    latency: Latency
    first_seen: Time | None
    last_seen: Time | None


class Workloads(Answer[Workload], frozen=True, kw_only=True):
    """A page of workloads."""


class Point(Struct, frozen=True, kw_only=True):
    """What was counted on an edge in one step, which starts at time."""

    time: Time
    connections: Connections
    failures: Failures
    bytes_sent: Bytes
    bytes_received: Bytes
    packets_sent: Packets
    packets_received: Packets
    retransmits: Retransmits
    latency: Latency


class Series(Answer[Point], frozen=True, kw_only=True):
    """One edge over time, oldest first; steps in which nothing was counted are left out."""

    step: Annotated[int, Meta(ge=1, description="seconds")]


class Missing(Struct, frozen=True):
    """A node whose part is not in the answer, and why."""

    node: str
    why: str


class EventsOfNode(Struct, frozen=True):
    """How complete one node's part of the answer is: from `oldest` on it held all events; it had to give up
    `overwritten` older ones since its start."""

    node: str
    events: Count
    oldest: Time | None
    overwritten: Count


class Events(Answer[dict[str, Any]], frozen=True, kw_only=True):
    """Recent raw events, newest first, asked live from the nodes. Their fields are in the reference of events; each
    holds at least time, kind and node."""

    nodes: list[EventsOfNode]
    missing: list[Missing]


class Probe(Struct, frozen=True):
    """One probe of a node. losses: since the agent's start, by reason. fill: how full its ring or map was, 0 to 1."""

    name: str
    attached: bool
    detail: str
    fill: float
    records: Count
    losses: dict[str, int]


class Node(Struct, frozen=True, kw_only=True):
    """A node that reports. state: ok, degraded, failed, or unknown when it does not answer now."""

    node: str
    state: str
    problems: list[str]
    connected: bool
    version: str
    boot: str
    first_seen: Time | None
    last_seen: Time | None
    batches: Annotated[int, Meta(ge=0, description="batches of it that the store holds")]
    clock_skew: Annotated[float | None, Meta(description="seconds that its clock is ahead of the server's")]
    waiting_batches: Annotated[int, Meta(ge=0, description="batches that wait on the node for an acknowledgement")]
    waiting_bytes: Annotated[int, Meta(ge=0, description="bytes of them")]
    interval: Annotated[int | None, Meta(description="seconds of one interval of facts")]
    probes: list[Probe]


class StoreState(Struct, frozen=True):
    """How the store is. days: UTC days whose facts are held; notes: what was damaged, kept aside or refused."""

    engine: str
    id: str
    writable: bool
    edges: Count
    bytes: Annotated[int, Meta(ge=0, description="bytes on disk")]
    days: list[str]
    notes: list[str]


class IngestState(Struct, frozen=True):
    """What came in since the server's start."""

    batches: Count
    duplicates: Annotated[int, Meta(ge=0, description="batches that were there before; not counted twice")]
    facts: Count
    edges: Count
    refused_busy: Annotated[int, Meta(ge=0, description="batches that agents were told to send again")]
    refused_invalid: Annotated[int, Meta(ge=0, description="batches that made no sense")]
    waiting: Count


class Status(Answer[Node], frozen=True, kw_only=True):
    """How everything is. state: ok, or degraded when something in problems needs a person."""

    state: str
    problems: list[str]
    version: str
    started: Time
    retention: Annotated[int, Meta(description="seconds for which facts are kept")]
    store: StoreState
    ingest: IngestState
    streams: Annotated[int, Meta(ge=0, description="live streams open now")]


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457): title names the kind, detail what happened and what to do about it."""

    type: str
    title: str
    status: int
    detail: str = ""
    what: str = ""
    affects: str = ""
    do: str = ""
    instance: str = ""
    errors: list[str] = field(default_factory=list)


class StreamLoss(Struct, frozen=True):
    """Sent in a stream as `event: loss`: events of a node that this reader did not get. reason: slow_reader (they came
    faster than they were taken, here or on the node), or reconnected (the reader was away: node is "", events -1)."""

    node: str
    events: int
    reason: str


class StreamNodes(Struct, frozen=True):
    """Sent in a stream as `event: nodes`, first and whenever it changes: the nodes whose events it carries. What a node
    that refuses to stream says is in missing."""

    connected: list[str]
    missing: list[Missing]
