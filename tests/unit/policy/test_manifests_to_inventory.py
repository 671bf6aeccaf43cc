"""Plain manifests to an inventory: owner chains, virtual pods, ports, services, and who has an address."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fathom.policy.inventory import FOREVER, Inventory
from fathom.policy.manifests import read_texts

TEMPLATE = """
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: robot
      containers: [{name: c, ports: [{name: http, containerPort: 8080}, {containerPort: 9}]}]
      initContainers:
      - {name: sidecar, restartPolicy: Always, ports: [{name: proxy, containerPort: 15001, protocol: TCP}]}
      - {name: once, ports: [{name: gone, containerPort: 1}]}
"""


def inventory(*texts: str) -> Inventory:
    found = read_texts([("f", "\n---\n".join(texts))])
    assert not found.records.problems, found.records.problems
    return found


def pod(name: str, owner: str, ip: str, labels: str = "app: web") -> str:
    kind, _, owner_name = owner.partition("/")
    owners = f"ownerReferences: [{{kind: {kind}, name: {owner_name}, controller: true}}]" if owner else ""
    meta = f"{{name: {name}, namespace: a, labels: {{{labels}}}, {owners}}}"
    return f"{{apiVersion: v1, kind: Pod, metadata: {meta}, spec: {{nodeName: n1}}, status: {{podIP: {ip}}}}}"


def workload(kind: str, name: str, group: str = "apps/v1", owner: str = "") -> str:
    owners = f"\n  ownerReferences: [{{kind: {owner.split('/')[0]}, name: {owner.split('/')[1]}}}]" if owner else ""
    selector = "{matchLabels: {app: web}}"
    head = f"apiVersion: {group}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: a{owners}\n"
    return f"{head}spec:\n  selector: {selector}\n  template: {TEMPLATE}"


def test_the_owner_chain_goes_to_its_top() -> None:
    who = inventory(
        workload("Deployment", "web"),
        workload("ReplicaSet", "web-5d4f", owner="Deployment/web"),
        pod("web-5d4f-x", "ReplicaSet/web-5d4f", "10.0.0.1"),
        pod("api-77-y", "ReplicaSet/api-77", "10.0.0.2", "app: api, pod-template-hash: '77'"),
        pod("alone", "", "10.0.0.3"),
    )
    assert {p.name: p.workload for p in who.records.pods} == {
        "web-5d4f-x": ("Deployment", "web"),
        "api-77-y": ("Deployment", "api"),
        "alone": ("Pod", "alone"),
    }


def test_a_workload_without_pods_is_one_virtual_pod_with_its_template() -> None:
    cron = workload("CronJob", "night", "batch/v1")
    cron = cron.replace("  template: ", "  jobTemplate: {spec: {template: {}}}\n  x: ")
    who = inventory(workload("Deployment", "web"), cron)
    virtual = {p.name: p for p in who.records.pods}
    assert virtual["web"].virtual
    assert virtual["web"].labels == {"app": "web"}
    assert virtual["web"].account == "robot"
    assert [(p.name, p.number) for p in virtual["web"].ports] == [("http", 8080), ("", 9), ("proxy", 15001)]
    assert who.index.profiles.values[who.index.presences["profile"][0]].ports == (
        ("http", 6, 8080),
        ("proxy", 6, 15001),
    )
    assert virtual["night"].workload == ("CronJob", "night")


def test_a_namespace_that_is_only_mentioned_has_a_name_and_no_known_labels() -> None:
    who = inventory(pod("x", "", "10.0.0.1"))
    assert [(n.name, n.labels) for n in who.records.namespaces] == [("a", None)]
    assert who.records.namespaces[0].all_labels == {"kubernetes.io/metadata.name": "a"}


def test_services_keep_ports_targets_and_every_address() -> None:
    spec = {
        "clusterIPs": ["10.96.0.1", "fd00::1"],
        "selector": {"app": "web"},
        "externalIPs": ["203.0.113.1"],
        "externalTrafficPolicy": "Local",
        "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
    }
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.2"}, {"hostname": "x"}]}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec, "status": status}
    found = inventory(json.dumps(service)).records.services[0]
    assert (found.namespace, found.cluster_ips) == ("default", ("10.96.0.1", "fd00::1"))
    assert (found.external_ips, found.local_traffic) == (("203.0.113.1", "203.0.113.2"), True)
    assert [(p.protocol, p.port, p.target, p.node_port) for p in found.ports] == [
        ("TCP", 80, "http", 30080),
        ("UDP", 53, 53, 0),
    ]


def test_ports_of_the_node_that_lead_to_a_pod() -> None:
    """A hostPort is one port of one node, at one of its addresses (hostIP) or all; on the host's network it is none."""
    ports = [
        {"containerPort": 8080, "hostPort": 80},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.168.0.1"},
        {"containerPort": 1, "hostPort": 1, "hostIP": "0.0.0.0"},
        {"containerPort": 2, "hostPort": 0, "hostIP": ""},
        {"containerPort": 3},
    ]
    spec = {"nodeName": "n1", "containers": [{"ports": ports}]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hp"}, "spec": spec}
    (found,) = inventory(json.dumps(document)).records.pods
    assert [(p.protocol, p.number, p.host_port, p.host_address) for p in found.ports] == [
        ("TCP", 8080, 80, ""),
        ("UDP", 53, 53, "192.168.0.1"),
        ("TCP", 1, 1, ""),
        ("TCP", 2, 0, ""),
        ("TCP", 3, 0, ""),
    ]
    (on_host,) = inventory(json.dumps({**document, "spec": {**spec, "hostNetwork": True}})).records.pods
    assert {p.host_port for p in on_host.ports} == {0}
    ports[1]["hostIP"] = "x"
    (problem,) = read_texts([("f", json.dumps(document))]).records.problems
    assert problem.place.path == "spec.containers[0].ports[1].hostIP"


def test_an_address_is_looked_up_at_a_time() -> None:
    over = "containerStatuses: [{state: {terminated: {finishedAt: '1970-01-01T00:10:00Z'}}}]"
    ended = f"{{phase: Failed, podIP: 10.0.0.1, {over}}}"
    old = f"{{apiVersion: v1, kind: Pod, metadata: {{name: old, namespace: a}}, status: {ended}}}"
    created = "metadata: {name: new, namespace: a, creationTimestamp: '1970-01-01T00:20:00Z'}"
    ips = "podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]"
    new = f"{{apiVersion: v1, kind: Pod, {created}, status: {{{ips}}}}}"
    status = "status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}"
    node = f"{{apiVersion: v1, kind: Node, metadata: {{name: n1}}, {status}}}"
    who = inventory(old, new, node)
    assert [who.at("10.0.0.1", time) for time in (500, 700, 1_300)] == ["a/old", "", "a/new"]
    assert who.at("fd00::1", 1_300) == "a/new"
    assert who.at("192.168.0.1", 0) == "Node/n1"
    assert who.at("not an address", 0) == ""
    assert who.records.pods[1].until == FOREVER


def test_a_malformed_manifest_is_a_problem_with_its_place_and_the_others_are_read() -> None:
    ports = "spec: {containers: [{ports: [{name: a, containerPort: 0}]}]}"
    bad = f"{{apiVersion: v1, kind: Pod, metadata: {{name: x}}, {ports}}}"
    found = read_texts([("f", f"{bad}\n---\n{pod('ok', '', '10.0.0.1')}")]).records
    assert [p.name for p in found.pods] == ["ok"]
    assert found.problems[0].place.path == "spec.containers[0].ports[0].containerPort"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"kind": "Pod", "status": {"podIP": "10.0.0.300"}}, "status.podIP"),
        ({"kind": "Pod", "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "x"}]}}, "status.podIPs[1].ip"),
        ({"kind": "Node", "spec": {"podCIDRs": ["10.0.0.0/33"]}}, "spec.podCIDRs[0]"),
        ({"kind": "Node", "spec": {"podCIDR": "10.0.0.0"}}, "spec.podCIDR"),
        (
            {"kind": "Node", "status": {"addresses": [{"type": "InternalIP", "address": "n1"}]}},
            "status.addresses[0].address",
        ),
        ({"kind": "Service", "spec": {"clusterIP": "10.96.0.01"}}, "spec.clusterIP"),
        ({"kind": "Service", "spec": {"externalIPs": ["host"]}}, "spec.externalIPs[0]"),
        (
            {"kind": "Service", "status": {"loadBalancer": {"ingress": [{"ip": "host"}]}}},
            "status.loadBalancer.ingress[0].ip",
        ),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_left_out(document: dict[str, Any], path: str) -> None:
    whole = {"apiVersion": "v1", "metadata": {"name": "x"}, **document}
    found = read_texts([("f", json.dumps(whole))]).records
    assert [(p.place.path, p.severity) for p in found.problems] == [(path, "refused")]


def test_a_slice_of_names_has_no_addresses() -> None:
    labels = {"kubernetes.io/service-name": "s"}
    endpoints = [{"addresses": ["db.example.com"]}]
    head = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s", "labels": labels}}
    found = inventory(json.dumps({**head, "addressType": "FQDN", "endpoints": endpoints})).records
    assert [backend.addresses for backend in found.slices[0].backends] == [()]
    wrong = read_texts([("f", json.dumps({**head, "addressType": "IPv4", "endpoints": endpoints}))]).records
    assert wrong.problems[0].place.path == "endpoints[0].addresses[0]"


@pytest.mark.parametrize(
    ("kind", "name", "field"),
    [("Deployment", "apps/v1", "name"), ("Deployment", "../x", "name"), ("My_Kind", "oo", "kind"), ("", "oo", "kind")],
)
def test_an_owner_whose_kind_or_name_is_none_is_refused(kind: str, name: str, field: str) -> None:
    owner = {"kind": kind, "name": name, "controller": True}
    meta = {"name": "x", "namespace": "a", "ownerReferences": [owner]}
    found = read_texts([("f", json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}}))])
    assert found.records.pods == []
    assert [item.place.path for item in found.records.problems] == [f"metadata.ownerReferences[0].{field}"]
