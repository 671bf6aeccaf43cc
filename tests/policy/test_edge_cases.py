"""The edge cases of NetworkPolicy evaluation, one named test each (the number is the case's)."""

from __future__ import annotations

import engine
import pytest
from reference_cluster import Doc, Timed
from world import World, namespace, node, pod, policy, problems, refused, service, slice_of

from fathom.policy.connectivity import connectivity_difference
from fathom.policy.difference import difference
from fathom.policy.replay import replay

DENY = policy("a/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}")


def pair(**options: str) -> World:
    """Two pods in ``a``, one in ``b``, two nodes."""
    return World(
        namespace("a", team="x"),
        namespace("b", team="y"),
        node("n1", "192.168.0.1", blocks=["10.0.1.0/24"]),
        node("n2", "192.168.0.2"),
        pod("a/web", "10.0.0.1", ports=(("http", "TCP", 8080), ("dns", "UDP", 53))),
        pod("a/db", "10.0.0.2", ports=(("http", "TCP", 80),)),
        pod("b/web", "10.0.0.3", node="n2"),
        **options,
    )


def ingress(rules: str) -> list[dict[str, object]]:
    """One policy that isolates ``a/web`` for ingress, with these rules."""
    return [policy("a/p", f"{{podSelector: {{matchLabels: {{app: web}}}}, ingress: {rules}}}")]


def egress(rule: str) -> list[dict[str, object]]:
    """One policy that isolates all of ``a`` for egress, with this rule."""
    return [policy("a/o", f"{{podSelector: {{}}, policyTypes: [Egress], egress: [{rule}]}}")]


def test_case_01_missing_policy_types_mean_ingress_and_egress_only_with_egress_rules() -> None:
    assert pair().see([policy("a/p", "{podSelector: {}}")], "a/web > b/web TCP/80") == "allowed"
    assert pair().see([policy("a/p", "{podSelector: {}}")], "b/web > a/web TCP/80") == "denied-ingress"
    with_egress = policy("a/p", "{podSelector: {}, egress: [{ports: [{port: 443}]}]}")
    assert pair().see([with_egress], "a/web > b/web TCP/80") == "denied-egress"
    assert pair().see([with_egress], "b/web > a/web TCP/443") == "denied-ingress"


def test_case_02_ingress_rules_without_the_type_are_ignored() -> None:
    only = policy("a/p", "{podSelector: {}, policyTypes: [Egress], ingress: [{ports: [{port: 1}]}], egress: [{}]}")
    assert pair().see([only], "b/web > a/web TCP/80") == "allowed"
    assert ("spec.ingress", "warning") in problems(only)


@pytest.mark.parametrize("rules", ["[]", "null"])
def test_case_03_no_ingress_rules_deny_all_and_one_empty_rule_allows_all(rules: str) -> None:
    assert pair().see(ingress(rules), "a/db > a/web TCP/80") == "denied-ingress"
    assert pair().see(ingress("[{}]"), "8.8.8.8 > a/web TCP/80") == "allowed"


def test_case_04_empty_selector_is_all_pods_and_no_namespace_is_default() -> None:
    everyone = policy("a/p", "{podSelector: {}}")
    assert pair().see([everyone], "b/web > a/db TCP/80") == "denied-ingress"
    assert pair().see([everyone], "a/db > b/web TCP/80") == "allowed"
    unnamed = policy("p", "{podSelector: {}}")
    world = World(pod("default/x", "10.0.0.1"), pod("a/y", "10.0.0.2"))
    assert world.see([unnamed], "a/y > default/x TCP/80") == "denied-ingress"


def test_case_05_one_name_in_two_namespaces_is_two_policies_and_policies_unite() -> None:
    here = policy("a/same", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")
    there = policy("b/same", "{podSelector: {}}")
    assert pair().see([here, there], "b/web > a/web TCP/80") == "allowed"
    assert pair().see([here, there], "a/web > b/web TCP/80") == "denied-ingress"
    more = policy("a/more", "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 81}]}]}")
    assert pair().see([here, more], "b/web > a/web TCP/81") == "allowed"
    assert pair().see([here, more], "b/web > a/db TCP/81") == "denied-ingress"


def test_case_06_selectors_in_one_peer_are_and_in_two_peers_or() -> None:
    own = ingress("[{from: [{podSelector: {}}]}]")
    assert pair().see(own, "a/db > a/web TCP/1") == "allowed"
    assert pair().see(own, "b/web > a/web TCP/1") == "denied-ingress"
    space = ingress("[{from: [{namespaceSelector: {matchLabels: {team: y}}}]}]")
    assert pair().see(space, "b/web > a/web TCP/1") == "allowed"
    assert pair().see(space, "a/db > a/web TCP/1") == "denied-ingress"
    both = "{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: db}}}"
    assert pair().see(ingress(f"[{{from: [{both}]}}]"), "b/web > a/web TCP/1") == "denied-ingress"
    either = "{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {app: db}}}"
    assert pair().see(ingress(f"[{{from: [{either}]}}]"), "b/web > a/web TCP/1") == "allowed"
    assert pair().see(ingress(f"[{{from: [{either}]}}]"), "a/db > a/web TCP/1") == "allowed"


def test_case_07_a_null_selector_is_absent_and_an_empty_one_matches_all() -> None:
    null = ingress("[{from: [{podSelector: {matchLabels: {app: db}}, namespaceSelector: null}]}]")
    assert pair().see(null, "a/db > a/web TCP/1") == "allowed"
    empty = ingress("[{from: [{podSelector: {matchLabels: {app: web}}, namespaceSelector: {}}]}]")
    assert pair().see(empty, "b/web > a/web TCP/1") == "allowed"
    assert pair().see(empty, "a/db > a/web TCP/1") == "denied-ingress"


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ("{key: tier, operator: NotIn, values: [x]}", "allowed"),
        ("{key: tier, operator: DoesNotExist}", "allowed"),
        ("{key: tier, operator: Exists}", "denied-ingress"),
        ("{key: app, operator: In, values: [db, x]}", "allowed"),
        ("{key: app, operator: NotIn, values: [db]}", "denied-ingress"),
        ("{key: app, operator: DoesNotExist}", "denied-ingress"),
    ],
)
def test_case_08_expressions_and_keys_that_are_absent(expression: str, verdict: str) -> None:
    rules = ingress(f"[{{from: [{{podSelector: {{matchExpressions: [{expression}]}}}}]}}]")
    assert pair().see(rules, "a/db > a/web TCP/1") == verdict


