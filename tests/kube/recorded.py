"""Real traffic of the cluster, recorded by a real agent on this host and read back from the server's REST API.

All nodes share this host's kernel, so one agent sees every pod. It names a pod's process by its container; which pod
that is, the API server says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from installation import Installation, epoch, rfc3339
from kube_cluster import Cluster

from fathom.events.edges import Edge, Workload
from fathom.policy.flows import Flows, Seen, from_edges


@contextmanager
def recording(directory: Path) -> Iterator[Recording]:
    """An agent and a server that record from now on."""
    here = Installation(directory)
    try:
        here.start_both()
        yield Recording(here)
    finally:
        here.close()


class Recording:
    """What is recorded since it began."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.since = time.time()

    def edges(self) -> list[dict[str, Any]]:
        """Everything that was seen until now, as REST tells it."""
        now = time.time()
        self.installation.observed_until(now)
        asked: dict[str, Any] = {"since": rfc3339(self.since - 1), "until": rfc3339(now + 1), "limit": 1000}
        page = self.installation.get("edges", **asked)
        found = list(page["items"])
        while page["next_cursor"]:
            page = self.installation.get("edges", cursor=page["next_cursor"], **asked)
            found += page["items"]
        return found


def flows(edges: list[dict[str, Any]], cluster: Cluster) -> Flows:
    """The edges as flows; a container of a pod is that pod."""
    pods: dict[str, tuple[str, str]] = {}
    for pod in cluster.items("pods"):
        for status in pod["status"].get("containerStatuses", ()):
            name = (pod["metadata"]["namespace"], pod["metadata"]["name"])
            pods[status["containerID"].removeprefix("containerd://")] = name
    return from_edges(seen(item, pods) for item in edges)


def seen(item: dict[str, Any], pods: dict[str, tuple[str, str]]) -> Seen:
    who = item["identity"]
    workload = msgspec.convert(who, Workload)
    if workload.container in pods:
        space, pod = pods[workload.container]
        workload = msgspec.structs.replace(workload, namespace=space, kind="Pod", name=pod, pod=pod)
    edge = Edge(
        workload,
        item["direction"],
        item["peer"],
        item["peer_address"],
        item["protocol"],
        item["port"],
        item["verdict"],
        item["reason"],
    )
    count = item["connections"] or item["packets_sent"]
    return Seen(edge, count, epoch(item["first_seen"]), epoch(item["last_seen"]), int(item["id"]))
