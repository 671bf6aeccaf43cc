"""A suggested rule allows exactly the group that it was suggested for, and denies nothing that was allowed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np

from fathom.policy.compile import compile_policies
from fathom.policy.documents import Document
from fathom.policy.evaluate import ALLOWED, evaluate
from fathom.policy.flows import Flows, from_dicts
from fathom.policy.inventory import Inventory, Namespace, Node, Pod, Records
from fathom.policy.options import Options
from fathom.policy.policysets import read
from fathom.policy.problems import Place
from fathom.policy.replay import Group, replay
from fathom.policy.resolve import resolve
from fathom.policy.suggest import absent


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


Documents = list[dict[str, Any]]


def verdicts(documents: Documents, who: Inventory, flows: Flows = FLOWS) -> list[int]:
    policies = read(Document(Place("f", n), item) for n, item in enumerate(documents))
    assert not policies.refused, policies.problems
    return evaluate(compile_policies(policies, who), resolve(flows, who)).verdict.tolist()


def suggested(documents: Documents, who: Inventory, flows: Flows = FLOWS) -> tuple[list[Group], Documents]:
    """What is suggested; checked to deny nothing that was allowed, and to allow each group that it is for."""
    policies = read(Document(Place("f", n), item) for n, item in enumerate(documents))
    compiled, resolved = compile_policies(policies, who), resolve(flows, who)
    found = evaluate(compiled, resolved)
    replayed = replay(compiled, flows, resolved, found)
    groups, extra = absent(replayed.groups, flows, resolved, found, compiled)
    assert [bool(group.absent) for group in groups] == [not group.no_rule for group in groups]
    after = verdicts(documents + extra, who, flows)
    assert all(now == ALLOWED for now, before in zip(after, found.verdict.tolist(), strict=True) if before == ALLOWED)
    names = {f"NetworkPolicy {item['metadata']['namespace']}/{item['metadata']['name']}" for item in extra}
    assert len(names) == len(extra)
    assert {name for group in groups for name in group.absent} == names
    assert all(after[group.example] == ALLOWED for group in groups if group.absent)
    return groups, extra


def test_what_is_suggested_allows_its_groups_and_nothing_else() -> None:
    who, base = cluster(), [deny("shop"), deny("edge")]
    groups, extra = suggested(base, who)
    assert [group.example for group in groups] == [0, 1, 2, 3, 4]
    assert "pod-template-hash" not in json.dumps(extra)
    for group in groups[:4]:
        mine = [item for item in extra if any(name.endswith("/" + item["metadata"]["name"]) for name in group.absent)]
        allowed = np.flatnonzero(np.array(verdicts(base + mine, who)) == ALLOWED).tolist()
        assert allowed == [group.example]
    assert groups[4].no_rule == "an end is not in the inventory at that time"  # an end that is not known is not guessed


def test_nothing_is_suggested_against_a_deny_rule() -> None:
    rule = {"action": "Deny", "from": [{"namespaces": {}}]}
    spec = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "ingress": [rule]}
    head = {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy"}
    groups, extra = suggested([{**head, "metadata": {"name": "x"}, "spec": spec}], cluster())
    denied = [group for group in groups if group.verdict == "denied-ingress"]
    assert {group.no_rule for group in denied} == {"a deny rule decides"}
    assert extra == []


def test_what_a_networkpolicy_cannot_name_gets_no_rule_that_opens_every_port() -> None:
    flows = from_dicts([{"src": "shop/web-x1", "dst": "shop/db-x1", "protocol": "ICMP", "port": 0}])
    (group,), extra = suggested([deny("shop")], cluster(), flows)
    assert (group.verdict, group.no_rule, extra) == ("denied-both", "a NetworkPolicy cannot name ICMP", [])


def test_a_clients_port_makes_no_server_here_either() -> None:
    flows = from_dicts([{"src": "shop/db-x1", "dst": "shop/web-x1", "port": port} for port in (33_000, 80)])
    groups, extra = suggested([deny("shop")], cluster(), flows)
    assert {group.port: bool(group.absent) for group in groups} == {33_000: False, 80: True}
    assert "ephemeral range" in next(group.no_rule for group in groups if group.port == 33_000)
    assert "33000" not in json.dumps(extra)


def replicas(*labels: dict[str, str]) -> Inventory:
    records = Records(namespaces=[Namespace("a", {})])
    for number, more in enumerate(labels):
        pod = {"app": "db", "statefulset.kubernetes.io/pod-name": f"db-{number}", **more}
        records.pods.append(Pod("a", f"db-{number}", pod, (f"10.0.0.{number}",), "n1", workload=("StatefulSet", "db")))
    records.pods.append(Pod("a", "cl", {"app": "cl"}, ("10.0.1.1",), "n1"))
    return Inventory(records)


def isolating(name: str, selector: dict[str, Any]) -> dict[str, Any]:
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "a"}}
    return {**head, "spec": {"podSelector": selector, "policyTypes": ["Ingress"]}}


def pod_name(*numbers: int) -> dict[str, Any]:
    values = [f"db-{number}" for number in numbers]
    return {"matchExpressions": [{"key": "statefulset.kubernetes.io/pod-name", "operator": "In", "values": values}]}


TO_EACH = from_dicts(
    [{"src": "a/cl", "dst": f"a/db-{number}", "port": port} for number in range(4) for port in (5432, 6000 + number)]
)


def test_a_suggestion_selects_no_pod_that_is_not_isolated_already() -> None:
    who = replicas({}, {}, {}, {})
    base = [isolating("first", pod_name(0)), isolating("third", pod_name(2)), isolating("both", pod_name(2, 1))]
    groups, extra = suggested(base, who, TO_EACH)
    assert {group.port for group in groups} == {5432, 6000, 6001, 6002}  # and not 6003
    assert all(group.absent for group in groups)
    chosen = [item["spec"]["podSelector"] for item in extra if item["spec"]["ingress"][0]["ports"][0]["port"] == 5432]
    assert chosen == [
        {"matchLabels": {"app": "db", "statefulset.kubernetes.io/pod-name": "db-0"}},
        {"matchLabels": {"app": "db"}, **pod_name(1, 2)},
    ]
    assert verdicts(base + extra, who, TO_EACH) == [ALLOWED] * len(TO_EACH)


def test_a_selector_that_isolates_by_any_operator_is_narrowed_to() -> None:
    who = replicas({"role": "main"}, {"role": "copy"}, {"role": "copy", "new": ""}, {})
    for key, operator, values in (
        ("role", "In", ["main"]),
        ("role", "NotIn", ["copy"]),
        ("new", "Exists", []),
        ("new", "DoesNotExist", []),
    ):
        expression = {"key": key, "operator": operator, **({"values": values} if values else {})}
        base = [isolating("some", {"matchExpressions": [expression]})]
        groups, extra = suggested(base, who, TO_EACH)
        assert extra
        assert all(group.absent for group in groups)
        assert verdicts(base + extra, who, TO_EACH) == [ALLOWED] * len(TO_EACH)


def test_where_a_policy_of_the_whole_namespace_isolates_the_workloads_own_labels_are_enough() -> None:
    groups, extra = suggested(
        [isolating("all", {}), isolating("first", pod_name(0))], replicas({}, {}, {}, {}), TO_EACH
    )
    assert len(groups) == 5
    assert [item["spec"]["podSelector"] for item in extra] == [{"matchLabels": {"app": "db"}}] * 5


def test_what_isolates_by_service_account_is_not_narrowed_to_and_that_is_said() -> None:
    spec = {"endpointSelector": {"matchLabels": {"io.cilium.k8s.policy.serviceaccount": "default"}}, "ingress": [{}]}
    base = [{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "c", "namespace": "a"}}]
    groups, extra = suggested([{**base[0], "spec": spec}], replicas({}, {}), from_dicts([TO_EACH.to_dict(0)]))
    assert extra == []
    assert [group.no_rule for group in groups] == [
        "what isolates its pods cannot be said in the podSelector of a NetworkPolicy"
    ]


def test_a_node_gets_no_rule_where_cilium_enforces() -> None:
    """There an ipBlock matches no node; of an address outside it does, in the same policy too."""
    head = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "none", "namespace": "shop"},
    }
    closed = {**head, "spec": {"endpointSelector": {}, "egress": [{"toEntities": ["none"]}]}}
    seen = [{"src": "shop/web-x1", "dst": dst, "port": 6443} for dst in ("Node/n2", "203.0.113.9")]
    groups, extra = suggested([closed], cluster(), from_dicts(seen))
    assert {group.dst: group.no_rule.partition(":")[0] for group in groups} == {
        "Node/n2": "an ipBlock matches no node where Cilium enforces",
        "203.0.113.9": "",
    }
    assert [item["spec"]["egress"][0]["to"] for item in extra] == [[{"ipBlock": {"cidr": "203.0.113.9/32"}}]]


def test_a_suggestion_never_takes_the_name_of_another_policy_of_the_set() -> None:
    base = [isolating("all", {}), isolating("statefulset-db-ingress-tcp-5432", {})]
    _, extra = suggested(base, replicas({}), from_dicts([TO_EACH.to_dict(0)]))
    assert [item["metadata"]["name"] for item in extra] == ["statefulset-db-ingress-tcp-5432-2"]


def test_every_peer_of_a_group_is_allowed_not_that_of_one_example() -> None:
    records = Records(namespaces=[Namespace("a", {})])
    for number in (1, 2, 3):
        records.nodes.append(Node(f"n{number}", {}, (f"192.168.0.{number}",)))
        host = Pod("a", f"exporter-{number}", {"app": "x"}, (), f"n{number}", True, workload=("DaemonSet", "x"))
        records.pods.append(host)
    records.pods.append(Pod("a", "web", {"app": "web"}, ("10.0.0.1",), "n1"))
    flows = from_dicts([{"src": f"a/exporter-{n}", "dst": "a/web", "port": 80} for n in (1, 2, 3)])
    base = [isolating("all", {})]
    (group,), extra = suggested(base, Inventory(records), flows)
    assert group.flows == 2  # its own node may always
    blocks = [peer["ipBlock"]["cidr"] for peer in extra[0]["spec"]["ingress"][0]["from"]]
    assert blocks == ["192.168.0.2/32", "192.168.0.3/32"]
    assert verdicts(base + extra, Inventory(records), flows) == [ALLOWED] * 3


def test_a_pod_on_the_hosts_network_that_counts_as_a_pod_gets_no_rule() -> None:
    """It has no subject: nothing else may stand in for it, at either end, and with one subject or several."""
    records = cluster().records
    records.pods.append(Pod("shop", "agent", {"app": "agent"}, ("192.168.0.2",), "n2", host_network=True))
    for pods in (records.pods, [records.pods[1], records.pods[-1]]):
        who = Inventory(msgspec.structs.replace(records, pods=pods))
        options = Options(host_network="pod")
        policies = read([Document(Place("f"), deny("shop"))])
        flows = from_dicts(
            [
                {"src": "shop/agent", "dst": "shop/db-x1", "port": 5432},
                {"src": "shop/db-x1", "dst": "shop/agent", "port": 9100},
            ]
        )
        resolved, compiled = resolve(flows, who, options), compile_policies(policies, who, options)
        found = evaluate(compiled, resolved)
        groups, extra = absent(replay(compiled, flows, resolved, found).groups, flows, resolved, found, compiled)
        assert extra == []
        assert {group.no_rule for group in groups} == {
            "the pod is on the host's network: no selector is sure to mean it"
        }
