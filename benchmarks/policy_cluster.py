"""A made-up cluster of any size, its flows and its policies: the same for every policy benchmark, from one seed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from fathom.policy.documents import Document
from fathom.policy.flows import FLOW, Flows
from fathom.policy.inventory import ContainerPort, Inventory, Namespace, Node, Pod, Records
from fathom.policy.model import PolicySet
from fathom.policy.policysets import read
from fathom.policy.problems import Place

NODES = 200


def inventory(workloads: int, replicas: int, namespaces: int = 100) -> Inventory:
    """``workloads`` × ``replicas`` pods, spread over namespaces and nodes."""
    records = Records()
    records.namespaces = [Namespace(f"ns{n}", {"team": f"t{n % 7}"}) for n in range(namespaces)]
    records.nodes = [Node(f"node{n}", {}, (f"192.168.{n // 250}.{n % 250 + 1}",)) for n in range(NODES)]
    for w in range(workloads):
        for r in range(replicas):
            number = w * replicas + r
            labels = {"app": f"app{w}", "tier": ("web", "api", "db")[w % 3], "pod-template-hash": f"h{w}"}
            records.pods.append(
                Pod(
                    f"ns{w % namespaces}",
                    f"app{w}-{r}",
                    labels,
                    (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",),
                    f"node{number % NODES}",
                    ports=(ContainerPort("http", "TCP", 8080),),
                    workload=("Deployment", f"app{w}"),
                )
            )
    return Inventory(records)


def documents(count: int, workloads: int, namespaces: int = 100, seed: int = 1) -> list[dict[str, Any]]:
    """One NetworkPolicy for each of ``count`` workloads: three rules each way, one with a block, and DNS."""
    rng = random.Random(seed)
    return [_policy(w, workloads, namespaces, rng) for w in range(count)]


def _policy(w: int, workloads: int, namespaces: int, rng: random.Random) -> dict[str, Any]:
    def peer() -> dict[str, Any]:
        other = rng.randrange(workloads)
        space = {"matchLabels": {"kubernetes.io/metadata.name": f"ns{other % namespaces}"}}
        return {"namespaceSelector": space, "podSelector": {"matchLabels": {"app": f"app{other}"}}}

    tier = {"podSelector": {"matchLabels": {"tier": "web"}}}
    ingress = [
        {"from": [peer(), peer()], "ports": [{"port": 80}, {"port": "http"}]},
        {"from": [tier], "ports": [{"port": 9000, "endPort": 9100}]},
        {"from": [{"ipBlock": {"cidr": f"172.{16 + w % 16}.0.0/16", "except": [f"172.{16 + w % 16}.7.0/24"]}}]},
    ]
    dns = {"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": p} for p in ("UDP", "TCP")]}
    egress = [{"to": [peer(), peer(), peer()], "ports": [{"port": 80}, {"port": 443}]}, {"to": [tier]}, dns]
    spec = {"podSelector": {"matchLabels": {"app": f"app{w}"}}, "policyTypes": ["Ingress", "Egress"]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"app{w}", "namespace": f"ns{w % namespaces}"},
        "spec": {**spec, "ingress": ingress, "egress": egress},
    }


def policies(items: list[dict[str, Any]]) -> PolicySet:
    """The documents as a policy set."""
    return read(Document(Place("made-up", number), item) for number, item in enumerate(items))


def flows(count: int, inventory_: Inventory, seed: int = 2, *, by_workload: bool = False) -> Flows:
    """``count`` flows between pods (or their workloads), a tenth of them to or from addresses outside."""
    rng = np.random.default_rng(seed)
    pods = inventory_.records.pods
    if by_workload:
        names = sorted({f"{p.namespace}/{p.workload[0]}/{p.workload[1]}" for p in pods})
    else:
        names = [f"{p.namespace}/{p.name}" for p in pods]
    outside = [f"172.{16 + n % 16}.{n // 16 % 256}.9" for n in range(2000)]
    strings = ["", *names, *outside]
    rows = np.zeros(count, FLOW)
    for end in ("src", "dst"):
        picked = rng.integers(1, len(names) + 1, count)
        away = rng.random(count) < 0.05
        rows[end] = np.where(away, rng.integers(len(names) + 1, len(strings), count), picked)
    rows["protocol"] = rng.choice([6, 17], count, p=[0.9, 0.1])
    rows["port"] = rng.choice([53, 80, 443, 8080, 9050, 5432], count)
    rows["oriented"] = True
    rows["count"] = 1
    rows["first"], rows["last"] = 1_700_000_000, 1_700_600_000
    return Flows(rows, strings)


def steady_flows(count: int, inventory_: Inventory, peers: int = 30, seed: int = 4) -> Flows:
    """``count`` flows as clusters have them: each workload speaks to ``peers`` others, the same all the time, to each
    over one port or two; a pod of each end at random. As edges of the store, numbered."""
    rng = np.random.default_rng(seed)
    pods = inventory_.records.pods
    names = [f"{p.namespace}/{p.name}" for p in pods]
    workloads = len({p.workload for p in pods})
    replicas = len(pods) // workloads
    partners = rng.integers(0, workloads, (workloads, peers))
    ports = rng.choice([80, 443, 8080, 9050, 5432], (workloads, 2))
    src = rng.integers(0, workloads, count)
    dst = partners[src, rng.integers(0, peers, count)]
    rows = np.zeros(count, FLOW)
    rows["src"] = src * replicas + rng.integers(0, replicas, count) + 1
    rows["dst"] = dst * replicas + rng.integers(0, replicas, count) + 1
    rows["port"] = ports[dst, (rng.random(count) < 0.2).astype(int)]
    rows["protocol"], rows["oriented"], rows["count"] = 6, True, 1
    rows["edge"] = np.arange(1, count + 1)
    rows["first"], rows["last"] = 1_700_000_000, 1_700_600_000
    return Flows(rows, ["", *names])
