"""Grants as a NetworkPolicy of networking.k8s.io/v1: plain data that the API server accepts as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fathom.policy.flows import protocol_word
from fathom.policy.grants import Grant, Span
from fathom.policy.inventory import NAME_LABEL
from fathom.policy.model import Direction
from fathom.policy.subjects import Subject, Subjects

_KEYS: dict[Direction, str] = {"ingress": "from", "egress": "to"}


def write(
    subject: Subject, grants: Mapping[Direction, Sequence[Grant]], subjects: Subjects, annotations: Mapping[str, str]
) -> dict[str, Any]:
    """The policy of one subject. It isolates every direction of ``grants``, also one without grants."""
    spec: dict[str, Any] = {"podSelector": selector(subject)}
    spec["policyTypes"] = [direction.title() for direction in sorted(grants, reverse=True)]
    for direction in sorted(grants, reverse=True):
        rules = [_rule(grant, _KEYS[direction], subject, subjects) for grant in grants[direction]]
        if rules:
            spec[direction] = rules
    metadata = {"name": subject.name, "namespace": subject.namespace, "annotations": dict(annotations)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def selector(subject: Subject) -> dict[str, Any]:
    """A LabelSelector for the subject's pods in its namespace."""
    found: dict[str, Any] = {"matchLabels": dict(subject.labels)}
    if subject.excluded:
        found["matchExpressions"] = [
            {"key": key, "operator": "NotIn", "values": list(values)} for key, values in subject.excluded
        ]
    return found


def _rule(grant: Grant, key: str, subject: Subject, subjects: Subjects) -> dict[str, Any]:
    return {key: _peers(grant, subject, subjects), "ports": [_port(span) for span in grant.ports]}


def _peers(grant: Grant, subject: Subject, subjects: Subjects) -> list[dict[str, Any]]:
    peer = grant.peer
    if peer.kind == "namespace":
        return [_in(peer.namespace, subject, {"podSelector": {}})]
    if peer.kind == "pods":
        other = subjects.all[peer.subject]
        return [_in(other.namespace, subject, {"podSelector": selector(other)})]
    return [{"ipBlock": {"cidr": item}} for item in peer.blocks]


def _in(namespace: str, subject: Subject, pods: dict[str, Any]) -> dict[str, Any]:
    if namespace == subject.namespace:
        return pods
    return {"namespaceSelector": {"matchLabels": {NAME_LABEL: namespace}}, **pods}


def _port(span: Span) -> dict[str, Any]:
    protocol, first, last = span
    found: dict[str, Any] = {"protocol": protocol_word(protocol), "port": first}
    if last > first:
        found["endPort"] = last
    return found
