"""Grants as a CiliumNetworkPolicy of cilium.io/v2, with Cilium's meaning.

What is done differently from a NetworkPolicy: nodes and the API server are entities, since blocks never match them;
ports are strings, at most 40 together; a direction without grants is isolated by an empty rule and by
``enableDefaultDeny``; names are peers where the pod's DNS rule lets the proxy see their answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fathom.policy.flows import protocol_word
from fathom.policy.grants import Grant, Span
from fathom.policy.model import Direction
from fathom.policy.subjects import Subject, Subjects

_NAMESPACE = "k8s:io.kubernetes.pod.namespace"
_MOST = 40  # ports of one element of toPorts


class Writer:
    """Writes the policies of ``subjects``."""

    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects

    def write(
        self, subject: Subject, grants: Mapping[Direction, Sequence[Grant]], annotations: Mapping[str, str]
    ) -> dict[str, Any]:
        """The policy of one subject. It isolates every direction of ``grants``, also one without grants."""
        spec: dict[str, Any] = {"endpointSelector": _selector(subject, "")}
        spec["enableDefaultDeny"] = {direction: direction in grants for direction in ("egress", "ingress")}
        named = any(grant.peer.kind == "name" for grant in grants.get("egress", ()))
        for direction in sorted(grants, reverse=True):
            side = "from" if direction == "ingress" else "to"
            learns = named and direction == "egress"
            rules = [_rule(grant, side, self._subjects, learns=learns) for grant in grants[direction]]
            spec[direction] = rules or [{}]
        metadata = {"name": subject.name, "namespace": subject.namespace, "annotations": dict(annotations)}
        return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}


def _selector(subject: Subject, namespace: str) -> dict[str, Any]:
    labels = {f"k8s:{key}": value for key, value in subject.labels}
    if namespace:
        labels[_NAMESPACE] = namespace
    found: dict[str, Any] = {"matchLabels": dict(sorted(labels.items()))}
    if subject.excluded:
        found["matchExpressions"] = [
            {"key": f"k8s:{key}", "operator": "NotIn", "values": list(values)} for key, values in subject.excluded
        ]
    return found


def _rule(grant: Grant, side: str, subjects: Subjects, *, learns: bool) -> dict[str, Any]:
    rule = _peers(grant, side, subjects)
    ports: list[dict[str, Any]] = []
    for begin in range(0, len(grant.ports), _MOST):
        element: dict[str, Any] = {"ports": [_port(span) for span in grant.ports[begin : begin + _MOST]]}
        if grant.companion and learns:
            element["rules"] = {"dns": [{"matchPattern": "*"}]}
        ports.append(element)
    rule["toPorts"] = ports
    return rule


def _peers(grant: Grant, side: str, subjects: Subjects) -> dict[str, Any]:
    peer = grant.peer
    if peer.kind == "namespace":
        return {side + "Endpoints": [{"matchLabels": {_NAMESPACE: peer.namespace}}]}
    if peer.kind == "pods":
        other = subjects.all[peer.subject]
        return {side + "Endpoints": [_selector(other, other.namespace)]}
    if peer.kind == "server":
        return {side + "Entities": ["kube-apiserver"]}
    if peer.kind == "nodes":
        return {side + "Entities": ["host", "remote-node"]}
    if peer.kind == "name":
        return {side + "FQDNs": [{"matchName": peer.name}]}
    return {side + "CIDR": list(peer.blocks)}


def _port(span: Span) -> dict[str, Any]:
    protocol, first, last = span
    found: dict[str, Any] = {"port": str(first), "protocol": protocol_word(protocol)}
    if last > first:
        found["endPort"] = last
    return found
