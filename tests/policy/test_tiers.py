"""Tiers of ClusterNetworkPolicy and of the kinds before it, around NetworkPolicy."""

from __future__ import annotations

from reference_cluster import Doc
from world import World, namespace, node, pod, policy, refused

KIND = "ClusterNetworkPolicy"


def world() -> World:
    return World(
        namespace("a", team="x"),
        namespace("b"),
        node("n1", "192.168.0.1", labels={"zone": "z"}),
        pod("a/web", "10.0.0.1", ports=(("http", "TCP", 80),)),
        pod("b/db", "10.0.0.2"),
    )


def tier(name: str, tier_name: str, priority: int, *rules: str, direction: str = "ingress") -> Doc:
    head = f"tier: {tier_name}, priority: {priority}, subject: {{namespaces: {{}}}}"
    return policy(name, f"{{{head}, {direction}: [{', '.join(rules)}]}}", KIND)


def rule(action: str, more: str = "") -> str:
    return f"{{action: {action}, from: [{{namespaces: {{}}}}]{more}}}"


ISOLATE = policy("a/np", "{podSelector: {}}")
OPEN = policy("a/np", "{podSelector: {}, ingress: [{}]}")
FLOW = "b/db > a/web TCP/80"


def test_admin_decides_before_networkpolicy_and_baseline_after_it() -> None:
    assert world().see([tier("x", "Admin", 1, rule("Accept")), ISOLATE], FLOW) == "allowed"
    assert world().see([tier("x", "Admin", 1, rule("Deny")), OPEN], FLOW) == "denied-ingress"
    assert world().see([tier("x", "Baseline", 1, rule("Deny")), OPEN], FLOW) == "allowed"
    assert world().see([tier("x", "Baseline", 1, rule("Deny"))], FLOW) == "denied-ingress"
    assert world().see([tier("x", "Baseline", 1, rule("Accept")), ISOLATE], FLOW) == "denied-ingress"


def test_pass_leaves_the_tier_and_not_only_the_policy() -> None:
    passing, denying = tier("x", "Admin", 1, rule("Pass")), tier("y", "Admin", 2, rule("Deny"))
    assert world().see([passing, denying], FLOW) == "allowed"
    assert world().see([passing, denying, ISOLATE], FLOW) == "denied-ingress"
    assert world().see([denying, tier("z", "Admin", 3, rule("Accept"))], FLOW) == "denied-ingress"


def test_the_first_rule_that_matches_decides() -> None:
    ports = ", protocols: [{tcp: {destinationPort: {number: 80}}}]"
    ordered = tier("x", "Admin", 1, rule("Deny", ports), rule("Accept"))
    assert world().see([ordered], FLOW) == "denied-ingress"
    assert world().see([ordered, ISOLATE], "b/db > a/web TCP/81") == "allowed"


def test_equal_priorities_that_disagree_are_unknown() -> None:
    one, two = tier("x", "Admin", 1, rule("Deny")), tier("y", "Admin", 1, rule("Accept"))
    assert world().see([one, two], FLOW) == "unknown"
    assert world().reasons([one, two], FLOW) == ["policies of equal priority disagree"]
    assert world().see([one, tier("y", "Admin", 1, rule("Deny"))], FLOW) == "denied-ingress"


def test_networks_match_pods_too_and_nodes_by_their_labels() -> None:
    networks = "{action: Deny, to: [{networks: [10.0.0.0/8]}]}"
    assert world().see([tier("x", "Admin", 1, networks, direction="egress")], "a/web > b/db TCP/80") == "denied-egress"
    nodes = "{action: Deny, to: [{nodes: {matchLabels: {zone: z}}}]}"
    by_node = tier("x", "Admin", 1, nodes, direction="egress")
    assert world().see([by_node], "a/web > 192.168.0.1 TCP/22") == "denied-egress"
    assert world().see([by_node], "a/web > 8.8.8.8 TCP/22") == "allowed"


def test_domain_names_match_by_label_and_accept_only() -> None:
    wanted = "{action: Accept, to: [{domainNames: ['*.example.com']}]}, {action: Deny, to: [{networks: ['0.0.0.0/0']}]}"
    names = tier("x", "Admin", 1, wanted, direction="egress")
    for name, verdict in (("a.b.example.com", "allowed"), ("example.com", "denied-egress"), ("x.org", "denied-egress")):
        assert world().see([names], "a/web > 93.184.216.34 TCP/443", name=name) == verdict
    denying = tier("x", "Admin", 1, "{action: Deny, to: [{domainNames: [x.org]}]}", direction="egress")
    assert "accept only" in refused(denying)


def test_named_ports_are_of_any_protocol() -> None:
    named = tier("x", "Admin", 1, rule("Deny", ", protocols: [{destinationNamedPort: http}]"))
    assert world().see([named], FLOW) == "denied-ingress"
    assert world().see([named], "b/db > a/web TCP/81") == "allowed"


def test_the_kinds_before_mean_the_same() -> None:
    deny = "{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {port: 80}}]}"
    body = f"subject: {{namespaces: {{}}}}, ingress: [{deny}]"
    admin = policy("x", f"{{priority: 5, {body}}}", "AdminNetworkPolicy")
    base = policy("default", f"{{{body}}}", "BaselineAdminNetworkPolicy")
    assert world().see([admin, OPEN], FLOW) == "denied-ingress"
    assert world().see([base, OPEN], FLOW) == "allowed"
    assert world().see([base], FLOW) == "denied-ingress"
    assert "default" in refused(policy("other", f"{{{body}}}", "BaselineAdminNetworkPolicy"))


def test_malformed_tiers_are_refused() -> None:
    assert "priority" in refused(policy("x", "{tier: Admin, priority: 1001, subject: {namespaces: {}}}", KIND))
    assert "tier" in refused(policy("x", "{tier: User, priority: 1, subject: {namespaces: {}}}", KIND))
    assert "subject" in refused(policy("x", "{tier: Admin, priority: 1, subject: {}}", KIND))
    assert "from" in refused(tier("x", "Admin", 1, "{action: Deny, from: []}"))
