"""Generation, one principle at a time, on a small shop."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from fathom.errors import UsageError
from fathom.policy.compile import compile_policies
from fathom.policy.evaluate import ALLOWED, evaluate
from fathom.policy.flows import Flows, from_dicts
from fathom.policy.generate import PREFIX, Choices, Generated, Window, generate, to_yaml
from fathom.policy.history import REASONS, Limits
from fathom.policy.inventory import (
    Answer,
    Backend,
    ContainerPort,
    Inventory,
    Namespace,
    Node,
    Pod,
    Records,
    Service,
    ServicePort,
    Slice,
    Workload,
)
from fathom.policy.labelling import naming
from fathom.policy.metadata import valid_name
from fathom.policy.policysets import read_texts
from fathom.policy.resolve import resolve

WEB = {"app": "web", "pod-template-hash": "5d"}
DB = {"app": "db", "statefulset.kubernetes.io/pod-name": "db-0"}


def shop() -> Records:
    records = Records()
    records.namespaces += [Namespace("shop", {}), Namespace("data", {}), Namespace("kube-system", {})]
    records.nodes += [Node("n1", {}, ("192.168.0.1",), ("10.0.1.0/24",)), Node("n2", {}, ("192.168.0.2",))]
    records.workloads.append(Workload("shop", "Deployment", "web", {"matchLabels": {"app": "web"}}))
    for number, node in ((1, "n1"), (2, "n2")):
        labels = {**WEB, "pod-template-hash": f"5d{number}"}
        records.pods.append(
            Pod("shop", f"web-{number}", labels, (f"10.0.1.{number}",), node, workload=("Deployment", "web"))
        )
    records.pods.append(Pod("data", "db-0", DB, ("10.0.1.9",), "n1", workload=("StatefulSet", "db")))
    records.pods.append(
        Pod("data", "exporter", {"app": "x"}, ("192.168.0.1",), "n1", True, workload=("DaemonSet", "x"))
    )
    dns = Pod("kube-system", "dns-1", {"k8s-app": "dns"}, ("10.0.1.53",), "n1", workload=("Deployment", "dns"))
    records.pods.append(dns)
    port = ServicePort("sql", "TCP", 5000, 5432)
    records.services.append(Service("data", "db", {"app": "db"}, ("10.96.0.9",), ports=(port,)))
    api = ServicePort("https", "TCP", 443, 6443)
    records.services.append(Service("default", "kubernetes", None, ("10.96.0.1",), ports=(api,)))
    records.slices.append(Slice("default", "kubernetes", (Backend(("192.168.0.1",)),), (("https", "TCP", 6443),)))
    return records


def flow(src: str, dst: str, port: int = 80, protocol: str = "TCP", **more: Any) -> dict[str, Any]:
    return {"src": src, "dst": dst, "protocol": protocol, "port": port, **more}


def made(*items: dict[str, Any], records: Records | None = None, **choices: Any) -> Generated:
    return generate(from_dicts(items), Inventory(records or shop()), Choices(**choices))


def policy(found: Generated, name: str) -> Any:
    return next(d for d in found.documents if f"{d['metadata']['namespace']}/{d['metadata']['name']}" == name)


def why(found: Generated) -> list[str]:
    return [REASONS[number] for number in found.reasons.tolist()]


def test_one_policy_for_a_workload_by_its_own_labels_over_all_replicas() -> None:
    found = made(flow("shop/web-1", "data/db-0", 5432), flow("shop/web-2", "data/db-0", 5432))
    web = policy(found, "shop/deployment-web")
    assert [d["metadata"]["name"] for d in found.documents] == ["statefulset-db", "deployment-web"]
    assert web["spec"] == {
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [
            {
                "to": [
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}},
                        "podSelector": {"matchLabels": {"app": "db"}},
                    }
                ],
                "ports": [{"protocol": "TCP", "port": 5432}],
            }
        ],
    }
    assert "hash" not in to_yaml(found.documents)


def test_a_service_is_written_as_its_backend_and_target_port() -> None:
    found = made(flow("shop/web-1", "10.96.0.9", 5000))
    rule = policy(found, "shop/deployment-web")["spec"]["egress"][0]
    assert rule["ports"] == [{"protocol": "TCP", "port": 5432}]


@pytest.mark.parametrize(("address", "port"), [("10.96.0.9", 5000), ("10.96.0.1", 443)])
def test_the_address_of_a_service_that_an_edge_names_is_not_its_backends(address: str, port: int) -> None:
    """The store's edges always have an address: behind a service, pods and API server have their own."""
    records = shop()
    records.slices[0] = Slice("default", "kubernetes", (Backend(("203.0.113.1",)),), (("https", "TCP", 6443),))
    plain, named = (
        made(flow("shop/web-1", address, port, **more), records=records) for more in ({}, {"dst_address": address})
    )
    assert why(named) == [""]
    assert to_yaml(named.documents) == to_yaml(plain.documents)


