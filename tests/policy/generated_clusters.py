"""Random clusters with traffic that really could have been: owners, replicas, services, DNS, nodes, the outside."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import msgspec

from fathom.policy.flows import Builder, Flows
from fathom.policy.inventory import (
    FOREVER,
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

SPACES = ("shop", "data", "kube-system")
KINDS = ("Deployment", "StatefulSet", "Job", "Pod")
TCP, UDP, SCTP = 6, 17, 132
START = 1_700_000_000
CHANGE = START + 30
NODE_LOCAL_DNS = "169.254.20.10"
API_SERVER = "192.168.0.1"
API_OUTSIDE = "203.0.113.250"
V4_OUTSIDE = tuple(f"198.51.100.{n}" for n in (1, 2, 3, 4, 9, 10, 64, 65, 200))
OUTSIDE = (*V4_OUTSIDE, "2001:db8::1", "2001:db8::2", "8.8.8.8")
NAMES = {
    "198.51.100.1": ("api.example.com",),
    "198.51.100.2": ("api.example.com",),
    "198.51.100.9": ("one.example.org", "two.example.org"),
    "2001:db8::1": ("six.example.net",),
}


@dataclass(frozen=True)
class Made:
    """An inventory and flows over it."""

    inventory: Inventory
    flows: Flows


def make(seed: int, flows: int = 60, names: bool = True) -> Made:
    """The cluster of one seed."""
    dice = random.Random(seed)
    records = Records()
    records.namespaces += [Namespace(name, {"team": dice.choice(("x", "y"))}) for name in SPACES]
    for number in (1, 2, 3):
        addresses = (f"192.168.0.{number}",) if number > 1 or dice.random() < 0.7 else (API_SERVER, "fd00::1")
        records.nodes.append(Node(f"n{number}", {}, addresses, (f"10.0.{number}.0/24",)))
    server = dice.choice((API_SERVER, API_OUTSIDE))
    records.services.append(
        Service("default", "kubernetes", None, ("10.96.0.1",), ports=(ServicePort("https", "TCP", 443, 6443),))
    )
    records.slices.append(Slice("default", "kubernetes", (Backend((server,)),), (("https", "TCP", 6443),)))
    for number in range(dice.randint(3, 7)):
        _workload(dice, records, number)
    _change(dice, records)
    _dns(records)
    if names:
        for address, known in NAMES.items():
            until = FOREVER if dice.random() < 0.8 else CHANGE
            records.answers += [Answer(name, address, 0, until) for name in known]
    return Made(Inventory(records), _flows(dice, records, flows, server))


def _workload(dice: random.Random, records: Records, number: int) -> None:
    space, kind = dice.choice(SPACES[:2]), dice.choice(KINDS)
    name = f"w{number}"
    labels = {"app": dice.choice(("web", "db", name, name))}
    if dice.random() < 0.4:
        labels["tier"] = dice.choice(("1", "2"))
    on_host = dice.random() < 0.1
    if kind in ("Deployment", "StatefulSet") and dice.random() < 0.7:
        records.workloads.append(Workload(space, kind, name, {"matchLabels": dict(labels)}, labels))
    ports = (ContainerPort("http", "TCP", 8080), ContainerPort("rpc", "TCP", 50051))
    for replica in range(1 if kind == "Pod" else dice.randint(1, 3)):
        own: dict[str, str] = {"pod-template-hash": str(replica % 2)} if kind == "Deployment" else {}
        if kind == "StatefulSet":
            own = {"statefulset.kubernetes.io/pod-name": f"{name}-{replica}"}
        node = dice.randint(1, 3)
        address = f"192.168.0.{node}" if on_host else f"10.0.{node}.{10 * number + replica + 10}"
        records.pods.append(
            Pod(
                space,
                name if kind == "Pod" else f"{name}-{replica}",
                {**labels, **own},
                (address,),
                f"n{node}",
                on_host,
                ports,
                workload=(kind, name),
            )
        )
    if dice.random() < 0.6:
        made = ServicePort("http", "TCP", 80, dice.choice((8080, "http")))
        records.services.append(Service(space, name, dict(labels), (f"10.96.1.{number}",), ports=(made,)))


def _change(dice: random.Random, records: Records) -> None:
    """At CHANGE a pod ends and another takes its address, and a pod gets another label."""
    pods = [number for number, pod in enumerate(records.pods) if not pod.host_network]
    if len(pods) < 3 or dice.random() < 0.3:
        return
    old, new, other = dice.sample(pods, 3)
    ended = records.pods[old]
    records.pods[old] = msgspec.structs.replace(ended, until=CHANGE)
    records.pods[new] = msgspec.structs.replace(records.pods[new], addresses=ended.addresses, since=CHANGE)
    before = records.pods[other]
    records.pods[other] = msgspec.structs.replace(before, until=CHANGE)
    labels = {**(before.labels or {}), "release": "2"}
    records.pods.append(msgspec.structs.replace(before, labels=labels, since=CHANGE))


def _dns(records: Records) -> None:
    for replica in (0, 1):
        pod = Pod(SPACES[2], f"dns-{replica}", {"k8s-app": "dns"}, (f"10.0.{replica + 1}.5",), f"n{replica + 1}")
        records.pods.append(_owned(pod))
    ports = (ServicePort("dns", "UDP", 53, 53), ServicePort("dns-tcp", "TCP", 53, 53))
    records.services.append(Service(SPACES[2], "dns", {"k8s-app": "dns"}, ("10.96.0.10",), ports=ports))


def _owned(pod: Pod) -> Pod:
    return Pod(pod.namespace, pod.name, pod.labels, pod.addresses, pod.node, workload=("Deployment", "dns"))


def _flows(dice: random.Random, records: Records, count: int, server: str) -> Flows:
    builder = Builder()
    names = [f"{pod.namespace}/{pod.name}" for pod in records.pods]
    texts = [*names, *(pod.addresses[0] for pod in records.pods)]
    services = [f"{s.namespace}/Service/{s.name}" for s in records.services if s.namespace in SPACES[:2]]
    for number in range(count):
        src, dst = dice.choice(texts), dice.choice(texts)
        protocol, port = dice.choice(((TCP, 8080), (TCP, 5432), (UDP, 514), (TCP, 8081), (TCP, 50051), (SCTP, 7)))
        kind = dice.random()
        if kind < 0.15:
            dst, (protocol, port) = dice.choice(OUTSIDE), dice.choice(((TCP, 443), (UDP, 443), (TCP, 5432)))
        elif kind < 0.25:
            src = dice.choice(OUTSIDE)
        elif kind < 0.4:
            dst, port = dice.choice(("10.96.0.10", NODE_LOCAL_DNS, "8.8.8.8", "kube-system/Service/dns")), 53
            protocol = dice.choice((TCP, UDP))
        elif kind < 0.45:
            dst, protocol, port = "default/Service/kubernetes", TCP, 443
        elif kind < 0.5:
            dst, protocol, port = server, TCP, dice.choice((6443, 10250))
        elif kind < 0.56:
            dst, protocol, port = f"Node/n{dice.randint(1, 3)}", TCP, dice.choice((10250, 9100, 6443))
        elif kind < 0.62:
            src = f"Node/n{dice.randint(1, 3)}"
        elif kind < 0.7 and services:
            dst, protocol, port = dice.choice(services), TCP, 80
        more: dict[str, Any] = {
            "count": dice.randint(1, 5),
            "first": START + number,
            "last": START + number + dice.randint(0, 20),
        }
        odd = dice.random()
        if odd < 0.05:
            more["observed"] = dice.choice((1, 2, 3))
        elif odd < 0.08:
            more["oriented"] = False
        elif odd < 0.11:
            port = 40000 + number
        elif odd < 0.13:
            src = dice.choice(("shop/gone", "10.0.1.250"))
        builder.add(src, dst, protocol, port, **more)
    return builder.flows()