def test_case_09_an_empty_peer_and_a_block_with_selectors_are_refused() -> None:
    empty = policy("a/p", "{podSelector: {}, ingress: [{from: [{}]}]}")
    assert refused(empty).startswith("spec.ingress[0].from[0]: a peer needs")
    mixed = policy("a/p", "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}")
    assert refused(mixed).startswith("spec.egress[0].to[0]: ipBlock may not stand")


def test_case_10_each_namespace_has_its_name_as_a_label() -> None:
    rules = ingress("[{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}]}]")
    assert pair().see(rules, "b/web > a/web TCP/1") == "allowed"
    bare = World(pod("a/web", "10.0.0.1"), pod("b/web", "10.0.0.2"), pod("c/web", "10.0.0.3"))
    assert bare.see(rules, "b/web > a/web TCP/1") == "allowed"
    assert bare.see(rules, "c/web > a/web TCP/1") == "denied-ingress"


@pytest.mark.parametrize(
    ("block", "source", "verdict"),
    [
        ("{cidr: 172.16.5.9/16}", "172.16.200.1", "allowed"),  # host bits are masked
        ("{cidr: 172.16.0.0/16, except: [172.16.7.0/24]}", "172.16.7.9", "denied-ingress"),
        ("{cidr: 172.16.0.0/12, except: [172.16.0.0/16, 172.16.7.0/24]}", "172.16.7.9", "denied-ingress"),
        ("{cidr: 172.16.0.0/12, except: [172.16.0.0/16, 172.16.7.0/24]}", "172.17.7.9", "allowed"),
        ("{cidr: '2001:db8::/32'}", "2001:db8::5", "allowed"),
        ("{cidr: '::/0'}", "172.16.5.9", "denied-ingress"),
        ("{cidr: 172.16.0.0/16}", "::ffff:172.16.5.9", "allowed"),  # IPv4-mapped is IPv4
        ("{cidr: '::ffff:172.16.0.0/112'}", "172.16.5.9", "allowed"),
    ],
)
def test_case_11_blocks_host_bits_exceptions_families_and_mapped(block: str, source: str, verdict: str) -> None:
    assert pair().see(ingress(f"[{{from: [{{ipBlock: {block}}}]}}]"), f"{source} > a/web TCP/1") == verdict


def test_case_11_a_dual_stack_pod_matches_on_the_family_of_the_flow() -> None:
    world = World(
        namespace("a"), pod("a/web", ["10.0.0.1", "fd00::1"]), pod("b/two", ["10.0.0.9", "fd00::9"]), block_pods="match"
    )
    rules = ingress("[{from: [{ipBlock: {cidr: 'fd00::/16'}}]}]")
    assert world.see(rules, "b/two > fd00::1 TCP/1") == "allowed"
    assert world.see(rules, "b/two > 10.0.0.1 TCP/1") == "denied-ingress"
    assert world.see(rules, "b/two > a/web TCP/1") == "unknown"


def test_case_12_a_block_against_a_pods_address_is_an_option_and_is_told() -> None:
    rules = ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")
    assert pair().see(rules, "b/web > a/web TCP/1") == "allowed"
    assert pair(block_pods="never").see(rules, "b/web > a/web TCP/1") == "denied-ingress"
    for option in ("match", "never"):
        told = pair(block_pods=option).assumptions(rules, "b/web > a/web TCP/1")
        assert told == ["ipBlock against a pod's address (option block_pods)"]
    assert pair().assumptions(rules, "10.9.9.9 > a/web TCP/1") == []


