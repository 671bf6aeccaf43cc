"""The server's own metrics: plain counters, rendered as Prometheus text. It names no workload and no node; those of
the audit name policies.

Counters are touched from the event loop only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fathom.server import audit_meters
from fathom.server.audit_meters import AuditMeters
from fathom.server.exposition import Duration, Page, inner, labels

#: Series of losses: agents say the words, so they are bounded here.
_MAX_LOSSES = 200


@dataclass(slots=True)
class Meters:
    """Everything that the server counts about itself, since its start."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)  # method, route, status
    durations: dict[str, Duration] = field(default_factory=dict)  # by route
    refused: Counter[str] = field(default_factory=Counter)  # requests refused before a route, by reason
    requests_now: int = 0
    streams: int = 0
    stream_events: int = 0
    stream_dropped: int = 0  # told to readers, wherever they were dropped
    batches: int = 0
    duplicates: int = 0
    facts: int = 0
    edges: int = 0
    batches_busy: int = 0
    batches_invalid: int = 0
    batches_waiting: int = 0
    write: Duration = field(default_factory=Duration)
    losses: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # hop, probe, reason
    rolled: int = 0
    maintenance_failed: int = 0
    audit: AuditMeters = field(default_factory=AuditMeters)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request to ``route`` (the pattern, never the path)."""
        self.requests[method, route, status] += 1
        self.durations.setdefault(route, Duration()).add(seconds)

    def lost(self, hop: str, probe: str, reason: str, count: int) -> None:
        """Count what an agent told as lost; words beyond ``_MAX_LOSSES`` different ones become ``other``."""
        key = (hop, probe, reason)
        if key not in self.losses and len(self.losses) >= _MAX_LOSSES:
            key = ("other", "", "other")
        self.losses[key] += count


@dataclass(frozen=True, slots=True)
class Reading:
    """What is not counted but read when somebody asks."""

    nodes_connected: int
    store_writable: bool
    store_edges: int
    store_bytes: int
    started_s: float


def render(meters: Meters, now: Reading) -> str:
    """All metrics as text."""
    page = Page("fathom_server_")
    _put_requests(page, meters)
    _put_ingest(page, meters)
    _put_state(page, meters, now)
    return page.text + audit_meters.render(meters.audit)


def _put_requests(page: Page, meters: Meters) -> None:
    answered = [(labels(method=m, route=r, status=str(s)), n) for (m, r, s), n in sorted(meters.requests.items())]
    page.many("requests_total", "Requests answered.", answered)
    refused = [(labels(reason=reason), n) for reason, n in sorted(meters.refused.items())]
    page.many("requests_refused_total", "Requests refused before any route, by reason.", refused)
    times = {inner(route=route): duration for route, duration in sorted(meters.durations.items())}
    page.durations("request_duration_seconds", "Time to answer.", times)
    page.one("requests_in_progress", "Requests under way.", meters.requests_now)
    page.one("streams", "Live streams open.", meters.streams)
    page.one("stream_events_total", "Live events sent to readers.", meters.stream_events)
    page.one("stream_events_dropped_total", "Live events that readers were told they missed.", meters.stream_dropped)


def _put_ingest(page: Page, meters: Meters) -> None:
    page.one("ingest_batches_total", "Batches that the store has.", meters.batches)
    page.one("ingest_duplicates_total", "Batches that were there before.", meters.duplicates)
    page.one("ingest_facts_total", "Facts in batches that the store has.", meters.facts)
    page.one("ingest_edges_total", "Edges in batches that the store has.", meters.edges)
    page.one("ingest_waiting_batches", "Batches that wait for the writer.", meters.batches_waiting)
    refused = [(labels(reason="busy"), meters.batches_busy), (labels(reason="invalid"), meters.batches_invalid)]
    page.many("ingest_refused_total", "Batches refused: busy is temporary, invalid is for good.", refused)
    page.durations("ingest_write_duration_seconds", "Time to write a batch, waiting included.", {"": meters.write})
    losses = [(labels(hop=h, probe=p, reason=r), n) for (h, p, r), n in sorted(meters.losses.items())]
    page.many("loss_total", "Losses told by agents, in events, flows or facts.", losses)


def _put_state(page: Page, meters: Meters, now: Reading) -> None:
    page.one("rollups_total", "Hours rolled up.", meters.rolled)
    page.one("maintenance_failures_total", "Turns of maintenance that failed.", meters.maintenance_failed)
    page.one("nodes_connected", "Agents connected.", now.nodes_connected)
    page.one("store_writable", "1 if the store can be written.", int(now.store_writable))
    page.one("store_edges", "Edges known to the store.", now.store_edges)
    page.one("store_bytes", "Bytes of the store on disk.", now.store_bytes)
    page.one("start_time_seconds", "Start of the server, epoch seconds.", round(now.started_s))
