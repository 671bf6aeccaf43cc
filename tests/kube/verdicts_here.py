"""What the engine says about probes, by the inventory of the live cluster, read as a user's would be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import engine
from kube_cluster import KINDS, Cluster, as_list
from probes import Probe
from reference_cluster import Doc

from fathom.policy import manifests, policysets
from fathom.policy.compile import compile_policies
from fathom.policy.decide import SideDecision, decide
from fathom.policy.evaluate import VERDICTS, evaluate
from fathom.policy.flows import Builder, Flows, protocol_number
from fathom.policy.model import PolicySet
from fathom.policy.resolve import resolve


class Here:
    """The engine with the cluster's inventory of now."""

    def __init__(self, cluster: Cluster) -> None:
        self.inventory = manifests.read_texts([("cluster.json", cluster.get(KINDS))])
        assert not self.inventory.records.problems, self.inventory.records.problems
        self.now = int(time.time())

    def flows(
        self, probes: Sequence[Probe], *, addresses: bool = False, more: Mapping[str, int] | None = None
    ) -> Flows:
        """The probes as flows of now, their ends by name or by address. ``more``: other fields of every flow."""
        builder = Builder()
        for probe in probes:
            ends = [end.address if addresses else end.flow for end in (probe.src, probe.dst)]
            builder.add(
                *ends, protocol_number(probe.transport), probe.port, first=self.now, last=self.now, **(more or {})
            )
        return builder.flows()

    def verdicts(self, policies: PolicySet, probes: Sequence[Probe], *, addresses: bool = False) -> list[str]:
        """The verdict of each probe, in words."""
        resolved = resolve(self.flows(probes, addresses=addresses), self.inventory)
        found = evaluate(compile_policies(policies, self.inventory), resolved)
        return [VERDICTS[number] for number in found.verdict.tolist()]

    def matched(self, documents: list[Doc], probes: Sequence[Probe]) -> Counter[str]:
        """How many probes matched a rule that has a feature of the API, by feature."""
        resolved = resolve(self.flows(probes), self.inventory)
        found: Counter[str] = Counter()
        for decision in decide(compile_policies(engine.policy_set(documents), self.inventory), resolved):
            mine: set[str] = set()
            for direction, side in (("ingress", decision.ingress), ("egress", decision.egress)):
                mine |= {f"{direction}: {feature}" for feature in _features(documents, direction, side)}
            found.update(mine)
        return found


def read_live(cluster: Cluster) -> tuple[PolicySet, list[Doc]]:
    """The policies of the cluster, as the API server has them, but for the canary's."""
    documents = [doc for doc in cluster.items("networkpolicies") if doc["metadata"]["namespace"] != "canary"]
    found = policysets.read_texts([("live.json", as_list(documents))])
    assert not [problem for problem in found.problems if problem.severity != "warning"], found.problems
    return found, documents


def _features(documents: list[Doc], direction: str, side: SideDecision) -> set[str]:
    """What the rules that matched are made of."""
    found: set[str] = set()
    for hit in side.rules:
        index = int(hit.place.path.rpartition("[")[2].rstrip("]"))
        rule = documents[hit.place.document]["spec"][direction][index] or {}
        peers, ports = rule.get("from") or rule.get("to") or [], rule.get("ports") or []
        found |= {"+".join(sorted(peer)) for peer in peers} or {"anybody"}
        found |= {"except" for peer in peers if "except" in peer.get("ipBlock", {})}
        found |= {
            item["operator"]
            for peer in peers
            for chosen in peer.values()
            for item in (chosen or {}).get("matchExpressions", ())
        }
        found |= {"several peers"} if len(peers) > 1 else set()
        found |= {_port_feature(port) for port in ports} or {"any port"}
    if side.policies and not side.rules:
        found.add("isolated")
    return found


def _port_feature(port: Doc) -> str:
    if "endPort" in port:
        return "range of ports"
    if isinstance(port.get("port"), str):
        return "name of a port"
    return "number of a port" if "port" in port else "protocol alone"
