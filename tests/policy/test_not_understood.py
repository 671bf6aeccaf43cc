"""What is not understood leaves every verdict that it may change unknown: it may mean more as well as less."""

from __future__ import annotations

import pytest
from reference_cluster import Doc
from world import World, namespace, node, pod, policy, problems


def world() -> World:
    return World(
        namespace("a", team="x"),
        namespace("b", team="y"),
        node("n1", "192.168.0.1"),
        pod("a/web", "10.0.0.1"),
        pod("a/db", "10.0.0.2"),
        pod("b/web", "10.0.0.3"),
    )


def ingress(rule: str) -> list[Doc]:
    return [policy("a/p", f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{rule}]}}")]


@pytest.mark.parametrize(
    ("rule", "place", "flows"),
    [
        (
            "{strange: 1}",
            "spec.ingress[0].strange",
            {"a/db > a/web TCP/80": "unknown", "8.8.8.8 > a/web UDP/9": "unknown"},
        ),
        (
            "{ports: [{port: 80, strange: 1}]}",  # as endPort once was
            "spec.ingress[0].ports[0].strange",
            {"a/db > a/web TCP/80": "unknown", "a/db > a/web TCP/85": "unknown", "a/db > a/web UDP/80": "unknown"},
        ),
        (
            "{from: [{podSelector: {}, strange: 1}]}",
            "spec.ingress[0].from[0].strange",
            {"a/db > a/web TCP/80": "unknown", "8.8.8.8 > a/web TCP/80": "unknown"},
        ),
        (
            "{from: [{podSelector: {matchLabels: {app: db}, strange: 1}}]}",
            "spec.ingress[0].from[0].podSelector.strange",
            {
                "a/db > a/web TCP/80": "unknown",
                "a/web > 10.0.0.1 TCP/80": "allowed",  # to itself
                "b/web > a/web TCP/80": "denied-ingress",  # whatever it means, of pods in a
                "8.8.8.8 > a/web TCP/80": "denied-ingress",
            },
        ),
        (
            "{from: [{namespaceSelector: {matchLabels: {team: z}, strange: 1}}]}",
            "spec.ingress[0].from[0].namespaceSelector.strange",
            {"b/web > a/web TCP/80": "unknown", "8.8.8.8 > a/web TCP/80": "denied-ingress"},
        ),
        (
            "{from: [{ipBlock: {cidr: 8.8.8.0/24, strange: 1}}]}",
            "spec.ingress[0].from[0].ipBlock.strange",
            {"8.8.8.8 > a/web TCP/80": "unknown", "9.9.9.9 > a/web TCP/80": "unknown"},
        ),
    ],
)
def test_an_unknown_field_may_mean_more_or_less(rule: str, place: str, flows: dict[str, str]) -> None:
    assert (place, "not-understood") in problems(ingress(rule)[0])
    assert {flow: world().see(ingress(rule), flow) for flow in flows} == flows
    unknown = [flow for flow, verdict in flows.items() if verdict == "unknown"]
    assert {*world().reasons(ingress(rule), unknown[0])} == {"a part of a policy is not understood"}


def test_an_unknown_field_of_the_subject_may_select_any_pod_of_the_namespace() -> None:
    doc = policy("a/p", "{podSelector: {matchLabels: {app: web}, strange: 1}}")
    assert world().see([doc], "b/web > a/web TCP/80") == "unknown"
    assert world().see([doc], "b/web > a/db TCP/80") == "unknown"
    assert world().see([doc], "a/db > b/web TCP/80") == "allowed"
    reasons = world().reasons([doc], "b/web > a/db TCP/80")
    assert reasons == ["a part of a policy is not understood"]