def test_case_13_an_unknown_pod_matches_no_selector_and_is_unknown_not_allowed() -> None:
    rules = ingress("[{from: [{podSelector: {matchLabels: {app: db}}}]}]")
    assert pair().see(rules, "a/gone > a/web TCP/1") == "unknown"
    assert pair().reasons(rules, "a/gone > a/web TCP/1") == ["an endpoint is not in the inventory at that time"]
    assert pair().see(rules, "b/gone > a/web TCP/1") == "denied-ingress"  # whoever it is, it is not in a
    assert pair().see(rules, "10.0.1.77 > a/web TCP/1") == "unknown"  # an address of the pods' block
    assert pair().see(ingress("[{}]"), "a/gone > a/web TCP/1") == "allowed"


@pytest.mark.parametrize(
    ("ports", "flow", "verdict"),
    [
        ("[{port: 80}]", "TCP/80", "allowed"),
        ("[{port: 80}]", "UDP/80", "denied-ingress"),
        ("[{protocol: UDP}]", "UDP/9", "allowed"),
        ("[{protocol: UDP}]", "TCP/9", "denied-ingress"),
        ("[{}]", "TCP/9", "allowed"),
        ("[{}]", "UDP/9", "denied-ingress"),
        ("[]", "SCTP/9", "allowed"),
    ],
)
def test_case_14_no_protocol_is_tcp_and_no_port_is_all_of_that_protocol(ports: str, flow: str, verdict: str) -> None:
    assert pair().see(ingress(f"[{{ports: {ports}}}]"), f"a/db > a/web {flow}") == verdict


def test_case_15_ranges_are_inclusive_and_malformed_ones_refused() -> None:
    rules = ingress("[{ports: [{port: 80, endPort: 90}]}]")
    expected = {79: "denied-ingress", 80: "allowed", 90: "allowed", 91: "denied-ingress"}
    for number, verdict in expected.items():
        assert pair().see(rules, f"a/db > a/web TCP/{number}") == verdict
    for ports in ("[{port: 90, endPort: 80}]", "[{port: http, endPort: 80}]", "[{endPort: 80}]"):
        assert "endPort" in refused(policy("a/p", f"{{podSelector: {{}}, ingress: [{{ports: {ports}}}]}}"))


def test_case_16_named_ports_are_those_of_the_destination_pod_and_protocol() -> None:
    everyone = policy("a/p", "{podSelector: {}, ingress: [{ports: [{port: http}]}]}")
    assert pair().see([everyone], "b/web > a/web TCP/8080") == "allowed"
    assert pair().see([everyone], "b/web > a/web TCP/80") == "denied-ingress"
    assert pair().see([everyone], "b/web > a/db TCP/80") == "allowed"  # it differs between pods
    assert pair().see([everyone], "b/web > a/web UDP/8080") == "denied-ingress"
    assert pair().see(ingress("[{ports: [{port: dns}]}]"), "b/web > a/web TCP/53") == "denied-ingress"
    assert pair().see(ingress("[{ports: [{port: dns, protocol: UDP}]}]"), "b/web > a/web UDP/53") == "allowed"
    assert pair().see(ingress("[{ports: [{port: nobody}]}]"), "b/web > a/web TCP/80") == "denied-ingress"
    out = policy("a/p", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}")
    assert pair().see([out], "a/web > a/db TCP/80") == "allowed"
    assert pair().see([out], "a/web > b/web TCP/80") == "denied-egress"
    assert pair().see([out], "a/web > 8.8.8.8 TCP/80") == "denied-egress"


def test_case_17_sctp_is_a_protocol_and_icmp_is_outside_of_ports() -> None:
    assert pair().see(ingress("[{ports: [{port: 80, protocol: SCTP}]}]"), "a/db > a/web SCTP/80") == "allowed"
    assert pair().see(ingress("[{ports: [{port: 80}]}]"), "a/db > a/web SCTP/80") == "denied-ingress"
    with_ports, without = ingress("[{ports: [{port: 80}]}]"), ingress("[{from: [{podSelector: {}}]}]")
    assert pair().see(with_ports, "a/db > a/web ICMP/0") == "denied-ingress"
    assert pair().see(without, "a/db > a/web ICMP/0") == "allowed"
    assert pair(icmp="unknown").see(without, "a/db > a/web ICMP/0") == "unknown"
    assert pair(icmp="allowed").see(with_ports, "a/db > a/web ICMPv6/0") == "allowed"
    assert pair().assumptions(without, "a/db > a/web ICMP/0") == ["ICMP is outside the API (option icmp)"]


def test_case_17_what_icmp_may_do_by_choice_gives_way_to_a_rule_that_denies_all_protocols() -> None:
    """The option is about what NetworkPolicy leaves open; other kinds' rules without ports are about ICMP too."""
    cnp = policy("a/c", "{endpointSelector: {}, ingressDeny: [{fromEntities: [all]}]}", "CiliumNetworkPolicy")
    rule = "{name: x, action: Deny, from: [{namespaces: {}}]}"
    admin = policy("c", f"{{priority: 1, subject: {{namespaces: {{}}}}, ingress: [{rule}]}}", "AdminNetworkPolicy")
    passing = ingress("[{ports: [{port: 80}]}]")
    for option in ("allowed", "unknown", "rules"):
        for deny in (cnp, admin):
            assert pair(icmp=option).see([*passing, deny], "a/db > a/web ICMP/0") == "denied-ingress"
    assert pair(icmp="allowed").see(passing, "a/db > a/web ICMP/0") == "allowed"
    assert pair(icmp="unknown").see(passing, "a/db > a/web ICMP/0") == "unknown"
    assert pair(icmp="unknown").reasons(passing, "a/db > a/web ICMP/0") == ["ICMP: the network plugin decides"]


