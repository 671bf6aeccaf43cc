"""Cilium's documents mean what Cilium says, where a NetworkPolicy would mean something else."""

from __future__ import annotations

import pytest
from reference_cluster import Doc, Timed
from world import World, namespace, node, pod, policy, problems, refused, service, slice_of

CNP, CCNP = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
ANSWER = Timed({"kind": "Answer", "name": "api.example.com", "address": "93.184.216.34"})
DNS = "{toEndpoints: [{}], toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchPattern: '*'}]}}]}"


def world(**options: str) -> World:
    return World(
        namespace("a", team="x"),
        namespace("b", team="y"),
        node("n1", "192.168.0.1"),
        node("n2", "192.168.0.2"),
        pod("a/web", "10.0.0.1", account="robot"),
        pod("a/db", "10.0.0.2"),
        pod("b/web", "10.0.0.3"),
        ANSWER,
        **options,
    )


def ingress(rules: str) -> list[Doc]:
    return [policy("a/c", f"{{endpointSelector: {{matchLabels: {{app: web}}}}, ingress: {rules}}}", CNP)]


def egress(*rules: str, more: str = "") -> list[Doc]:
    body = ", ".join(rules)
    return [policy("a/c", f"{{endpointSelector: {{matchLabels: {{app: web}}}}, egress: [{body}]{more}}}", CNP)]


def test_an_empty_rule_isolates_and_allows_nothing() -> None:
    assert world().see(ingress("[{}]"), "a/db > a/web TCP/80") == "denied-ingress"
    assert ("spec.ingress[0]", "warning") in problems(ingress("[{}]")[0])


def test_a_direction_without_rules_is_not_isolated() -> None:
    assert world().see(ingress("[]"), "a/db > a/web TCP/80") == "allowed"
    assert world().see(ingress("[{fromEndpoints: [{}]}]"), "a/web > b/web TCP/80") == "allowed"


def test_default_deny_can_be_switched() -> None:
    off = policy("a/c", "{endpointSelector: {}, ingress: [{}], enableDefaultDeny: {ingress: false}}", CNP)
    on = policy("a/c", "{endpointSelector: {}, enableDefaultDeny: {egress: true}}", CNP)
    assert world().see([off], "b/web > a/web TCP/80") == "allowed"
    assert world().see([on], "a/web > b/web TCP/80") == "denied-egress"


@pytest.mark.parametrize("namespace_of", [{"namespace": ""}, {}])
@pytest.mark.parametrize("kind", ["NetworkPolicy", CNP])
def test_no_namespace_and_an_empty_one_are_the_default_one(kind: str, namespace_of: Doc) -> None:
    here = World(namespace("default"), pod("default/web", "10.0.0.1"), pod("a/web", "10.0.0.2"))
    selector = "podSelector" if kind == "NetworkPolicy" else "endpointSelector"
    document = policy("default/c", f"{{{selector}: {{}}, ingress: [{{fromEndpoints: []}}]}}", kind)
    if kind == "NetworkPolicy":
        document["spec"]["ingress"] = []
    document["metadata"] = {"name": "c", **namespace_of}
    assert here.see([document], "8.8.8.8 > default/web TCP/80") == "denied-ingress"
    assert here.see([document], "8.8.8.8 > a/web TCP/80") == "allowed"


def test_an_empty_list_of_peers_selects_nothing_and_ports_alone_select_all() -> None:
    assert world().see(ingress("[{fromEndpoints: []}]"), "a/db > a/web TCP/80") == "denied-ingress"
    ports = ingress("[{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]")
    assert world().see(ports, "8.8.8.8 > a/web TCP/80") == "allowed"
    assert world().see(ports, "8.8.8.8 > a/web TCP/81") == "denied-ingress"


def test_an_empty_list_of_peers_selects_nothing_whatever_stands_beside_it() -> None:
    both = ingress("[{fromEndpoints: [], fromCIDR: [8.8.8.0/24]}]")
    assert world().see(both, "8.8.8.8 > a/web TCP/80") == "denied-ingress"
    assert world().see(ingress("[{fromEntities: []}]"), "8.8.8.8 > a/web TCP/80") == "denied-ingress"


@pytest.mark.parametrize("key", ["toFQDNs", "toServices", "toGroups"])
def test_an_empty_list_that_cilium_leaves_out_is_not_taken_for_nothing(key: str) -> None:
    rule = egress(f"{{{key}: [], toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}")
    assert world().see(rule, "a/web > 8.8.8.8 TCP/80") == "unknown"
    assert world().see(rule, "a/web > 8.8.8.8 TCP/81") == "denied-egress"
    assert (f"spec.egress[0].{key}", "not-understood") in problems(rule[0])


