"""What generated policies let through, worked out from their evidence alone, one flow at a time.

Whether the documents themselves say the same is what the tests ask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from fathom.policy.generate import Evidence, Generated
from fathom.policy.inventory import Inventory, Pod

WORKLOADS = "fathom.dev/workloads"


def name_of(doc: Any) -> str:
    """``ns/name`` of a document."""
    return f"{doc['metadata']['namespace']}/{doc['metadata']['name']}"


def workload(pod: Pod) -> str:
    """``ns/Kind/name``."""
    return f"{pod.namespace}/{pod.workload[0]}/{pod.workload[1]}"


def subject_pods(inventory: Inventory, doc: Any) -> list[str]:
    """``ns/pod`` of the pods that a document is for."""
    workloads = doc["metadata"]["annotations"][WORKLOADS].split()
    return sorted(
        {
            f"{pod.namespace}/{pod.name}"
            for pod in inventory.records.pods
            if workload(pod) in workloads and not pod.host_network
        }
    )


class Rules:
    """What the evidence says that generated policies allow. ``names(address, time)``: DNS names of an address then."""

    def __init__(
        self, found: Generated, inventory: Inventory, names: Callable[[str, int], Iterable[str]] = lambda *_: ()
    ) -> None:
        self._cilium = any(doc["kind"] == "CiliumNetworkPolicy" for doc in found.documents)
        self._names = names
        self._policies = {pod: name_of(doc) for doc in found.documents for pod in subject_pods(inventory, doc)}
        self._rules: dict[tuple[str, str], list[Evidence]] = defaultdict(list)
        for rule in found.evidence:
            self._rules[rule.policy, rule.direction].append(rule)

    def verdict(self, src: Pod | str, dst: Pod | str, port: str, time: int = 0) -> str:
        """As VERDICTS has it; ends are pods that are not on the host's network, or addresses outside; ``TCP/80``."""
        if isinstance(src, Pod) and isinstance(dst, Pod) and (src.namespace, src.name) == (dst.namespace, dst.name):
            return "allowed"
        sides = [self._side("egress", src, dst, port, time), self._side("ingress", dst, src, port, time)]
        return {(1, 1): "allowed", (0, 1): "denied-egress", (1, 0): "denied-ingress", (0, 0): "denied-both"}[
            int(sides[0]), int(sides[1])
        ]

    def _side(self, direction: str, mine: Pod | str, theirs: Pod | str, port: str, time: int) -> bool:
        policy = self._policies.get(f"{mine.namespace}/{mine.name}") if isinstance(mine, Pod) else None
        if policy is None:
            return True
        return any(
            _has(rule.ports, port) and self._holds(rule.peer, theirs, time) for rule in self._rules[policy, direction]
        )

    def _holds(self, peer: str, end: Pod | str, time: int) -> bool:
        words = peer.split()
        blocks = [ip_network(word) for word in words if word[0].isdigit() or ":" in word.partition("/")[0]]
        if isinstance(end, Pod):
            if not blocks:
                return workload(end) in words or f"{end.namespace}/*" in words
            return not self._cilium and any(ip_address(one) in block for block in blocks for one in end.addresses)
        if words[0] == "nodes" and self._cilium:
            return False
        return any(ip_address(end) in block for block in blocks) or peer in self._names(end, time)


def _has(ports: Iterable[str], port: str) -> bool:
    protocol, _, number = port.partition("/")
    for text in ports:
        word, _, span = text.partition("/")
        first, _, last = span.partition("-")
        if word == protocol and int(first) <= int(number) <= int(last or first):
            return True
    return False
