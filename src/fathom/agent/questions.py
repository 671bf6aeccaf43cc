"""What can be asked of a running agent, and what it answers: plain messages for the local API and for the link.

The types are tagged, so ``msgspec`` encodes and checks a ``Question`` or an ``Answer`` as it is. An answer never
hides what it left out: ``truncated``, ``overwritten`` and ``lost`` say it.
"""

from __future__ import annotations

from typing import Any

import msgspec

#: The most events that one answer holds.
MAX_EVENTS = 10_000


class EventFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events; an empty or zero field matches all. Fields are joined by AND.

    ``kind`` is a probe's name (``tcp``, ``flow``). ``comm`` is the process name as the kernel has it. ``address`` (an
    address or a CIDR) and ``port`` match either side. ``workload`` is ``name`` or ``kind/name``.
    """

    kind: str = ""
    pid: int = 0
    comm: str = ""
    address: str = ""
    port: int = 0
    workload: str = ""


class EventsQuestion(msgspec.Struct, frozen=True, tag="events", forbid_unknown_fields=True):
    """Recent raw events, newest first, of wall time in ``[since_ns, until_ns)`` (epoch ns; 0 = open)."""

    filter: EventFilter = EventFilter()
    since_ns: int = 0
    until_ns: int = 0
    limit: int = 100


class SeriesQuestion(msgspec.Struct, frozen=True, tag="series", forbid_unknown_fields=True):
    """The last minutes on this node: totals per interval and the busiest edges; ``top`` edges at most."""

    top: int = 20


class StatusQuestion(msgspec.Struct, frozen=True, tag="status", forbid_unknown_fields=True):
    """How the agent is."""


Question = EventsQuestion | SeriesQuestion | StatusQuestion


class EventsAnswer(msgspec.Struct, frozen=True, tag="events"):
    """``events`` are JSON-ready, newest first. ``truncated``: more matched than ``limit``. ``oldest_ns`` is the wall
    time (epoch ns) from which on the rings hold all that was drained; ``overwritten`` counts what older events they
    had to give up since start."""

    events: list[dict[str, Any]]
    truncated: bool
    oldest_ns: int
    overwritten: int


class SeriesTotals(msgspec.Struct, frozen=True):
    """All edges together in one interval (``bucket`` in epoch seconds)."""

    bucket: int
    edges: int
    connections: int
    failures: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    retransmits: int


class SeriesEdge(msgspec.Struct, frozen=True):
    """One of the busiest edges: its identity and ``points`` of (bucket, connections, failures, bytes sent, bytes
    received) for the intervals in which it was among the busiest."""

    id: str
    workload: str
    direction: str
    peer: str
    protocol: str
    port: int
    verdict: str
    points: list[tuple[int, int, int, int, int]]


class SeriesAnswer(msgspec.Struct, frozen=True, tag="series"):
    """The node's own series, oldest interval first."""

    interval_s: int
    totals: list[SeriesTotals]
    edges: list[SeriesEdge]


class ProbeStatus(msgspec.Struct, frozen=True):
    """One probe: attached or why not, how full its ring or map was, and what it lost since start by reason."""

    name: str
    attached: bool
    detail: str = ""
    fill: float = 0.0
    records: int = 0
    losses: dict[str, int] = msgspec.field(default_factory=dict)


class StatusAnswer(msgspec.Struct, frozen=True, tag="status"):
    """How the agent is. ``state``: ``ok``, ``degraded`` (it works, something is missing: see ``problems``) or
    ``failed`` (nothing is observed)."""

    state: str
    problems: list[str]
    node: str
    boot: str
    version: str
    started_ns: int
    interval_s: int
    probes: list[ProbeStatus]
    sink_ok: bool
    sink_detail: str
    batches: int
    queued: int
    facts: int
    edges: int
    workloads: int
    own_excluded: int
    rss_bytes: int
    cpu_ns: int
    clock_steps: int


Answer = EventsAnswer | SeriesAnswer | StatusAnswer


def check(question: EventsQuestion) -> str:
    """What is wrong with ``question``, for a person; ``""`` if nothing is."""
    if not 1 <= question.limit <= MAX_EVENTS:
        return f"limit must be from 1 to {MAX_EVENTS}"
    if not 0 <= question.filter.port <= 65_535:
        return "port must be from 0 to 65535"
    if question.filter.pid < 0:
        return "pid must not be negative"
    if question.until_ns and question.until_ns < question.since_ns:
        return "until is before since"
    return ""