def test_where_a_namespace_is_named_negative_conditions_hold_for_what_is_no_pod() -> None:
    others = "{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: NotIn, values: [b]}]}"
    rules = ingress(f"[{{fromEndpoints: [{others}]}}]")
    assert world().see(rules, "a/db > a/web TCP/80") == "allowed"
    assert world().see(rules, "b/web > a/web TCP/80") == "denied-ingress"
    assert world().see(rules, "8.8.8.8 > a/web TCP/80") == "unknown"
    assert world().see(rules, "192.168.0.2 > a/web TCP/80") == "unknown"
    by_label = "{matchExpressions: [{key: io.cilium.k8s.namespace.labels.team, operator: NotIn, values: [y]}]}"
    assert world().see(ingress(f"[{{fromEndpoints: [{by_label}]}}]"), "8.8.8.8 > a/web TCP/80") == "unknown"
    positive = "{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: Exists}]}"
    assert world().see(ingress(f"[{{fromEndpoints: [{positive}]}}]"), "8.8.8.8 > a/web TCP/80") == "denied-ingress"
    pods_only = ingress("[{fromEndpoints: [{matchExpressions: [{key: app, operator: NotIn, values: [x]}]}]}]")
    assert world().see(pods_only, "8.8.8.8 > a/web TCP/80") == "denied-ingress"


def test_the_namespace_of_an_endpoint_selector_is_replaced_under_its_own_name_only() -> None:
    def selecting(key: str) -> list[Doc]:
        return [policy("a/c", f"{{endpointSelector: {{matchLabels: {{'{key}': b}}}}, ingress: [{{}}]}}", CNP)]

    assert world().see(selecting("k8s:io.kubernetes.pod.namespace"), "b/web > a/web TCP/80") == "denied-ingress"
    for key in ("io.kubernetes.pod.namespace", "any:io.kubernetes.pod.namespace"):
        assert world().see(selecting(key), "b/web > a/web TCP/80") == "allowed"  # selects nobody


def test_a_named_port_on_egress_is_looked_up_among_all_pods() -> None:
    def known(other: int) -> World:
        return World(
            namespace("a"),
            pod("a/web", "10.0.0.1"),
            pod("a/api", "10.0.0.2", ports=(("http", "TCP", 8080),)),
            pod("a/old", "10.0.0.3", ports=(("http", "TCP", other),)),
            pod("a/bare", "10.0.0.4"),
        )

    rules = egress("{toPorts: [{ports: [{port: http, protocol: TCP}]}]}")
    assert known(8080).see(rules, "a/web > a/api TCP/8080") == "allowed"
    assert known(8080).see(rules, "a/web > a/api TCP/9") == "denied-egress"
    assert known(8080).see(rules, "a/web > a/bare TCP/8080") == "unknown"  # it gives the name to no port
    assert known(8080).see(rules, "a/web > 8.8.8.8 TCP/8080") == "unknown"
    assert known(8080).see(rules, "a/web > a/bare UDP/8080") == "denied-egress"
    assert known(9090).see(rules, "a/web > a/api TCP/8080") == "unknown"  # pods disagree
    assert known(9090).see(rules, "a/web > a/gone TCP/7") == "unknown"
    into = [policy("a/c", "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: http}]}]}]}", CNP)]
    assert known(9090).see(into, "a/web > a/api TCP/8080") == "allowed"  # on ingress it is the pod's own
    assert known(9090).see(into, "a/web > a/bare TCP/8080") == "denied-ingress"


def test_a_field_of_a_port_rule_that_is_not_known_may_let_more_match() -> None:
    more = ingress("[{toPorts: [{ports: [{port: '80', protocol: TCP}], strange: 1}]}]")
    assert world().see(more, "a/db > a/web TCP/81") == "unknown"
    less = ingress("[{toPorts: [{ports: [{port: '80', protocol: TCP}], serverNames: [x]}]}]")
    assert world().see(less, "a/db > a/web TCP/81") == "denied-ingress"


