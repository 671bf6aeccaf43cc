"""Settings of the server: where it listens, where its data lies, what it bears. The link has a group of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fathom.settings import setting


@dataclass(frozen=True)
class ServerSettings:
    """Everything that shapes the server but the link (``fathom.link.settings.LinkServerSettings``)."""

    listen: str = setting("127.0.0.1:8600", "Address of REST, host:port; port 0 takes a free one")
    data_dir: str = setting("/var/lib/fathom", "Directory of the store's files and the keys; made with mode 0700")
    store: str = setting("", "URL of the store; empty: SQLite files under the data directory")
    hosts: str = setting(
        "",
        "Names, separated by commas, that the Host header may hold besides IP addresses of loopback and localhost; "
        "when listening on another address and empty, every name is taken",
    )
    retention_days: int = setting(7, "Time for which facts are kept, in whole days", unit="d", minimum=1)
    hours_retention_days: int = setting(
        90, "Time for which hourly roll-ups are kept, in whole days; at least that of the facts", unit="d", minimum=1
    )
    max_window_days: int = setting(
        7, "Longest window that one question may span; at most what is kept", unit="d", minimum=1
    )
    coverage_grace_s: int = setting(
        30, "Age below which an absent report is taken as still on its way, not as a gap", unit="s", minimum=0
    )
    maintenance_s: int = setting(
        60, "Time between two looks at what is to be rolled up or dropped", unit="s", minimum=1
    )
    ingest_queue: int = setting(
        64, "Batches that wait for the store's one writer; above, agents are told to wait", unit="batches", minimum=1
    )
    clock_skew_s: float = setting(
        5.0, "Difference of a node's clock from the server's above which status tells it", unit="s", minimum=0.1
    )
    query_threads: int = setting(4, "Threads that read the store", unit="threads", minimum=1)
    max_requests: int = setting(64, "Requests under way at once; above, 503", unit="requests", minimum=1)
    max_connections: int = setting(512, "Open connections; above, 503", unit="connections", minimum=1)
    request_timeout_s: float = setting(30.0, "Time for one answer; above, 504", unit="s", minimum=0.05)
    header_timeout_s: float = setting(
        10.0, "Time in which a connection must have sent the head of a request", unit="s", minimum=0.05
    )
    node_timeout_s: float = setting(5.0, "Time that a node has to answer a live question", unit="s", minimum=0.05)
    max_body_bytes: int = setting(1 << 20, "Largest body of a request; above, 413", unit="bytes", minimum=1024)
    max_query_bytes: int = setting(8192, "Longest query string; above, 414", unit="bytes", minimum=256)
    max_failures: int = setting(
        20, "Wrong keys a minute from one address; above, 429 (a right key always gets through)", minimum=1
    )
    max_streams: int = setting(32, "Live streams at once; above, 503", unit="streams", minimum=0)
    heartbeat_s: float = setting(15.0, "Time between two signs of life in a silent stream", unit="s", minimum=0.05)
    policy_threads: int = setting(2, "Threads that work on questions about policy", unit="threads", minimum=1)
    max_policy_requests: int = setting(
        8, "Questions about policy under way or waiting; above, 503", unit="requests", minimum=1
    )
    policy_timeout_s: float = setting(240.0, "Time for one answer about policy; above, 504", unit="s", minimum=0.05)
    max_policy_flows: int = setting(
        2_000_000, "Recorded flows that one question about policy may be about; above, 422", unit="flows", minimum=1
    )
    max_answer_bytes: int = setting(64 << 20, "Largest answer about policy; above, 422", unit="bytes", minimum=1024)
    max_policy_bytes: int = setting(
        8 << 20, "Largest body of a question about policy; above, 413", unit="bytes", minimum=1024
    )
    max_policies: int = setting(1_000, "Policies in one set that is sent; above, 422", unit="policies", minimum=1)
    max_recording_bytes: int = setting(
        16 << 30, "Largest recording that is made; above, 422", unit="bytes", minimum=1 << 20
    )
    recording_reserve_bytes: int = setting(
        1 << 30, "Space of the data directory's disk that no recording takes; below, 503", unit="bytes", minimum=0
    )
    recording_timeout_s: float = setting(
        3600.0, "Time to make and send one recording; above, 504, or it is cut off", unit="s", minimum=0.05
    )
    audit_sets: int = setting(32, "Policy sets that can be registered for the audit", unit="sets", minimum=0)
    audit_series: int = setting(
        500, "Audited policies with metrics of their own; the others are counted as `other`", unit="policies", minimum=0
    )
    shutdown_s: int = setting(3, "Time that requests under way have to finish at the end", unit="s", minimum=0)
    log_format: str = setting("json", "Form of the log on stderr: json (an object a line) or text")
    log_level: str = setting("info", "Least severe that is logged: debug, info, warning, error")

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @property
    def longest_window_s(self) -> int:
        """Seconds that one question may span."""
        kept = max(self.retention_days, self.hours_retention_days)
        return 86_400 * min(self.max_window_days, kept)
