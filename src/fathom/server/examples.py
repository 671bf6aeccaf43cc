"""One example of each answer, for OpenAPI and the reference. They are values of the real types, so they cannot rot."""

from __future__ import annotations

from fathom.server.answers import (
    Coverage,
    Edge,
    EdgeAnswer,
    Edges,
    Events,
    EventsOfNode,
    Gap,
    Identity,
    IngestState,
    Latency,
    Loss,
    Missing,
    Node,
    Point,
    Probe,
    Series,
    Status,
    StoreState,
    Window,
    Workload,
    Workloads,
)

_SINCE, _UNTIL = "2026-01-31T12:00:00Z", "2026-01-31T12:05:00Z"
_WINDOW = Window(
    _SINCE,
    _UNTIL,
    Coverage(0.9, 300.0, 270.0, [Gap("web-1", "2026-01-31T12:01:10Z", "2026-01-31T12:01:40Z")]),
)
_LOSS = [Loss("kernel", "tcp", "ring_full", "web-1", 12, 0, 18_204, 96)]
_LATENCY = Latency(42, 0.0187, 0.00041, 0.00072, 0.0021)
_IDENTITY = Identity("unit", "nginx.service", "", "", "", "web-1", "")
_EDGE = Edge(
    id="4611686018427387904",
    workload="unit/nginx.service",
    identity=_IDENTITY,
    direction="egress",
    peer="10.0.0.7",
    peer_address="10.0.0.7",
    protocol="TCP",
    port=5432,
    verdict="forwarded",
    reason="",
    connections=42,
    failures=0,
    bytes_sent=18_204,
    bytes_received=902_113,
    packets_sent=311,
    packets_received=702,
    retransmits=1,
    latency=_LATENCY,
    first_seen=_SINCE,
    last_seen="2026-01-31T12:04:50Z",
)

EDGES = Edges(items=[_EDGE], next_cursor="", window=_WINDOW, loss=_LOSS)
EDGE = EdgeAnswer(items=[_EDGE], window=_WINDOW, loss=_LOSS)
WORKLOADS = Workloads(
    items=[
        Workload(
            workload="unit/nginx.service",
            identity=_IDENTITY,
            peers=9,
            edges=11,
            connections=420,
            failures=3,
            bytes_sent=1_820_400,
            bytes_received=902_113,
            packets_sent=3_110,
            packets_received=2_702,
            retransmits=4,
            latency=_LATENCY,
            first_seen=_SINCE,
            last_seen="2026-01-31T12:04:50Z",
        )
    ],
    window=_WINDOW,
    loss=_LOSS,
)
SERIES = Series(
    items=[
        Point(
            time=_SINCE,
            connections=9,
            failures=0,
            bytes_sent=4_100,
            bytes_received=200_113,
            packets_sent=70,
            packets_received=160,
            retransmits=0,
            latency=Latency(9, 0.0037, 0.0004, 0.0007, 0.0009),
        )
    ],
    window=_WINDOW,
    loss=_LOSS,
    step=10,
)
EVENTS = Events(
    items=[
        {
            "kind": "tcp",
            "protocol": "TCP",
            "time": "2026-01-31T12:04:58.123456Z",
            "event": "closed",
            "direction": "egress",
            "local_address": "10.0.0.4",
            "local_port": 41822,
            "remote_address": "10.0.0.7",
            "remote_port": 5432,
            "bytes_sent": 433,
            "bytes_received": 21_004,
            "pid": 812,
            "comm": "nginx",
            "owner_source": "connect",
            "workload": "nginx.service",
            "workload_kind": "unit",
            "node": "web-1",
        }
    ],
    window=_WINDOW,
    loss=_LOSS,
    nodes=[EventsOfNode("web-1", 1, "2026-01-31T11:20:00Z", 0)],
    missing=[Missing("web-2", "not connected")],
)
STATUS = Status(
    items=[
        Node(
            node="web-1",
            state="ok",
            problems=[],
            connected=True,
            version="0.1.0",
            boot="9f2c",
            first_seen="2026-01-30T08:00:00Z",
            last_seen=_UNTIL,
            batches=10_080,
            clock_skew=0.002,
            waiting_batches=0,
            waiting_bytes=0,
            interval=10,
            probes=[Probe("tcp", True, "", 0.01, 120_481, {}), Probe("flow", True, "", 0.02, 40_113, {})],
        )
    ],
    window=_WINDOW,
    loss=[],
    state="ok",
    problems=[],
    version="0.1.0",
    started="2026-01-30T08:00:00Z",
    retention=604_800,
    store=StoreState("sqlite", "b1946ac9", True, 1_204, 18_204_991, ["2026-01-30", "2026-01-31"], []),
    ingest=IngestState(10_080, 2, 1_204_113, 1_204, 0, 0, 0),
    streams=1,
)
STREAM = (
    'event: nodes\ndata: {"connected":["web-1"],"missing":[]}\n\n'
    'id: 1\ndata: {"time":"2026-01-31T12:04:58.123456Z","kind":"tcp","event":"closed","node":"web-1"}\n\n'
    'event: loss\ndata: {"node":"web-1","events":12,"reason":"slow_reader"}\n\n'
    ": alive\n\n"
)