def test_case_18_one_port_number_on_tcp_and_udp_are_two_ports() -> None:
    rules = ingress("[{from: [{podSelector: {}}], ports: [{port: 53, protocol: UDP}]}, {ports: [{port: 53}]}]")
    assert pair().see(rules, "b/web > a/web TCP/53") == "allowed"
    assert pair().see(rules, "b/web > a/web UDP/53") == "denied-ingress"
    assert pair().see(rules, "a/db > a/web UDP/53") == "allowed"


def test_case_19_a_pod_on_the_hosts_network_is_its_node() -> None:
    def world(**options: str) -> World:
        host = pod("a/host", "192.168.0.2", node="n2", host=True)
        return World(namespace("a"), node("n2", "192.168.0.2"), host, pod("a/web", "10.0.0.1"), **options)

    assert world().see([DENY], "8.8.8.8 > a/host TCP/80") == "allowed"  # no policy selects it
    by_label = ingress("[{from: [{podSelector: {matchLabels: {app: host}}}]}]")
    by_block = ingress("[{from: [{ipBlock: {cidr: 192.168.0.0/16}}]}]")
    assert world().see(by_label, "a/host > a/web TCP/80") == "denied-ingress"
    assert world().see(by_block, "a/host > a/web TCP/80") == "allowed"
    assert world(host_network="pod").see(by_label, "a/host > a/web TCP/80") == "allowed"
    assert world(host_network="pod").see([DENY], "8.8.8.8 > a/host TCP/80") == "denied-ingress"
    assert world(host_network="unknown").see(by_label, "a/host > a/web TCP/80") == "unknown"
    told = world().assumptions(by_label, "a/host > a/web TCP/80")
    assert told == ["a pod on the host's network is its node (option host_network)"]


def test_case_20_own_node_and_own_pod_always_pass() -> None:
    assert pair().see([DENY], "192.168.0.1 > a/web TCP/80") == "allowed"
    assert pair().see([DENY], "Node/n1 > a/web TCP/80") == "allowed"
    assert pair().see([DENY], "192.168.0.2 > a/web TCP/80") == "denied-ingress"  # another node
    assert pair().assumptions([DENY], "192.168.0.1 > a/web TCP/80") == ["a pod's own node may always reach it"]
    assert pair().see([DENY], "a/web > a/web TCP/80") == "allowed"
    assert pair().see([DENY], "a/web > 10.0.0.1 TCP/80") == "allowed"
    assert pair().see([DENY], "a/web > 127.0.0.1 TCP/80") == "allowed"
    front = service("a/s", "10.96.0.1", [{"port": 80}], selector={"app": "web"})
    own = World(namespace("a"), pod("a/web", "10.0.0.1"), front)
    assert own.see([DENY], "a/web > 10.96.0.1 TCP/80") == "allowed"  # through its own service


def test_case_21_replies_are_not_flows_and_a_lost_orientation_is_unknown() -> None:
    rules = ingress("[{from: [{podSelector: {matchLabels: {app: db}}}]}]")
    assert pair().see(rules, "a/db > a/web UDP/53") == "allowed"
    assert pair().see(rules, "a/web > a/db UDP/40000") == "allowed"
    assert pair().see([DENY], "a/db > a/web UDP/40000", oriented=False) == "unknown"
    assert pair().reasons([DENY], "a/db > a/web UDP/40000", oriented=False) == [
        "it is not known who opened the connection"
    ]
    assert pair().see([], "a/db > a/web UDP/40000", oriented=False) == "allowed"


def test_case_22_a_service_is_its_backends_after_translation_and_that_is_told() -> None:
    def world(**options: str) -> World:
        front = service("a/s", "10.96.0.1", [{"port": 80, "targetPort": "http"}], selector={"app": "web"})
        web = pod("a/web", "10.0.0.1", ports=(("http", "TCP", 8080),))
        return World(namespace("a"), web, pod("a/db", "10.0.0.2"), front, **options)

    rules = ingress("[{from: [{podSelector: {}}], ports: [{port: 8080}]}]")
    assert world().see(rules, "a/db > 10.96.0.1 TCP/80") == "allowed"
    assert world().see(rules, "a/db > a/Service/s TCP/80") == "allowed"
    told = world().assumptions(rules, "a/db > 10.96.0.1 TCP/80")
    assert told == ["the backend of a service is inferred (option dnat)"]
    by_label, by_address = egress("{to: [{podSelector: {}}]}"), egress("{to: [{ipBlock: {cidr: 10.96.0.0/16}}]}")
    assert world().see(by_label, "a/db > 10.96.0.1 TCP/80") == "allowed"
    assert world(dnat="before").see(by_label, "a/db > 10.96.0.1 TCP/80") == "denied-egress"
    assert world().see(by_address, "a/db > 10.96.0.1 TCP/80") == "denied-egress"
    assert world(dnat="before").see(by_address, "a/db > 10.96.0.1 TCP/80") == "allowed"


