"""Explain says who decided and what a rule was needed for; coverage says how much of the window was seen."""

from __future__ import annotations

import numpy as np
import pytest

from fathom.errors import UsageError
from fathom.policy.compile import compile_policies
from fathom.policy.coverage import Gap, Loss, coverage
from fathom.policy.evaluate import evaluate
from fathom.policy.explain import Traffic, explain, rule_use
from fathom.policy.flows import from_dicts
from fathom.policy.inventory import Inventory, Namespace, Node, Pod, Records
from fathom.policy.policysets import read_texts
from fathom.policy.resolve import resolve
from fathom.policy.thin import Need

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 80}]
  - ports: [{port: 80}, {port: 443}]
  - from: [{podSelector: {matchLabels: {app: nobody}}}]
"""


def cluster() -> Inventory:
    records = Records()
    records.namespaces = [Namespace("shop", {})]
    records.nodes = [Node("n1", {}), Node("n2", {})]
    for number, app in enumerate(("web", "api", "db")):
        node = f"n{1 + number % 2}"
        records.pods.append(
            Pod("shop", app, {"app": app}, (f"10.0.0.{number + 1}",), node, workload=("Deployment", app))
        )
    return Inventory(records)


FLOWS = from_dicts(
    [
        {"src": "shop/api", "dst": "shop/web", "port": 80, "count": 5, "first_seen": 100, "last_seen": 200},
        {"src": "shop/db", "dst": "shop/web", "port": 443, "count": 2, "first_seen": 50, "last_seen": 60},
        {"src": "shop/db", "dst": "shop/web", "port": 22, "count": 1, "first_seen": 70, "last_seen": 80},
    ]
)


def test_a_flow_is_explained_by_tier_policies_and_rules_of_each_side() -> None:
    who = cluster()
    compiled, resolved = compile_policies(read_texts([("p.yaml", POLICY)]), who), resolve(FLOWS, who)
    verdicts = evaluate(compiled, resolved)
    allowed, other, denied = explain(compiled, FLOWS, resolved, verdicts)
    assert allowed.verdict == "allowed"
    assert (allowed.egress.outcome, allowed.egress.tier) == ("allowed", "none")
    assert allowed.egress.because == "no policy selects a pod at this side"
    assert [(rule.place.file, rule.place.path, rule.action) for rule in allowed.ingress.rules] == [
        ("p.yaml", "spec.ingress[0]", "allow"),
        ("p.yaml", "spec.ingress[1]", "allow"),
    ]
    assert other.flow["port"] == 443
    assert denied.verdict == "denied-ingress"
    assert denied.ingress.policies == ("NetworkPolicy shop/web",)
    assert denied.ingress.because == "policies isolate the pod, and none of their rules matches"
    assert explain(compiled, FLOWS, resolved, verdicts, np.array([2])) == [denied]


def test_the_use_of_each_rule_is_told_and_an_unused_one_found() -> None:
    who = cluster()
    compiled, resolved = compile_policies(read_texts([("p", POLICY)]), who), resolve(FLOWS, who)
    uses = rule_use(compiled, FLOWS, resolved)
    assert [(u.place.path, u.flows, u.connections, u.alone, u.first, u.last, u.unused) for u in uses] == [
        ("spec.ingress[0]", 1, 5, 0, 100, 200, False),
        ("spec.ingress[1]", 2, 7, 1, 50, 200, False),
        ("spec.ingress[2]", 0, 0, 0, 0, 0, True),
    ]
    assert (uses[1].example, uses[2].example) == (0, -1)
    assert uses[0].traffic == ()
    told = rule_use(compiled, FLOWS, resolved, traffic=1)[1].traffic
    assert told == (Traffic("shop/Deployment/api", "shop/Deployment/web", "TCP", 80, 1, 5, 100, 200),)


def test_a_set_with_refused_documents_is_not_compiled() -> None:
    broken = POLICY.replace("{port: 443}", "{port: 443, endPort: 1}")
    with pytest.raises(UsageError, match=r"spec\.ingress\[1\]\.ports\[1\]\.endPort"):
        compile_policies(read_texts([("p", broken)]), cluster())


def test_coverage_counts_gaps_once_and_names_thin_workloads() -> None:
    who = cluster()
    gaps = [Gap("n1", 0, 50), Gap("n1", 25, 75), Gap("n2", 900, 2_000), Gap("elsewhere", 0, 1_000)]
    losses = [Loss("kernel", "tcp", "ring_full", "n1", 7)]
    need = Need(seconds=60, connections=6, time=0.5)
    found = coverage((0, 1_000), who, FLOWS, resolve(FLOWS, who), gaps=gaps, losses=losses, need=need)
    assert found.time == pytest.approx(1 - (75 + 100) / 2_000)
    assert (found.pods, found.pods_seen, found.lost) == (3, 3, 7)
    assert [(w.workload, w.flows, w.first, w.last) for w in found.workloads] == [
        ("shop/Deployment/api", 1, 100, 200),
        ("shop/Deployment/db", 2, 50, 80),
        ("shop/Deployment/web", 3, 50, 200),
    ]
    assert [w.workload for w in found.thin] == ["shop/Deployment/api", "shop/Deployment/db"]
    assert found.thin[0].thin == ("5 connections, fewer than 6",)
    assert coverage((5, 5), who, FLOWS, resolve(FLOWS, who)).time == 0.0