def test_behind_a_port_of_a_node_is_the_pods_own_port() -> None:
    """The pod sees the client that asked the node; a client in a pod sees the node, or the pod."""
    records = shop()
    port = ContainerPort("", "TCP", 8080, 80)
    labels = {"app": "edge"}
    records.pods.append(Pod("edge", "e-1", labels, ("10.0.2.1",), "n2", ports=(port,), workload=("DaemonSet", "e")))
    flows = [flow("203.0.113.9", "192.168.0.2"), flow("shop/web-1", "192.168.0.2")]
    found = made(*flows, records=records)
    assert why(found) == ["", ""]
    ingress = policy(found, "edge/daemonset-e")["spec"]["ingress"]
    assert [rule["ports"] for rule in ingress] == [[{"protocol": "TCP", "port": 8080}]] * 2
    assert {"from": [{"ipBlock": {"cidr": "203.0.113.9/32"}}], "ports": [{"protocol": "TCP", "port": 8080}]} in ingress
    egress = policy(found, "shop/deployment-web")["spec"]["egress"]
    assert {rule["ports"][0]["port"] for rule in egress} == {80, 8080}
    policies, who = read_texts([("p", to_yaml(found.documents))]), Inventory(records)
    judged = evaluate(compile_policies(policies, who), resolve(from_dicts(flows), who))
    assert judged.verdict.tolist() == [ALLOWED, ALLOWED]


