"""Who lives in the cluster of the tests: twelve pods in three namespaces, a pod on each node's own network, services,
and addresses outside. Every one of them serves all ports of ``prober.PORTS`` and can probe.

Labels, namespaces and port names are those that ``strategies`` makes policies about.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kube_cluster import BRIDGE, Cluster, Doc
from prober import PORTS

SPACES: dict[str, dict[str, str]] = {"a": {"team": "x"}, "b": {"team": "y", "env": "prod"}, "c": {}}
#: Benchmark addresses (RFC 2544): no network of this host has them. They stand for the world outside.
OUTSIDE = ("198.18.5.9", "198.18.7.9")
PROBER = Path(__file__).with_name("prober.py")
#: On a node's own network a server of UDP that listens everywhere answers from another address than was asked.
SERVE = " & ".join(
    f"agnhost netexec --http-port={tcp} --udp-port={udp} --udp-listen-addresses=$IP" for tcp, udp in PORTS
)


@dataclass(frozen=True)
class Place:
    """A place that probes start at, or servers are at. ``flow`` is what flows call it; ``answers`` what its servers
    say. ``pod``: ``(namespace, name)`` to start a process in, None: this host, at ``address``."""

    flow: str
    address: str
    answers: str
    pod: tuple[str, str] | None = None
    kind: str = "pod"  # pod, host (a node's own network), outside, service


def manifests() -> Iterator[Doc]:
    """Everything that is in the cluster.

    No pod names two ports: the enforcer takes pods that share one name with such a pod for pods that share all of its
    names.
    """
    for space, labels in SPACES.items():
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": labels}}
    yield owner("a", "Deployment", "web", {"app": "web", "tier": "1"}, ports(http=8080), replicas=2)
    yield owner("b", "Deployment", "web", {"app": "web", "tier": "1"}, ports(http=80), replicas=2)
    yield owner("c", "Deployment", "web", {"app": "web", "tier": "1"}, ports(http=8080), replicas=2)
    yield owner("a", "StatefulSet", "db", {"app": "db", "tier": "2"}, ports(http=80), node="node1")
    yield owner("b", "StatefulSet", "db", {"app": "db", "tier": "2"}, ports(), node="node2")
    yield owner("c", "StatefulSet", "db", {"app": "db"}, ports(http=80), node="node1")
    yield alone("a", "dns", {"app": "dns", "tier": "1"}, ports(dns=53), "node2")
    yield alone("b", "dns", {"app": "dns", "role": "ingress-controller"}, ports(dns=53), "node1")
    yield alone("c", "dns", {"app": "dns"}, ports(), "node2")
    # A selector of app=web chooses these too, if an enforcer takes pods on a node's network for pods like others.
    yield owner("c", "DaemonSet", "host", {"app": "web"}, [], host=True)
    for space in SPACES:
        yield service(space)


def ports(**named: int) -> list[Doc]:
    word = {"dns": "UDP"}
    return [{"name": name, "containerPort": port, "protocol": word.get(name, "TCP")} for name, port in named.items()]


def pod_spec(named: list[Doc], node: str = "", host: bool = False) -> Doc:
    """Servers on every port, and this host's file system to take its Python from."""
    container = {
        "name": "all",
        "image": "fathom.test/busybox:1",
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", f"{SERVE} & wait"],
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": named,
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
        "volumeMounts": [{"name": "host", "mountPath": "/host", "readOnly": True}],
    }
    spec: Doc = {
        "terminationGracePeriodSeconds": 0,
        "hostNetwork": host,
        "containers": [container],
        "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
    }
    return {**spec, "nodeName": node} if node else spec


def owner(space: str, kind: str, name: str, labels: dict[str, str], named: list[Doc], **more: Any) -> Doc:
    chosen = {"matchLabels": labels}
    spec = pod_spec(named, more.get("node", ""), more.get("host", False))
    if kind == "Deployment":
        each = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
        spec["topologySpreadConstraints"] = [{**each, "labelSelector": chosen}]
    body: Doc = {"selector": chosen, "template": {"metadata": {"labels": labels}, "spec": spec}}
    if "replicas" in more:
        body["replicas"] = more["replicas"]
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": space}, "spec": body}


def alone(space: str, name: str, labels: dict[str, str], named: list[Doc], node: str) -> Doc:
    meta = {"name": name, "namespace": space, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec(named, node)}


def service(space: str) -> Doc:
    """The web pods on a named port, and on a port of UDP."""
    both = [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]
    spec = {"selector": {"app": "web", "tier": "1"}, "ports": both}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": space}, "spec": spec}


def settle(cluster: Cluster) -> list[Place]:
    """Bring them in, wait until they are ready; the places that they are."""
    cluster.apply(manifests())
    for space in SPACES:
        cluster.kubectl("-n", space, "wait", "--for=create", "pod", "--all", "--timeout=30s")
        for kind in ("deployment", "statefulset", "daemonset"):
            for name in cluster.kubectl("-n", space, "get", kind, "-o", "name").split():
                cluster.kubectl("-n", space, "rollout", "status", name, "--timeout=90s")
        cluster.kubectl("-n", space, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s")
    return places(cluster)


def places(cluster: Cluster) -> list[Place]:
    """Pods, nodes and the outside."""
    found = [Place(address, address, address, kind="outside") for address in OUTSIDE]
    for pod in cluster.items("pods"):
        space, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if space not in SPACES:
            continue
        host = bool(pod["spec"].get("hostNetwork"))
        says = pod["spec"]["nodeName"] if host else name
        kind = "host" if host else "pod"
        found.append(Place(f"{space}/{name}", pod["status"]["podIP"], says, (space, name), kind))
    return sorted(found, key=lambda place: (place.kind, place.flow))


@contextmanager
def the_outside(cluster: Cluster) -> Iterator[None]:
    """Servers on this host, on addresses that the nodes reach by their default route."""
    for address in OUTSIDE:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", BRIDGE], check=True)
    process = subprocess.Popen([sys.executable, PROBER, "serve", *OUTSIDE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        cluster.adopt(process)
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class ServiceHere:
    """A service: its place, its backends, and (protocol, port, port of the backends)."""

    place: Place
    backends: tuple[Place, ...]
    ports: tuple[tuple[str, int, int], ...]


def services(cluster: Cluster, everyone: list[Place]) -> list[ServiceHere]:
    """The services of the tests' namespaces, by their EndpointSlices."""
    by_address = {place.address: place for place in everyone if place.kind == "pod"}
    slices = {
        (item["metadata"]["namespace"], item["metadata"]["labels"]["kubernetes.io/service-name"]): item
        for item in cluster.items("endpointslices")
    }
    found: list[ServiceHere] = []
    for item in cluster.items("services"):
        space, name = item["metadata"]["namespace"], item["metadata"]["name"]
        if space not in SPACES:
            continue
        numbers = {port["name"]: port["port"] for port in slices[space, name]["ports"]}
        backends = tuple(by_address[one] for end in slices[space, name]["endpoints"] for one in end["addresses"])
        place = Place(f"{space}/Service/{name}", item["spec"]["clusterIP"], "", kind="service")
        both = tuple((port["protocol"], port["port"], numbers[port["name"]]) for port in item["spec"]["ports"])
        found.append(ServiceHere(place, backends, both))
    return found
