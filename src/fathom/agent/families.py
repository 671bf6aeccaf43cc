"""The metrics of the agent: every family with its type, labels and meaning, in one table.

Names follow the Prometheus conventions: prefix ``fathom_``, base units, ``_total`` for counters. No address and no port
is ever a label. The reference page is made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fathom.events.latency import BOUNDS_NS

#: Upper bounds of the latency buckets that Prometheus sees: some of those that facts have, so that counts are exact.
LATENCY_BOUNDS_NS = tuple(
    bound * 1000 for bound in (100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000)
)
#: For each of these, how many of the finer buckets lie below it.
LATENCY_CUTS = tuple(BOUNDS_NS.index(bound) + 1 for bound in LATENCY_BOUNDS_NS)

_WHO = ("workload", "workload_kind", "direction")
_WHERE = ("hop", "probe", "reason")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str

    def head(self) -> str:
        """Its HELP and TYPE lines (Prometheus text format 0.0.4)."""
        return f"# HELP {self.name} {self.text}\n# TYPE {self.name} {self.kind}\n"


CONNECTIONS = Family("fathom_tcp_connections_total", "counter", _WHO, "TCP connections that were opened.")
RETRANSMITS = Family("fathom_tcp_retransmits_total", "counter", _WHO, "TCP segments that were sent again.")
HANDSHAKE = Family("fathom_tcp_handshake_seconds", "histogram", _WHO, "Time that the TCP handshake took.")
FAILURES = Family(
    "fathom_tcp_connection_failures_total", "counter", (*_WHO, "reason"), "TCP connections that could not be opened."
)
BYTES_SENT = Family(
    "fathom_sent_bytes_total", "counter", (*_WHO, "protocol"), "Bytes sent: payload of TCP, packet lengths of the rest."
)
BYTES_RECEIVED = Family(
    "fathom_received_bytes_total",
    "counter",
    (*_WHO, "protocol"),
    "Bytes received: payload of TCP, packet lengths of the rest.",
)
PACKETS_SENT = Family(
    "fathom_sent_packets_total",
    "counter",
    (*_WHO, "protocol"),
    "Packets sent; of TCP, segments of connections that ended.",
)
PACKETS_RECEIVED = Family(
    "fathom_received_packets_total",
    "counter",
    (*_WHO, "protocol"),
    "Packets received; of TCP, segments of connections that ended.",
)

LOST_EVENTS = Family("fathom_lost_events_total", "counter", _WHERE, "Events or flows that were not counted.")
LOST_PACKETS = Family("fathom_lost_packets_total", "counter", _WHERE, "Packets of flows that were not counted.")
LOST_BYTES = Family("fathom_lost_bytes_total", "counter", _WHERE, "Bytes, both ways, that were not counted.")
PROBE_UP = Family("fathom_probe_up", "gauge", ("probe",), "1 if the probe is attached and read.")
PROBE_RECORDS = Family("fathom_probe_records_total", "counter", ("probe",), "Records read from the kernel.")
PROBE_FILL = Family("fathom_probe_fill_ratio", "gauge", ("probe",), "Highest use of the probe's ring or map, 0 to 1.")
MERGED = Family(
    "fathom_merged_observations_total", "counter", ("into",), "Observations merged into an edge or workload 'other'."
)
OWN_EXCLUDED = Family(
    "fathom_own_traffic_excluded_total", "counter", (), "Observations of Fathom's own traffic, left out."
)
OWN_EXCLUDED_BYTES = Family(
    "fathom_own_traffic_excluded_bytes_total", "counter", (), "Bytes, both ways, of Fathom's own traffic, left out."
)
FALLBACKS = Family(
    "fathom_identity_fallbacks_total", "counter", ("reason",), "Processes named by the kernel's name for them."
)
LOOKUPS = Family("fathom_identity_lookups_total", "counter", (), "Processes looked up under /proc.")
WORKLOADS = Family("fathom_workloads", "gauge", (), "Workloads remembered.")
EDGES = Family("fathom_edges", "gauge", (), "Edges in hand.")
FACTS = Family("fathom_facts_total", "counter", (), "Facts given to the link.")
BATCHES = Family("fathom_batches_total", "counter", (), "Batches given to the link.")
QUEUED = Family("fathom_link_queued_batches", "gauge", (), "Batches that no store has acknowledged yet.")
QUEUED_BYTES = Family("fathom_link_queued_bytes", "gauge", (), "Bytes of those batches.")
LINK_UP = Family("fathom_link_up", "gauge", (), "1 if batches reach a store now.")
RECENT = Family("fathom_recent_events", "gauge", ("probe",), "Recent events kept on the node.")
SUBSCRIBERS = Family("fathom_live_subscribers", "gauge", (), "Live subscribers.")
SUBSCRIBERS_LOST = Family("fathom_live_events_lost_total", "counter", (), "Live events that slow subscribers missed.")
REQUESTS = Family("fathom_api_requests_total", "counter", ("code",), "Requests to the local API by status.")
TURNS = Family("fathom_turns_total", "counter", (), "Turns of the node loop.")
CLOCK_STEPS = Family("fathom_clock_steps_total", "counter", (), "Steps of the wall clock.")
OVER_BUDGET = Family("fathom_memory_over_budget_total", "counter", (), "Times that memory was found over its budget.")
CPU = Family("fathom_process_cpu_seconds_total", "counter", (), "CPU time of the agent.")
RESIDENT = Family("fathom_process_resident_memory_bytes", "gauge", (), "Resident memory of the agent.")
STARTED = Family("fathom_process_start_time_seconds", "gauge", (), "When the agent started, epoch seconds.")
BUILD = Family("fathom_build_info", "gauge", ("version",), "Always 1; the version is in the label.")

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))


def page() -> str:
    """The reference page of the metrics (Markdown)."""
    lines = [
        "# Metrics of the agent",
        "",
        "`http://127.0.0.1:8602/metrics`, Prometheus text format. This page is made from `fathom.agent.families`.",
        "",
        "`workload` and `workload_kind` are those of the table of edges. Above `max_series` series, new workloads are",
        'counted under `workload="other"`. `direction` is `egress`, `ingress` or `unknown`.',
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.text} |")
    bounds = ", ".join(f"{bound / 1e9:g}" for bound in LATENCY_BOUNDS_NS)
    return "\n".join([*lines, "", f"Latency buckets (`le`, seconds): {bounds}.", ""])