def test_dns_opens_both_protocols_to_the_dns_that_was_seen_node_local_too() -> None:
    found = made(flow("shop/web-1", "kube-system/dns-1", 53, "UDP"), flow("shop/web-1", "169.254.20.10", 53, "UDP"))
    both = [{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}]
    egress = policy(found, "shop/deployment-web")["spec"]["egress"]
    assert [rule["ports"] for rule in egress] == [both, both]
    assert egress[1]["to"] == [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
    assert policy(found, "kube-system/deployment-dns")["spec"]["ingress"][0]["ports"] == both
    assert {rule.companion for rule in found.evidence} == {"dns"}


@pytest.mark.parametrize("verdict", ["dropped", "failed", "unknown"])
def test_what_did_not_get_through_is_never_allowed(verdict: str) -> None:
    found = made(flow("shop/web-1", "data/db-0", 5432, verdict=verdict))
    assert found.documents == ()
    assert not found.used.any()


def test_one_way_udp_is_allowed() -> None:
    found = made(flow("shop/web-1", "203.0.113.9", 514, "UDP"))
    assert policy(found, "shop/deployment-web")["spec"]["egress"][0]["ports"] == [{"protocol": "UDP", "port": 514}]


def test_clients_ports_and_flows_without_an_opener_make_no_server() -> None:
    found = made(
        flow("data/db-0", "shop/web-1", 45678),
        flow("data/db-0", "shop/web-1", 80, "UDP", oriented=False),
        flow("shop/web-1", "data/db-0", 45678),
    )
    assert found.documents == ()
    assert "ephemeral" in why(found)[0]
    assert "who opened" in why(found)[1]
    said = made(flow("shop/web-1", "data/db-0", 45678), limits=Limits(servers=frozenset({45678})))
    assert said.used.all()


def test_peers_that_are_not_known_are_listed_not_guessed() -> None:
    found = made(flow("shop/web-1", "shop/gone", 80), flow("10.0.1.77", "shop/web-1", 80), flow("shop/web-1", "x.org"))
    assert found.documents == ()
    assert sorted((g.src, g.dst, g.port) for g in found.left_out) == [
        ("10.0.1.77", "shop/Deployment/web", 80),
        ("shop/Deployment/web", "shop/gone", 80),
        ("shop/Deployment/web", "x.org", 80),
    ]


def test_pods_on_the_hosts_network_are_their_node() -> None:
    found = made(flow("shop/web-1", "data/exporter", 9100), flow("data/exporter", "shop/web-2", 80))
    assert [d["metadata"]["name"] for d in found.documents] == ["deployment-web"]
    spec = found.documents[0]["spec"]
    assert spec["egress"][0]["to"] == spec["ingress"][0]["from"] == [{"ipBlock": {"cidr": "192.168.0.1/32"}}]
    assert made(flow("data/exporter", "shop/web-1", 80)).evidence == ()  # its own node may always


def test_api_server_and_nodes_are_entities_for_cilium() -> None:
    found = made(flow("shop/web-1", "10.96.0.1", 443), flow("shop/web-1", "Node/n2", 10250), form="cilium")
    egress = policy(found, "shop/deployment-web")["spec"]["egress"]
    assert [rule["toEntities"] for rule in egress] == [["kube-apiserver"], ["host", "remote-node"]]
    plain = made(flow("shop/web-1", "10.96.0.1", 443))
    assert plain.documents[0]["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "192.168.0.1/32"}}]


@pytest.mark.parametrize("form", ["networkpolicy", "cilium"])
def test_every_address_of_a_node_that_was_not_seen_counts_as_beyond(form: str) -> None:
    records = Records()
    records.namespaces.append(Namespace("shop", {}))
    records.nodes.append(Node("n2", {}, ("192.168.0.2", "198.18.0.2", "fd00::2")))
    records.pods.append(Pod("shop", "web-1", {"app": "web"}, ("10.0.1.1", "fd01::1")))

    def beyond(*items: dict[str, Any]) -> int:
        (rule,) = made(*items, records=records, form=form, directions=("egress",)).evidence
        return rule.beyond

    first = flow("shop/web-1", "192.168.0.2", 10250)
    assert beyond(first) == 2
    assert beyond(first, flow("shop/web-1", "Node/n2", 10250)) == 2
    assert beyond(flow("shop/web-1", "Node/n2", 10250)) == 2  # one of the three
    assert beyond(first, flow("shop/web-1", "198.18.0.2", 10250)) == 1
    assert beyond(first, flow("shop/web-1", "192.168.0.2", 443)) == 4


def names(*answers: tuple[str, str], dns: bool = True) -> list[Any]:
    records = shop()
    records.answers += [Answer(name, address) for name, address in answers]
    items = [flow("shop/web-1", address, 443) for address in sorted({a for _, a in answers})]
    items += [flow("shop/web-1", "kube-system/dns-1", 53, "UDP")] * dns
    found = made(*items, records=records, form="cilium")
    return list(policy(found, "shop/deployment-web")["spec"]["egress"])


def test_a_clear_name_is_a_peer_with_its_dns_rule() -> None:
    egress = names(("Api.Example.com.", "198.51.100.1"), ("api.example.com", "198.51.100.2"))
    assert egress[1]["toFQDNs"] == [{"matchName": "api.example.com"}]
    assert egress[0]["toPorts"][0]["rules"] == {"dns": [{"matchPattern": "*"}]}


@pytest.mark.parametrize(
    ("answers", "dns"),
    [
        ([("one.example", "198.51.100.1"), ("two.example", "198.51.100.1")], True),  # two names, one address
        ([("one.example", "198.51.100.1"), ("one.example", "10.96.0.9")], True),  # a name that is inside, too
        ([("one.example", "198.51.100.1")], False),  # no DNS was seen
        ([("a..example", "198.51.100.1")], True),  # no names for a CiliumNetworkPolicy
        ([(".example.com", "198.51.100.1")], True),
        ([("a." * 127 + "com", "198.51.100.1")], True),
    ],
)
def test_an_unclear_name_is_never_a_peer(answers: list[tuple[str, str]], dns: bool) -> None:
    egress = names(*answers, dns=dns)
    assert not any("toFQDNs" in rule for rule in egress)
    assert any("198.51.100.1/32" in rule.get("toCIDR", ()) for rule in egress)


def test_addresses_of_equal_ports_share_blocks_within_the_bound() -> None:
    items = [flow("shop/web-1", f"198.51.100.{n}", 443) for n in (0, 1, 2, 9)]
    found = made(*items, flow("shop/web-1", "198.51.100.3", 5432), spread=2)
    rules = [[peer["ipBlock"]["cidr"] for peer in rule["to"]] for rule in found.documents[0]["spec"]["egress"]]
    assert rules == [["198.51.100.0/31", "198.51.100.2/32", "198.51.100.9/32"], ["198.51.100.3/32"]]
    assert found.beyond == 0
    wide = made(*items, spread=4)
    assert wide.documents[0]["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "198.51.100.0/28"}}]
    assert wide.beyond == 12


def test_adjacent_ports_are_one_range_when_asked() -> None:
    items = [flow("shop/web-1", "data/db-0", port) for port in (7000, 7001, 7002, 7004)]
    found = made(*items, merge_ports=3)
    ports = policy(found, "shop/deployment-web")["spec"]["egress"][0]["ports"]
    assert ports == [{"protocol": "TCP", "port": 7000, "endPort": 7002}, {"protocol": "TCP", "port": 7004}]


def test_one_direction_only() -> None:
    found = made(flow("shop/web-1", "data/db-0", 5432), directions=("ingress",))
    assert policy(found, "data/statefulset-db")["spec"]["policyTypes"] == ["Ingress"]
    assert policy(found, "shop/deployment-web")["spec"] == {
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Ingress"],
    }
    with pytest.raises(UsageError):
        made(flow("shop/web-1", "data/db-0", 5432), directions=())


def test_little_seen_and_excluded_traffic_is_left_out_with_its_reason() -> None:
    items = (flow("shop/web-1", "data/db-0", 5432, count=2), flow("shop/web-2", "data/db-0", 5432))
    assert made(*items, limits=Limits(minimum=3)).used.all()
    assert not made(*items, limits=Limits(minimum=4)).used.any()
    timed = (
        flow("shop/web-1", "data/db-0", 1, first_seen=100, last_seen=150),
        flow("shop/web-1", "data/db-0", 2, first_seen=100, last_seen=250),
    )
    assert made(*timed, limits=Limits(excluded=(100, 200))).used.tolist() == [False, True]


def test_widened_to_the_namespace() -> None:
    found = made(flow("shop/web-1", "data/db-0", 5432), widen=True)
    peer = policy(found, "shop/deployment-web")["spec"]["egress"][0]["to"][0]
    assert peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}},
        "podSelector": {},
    }