def test_case_22_the_address_that_was_asked_is_not_that_of_the_backends() -> None:
    """As an agent records it: the peer is the service's address, and so is the address that the socket has."""
    front = service("a/s", "10.96.0.1", [{"port": 80, "targetPort": 8080}], selector={"app": "web"})
    world = World(namespace("a"), pod("a/web", "10.0.0.1"), pod("a/db", "10.0.0.2"), front)
    to_pod, to_service = (egress(f"{{to: [{{ipBlock: {{cidr: {one}/32}}}}]}}") for one in ("10.0.0.1", "10.96.0.1"))
    assert world.see(to_pod, "a/db > 10.96.0.1 TCP/80", dst_address="10.96.0.1") == "allowed"
    assert world.see(to_service, "a/db > 10.96.0.1 TCP/80", dst_address="10.96.0.1") == "denied-egress"


def test_case_22_a_service_without_known_backends_is_unknown() -> None:
    front = service("a/s", "10.96.0.1", [{"port": 80}], selector={"app": "no"})
    world = World(namespace("a"), pod("a/db", "10.0.0.2"), front)
    assert world.see([DENY], "a/db > 10.96.0.1 TCP/80") == "denied-egress"
    some = egress("{to: [{podSelector: {}}]}")
    assert world.see(some, "a/db > 10.96.0.1 TCP/80") == "unknown"
    assert world.reasons(some, "a/db > 10.96.0.1 TCP/80") == ["the service has no known endpoints"]


def test_case_22_a_service_that_is_not_known_is_not_a_pod() -> None:
    """Nor is one that leads outside (ExternalName), of which no endpoints are known."""
    outside = service("a/out", "", [], type="ExternalName", externalName="api.example.com")
    world = World(namespace("a"), pod("a/db", "10.0.0.2"), outside)
    for name in ("gone", "out"):
        assert world.see(egress("{to: [{podSelector: {}}]}"), f"a/db > a/Service/{name} TCP/80") == "unknown"


def test_case_22_nothing_is_translated_for_a_headless_service() -> None:
    front = service("a/s", "None", [{"port": 80, "targetPort": 8080, "name": "p"}], selector={"app": "web"})
    ends = namespace("a"), pod("a/web", "10.0.0.1"), pod("a/db", "10.0.0.2")
    for world in (World(*ends, front), World(*ends, front, slice_of("a/s", ["10.0.0.1"], [("p", 8080)]))):
        assert world.see(ingress("[{ports: [{port: 8080}]}]"), "a/db > a/Service/s TCP/80") == "denied-ingress"
        assert world.see(ingress("[{ports: [{port: 80}]}]"), "a/db > a/Service/s TCP/80") == "allowed"


def test_case_22_a_translation_stays_in_its_family() -> None:
    front = service("a/s", "", [{"port": 80}], selector={"app": "web"}, clusterIPs=["10.96.0.1", "fd00:96::1"])
    both = World(namespace("a"), pod("a/web", ["10.0.0.1", "fd00::1"]), pod("a/db", ["10.0.0.2", "fd00::2"]), front)
    rules = ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")
    assert both.see(rules, "a/db > 10.96.0.1 TCP/80") == "allowed"
    assert both.see(rules, "a/db > fd00:96::1 TCP/80") == "denied-ingress"


def test_case_22_only_what_varies_is_a_reason() -> None:
    front = service("a/s", "10.96.0.1", [{"port": 80}], selector={"tier": "front"})
    webs = [pod(f"a/{n}", f"10.0.0.{n[-1]}", labels={"app": n, "tier": "front"}) for n in ("w1", "w2")]
    world = World(namespace("a"), pod("a/db", "10.0.0.9"), *webs, front)
    rules = [policy("a/p", "{podSelector: {matchLabels: {app: w1}}}")]
    assert world.see(rules, "a/db > 10.96.0.1 TCP/80") == "unknown"
    assert world.reasons(rules, "a/db > 10.96.0.1 TCP/80") == ["the backends of the service differ"]


@pytest.mark.parametrize("replicas", [2, 8, 9, 40])
def test_case_20_a_pod_may_reach_itself_through_its_service_however_many_are_behind_it(replicas: int) -> None:
    front = service("a/s", "10.96.0.1", [{"port": 80}], selector={"app": "web"})
    webs = [pod(f"a/w{n}", f"10.0.0.{n + 1}", labels={"app": "web"}) for n in range(replicas)]
    world = World(namespace("a"), *webs, pod("a/db", "10.0.1.1"), front)
    assert world.see([DENY], "a/w1 > 10.96.0.1 TCP/80") == "unknown"
    assert world.see([policy("a/p", "{podSelector: {}}")], "a/db > 10.96.0.1 TCP/80") == "denied-ingress"


