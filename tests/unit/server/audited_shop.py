"""A small shop whose traffic is audited: pods, policies, and batches of one node."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fathom.events.batches import Batch, BatchId, Clock, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.policy.inventory import Namespace, Pod, Records
from fathom.server.inventories import FixedInventories

#: 2026-01-31T12:00:00Z, as in ``conftest``.
NOW = 1_769_860_800
NS = 1_000_000_000
WEB, DB, OPS, OUTSIDE = "10.0.0.1", "10.0.0.2", "10.0.0.3", "198.51.100.7"
_NAMES = {WEB: "web", DB: "db", OPS: "ops"}

WEB_TO_DB = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
"""
OPS_TO_DB = WEB_TO_DB.replace("app: web", "app: ops").replace("name: db", "name: ops")
UNCLEAR = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: odd, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: ops}}, sneakySelector: {}}]}]
"""
BOTH = f"{WEB_TO_DB}---\n{OPS_TO_DB}"


def records(*, absent: tuple[str, ...] = ()) -> Records:
    """The shop's pods."""
    pods = [
        Pod("shop", f"{name}-1", {"app": name}, (ip,), "n1", workload=("Deployment", name))
        for ip, name in _NAMES.items()
        if name not in absent
    ]
    return Records(namespaces=[Namespace("shop", {})], pods=pods)


def inventories(**given: Any) -> FixedInventories:
    """The shop's pods, for every cluster."""
    return FixedInventories(records(**given))


def edge(src: str, dst: str, port: int = 5432, *, direction: str = "egress", **given: Any) -> Edge:
    """From one address to another, as the node of the first (or, ``ingress``, of the second) sees it."""
    mine, peer = (src, dst) if direction == "egress" else (dst, src)
    name = _NAMES[mine]
    who = Workload(
        cluster=given.pop("cluster", ""), node="n1", namespace="shop", kind="Deployment", name=name, pod=f"{name}-1"
    )
    fields = {"protocol": "TCP", **given}
    return Edge(who, direction, peer, peer, port=port, **fields)


class Node:
    """Makes the batches of one node: ``(edge, seconds before NOW, counters)`` a fact."""

    def __init__(self, name: str = "n1", boot: str = "b1") -> None:
        self.name, self.boot = name, boot
        self.sequence: Iterator[int] = itertools.count(1)

    def batch(self, *facts: tuple[Edge, int, dict[str, int]], sequence: int = 0) -> Batch:
        rows = np.zeros(len(facts), FACT)
        for row, (of, ago, counters) in zip(rows, facts, strict=True):
            row["edge"], row["bucket"] = of.id, NOW - ago
            for name, value in counters.items():
                row[name] = value
        latest = min((ago for _, ago, _ in facts), default=10)
        observed = (Observed((NOW - 3_600) * NS, (NOW - latest + 10) * NS),)
        number = sequence or next(self.sequence)
        told = tuple(dict.fromkeys(fact[0] for fact in facts))
        return Batch(BatchId(self.name, self.boot, number), Clock(0, 0, NOW * NS), told, rows, (), observed)
