"""What is not understood leaves every verdict that it may change unknown: it may mean more as well as less."""

from __future__ import annotations

import pytest
from reference_cluster import Doc
from world import World, namespace, node, pod, policy, problems, refused


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


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("networking.gke.io/v1alpha1", "FQDNNetworkPolicy"),
        ("k8s.cni.cncf.io/v1beta1", "MultiNetworkPolicy"),
        ("example.org/v1", "TeamNetworkPolicySet"),
    ],
)
def test_what_is_called_a_policy_may_do_anything_whatever_its_group(version: str, kind: str) -> None:
    doc = {"apiVersion": version, "kind": kind, "metadata": {"name": "p", "namespace": "a"}, "spec": {}}
    assert problems(doc) == [("", "not-understood")]
    every = [*ingress("{}"), doc]
    assert world().see(every, "a/db > a/web TCP/80") == "unknown"
    assert world().reasons(every, "a/db > a/web TCP/80") == ["a part of a policy is not understood"]
    assert world().see(every, "8.8.8.8 > b/web TCP/80") == "allowed"
    other = {**doc, "kind": "NetworkAttachmentDefinition"}
    assert problems(other) == []


def test_an_unknown_field_of_the_subject_may_select_any_pod_of_the_namespace() -> None:
    doc = policy("a/p", "{podSelector: {matchLabels: {app: web}, strange: 1}}")
    assert world().see([doc], "b/web > a/web TCP/80") == "unknown"
    assert world().see([doc], "b/web > a/db TCP/80") == "unknown"
    assert world().see([doc], "a/db > b/web TCP/80") == "allowed"
    reasons = world().reasons([doc], "b/web > a/db TCP/80")
    assert reasons == ["a part of a policy is not understood"]


# -- what fuzzing found, kept


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ("{podSelector: {}, ingress: [{from: [{strange: 1, ipBlock: {cidr: 1.2.3.4/33}}]}]}", "ipBlock.cidr"),
        ("{podSelector: {}, ingress: [{from: [{ipBlock: {strange: 1, cidr: 10.0.0.0/8, except: [x]}}]}]}", "except[0]"),
        (
            "{podSelector: {}, ingress: [{from: [{strange: 1, ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
            "from[0]",
        ),
    ],
)
def test_kept_what_is_malformed_is_refused_beside_what_is_not_known(spec: str, place: str) -> None:
    assert refused(policy("a/p", spec)).partition(":")[0].endswith(place)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("CiliumNetworkPolicy", "{endpointSelector: {}, ingress: [{fromEndpoints: [null]}]}"),
        ("CiliumNetworkPolicy", "{endpointSelector: {}, ingress: [null]}"),
        ("ClusterNetworkPolicy", "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [null]}"),
    ],
)
def test_kept_a_null_in_a_list_of_a_custom_resource_is_refused_and_not_everything(kind: str, spec: str) -> None:
    name = "a/p" if kind == "CiliumNetworkPolicy" else "p"
    assert "may not be null" in refused(policy(name, spec, kind))


def test_kept_a_null_rule_of_a_networkpolicy_is_an_empty_one_as_the_api_server_has_it() -> None:
    assert world().see([policy("a/p", "{podSelector: {}, ingress: [null]}")], "8.8.8.8 > a/web TCP/1") == "allowed"


def test_kept_a_condition_on_the_namespace_that_is_not_known_is_still_one_on_the_namespace() -> None:
    condition = "{key: io.kubernetes.pod.namespace, operator: DoesNotExist, strange: 1}"
    spec = f"{{endpointSelector: {{}}, ingress: [{{fromEndpoints: [{{matchExpressions: [{condition}]}}]}}]}}"
    doc = policy("c", spec, "CiliumClusterwideNetworkPolicy")
    assert world().see([doc], "8.8.8.8 > a/web TCP/1") == "unknown"
    assert world().see([doc], "b/web > a/web TCP/1") == "unknown"