def test_case_25_a_service_leads_to_its_backends_while_it_is_there() -> None:
    def front(name: str, app: str, *times: int) -> Timed:
        return Timed(service(f"a/{name}", "10.96.0.9", [{"port": 80}], selector={"app": app}), *times)

    ends = namespace("a"), pod("a/one", "10.0.0.1"), pod("a/two", "10.0.0.2"), pod("a/db", "10.0.0.3")
    world = World(*ends, front("old", "one", 0, 1_000), front("new", "two", 1_000))
    rules = [policy("a/p", "{podSelector: {matchLabels: {app: two}}}")]
    assert world.see(rules, "a/db > 10.96.0.9 TCP/80", first_seen=1_100, last_seen=1_200) == "denied-ingress"
    assert world.see(rules, "a/db > 10.96.0.9 TCP/80", first_seen=100, last_seen=200) == "allowed"


def test_case_23_behind_a_node_port_the_source_is_hidden() -> None:
    def world(**more: object) -> World:
        front = service("a/s", "10.96.0.1", [{"port": 80, "nodePort": 30080}], selector={"app": "web"}, **more)
        return World(namespace("a"), node("n2", "192.168.0.2"), pod("a/web", "10.0.0.1"), front)

    rules = ingress("[{from: [{ipBlock: {cidr: 8.8.8.0/24}}]}]")
    assert world().see(rules, "8.8.8.8 > 192.168.0.2 TCP/30080") == "unknown"
    assert world().reasons(rules, "8.8.8.8 > 192.168.0.2 TCP/30080") == ["the source is hidden by address translation"]
    assert world(externalTrafficPolicy="Local").see(rules, "8.8.8.8 > 192.168.0.2 TCP/30080") == "allowed"
    assert world().see(ingress("[{ports: [{port: 80}]}]"), "8.8.8.8 > 192.168.0.2 TCP/30080") == "allowed"
    assert world().see(ingress("[]"), "8.8.8.8 > 192.168.0.2 TCP/30080") == "denied-ingress"


def with_host_port(doc: Doc, **more: object) -> Doc:
    """The pod with its port 8080 at port 80 of its node."""
    doc["spec"]["containers"][0]["ports"] = [{"containerPort": 8080, "hostPort": 80, **more}]
    return doc


