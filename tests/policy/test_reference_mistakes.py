"""Mistakes found in other evaluators, one named test each: none of them may be inherited."""

from __future__ import annotations

from reference_cluster import Timed
from world import World, namespace, pod, policy, refused, service


def two(**options: str) -> World:
    return World(namespace("a"), namespace("b"), pod("a/web", "10.0.0.1"), pod("b/db", "10.0.0.2"), **options)


def test_an_empty_list_of_rules_that_is_present_denies_as_a_missing_one_does() -> None:
    for rules in ("ingress: [], egress: []", "ingress: null", ""):
        spec = f"{{podSelector: {{}}, policyTypes: [Ingress, Egress], {rules}}}"
        assert two().see([policy("a/p", spec)], "b/db > a/web TCP/80") == "denied-ingress"
        assert two().see([policy("a/p", spec)], "a/web > b/db TCP/80") == "denied-egress"


def test_a_missing_protocol_is_tcp_and_breaks_nothing() -> None:
    rules = policy("a/p", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")
    assert two().see([rules], "b/db > a/web TCP/80") == "allowed"
    assert two().see([rules], "b/db > a/web UDP/80") == "denied-ingress"


def test_a_selector_or_block_in_error_is_refused_and_never_accepts() -> None:
    bad = "{podSelector: {matchExpressions: [{key: app, operator: Like, values: [x]}]}}"
    assert "operator" in refused(policy("a/p", f"{{podSelector: {{}}, ingress: [{{from: [{bad}]}}]}}"))
    block = "{ipBlock: {cidr: 10.0.0.0/33}}"
    assert "cidr" in refused(policy("a/p", f"{{podSelector: {{}}, ingress: [{{from: [{block}]}}]}}"))


def test_a_protocol_without_a_port_is_that_protocol_only() -> None:
    rules = policy("a/p", "{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}")
    assert two().see([rules], "b/db > a/web UDP/1") == "allowed"
    assert two().see([rules], "b/db > a/web TCP/1") == "denied-ingress"


def test_a_block_matches_the_address_of_a_pod_unless_the_option_says_never() -> None:
    rules = policy("a/p", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24}}]}]}")
    assert two().see([rules], "b/db > a/web TCP/1") == "allowed"
    assert two(block_pods="never").see([rules], "b/db > a/web TCP/1") == "denied-ingress"


def test_missing_types_empty_peers_and_bad_ranges_do_not_crash() -> None:
    assert two().see([policy("a/p", "{podSelector: {}}")], "b/db > a/web TCP/1") == "denied-ingress"
    assert refused(policy("a/p", "{podSelector: {}, ingress: [{from: [{}]}]}"))
    assert refused(policy("a/p", "{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 8}]}]}"))


def test_a_policy_is_judged_together_with_those_that_exist() -> None:
    mine = policy("a/mine", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")
    theirs = policy("a/theirs", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}")
    assert two().see([mine], "b/db > a/web TCP/81") == "denied-ingress"
    assert two().see([mine, theirs], "b/db > a/web TCP/81") == "allowed"


def test_a_selector_that_selects_everything_is_told_apart_from_one_that_lost_its_labels() -> None:
    everything = policy("a/p", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}")
    nothing = policy("a/p", "{podSelector: {matchLabels: {gone: x}}, ingress: []}")
    assert two().see([everything], "b/db > a/web TCP/1") == "denied-ingress"
    assert two().see([nothing], "b/db > a/web TCP/1") == "allowed"


# -- what the comparison with the reference found, kept


def test_kept_a_pod_of_another_time_is_not_the_pod_that_asks() -> None:
    world = World(
        namespace("a"), pod("a/now", "10.0.0.1"), Timed(pod("a/web", "10.0.0.9"), 0, 900), Timed(namespace("b"), 0)
    )
    deny = policy("a/deny", "{podSelector: {}, policyTypes: [Egress]}")
    assert world.see([deny], "10.0.0.9 > a/web TCP/1", first_seen=1_000, last_seen=1_100) == "unknown"
    assert world.see([deny], "a/web > a/web TCP/1", first_seen=1_000, last_seen=1_100) == "allowed"


def test_kept_a_named_port_of_an_unknown_pod_still_has_its_protocol() -> None:
    rules = policy("a/p", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: dns, protocol: UDP}]}]}")
    assert two().see([rules], "a/web > b/gone TCP/53") == "denied-egress"
    assert two().see([rules], "a/web > b/gone UDP/53") == "unknown"


def test_kept_a_policy_that_only_may_select_is_there_whole_or_not_at_all() -> None:
    isolating = policy("a/p", "{podSelector: {matchLabels: {app: x}}, ingress: [{ports: [{port: 80}]}]}")
    assert two().see([isolating], "b/db > a/gone TCP/80") == "allowed"  # selected or not, it passes
    assert two().see([isolating], "b/db > a/gone TCP/81") == "unknown"


def test_kept_the_name_that_was_asked_for_goes_with_a_services_outer_address() -> None:
    served = service(
        "a/s", "10.96.0.1", [{"port": 443, "targetPort": 8443}], selector={"app": "web"}, externalIPs=["8.8.8.8"]
    )
    world = World(namespace("a"), namespace("b"), pod("a/web", "10.0.0.1"), pod("b/db", "10.0.0.2"), served)
    closed = policy("b/closed", "{podSelector: {}, policyTypes: [Egress]}")
    rule = (
        "{action: Accept, to: [{domainNames: ['*.example.com']}], protocols: [{tcp: {destinationPort: {number: 443}}}]}"
    )
    subject = "{namespaces: {matchLabels: {kubernetes.io/metadata.name: b}}}"
    named = policy("x", f"{{tier: Admin, priority: 1, subject: {subject}, egress: [{rule}]}}", "ClusterNetworkPolicy")
    assert world.see([closed, named], "b/db > 8.8.8.8 TCP/443", name="other.org") == "denied-egress"
    assert world.see([closed, named], "b/db > 8.8.8.8 TCP/443", name="www.example.com") == "unknown"


def test_kept_replicas_on_the_hosts_network_are_alike_on_one_node_only() -> None:
    """One has an address, of the other nothing is known."""
    known, unknown = (pod(f"b/p{n}", ip, node=at, host=True, labels={}, owner=("StatefulSet", "web")) for n, ip, at in
                      ((0, "192.168.0.1", "n1"), (4, "", "")))  # fmt: skip
    world = World(namespace("b"), namespace("c"), known, unknown, pod("c/p1"))
    outside = "{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}"
    rules = policy("c/closed", f"{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{outside}]}}]}}")
    assert world.see([rules], "b/StatefulSet/web > c/p1 TCP/9") == "unknown"
