"""A suggested rule allows exactly the group that it was suggested for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fathom.policy.compile import compile_policies
from fathom.policy.documents import Document
from fathom.policy.evaluate import ALLOWED, evaluate
from fathom.policy.flows import from_dicts
from fathom.policy.inventory import Inventory, Namespace, Node, Pod, Records
from fathom.policy.policysets import read
from fathom.policy.problems import Place
from fathom.policy.replay import replay
from fathom.policy.resolve import resolve
from fathom.policy.subjects import Subjects
from fathom.policy.suggest import suggest


def deny(space: str) -> dict[str, Any]:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return {**head, "metadata": {"name": "deny", "namespace": space}, "spec": spec}


def cluster() -> Inventory:
    records = Records()
    records.namespaces = [Namespace("shop", {}), Namespace("edge", {})]
    records.nodes = [Node("n2", {}, ("192.168.0.2",))]
    for number, (space, app) in enumerate((("shop", "web"), ("shop", "db"), ("edge", "proxy"))):
        labels = {"app": app, "pod-template-hash": "x1"}
        pod = Pod(space, f"{app}-x1", labels, (f"10.0.0.{number + 1}",), "n1", workload=("Deployment", app))
        records.pods.append(pod)
    return Inventory(records)


FLOWS = from_dicts(
    [
        {"src": "edge/proxy-x1", "dst": "shop/web-x1", "port": 80, "count": 9},
        {"src": "shop/web-x1", "dst": "shop/db-x1", "port": 5432, "count": 8},
        {"src": "shop/db-x1", "dst": "203.0.113.9", "port": 443, "count": 7},
        {"src": "192.168.0.2", "dst": "shop/web-x1", "port": 9100, "count": 6},
        {"src": "shop/gone", "dst": "shop/web-x1", "port": 80, "count": 5},
    ]
)


def verdicts(documents: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    who = cluster()
    policies = read(Document(Place("f", n), item) for n, item in enumerate(documents))
    return evaluate(compile_policies(policies, who), resolve(FLOWS, who)).verdict


def test_what_is_suggested_allows_its_group_and_nothing_else() -> None:
    who, base = cluster(), [deny("shop"), deny("edge")]
    policies = read(Document(Place("f", n), item) for n, item in enumerate(base))
    resolved = resolve(FLOWS, who)
    found = replay(compile_policies(policies, who), FLOWS, resolved)
    subjects = Subjects(who.index)
    assert [group.example for group in found.groups] == [0, 1, 2, 3, 4]
    for group in found.groups[:4]:
        extra = suggest(group, resolved, subjects)
        assert extra, group
        assert "pod-template-hash" not in json.dumps(extra)
        allowed = np.flatnonzero(verdicts(base + extra) == ALLOWED).tolist()
        assert allowed == [group.example]
    assert suggest(found.groups[4], resolved, subjects) == []  # an end that is not known is not guessed


def test_nothing_is_suggested_against_a_deny_rule() -> None:
    who = cluster()
    rule = {"action": "Deny", "from": [{"namespaces": {}}]}
    spec = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "ingress": [rule]}
    head = {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy"}
    policies = read([Document(Place("f"), {**head, "metadata": {"name": "x"}, "spec": spec})])
    resolved = resolve(FLOWS, who)
    found = replay(compile_policies(policies, who), FLOWS, resolved)
    denied = [group for group in found.groups if group.verdict == "denied-ingress"]
    assert denied
    assert all(suggest(group, resolved, Subjects(who.index)) == [] for group in denied)