def test_endpoints_are_of_the_policys_namespace_unless_they_name_one() -> None:
    assert world().see(ingress("[{fromEndpoints: [{}]}]"), "b/web > a/web TCP/80") == "denied-ingress"
    for key in ("k8s:io.kubernetes.pod.namespace", "io.kubernetes.pod.namespace"):
        named = ingress(f"[{{fromEndpoints: [{{matchLabels: {{'{key}': b}}}}]}}]")
        assert world().see(named, "b/web > a/web TCP/80") == "allowed"
    label = ingress("[{fromEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.team: y}}]}]")
    assert world().see(label, "b/web > a/web TCP/80") == "allowed"
    account = policy(
        "a/c",
        "{endpointSelector: {matchLabels: {app: db}}, ingress: "
        "[{fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.serviceaccount: robot}}]}]}",
        CNP,
    )
    assert world().see([account], "a/web > a/db TCP/80") == "allowed"


@pytest.mark.parametrize("rule", ["toCIDR: [10.0.0.0/8]", "toCIDRSet: [{cidr: 10.0.0.0/8}]", "toCIDR: [0.0.0.0/0]"])
def test_blocks_never_match_pods_or_nodes(rule: str) -> None:
    assert world().see(egress(f"{{{rule}}}"), "a/web > a/db TCP/80") == "denied-egress"
    assert world().see(egress("{toCIDR: [192.168.0.0/16]}"), "a/web > 192.168.0.2 TCP/80") == "denied-egress"
    assert world().see(egress("{toCIDR: [8.8.8.8]}"), "a/web > 8.8.8.8 TCP/80") == "allowed"


@pytest.mark.parametrize(
    ("entity", "target", "verdict"),
    [
        ("world", "8.8.8.8", "allowed"),
        ("world", "a/db", "denied-egress"),
        ("world-ipv4", "2001:db8::1", "denied-egress"),
        ("world-ipv6", "2001:db8::1", "allowed"),
        ("cluster", "b/web", "allowed"),
        ("cluster", "192.168.0.2", "allowed"),
        ("cluster", "8.8.8.8", "denied-egress"),
        ("host", "192.168.0.1", "allowed"),
        ("host", "192.168.0.2", "denied-egress"),
        ("remote-node", "192.168.0.2", "allowed"),
        ("all", "8.8.8.8", "allowed"),
        ("none", "a/db", "denied-egress"),
    ],
)
def test_entities(entity: str, target: str, verdict: str) -> None:
    assert world().see(egress(f"{{toEntities: [{entity}]}}"), f"a/web > {target} TCP/80") == verdict


def test_the_api_server_is_an_entity_by_the_addresses_of_its_endpoints() -> None:
    servers = slice_of("default/kubernetes", ["203.0.113.5", "192.168.0.2"], [("https", 6443)])
    known = World(
        namespace("a"), node("n1", "192.168.0.1"), node("n2", "192.168.0.2"), pod("a/web", "10.0.0.1"), servers
    )
    rules = egress("{toEntities: [kube-apiserver]}")
    assert known.see(rules, "a/web > 203.0.113.5 TCP/6443") == "allowed"
    assert known.see(rules, "a/web > 192.168.0.2 TCP/6443") == "allowed"
    assert known.see(rules, "a/web > 192.168.0.1 TCP/6443") == "denied-egress"


@pytest.mark.parametrize("entity", ["ingress", "health", "init", "unmanaged"])
def test_an_address_that_is_no_known_pods_may_be_one_of_ciliums_own(entity: str) -> None:
    known = World(node("n1", "192.168.0.1", blocks=["10.0.0.0/24"]), namespace("a"), pod("a/web", "10.0.0.1"))
    assert known.see(ingress(f"[{{fromEntities: [{entity}]}}]"), "10.0.0.99 > a/web TCP/80") == "unknown"
    deny = (
        f"{{endpointSelector: {{}}, ingressDeny: [{{fromEntities: [{entity}]}}], ingress: [{{fromEntities: [all]}}]}}"
    )
    assert known.see([policy("a/c", deny, CNP)], "10.0.0.99 > a/web TCP/80") == "unknown"
    assert known.see(ingress("[{fromEntities: [none]}]"), "10.0.0.99 > a/web TCP/80") == "denied-ingress"


def test_a_service_without_a_namespace_is_that_of_any() -> None:
    known = World(
        namespace("a"),
        namespace("b"),
        pod("a/web", "10.0.0.1"),
        *(service(f"{space}/ext", "", [{"port": 443}]) for space in ("a", "b")),
        slice_of("a/ext", ["203.0.113.5"], [("", 443)]),
        slice_of("b/ext", ["203.0.113.66"], [("", 443)]),
    )
    for which in ("k8sService: {serviceName: ext}", "k8sServiceSelector: {selector: {}}"):
        rules = egress(f"{{toServices: [{{{which}}}]}}")
        assert known.see(rules, "a/web > 203.0.113.66 TCP/443") == "allowed"
    own = egress("{toServices: [{k8sService: {serviceName: ext, namespace: a}}]}")
    assert known.see(own, "a/web > 203.0.113.66 TCP/443") == "denied-egress"