def test_for_one_workload_and_for_one_pod() -> None:
    items = (
        flow("shop/web-1", "data/db-0", 5432),
        flow("shop/web-2", "203.0.113.9", 443),
        flow("shop/web-1", "203.0.113.9", 443),
    )
    both = made(*items, only=("shop/Deployment/web",))
    assert both.used.tolist() == [True, True, True]
    db = made(*items, flow("shop/web-1", "data/db-0", 22, verdict="dropped"), only=("data/StatefulSet/db",))
    assert db.used.tolist() == [True, False, False, False]
    assert [(group.dst, group.port) for group in db.left_out] == [("data/StatefulSet/db", 22)]
    assert not made(flow("shop/web-1", "8.8.8.8", 80, verdict="dropped"), only=("data/StatefulSet/db",)).left_out
    assert [len(d["spec"]["egress"]) for d in both.documents] == [2]
    one = made(*items, only=("shop/web-2",))
    assert [d["spec"]["egress"][0]["to"] for d in one.documents] == [[{"ipBlock": {"cidr": "203.0.113.9/32"}}]]
    assert [rule.flows for rule in one.evidence] == [(1,)]
    assert one.used.tolist() == [False, True, False]
    assert one.documents[0]["metadata"]["annotations"][PREFIX + "only"] == "shop/web-2"
    with pytest.raises(UsageError):
        made(*items, only=("shop/nobody",))
    assert made(*items, only=("shop/web-2", "web")).documents[0]["spec"] == both.documents[0]["spec"]


@pytest.mark.parametrize("name", ["web", "Deployment/web", "*/w*", "shop/*/*", "*e*b"])
def test_a_workload_that_was_seen_is_named_in_short(name: str) -> None:
    found = made(flow("shop/web-1", "data/db-0", 5432), flow("203.0.113.9", "shop/web-1"), only=(name,))
    assert [d["metadata"]["name"] for d in found.documents] == ["deployment-web"]
    with pytest.raises(UsageError, match="no policy can be made for"):
        made(flow("shop/web-1", "shop/web-2"), only=("db",))
    assert made(flow("shop/web-1", "shop/web-2"), only=("data/StatefulSet/db",)).documents


