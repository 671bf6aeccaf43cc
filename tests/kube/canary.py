"""When a change of policies is in force: a pod on each node whose own policy changes last, watched from outside."""

from __future__ import annotations

import socket
import time

import yaml
from kube_cluster import PATIENCE_S, Cluster

PORTS = (8080, 8081)
PODS = """
apiVersion: v1
kind: Namespace
metadata: {name: canary}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: canary, namespace: canary}
spec:
  selector: {matchLabels: {app: canary}}
  template:
    metadata: {labels: {app: canary}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: canary
        image: fathom.test/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'agnhost netexec --http-port=8081 --udp-port=9 & exec agnhost netexec --http-port=8080']
"""


class Canary:
    """The enforcer of a node sees changes in the order in which they were made, and puts all that it knows in force at
    once. So when it shows the canary's change, which swaps the one of two ports that is open, it has all before it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.changes = 0
        cluster.apply(yaml.safe_load_all(PODS))
        cluster.kubectl("-n", "canary", "rollout", "status", "daemonset/canary", "--timeout=60s")
        pods = cluster.items("pods", "--field-selector=metadata.namespace=canary")
        self.addresses = [pod["status"]["podIP"] for pod in pods]
        assert len(self.addresses) == 2
        self.wait()

    def wait(self) -> float:
        """Change the canary's policy and wait until each node shows it; how long that took, in seconds."""
        begin = time.monotonic()
        self.changes += 1
        shown, hidden = PORTS[self.changes % 2], PORTS[(self.changes + 1) % 2]
        spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": shown}]}]}
        meta = {"name": "canary", "namespace": "canary"}
        self.cluster.apply(
            [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}]
        )
        while not all(is_open(one, shown) and not is_open(one, hidden) for one in self.addresses):
            waited = time.monotonic() - begin
            assert waited < PATIENCE_S, f"no policy in force after {waited:.0f} s\n{self.cluster.logs()}"
            time.sleep(0.1)
        return time.monotonic() - begin


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True
