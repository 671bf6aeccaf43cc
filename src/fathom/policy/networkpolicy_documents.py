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


class Writer:
    """Writes the policies of ``subjects``.

    What chooses a subject is one object in all policies that name it (in each of them once): hundreds of thousands of
    rules name a few thousand subjects. Whoever changes a document copies it first.
    """

    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects
        self._choosing: dict[tuple[int, bool], dict[str, Any]] = {}

    def write(
        self, subject: Subject, grants: Mapping[Direction, Sequence[Grant]], annotations: Mapping[str, str]
    ) -> dict[str, Any]:
        """The policy of one subject. It isolates every direction of ``grants``, also one without grants."""
        spec: dict[str, Any] = {"podSelector": selector(subject)}
        spec["policyTypes"] = [direction.title() for direction in sorted(grants, reverse=True)]
        named: set[int] = set()
        for direction in sorted(grants, reverse=True):
            key = _KEYS[direction]
            rules = [
                {key: self._peers(grant, subject, named), "ports": [_port(span) for span in grant.ports]}
                for grant in grants[direction]
            ]
            if rules:
                spec[direction] = rules
        metadata = {"name": subject.name, "namespace": subject.namespace, "annotations": dict(annotations)}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}

    def _peers(self, grant: Grant, subject: Subject, named: set[int]) -> list[dict[str, Any]]:
        """The peers of one rule; ``named``: the subjects that the document names already."""
        peer = grant.peer
        if peer.kind == "namespace":
            return [_in(peer.namespace, subject, {"podSelector": {}})]
        if peer.kind == "pods":
            return [self._chosen(peer.subject, subject, named)]
        return [{"ipBlock": {"cidr": item}} for item in peer.blocks]

    def _chosen(self, number: int, subject: Subject, named: set[int]) -> dict[str, Any]:
        other = self._subjects.all[number]
        key = number, other.namespace == subject.namespace
        if number in named or key not in self._choosing:
            found = _in(other.namespace, subject, {"podSelector": selector(other)})
            if number in named:
                return found
            self._choosing[key] = found
        named.add(number)
        return self._choosing[key]


def selector(subject: Subject) -> dict[str, Any]:
    """A LabelSelector for the subject's pods in its namespace."""
    found: dict[str, Any] = {"matchLabels": dict(subject.labels)}
    if subject.excluded:
        found["matchExpressions"] = [
            {"key": key, "operator": "NotIn", "values": list(values)} for key, values in subject.excluded
        ]
    return found


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