def test_a_pattern_is_matched_in_bounded_time() -> None:
    assert not naming("*a" * 1_000 + "*b")("a" * 3_000)
    assert naming("*a" * 1_000 + "*b")("a" * 3_000 + "b")


def test_overlapping_labels_are_told_apart() -> None:
    records = shop()
    records.pods.append(Pod("shop", "canary", {"app": "web", "track": "canary"}, workload=("Pod", "canary")))
    found = made(flow("shop/web-1", "data/db-0", 1), flow("shop/canary", "data/db-0", 2), records=records)
    chosen = policy(found, "shop/deployment-web")["spec"]["podSelector"]
    assert chosen["matchExpressions"] == [{"key": "track", "operator": "NotIn", "values": ["canary"]}]
    ports = [rule["ports"][0]["port"] for rule in policy(found, "data/statefulset-db")["spec"]["ingress"]]
    assert sorted(ports) == [1, 2]


def test_workloads_that_no_label_tells_apart_share_a_policy() -> None:
    records = shop()
    records.pods.append(Pod("shop", "twin", {"app": "web"}, workload=("Pod", "twin")))
    found = made(flow("shop/web-1", "data/db-0", 1), flow("shop/twin", "data/db-0", 2), records=records)
    names = policy(found, "shop/deployment-web")["metadata"]["annotations"][PREFIX + "workloads"]
    assert names == "shop/Deployment/web shop/Pod/twin"


def test_a_pod_without_labels_gets_no_policy_that_would_choose_all() -> None:
    records = shop()
    records.pods.append(Pod("shop", "bare", {}, workload=("Pod", "bare")))
    found = made(flow("shop/bare", "203.0.113.9", 443), records=records)
    assert found.documents == ()
    assert "no label" in why(found)[0]


def test_output_does_not_depend_on_the_order_of_flows() -> None:
    items = [flow("shop/web-1", f"198.51.100.{n}", 443 + n % 2) for n in range(20)]
    items += [flow("shop/web-2", "data/db-0", 5432 + n) for n in range(5)]
    first = to_yaml(made(*items).documents)
    for seed in range(3):
        random.Random(seed).shuffle(items)
        assert to_yaml(made(*items).documents) == first


def test_annotations_say_what_the_policy_rests_on() -> None:
    flows = from_dicts([flow("shop/web-1", "data/db-0", 5432, first_seen=1_700_000_000, last_seen=1_700_000_900)])
    window = Window(1_700_000_000, 1_700_003_600, 0.5, 7)
    one, other = (generate(flows, Inventory(shop()), Choices(), w) for w in (window, Window()))
    said = {k.removeprefix(PREFIX): v for k, v in one.documents[1]["metadata"]["annotations"].items()}
    assert said["window"] == "2023-11-14T22:13:20Z/2023-11-14T23:13:20Z"
    assert said["lost"] == "7"
    assert said["coverage"] == "0.5000"
    assert said["thin-data"] == (
        "1 connection, fewer than 10; 900 s between first and last seen, less than 86400 s; "
        "50% of the time was seen, less than 95%"
    )
    unwatched = other.documents[1]["metadata"]["annotations"]
    assert (unwatched[PREFIX + "coverage"], unwatched[PREFIX + "lost"]) == ("unknown", "unknown")
    assert unwatched[PREFIX + "thin-data"] == (
        "1 connection, fewer than 10; 900 s between first and last seen, less than 86400 s"
    )
    assert (
        generate(flows, Inventory(shop()))
        .documents[0]["metadata"]["annotations"][PREFIX + "window"]
        .endswith("2023-11-14T22:28:20Z")
    )
    assert said["digest"] == other.documents[1]["metadata"]["annotations"][PREFIX + "digest"]
    assert said["digest"].startswith("sha256:")


def test_evidence_names_the_edges_behind_each_rule() -> None:
    flows = from_dicts([flow("shop/web-1", "data/db-0", 5432, count=3, first_seen=5, last_seen=9)] * 2)
    flows = Flows(flows.rows.copy(), flows.strings)
    flows.rows["edge"] = np.array([11, 12])
    found = generate(flows, Inventory(shop()))
    rule = next(item for item in found.evidence if item.direction == "egress")
    assert (rule.policy, rule.rule, rule.peer) == ("shop/deployment-web", 0, "data/StatefulSet/db")
    assert (rule.edges, rule.connections, rule.first, rule.last) == ((11, 12), 6, 5, 9)
    assert rule.beyond == 1  # web-2 may, and did not