def test_case_23_behind_a_host_port_is_the_pod() -> None:
    """As a node port, it is translated on the node; the source stays known. A node by its name is itself."""
    dst = "192.168.0.1"
    base = (namespace("a"), node("n1", "192.168.0.1"), node("n2", "192.168.0.2"), pod("a/db", "10.0.0.2", node="n2"))
    world = World(*base, with_host_port(pod("a/hp", "10.0.0.1")))
    outside, inside = f"8.8.8.8 > {dst} TCP/80", f"a/db > {dst} TCP/80"
    select = ", ".join(("podSelector: {matchLabels: {app: hp}}", "policyTypes: [Ingress]"))
    deny = [policy("a/p", f"{{{select}}}")]
    assert world.see(deny, outside) == "denied-ingress"
    assert world.assumptions(deny, outside) == ["the backend of a service is inferred (option dnat)"]
    one = [
        policy(
            "a/p", f"{{{select}, ingress: [{{from: [{{ipBlock: {{cidr: 8.8.8.8/32}}}}], ports: [{{port: 8080}}]}}]}}"
        )
    ]
    assert world.see(one, outside) == "allowed"
    assert world.see(one, f"8.8.4.4 > {dst} TCP/80") == "denied-ingress"
    assert world.see(deny, f"8.8.8.8 > {dst} TCP/8080") == "allowed"
    assert world.see(deny, f"8.8.8.8 > {dst} UDP/80") == "allowed"
    assert world.see(deny, "8.8.8.8 > 192.168.0.2 TCP/80") == "allowed"
    assert world.see(deny, "8.8.8.8 > Node/n1 TCP/80") == "allowed"
    to_pod = [policy("a/e", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}")]
    assert world.see(to_pod, inside) == "unknown"  # rules of the source see the node, or the pod
    none = [policy("a/e", "{podSelector: {}, policyTypes: [Egress]}")]
    assert world.see(none, inside) == "denied-egress"


def test_case_23_a_host_port_is_of_one_node_and_one_address() -> None:
    nodes = (namespace("a"), node("n1", "192.168.0.1"), node("n2", "192.168.0.2"))
    deny = [policy("a/p", "{podSelector: {}, policyTypes: [Ingress]}")]
    for ip, verdict in (("192.168.0.1", "denied-ingress"), ("127.0.0.1", "allowed")):
        world = World(*nodes, with_host_port(pod("a/hp", "10.0.0.1"), hostIP=ip))
        assert world.see(deny, "8.8.8.8 > 192.168.0.1 TCP/80") == verdict
    world = World(*nodes, with_host_port(pod("a/hp", "192.168.0.1", host=True)))
    assert world.see(deny, "8.8.8.8 > 192.168.0.1 TCP/80") == "allowed"
    world = World(*nodes, with_host_port(pod("a/hp", "10.0.0.1", node="")))
    assert world.see(deny, "8.8.8.8 > 192.168.0.2 TCP/80") == "unknown"  # where the pod is is not known


def test_case_24_rules_see_the_proxy_and_not_the_client_behind_it() -> None:
    world = World(namespace("a"), namespace("edge"), pod("edge/proxy", "10.0.0.9"), pod("a/web", "10.0.0.1"))
    rules = ingress("[{from: [{ipBlock: {cidr: 8.8.8.0/24}}]}]")
    assert world.see(rules, "edge/proxy > a/web TCP/80") == "denied-ingress"
    proxy = ingress("[{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}}]}]")
    assert world.see(proxy, "edge/proxy > a/web TCP/80") == "allowed"


def test_case_25_an_address_that_was_reused_is_who_had_it_then() -> None:
    world = World(
        namespace("a"),
        pod("a/web", "10.0.0.1"),
        Timed(pod("a/old", "10.0.0.7"), 0, 1_000),
        Timed(pod("a/new", "10.0.0.7"), 1_000),
    )
    rules = ingress("[{from: [{podSelector: {matchLabels: {app: old}}}]}]")
    assert world.see(rules, "10.0.0.7 > a/web TCP/1", first_seen=100, last_seen=900) == "allowed"
    assert world.see(rules, "10.0.0.7 > a/web TCP/1", first_seen=1_100, last_seen=1_900) == "denied-ingress"
    across = {"first_seen": 900, "last_seen": 1_100}
    assert world.see(rules, "10.0.0.7 > a/web TCP/1", **across) == "unknown"
    assert world.reasons(rules, "10.0.0.7 > a/web TCP/1", **across) == [
        "labels, addresses or owners changed during the flow"
    ]


def test_case_25_a_completed_pod_gives_its_address_back() -> None:
    job = pod("a/job", "10.0.0.7", ended="1970-01-01T00:15:00Z")
    world = World(namespace("a"), pod("a/web", "10.0.0.1"), job, Timed(pod("a/new", "10.0.0.7"), 1_000))
    rules = ingress("[{from: [{podSelector: {matchLabels: {app: job}}}]}]")
    assert world.see(rules, "10.0.0.7 > a/web TCP/1", first_seen=100, last_seen=800) == "allowed"
    assert world.see(rules, "10.0.0.7 > a/web TCP/1", first_seen=1_100, last_seen=1_200) == "denied-ingress"


def test_case_25_labels_of_pods_and_namespaces_are_those_at_the_time_of_the_flow() -> None:
    world = World(
        Timed(namespace("b", team="x"), 0, 1_000),
        Timed(namespace("b", team="y"), 1_000),
        pod("a/web", "10.0.0.1"),
        pod("b/one", "10.0.0.2"),
        Timed(pod("a/two", "10.0.0.3", labels={"app": "x"}), 0, 1_000),
        Timed(pod("a/two", "10.0.0.3", labels={"app": "y"}), 1_000),
    )
    before, after = {"first_seen": 10, "last_seen": 900}, {"first_seen": 1_000, "last_seen": 1_900}
    by_space = ingress("[{from: [{namespaceSelector: {matchLabels: {team: x}}}]}]")
    assert world.see(by_space, "b/one > a/web TCP/1", **before) == "allowed"
    assert world.see(by_space, "b/one > a/web TCP/1", **after) == "denied-ingress"
    by_pod = ingress("[{from: [{podSelector: {matchLabels: {app: x}}}]}]")
    assert world.see(by_pod, "a/two > a/web TCP/1", **before) == "allowed"
    assert world.see(by_pod, "a/two > a/web TCP/1", **after) == "denied-ingress"


def test_case_25_a_pod_that_is_not_known_is_not_told_by_labels_that_its_namespace_had_at_another_time() -> None:
    world = World(
        Timed(namespace("b", team="x"), 0, 1_000), Timed(namespace("b", team="y"), 1_000), pod("a/web", "10.0.0.1")
    )
    by_label = ingress("[{from: [{namespaceSelector: {matchLabels: {team: x}}}]}]")
    by_name = ingress("[{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}]}]")
    for times in ({"first_seen": 10, "last_seen": 900}, {"first_seen": 1_100, "last_seen": 1_200}):
        assert world.see(by_label, "b/gone > a/web TCP/1", **times) == "unknown"
        assert world.see(by_name, "b/gone > a/web TCP/1", **times) == "allowed"


def test_case_26_connections_from_before_are_evaluated_unless_they_are_allowed_by_choice() -> None:
    old = {"established": True}
    assert pair().see([DENY], "a/db > a/web TCP/80", **old) == "denied-both"
    lenient = pair(established="allowed")
    assert lenient.see([DENY], "a/db > a/web TCP/80", **old) == "allowed"
    told = lenient.assumptions([DENY], "a/db > a/web TCP/80", **old)
    assert told == ["no connection was opened in the window (option established)"]


def test_case_27_the_node_local_dns_cache_is_a_block_and_not_the_dns_pods() -> None:
    ports = "ports: [{port: 53, protocol: UDP}]"
    to_pods = egress(f"{{to: [{{namespaceSelector: {{}}}}], {ports}}}")
    to_block = egress(f"{{to: [{{ipBlock: {{cidr: 169.254.20.10/32}}}}], {ports}}}")
    assert pair().see(to_pods, "a/web > 169.254.20.10 UDP/53") == "denied-egress"
    assert pair().see(to_block, "a/web > 169.254.20.10 UDP/53") == "allowed"


def test_case_28_the_api_server_is_reached_by_the_addresses_of_its_endpoints() -> None:
    world = World(
        namespace("a"),
        pod("a/web", "10.0.0.1"),
        service("default/kubernetes", "10.96.0.1", [{"port": 443, "targetPort": 6443, "name": "https"}]),
        slice_of("default/kubernetes", ["203.0.113.5"], [("https", 6443)]),
    )

    def out(block: str, port: int) -> list[dict[str, object]]:
        return egress(f"{{to: [{{ipBlock: {{cidr: {block}}}}}], ports: [{{port: {port}}}]}}")

    assert world.see(out("203.0.113.5/32", 6443), "a/web > 10.96.0.1 TCP/443") == "allowed"
    assert world.see(out("10.96.0.1/32", 443), "a/web > 10.96.0.1 TCP/443") == "denied-egress"
    spoken = {"dst_address": "10.96.0.1"}
    assert world.see(out("203.0.113.5/32", 6443), "a/web > 10.96.0.1 TCP/443", **spoken) == "allowed"


def test_case_29_one_policy_alone_and_the_union_differ_and_rules_name_themselves() -> None:
    allows = policy("a/allows", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}")
    isolates = policy("a/isolates", "{podSelector: {}}")
    assert pair().see([isolates], "a/db > a/web TCP/80") == "denied-ingress"
    assert pair().see([allows, isolates], "a/db > a/web TCP/80") == "allowed"
    side = pair().decision([allows, isolates], "a/db > a/web TCP/80").ingress
    assert side.tier == "developer"
    assert side.policies == ("NetworkPolicy a/allows", "NetworkPolicy a/isolates")
    assert [(hit.policy, hit.place.path, hit.sure) for hit in side.rules] == [
        ("NetworkPolicy a/allows", "spec.ingress[0]", True)
    ]
    assert pair().decision([isolates], "a/db > a/web TCP/80").ingress.rules == ()


def test_case_30_a_verdict_says_which_side_denies() -> None:
    out = policy("a/o", "{podSelector: {}, policyTypes: [Egress]}")
    into = policy("b/i", "{podSelector: {}}")
    flow = "a/web > b/web TCP/80"
    assert pair().see([], flow) == "allowed"
    assert pair().see([out], flow) == "denied-egress"
    assert pair().see([into], flow) == "denied-ingress"
    assert pair().see([out, into], flow) == "denied-both"
    assert pair().see([policy("a/o", "{podSelector: {}, strange: 1}")], flow) == "unknown"


def test_case_31_replay_tells_first_and_last_seen_of_what_it_would_deny() -> None:
    flows = [
        {"src": "a/db", "dst": "a/web", "protocol": "TCP", "port": 80, "first_seen": 100, "last_seen": 200},
        {"src": "a/db", "dst": "a/web", "protocol": "TCP", "port": 80, "first_seen": 700, "last_seen": 900},
        {"src": "a/db", "dst": "a/web", "protocol": "TCP", "port": 81, "first_seen": 300, "last_seen": 301},
        {"src": "a/web", "dst": "8.8.8.8", "protocol": "TCP", "port": 443, "first_seen": 50, "last_seen": 950},
    ]
    world = pair()
    who, table = engine.inventory(world.cluster), engine.flows(flows)
    resolved = engine.resolve(table, who)
    compiled = engine.compile_policies(engine.policy_set(ingress("[{ports: [{port: 443}]}]")), who)
    found = replay(compiled, table, resolved)
    assert [(g.port, g.flows, g.first, g.last, g.verdict) for g in found.groups] == [
        (80, 2, 100, 900, "denied-ingress"),
        (81, 1, 300, 301, "denied-ingress"),
    ]
    assert (found.groups[0].src, found.groups[0].dst) == ("a/Pod/db", "a/Pod/web")
    assert found.groups[0].policies == ("NetworkPolicy a/p",)
    assert (found.first, found.last) == (50, 950)
    assert found.flows["allowed"] == 1


def test_case_32_a_difference_on_flows_is_not_a_difference_on_connectivity() -> None:
    old, new = ingress("[{ports: [{port: 80}]}]"), ingress("[{ports: [{port: 80}, {port: 81}]}]")
    world = pair()
    who = engine.inventory(world.cluster)
    table = engine.flows([{"src": "a/db", "dst": "a/web", "protocol": "TCP", "port": 80}])
    resolved = engine.resolve(table, who)
    sets = [engine.compile_policies(engine.policy_set(docs), who) for docs in (old, new)]
    on_flows = difference(table, resolved, *(engine.evaluate(one, resolved) for one in sets))
    assert on_flows.none
    static = connectivity_difference(sets[0], sets[1])
    assert {(c.change, c.protocol, c.ports) for c in static.changes} == {("newly-allowed", "TCP", ((81, 81),))}
    assert ("b/web", "a/web", "TCP", 81) in {c.example for c in static.changes}
    for change in static.changes:
        src, dst, word, number = change.example
        flow = f"{src.replace('n1', 'n2')} > {dst} {word}/{number}"  # a node that is not the pod's own
        assert (world.see(old, flow), world.see(new, flow)) == ("denied-ingress", "allowed")