def test_an_icmp_type_among_the_ports_is_not_a_port() -> None:
    rules = ingress("[{toPorts: [{ports: [{port: '8', protocol: ICMP}]}]}]")
    assert world().see(rules, "a/db > a/web ICMP/0") == "unknown"
    assert world().see(rules, "a/db > a/web TCP/8") == "denied-ingress"


def test_deny_rules_know_no_names() -> None:
    body = "egressDeny: [{toFQDNs: [{matchName: bad.example.com}]}], egress: [{toEntities: [world]}]"
    rules = [policy("a/c", f"{{endpointSelector: {{}}, {body}}}", CNP)]
    assert world().see(rules, "a/web > 8.8.8.8 TCP/80") == "unknown"
    assert ("spec.egressDeny[0].toFQDNs", "not-understood") in problems(rules[0])


def test_what_others_were_known_by_says_nothing_of_an_address_without_a_name() -> None:
    rules = egress("{toFQDNs: [{matchName: api.example.com}]}", DNS)
    without = World(namespace("a"), pod("a/web", "10.0.0.1"), pod("a/db", "10.0.0.2"))
    assert without.see(rules, "a/web > 8.8.8.8 TCP/443") == "unknown"
    assert without.see(rules, "a/web > 8.8.8.8 TCP/443", name="other.example.com") == "denied-egress"
    flows = [
        {"src": "a/web", "dst": "8.8.8.8", "protocol": "TCP", "port": 443},
        {"src": "a/db", "dst": "8.8.4.4", "protocol": "TCP", "port": 443, "name": "other.example.com"},
    ]
    assert without.verdicts(rules, flows) == ["unknown", "allowed"]


def test_deny_rules_win_over_allow_rules_of_any_policy() -> None:
    deny = policy("a/d", "{endpointSelector: {}, ingressDeny: [{fromEndpoints: [{matchLabels: {app: db}}]}]}", CNP)
    allow = policy("a/n", "{podSelector: {}, ingress: [{}]}")
    assert world().see([deny, allow], "a/db > a/web TCP/80") == "denied-ingress"
    assert world().see([deny, allow], "b/web > a/web TCP/80") == "allowed"


def test_clusterwide_policies_select_everywhere_and_match_pods_only() -> None:
    everywhere = policy("c", "{endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}", CCNP)
    assert world().see([everywhere], "b/web > a/web TCP/80") == "allowed"
    assert world().see([everywhere], "8.8.8.8 > b/web TCP/80") == "denied-ingress"


def test_names_need_a_dns_rule_of_the_same_pod() -> None:
    name = "{toFQDNs: [{matchName: api.example.com}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}"
    assert world().see(egress(name, DNS), "a/web > 93.184.216.34 TCP/443") == "allowed"
    assert world().see(egress(name, DNS), "a/web > 93.184.216.34 TCP/80") == "denied-egress"
    assert world().see(egress(name, DNS), "a/web > 8.8.8.8 TCP/443") == "denied-egress"
    assert world().see(egress(name), "a/web > 93.184.216.34 TCP/443") == "denied-egress"
    other = DNS.replace("'*'", "'*.other.org'")
    assert world().see(egress(name, other), "a/web > 93.184.216.34 TCP/443") == "denied-egress"


@pytest.mark.parametrize(
    ("pattern", "verdict"),
    [("*.example.com", "allowed"), ("*.com", "denied-egress"), ("**.com", "allowed"), ("api*", "denied-egress")],
)
def test_a_star_stays_within_one_label(pattern: str, verdict: str) -> None:
    rule = f"{{toFQDNs: [{{matchPattern: '{pattern}'}}]}}"
    assert world().see(egress(rule, DNS), "a/web > 93.184.216.34 TCP/443") == verdict


def test_without_any_dns_answer_a_name_is_unknown() -> None:
    blind = World(namespace("a"), pod("a/web", "10.0.0.1"))
    rule = egress("{toFQDNs: [{matchName: api.example.com}]}", DNS)
    assert blind.see(rule, "a/web > 93.184.216.34 TCP/443") == "unknown"
    assert blind.reasons(rule, "a/web > 93.184.216.34 TCP/443") == ["no DNS name is known for the address"]
    assert blind.see(rule, "a/web > 93.184.216.34 TCP/443", name="api.example.com") == "allowed"


