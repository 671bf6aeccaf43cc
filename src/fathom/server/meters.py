"""The server's own metrics: plain counters, rendered as Prometheus text. It names no workload and no node.

Format: Prometheus text exposition format 0.0.4. Counters are touched from the event loop only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Series of losses: agents say the words, so they are bounded here.
_MAX_LOSSES = 200
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Duration:
    """A histogram of seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS_S) + 1))
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.buckets[bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum += seconds


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
    lines: list[str] = []

    def put(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> None:
        lines.append(f"# HELP {name} {text}\n# TYPE {name} {kind}")
        lines.extend(
            f"{name}{labels} {value:g}" if isinstance(value, float) else f"{name}{labels} {value}"
            for labels, value in samples
        )

    def one(name: str, kind: str, text: str, value: float) -> None:
        put(name, kind, text, [("", value)])

    put(
        "fathom_server_requests_total",
        "counter",
        "Requests answered.",
        [(_labels(method=m, route=r, status=str(s)), n) for (m, r, s), n in sorted(meters.requests.items())],
    )
    put(
        "fathom_server_requests_refused_total",
        "counter",
        "Requests refused before any route, by reason.",
        [(_labels(reason=reason), n) for reason, n in sorted(meters.refused.items())],
    )
    _durations(
        lines,
        "fathom_server_request_duration_seconds",
        "Time to answer.",
        {_inner(route=route): d for route, d in sorted(meters.durations.items())},
    )
    one("fathom_server_requests_in_progress", "gauge", "Requests under way.", meters.requests_now)
    one("fathom_server_streams", "gauge", "Live streams open.", meters.streams)
    one("fathom_server_stream_events_total", "counter", "Live events sent to readers.", meters.stream_events)
    one(
        "fathom_server_stream_events_dropped_total",
        "counter",
        "Live events dropped for slow readers.",
        meters.stream_dropped,
    )
    one("fathom_server_ingest_batches_total", "counter", "Batches that the store has.", meters.batches)
    one("fathom_server_ingest_duplicates_total", "counter", "Batches that were there before.", meters.duplicates)
    one("fathom_server_ingest_facts_total", "counter", "Facts in batches that the store has.", meters.facts)
    one("fathom_server_ingest_edges_total", "counter", "Edges in batches that the store has.", meters.edges)
    one("fathom_server_ingest_waiting_batches", "gauge", "Batches that wait for the writer.", meters.batches_waiting)
    put(
        "fathom_server_ingest_refused_total",
        "counter",
        "Batches refused: busy is temporary, invalid is for good.",
        [(_labels(reason="busy"), meters.batches_busy), (_labels(reason="invalid"), meters.batches_invalid)],
    )
    _durations(lines, "fathom_server_ingest_write_duration_seconds", "Time to write a batch.", {"": meters.write})
    put(
        "fathom_server_loss_total",
        "counter",
        "Losses told by agents, in events, flows or facts.",
        [(_labels(hop=h, probe=p, reason=r), n) for (h, p, r), n in sorted(meters.losses.items())],
    )
    one("fathom_server_rollups_total", "counter", "Hours rolled up.", meters.rolled)
    one(
        "fathom_server_maintenance_failures_total",
        "counter",
        "Turns of maintenance that failed.",
        meters.maintenance_failed,
    )
    one("fathom_server_nodes_connected", "gauge", "Agents connected.", now.nodes_connected)
    one("fathom_server_store_writable", "gauge", "1 if the store can be written.", int(now.store_writable))
    one("fathom_server_store_edges", "gauge", "Edges known to the store.", now.store_edges)
    one("fathom_server_store_bytes", "gauge", "Bytes of the store on disk.", now.store_bytes)
    one("fathom_server_start_time_seconds", "gauge", "Start of the server, epoch seconds.", round(now.started_s))
    return "\n".join(lines) + "\n"


def _durations(lines: list[str], name: str, text: str, by: dict[str, Duration]) -> None:
    lines.append(f"# HELP {name} {text}\n# TYPE {name} histogram")
    for inner, duration in by.items():
        comma = "," if inner else ""
        total = 0
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), duration.buckets, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{inner}{comma}le="{bound}"}} {total}')
        braces = f"{{{inner}}}" if inner else ""
        lines.append(f"{name}_sum{braces} {duration.sum:.9g}")
        lines.append(f"{name}_count{braces} {total}")


def _labels(**labels: str) -> str:
    return f"{{{_inner(**labels)}}}"


def _inner(**labels: str) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