def test_what_the_api_cannot_say_is_left_out_with_its_reason() -> None:
    records = shop()
    port = ServicePort("web", "TCP", 80, 8080, 30080)
    records.services.append(Service("shop", "web", {"app": "web"}, ("10.96.0.7",), ports=(port,)))
    found = made(
        flow("203.0.113.9", "192.168.0.2", 30080),
        flow("shop/web-1", "10.96.0.9", 9999),
        flow("shop/web-1", "data/db-0", 0, "ICMP"),
        flow("203.0.113.9", "Node/n1", 22),
        records=records,
    )
    assert found.documents == ()
    assert [reason.split(",")[0].split(":")[0] for reason in why(found)] == [
        "the source is hidden by address translation",
        "the address is a service's",
        "the protocol is outside of the API",
        "both ends are outside of pods",
    ]


def test_names_of_policies_are_names_however_long_the_workloads_are() -> None:
    records = shop()
    for number, letter in enumerate("xy"):
        long = "w" * 230 + "." + "w" * 21 + letter
        pod = Pod(
            "shop", f"p{letter}", {"app": letter}, (f"10.0.1.{20 + number}",), "n1", workload=("Deployment", long)
        )
        records.pods.append(pod)
    found = made(flow("shop/px", "data/db-0"), flow("shop/py", "data/db-0"), records=records, directions=("egress",))
    names = [
        document["metadata"]["name"] for document in found.documents if document["metadata"]["namespace"] == "shop"
    ]
    assert [len(name) for name in names] == [252, 252]  # of 253: no dot before the hash
    assert len(set(names)) == 2
    assert names[0].startswith("deployment-wwww")
    assert not read_texts([("found.yaml", to_yaml(found.documents))]).refused


@pytest.mark.parametrize(
    "owners", [(("Foo", "bar-baz"), ("Foo-bar", "baz")), (("Wasmapp", "x"), ("WasmApp", "x"))], ids=["dash", "case"]
)
def test_two_policies_of_a_namespace_never_have_one_name(owners: tuple[tuple[str, str], tuple[str, str]]) -> None:
    def names(order: tuple[tuple[str, str], ...]) -> dict[str, str]:
        records = shop()
        for owner in order:
            app = "/".join(owner).replace("/", "_")
            records.pods.append(Pod("shop", app, {"app": app}, workload=owner))
        flows = [flow("/".join(("shop", *owner)), "data/db-0", 5432) for owner in order]
        found = [d["metadata"] for d in made(*flows, records=records).documents if d["metadata"]["namespace"] == "shop"]
        return {item["annotations"][PREFIX + "workloads"]: item["name"] for item in found}

    found = names(owners)
    assert len(set(found.values())) == len(found) == 2
    assert all(valid_name(name) and name == name.lower() for name in found.values())
    assert names(owners[::-1]) == found
    assert set(names(owners[:1]).values()) == {"foo-bar-baz" if owners[0][0] == "Foo" else "wasmapp-x"}


def test_a_pod_with_itself_needs_no_rule() -> None:
    found = made(flow("shop/web-1", "shop/web-1", 80), flow("shop/web-1", "127.0.0.1", 80))
    assert found.used.all()
    assert found.evidence == ()


def test_nothing_seen_is_no_policy() -> None:
    found = made()
    assert (found.documents, found.evidence, to_yaml(found.documents)) == ((), (), "")


@pytest.mark.parametrize(
    "workload", [("Deployment", "apps/v1"), ("My_Kind", "oo"), ("Deployment", "A" * 300), ("X", ".")]
)
def test_a_policys_name_is_a_name_whatever_a_store_says_of_owners(workload: tuple[str, str]) -> None:
    records = shop()
    for number, owner in enumerate((workload, (workload[0], workload[1] + "_"))):
        records.pods.append(Pod("shop", f"p{number}", {"n": str(number)}, (f"10.0.9.{number}",), "n1", workload=owner))
    found = made(flow("shop/p0", "shop/p1", 80), records=records)
    names = [item["metadata"]["name"] for item in found.documents]
    assert len(set(names)) == 2
    assert all(valid_name(name) for name in names)
    assert not read_texts([("f", to_yaml(found.documents))]).problems