def test_l7_rules_leave_what_they_match_unknown_and_deny_the_rest() -> None:
    http = ingress("[{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]}]")
    assert world().see(http, "a/db > a/web TCP/80") == "unknown"
    assert world().see(http, "a/db > a/web TCP/81") == "denied-ingress"
    assert ("spec.ingress[0].toPorts[0].rules.http", "not-understood") in problems(http[0])


def test_services_made_by_hand_are_their_endpoints() -> None:
    hand = World(
        namespace("a"),
        pod("a/web", "10.0.0.1"),
        service("a/hand", "10.96.0.3", [{"port": 443, "name": "x"}]),
        slice_of("a/hand", ["93.184.216.34"], [("x", 443)]),
    )
    rule = egress("{toServices: [{k8sService: {serviceName: hand, namespace: a}}]}")
    assert hand.see(rule, "a/web > 10.96.0.3 TCP/443") == "allowed"
    assert hand.see(rule, "a/web > 8.8.8.8 TCP/443") == "denied-egress"


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ("{ingress: [{}]}", "spec"),
        ("{endpointSelector: {}, nodeSelector: {}}", "spec"),
        ("{nodeSelector: {}}", "spec.nodeSelector"),
        ("{endpointSelector: {}, ingress: [{fromEndpoints: [{}], fromEntities: [all]}]}", "spec.ingress[0]"),
        ("{endpointSelector: {}, ingress: [{fromEntities: [moon]}]}", "spec.ingress[0].fromEntities[0]"),
        (
            "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: 80}]}]}]}",
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
        ("{endpointSelector: {}, egress: [{toCIDR: [10.0.0.0/40]}]}", "spec.egress[0].toCIDR[0]"),
        (
            "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: '0080'}]}]}]}",
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
        (
            "{endpointSelector: {}, egress: "
            "[{toPorts: [{ports: [{port: '0', protocol: UDP}], rules: {dns: [{matchPattern: '*'}]}}]}]}",
            "spec.egress[0].toPorts[0].rules",
        ),
        (
            "{endpointSelector: {}, ingress: "
            "[{toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*'}]}}]}]}",
            "spec.ingress[0].toPorts[0].rules.dns",
        ),
        (
            "{endpointSelector: {}, egress: "
            "[{toPorts: [{ports: [{port: '1', endPort: 100}], rules: {dns: [{matchPattern: '*'}]}}]}]}",
            "spec.egress[0].toPorts[0].rules",
        ),
        (
            "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: 80/tcp}]}]}]}",
            "spec.ingress[0].toPorts[0].ports[0].port",
        ),
    ],
)
def test_malformed_documents_are_refused_with_their_place(spec: str, place: str) -> None:
    assert refused(policy("a/c", spec, CNP)).partition(":")[0] == place


def test_policies_for_nodes_make_nodes_unknown_and_say_so() -> None:
    host = policy("h", "{nodeSelector: {}, ingress: [{}]}", CCNP)
    assert world().see([host], "8.8.8.8 > 192.168.0.1 TCP/22") == "unknown"
    assert world().see([host], "8.8.8.8 > a/web TCP/22") == "allowed"
    assert ("spec.nodeSelector", "not-understood") in problems(host)


def test_labels_that_cilium_leaves_out_of_identities_are_uncertain() -> None:
    rules = ingress("[{fromEndpoints: [{matchLabels: {pod-template-hash: abc}}]}]")
    assert world().see(rules, "a/db > a/web TCP/80") == "unknown"


def test_kept_a_service_without_a_name_is_not_every_service_of_the_namespace() -> None:
    by_hand = [service("b/hand", "10.96.0.9", [{"port": 80}]), slice_of("b/hand", ["172.16.5.9"], [("", 80)])]
    world = World(namespace("a"), namespace("b"), pod("a/web", "10.0.0.1"), *by_hand)
    for name, verdict in (("hand", "allowed"), ("", "unknown")):
        rule = f"{{toServices: [{{k8sService: {{serviceName: '{name}', namespace: b}}}}]}}"
        made = policy("a/c", f"{{endpointSelector: {{}}, egress: [{rule}]}}", "CiliumNetworkPolicy")
        assert world.see([made], "a/web > 172.16.5.9 TCP/80") == verdict
