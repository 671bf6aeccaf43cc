"""Settings of the node agent: the loop, its bounds and its listener. Probes and link have groups of their own."""

from __future__ import annotations

from dataclasses import dataclass

from fathom.settings import setting


@dataclass(frozen=True)
class AgentSettings:
    """Everything that shapes the node loop."""

    node: str = setting("", "Name of this node; empty: the host's name")
    cluster: str = setting("", "Name of the cluster that the node belongs to; empty outside a cluster")
    interval_s: int = setting(10, "Length of one fact's interval, aligned to wall time", unit="s", minimum=1)
    tick_ms: int = setting(
        100, "Time between two looks at the rings; one that gets half full is looked at sooner", unit="ms", minimum=5
    )
    sockets_interval_s: int = setting(
        10, "Time between two readings of open connections (their bytes and owners)", unit="s", minimum=1
    )
    max_edges: int = setting(
        16_384, "Edges in one interval; those above are merged into a peer called 'other'", unit="edges", minimum=64
    )
    max_series: int = setting(
        10_000, "Metric series; workloads above are merged into one called 'other'", unit="series", minimum=100
    )
    max_workloads: int = setting(4_096, "Workloads remembered at a time", unit="workloads", minimum=16)
    names_kept_s: int = setting(600, "Time for which the name of a dead process or cgroup is kept", unit="s", minimum=1)
    lookups_per_s: int = setting(
        500, "New processes looked up under /proc in a second; above, the kernel's name is used", unit="1/s", minimum=1
    )
    recent_bytes: int = setting(1 << 20, "Memory for recent raw events, for each probe", unit="bytes", minimum=4096)
    series_s: int = setting(300, "Time for which the node keeps its own series", unit="s", minimum=10)
    top_edges: int = setting(100, "Busiest edges kept in the node's own series", unit="edges", minimum=1)
    own_traffic: bool = setting(False, "Show Fathom's own traffic too, as process/fathom")
    own_root_pid: int = setting(0, "The process whose whole tree is Fathom; 0: this process", unit="pid", minimum=0)
    memory_budget_mib: int = setting(
        96, "Resident memory above which recent events are given up", unit="MiB", minimum=16
    )
    api_host: str = setting("127.0.0.1", "Address of the local API and /metrics")
    api_port: int = setting(8602, "Port of the local API and /metrics; 0: any free one", unit="port", minimum=0)
    api_hosts: str = setting("", "Host names, separated by commas, that requests may use besides local ones")
    subscriber_queue: int = setting(
        1_000, "Events that wait for one slow live subscriber; more are counted and told", unit="events", minimum=1
    )
    max_subscribers: int = setting(8, "Live subscribers at a time", unit="subscribers", minimum=0)
