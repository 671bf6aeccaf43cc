"""A small cluster of real containers: what is in it, its manifests, its traffic, and what its programs say they did.

Pods are containers by runc and crun in turn, each in its own network namespace, in cgroups as a kubelet makes them.
What is outside of the cluster, and the node's own program, are plain processes.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import uuid
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bundle import CGROUP, PATIENCE_S, Bundle, Container, Runtime
from fabric import OUTSIDE, Fabric, Translation

HERE = Path(__file__).parent
NODE = "node-1"
SPACES = {"shop": {"team": "x"}, "data": {"team": "y"}, "kube-system": {}, "monitoring": {"team": "ops"}}


@dataclass(frozen=True)
class Deployed:
    """A workload: its pods' names, and its servers as (protocol, port, answers)."""

    namespace: str
    kind: str
    name: str
    replicas: int
    servers: Sequence[tuple[str, int, bool]] = ()

    @property
    def pods(self) -> list[str]:
        """``ns/pod`` of each replica."""
        between = f"-{self.hash}-" if self.kind == "Deployment" else "-"
        return [f"{self.namespace}/{self.name}{between}{number}" for number in range(self.replicas)]

    @property
    def hash(self) -> str:
        """Of the pod template."""
        return f"{zlib.crc32(f'{self.namespace}/{self.name}'.encode()):08x}"


METRICS = ("TCP", 9100, True)
WORKLOADS = (
    Deployed("shop", "Deployment", "web", 2, [("TCP", 8080, True), METRICS]),
    Deployed("shop", "Deployment", "cart", 2, [("TCP", 9090, True), METRICS]),
    Deployed("shop", "Job", "batch", 1),
    Deployed("data", "StatefulSet", "db", 2, [("TCP", 5432, True), METRICS]),
    Deployed("data", "Deployment", "cache", 1, [("TCP", 6379, True), METRICS]),
    Deployed("kube-system", "Deployment", "dns", 2, [("UDP", 53, True), ("TCP", 53, True)]),
    Deployed("kube-system", "DaemonSet", "logs", 1, [("UDP", 514, False)]),
    Deployed("monitoring", "StatefulSet", "prometheus", 1),
)
BY_NAME = {item.name: item for item in WORKLOADS}
PODS = [pod for item in WORKLOADS for pod in item.pods]
#: name of the service's workload → its address and port, the protocols, and the pods' port.
SERVICES = {
    "cart": ("10.96.0.21", 80, ("TCP",), 9090),
    "db": ("10.96.0.5", 5432, ("TCP",), 5432),
    "dns": ("10.96.0.10", 53, ("UDP", "TCP"), 53),
}
#: The API server: its service, and where it really is.
API_SERVICE, API_SERVER, API_PORT = "10.96.0.1", "203.0.113.250", 6443


class Visit(NamedTuple):
    """Who goes where: ``source`` is a pod, ``outside`` or ``node``; ``result`` is what must come of each time."""

    source: str
    protocol: str
    address: str
    port: int
    result: str = "ok"
    times: int = 2
    way: str = "ask"
    from_address: str = ""


class Did(NamedTuple):
    """An edge as programs tell it: ``pod`` opened (egress) or was opened to (ingress) by ``peer``, an address."""

    direction: str
    pod: str
    peer: str
    protocol: str
    port: int


@dataclass
class Cluster:
    """Everything runs when the context is entered; ``visit`` makes the traffic, ``stop`` ends the programs."""

    root: Path
    place: Path
    fabric: Fabric = field(default_factory=lambda: Fabric(PODS))

    def __post_init__(self) -> None:
        self.identities = {pod: secrets.token_hex(32) for pod in PODS}
        self.folders = {name: self.place / "pods" / name.replace("/", "-") for name in (*PODS, "outside", "node")}
        self.containers: dict[str, Container] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.fabric)
            self._rules()
            visits = self.visits()
            for name, folder in self.folders.items():
                servers = [s for item in WORKLOADS if name in item.pods for s in item.servers]
                if name == "outside":
                    servers = [("TCP", 443, True), ("UDP", 123, True), ("TCP", API_PORT, True)]
                mine = [v for v in visits if v.source == name]
                plan = {"servers": servers, "visits": [(*v[1:4], v.times, v.way, v.from_address) for v in mine]}
                folder.mkdir(parents=True)
                (folder / "plan.json").write_text(json.dumps(plan))
            stack.callback(self._kill)
            for number, pod in enumerate(PODS):
                self.containers[pod] = stack.enter_context(self._container(pod, ("runc", "crun")[number % 2]))
            for name in ("outside", "node"):
                self._processes[name] = self._process(name)
            self._all_have("ready")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _container(self, pod: str, program: str) -> Container:
        cgroup = f"{CGROUP}/kubepods/burstable/pod{uuid.uuid4()}/{self.identities[pod]}"
        bundle = Bundle(
            self.root,
            ["/usr/bin/python3", "-S", "-E", "/run/pod_program.py", "/work"],
            [(self.folders[pod], "/work"), (HERE, "/run")],
            network=self.fabric.path(pod),
            cgroup=cgroup,
            identity=self.identities[pod],
        )
        return Container(Runtime(program, self.place / f"state-{program}"), bundle, self.place)

    def _process(self, name: str) -> subprocess.Popen[bytes]:
        enter = ["nsenter", f"--net=/var/run/netns/{self.fabric[name]}", "--"]
        script = [sys.executable, "-S", "-E", str(HERE / "pod_program.py"), str(self.folders[name])]
        return subprocess.Popen([*enter, *script])

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _all_have(self, file: str) -> None:
        for name, folder in self.folders.items():
            if name in self.containers:
                self.containers[name].until(f"{name} has {file}", (folder / file).exists)
            else:
                next(iter(self.containers.values())).until(f"{name} has {file}", (folder / file).exists)

    # -- traffic

    def _rules(self) -> None:
        fabric = self.fabric
        for name, (address, port, protocols, target) in SERVICES.items():
            backends = [fabric.address[pod] for pod in BY_NAME[name].pods]
            for protocol in protocols:
                fabric.translate(Translation(protocol, address, port, backends, target))
        fabric.translate(Translation("TCP", API_SERVICE, 443, [API_SERVER], API_PORT))
        fabric.refuse(fabric.address[BY_NAME["db"].pods[1]], "TCP", 9999, "DROP")
        fabric.refuse("203.0.113.11", "TCP", 8443, "REJECT")

    def visits(self) -> list[Visit]:
        """All traffic, with what must come of it."""
        at, at6 = self.fabric.address, self.fabric.address6
        web, cart, db = (BY_NAME[name].pods for name in ("web", "cart", "db"))
        batch, cache, logs, prometheus = (BY_NAME[name].pods[0] for name in ("batch", "cache", "logs", "prometheus"))
        vip = {name: (address, port) for name, (address, port, *_) in SERVICES.items()}
        found = [Visit(pod, "UDP", *vip["dns"], times=4) for pod in (*web, *cart, batch)]
        found += [Visit(pod, "TCP", *vip["cart"], times=4) for pod in web]
        found += [Visit(pod, "UDP", at[logs], 514, "sent", 3, "tell") for pod in (*web, cart[0])]
        found += [Visit(pod, "TCP", *vip["db"], times=4) for pod in cart]
        found += [Visit(cart[0], "TCP", at[cache], 6379), Visit(batch, "TCP", at6[cache], 6379)]
        found += [Visit(cart[0], "TCP", "203.0.113.10", 443), Visit(cart[1], "TCP", "203.0.113.11", 443)]
        found += [Visit(batch, "TCP", "198.51.100.7", 443), Visit(batch, "UDP", OUTSIDE[0], 123)]
        found += [Visit(batch, "TCP", at[db[0]], 5432), Visit(batch, "TCP", API_SERVICE, 443)]
        found += [Visit(prometheus, "TCP", at[pod], 9100) for pod in (*web, *cart, *db, cache)]
        found += [Visit(web[0], "TCP", at[web[0]], 8080)]
        found += [
            Visit("outside", "TCP", at[pod], 8080, from_address=address)
            for pod in web
            for address in ("203.0.113.10", "203.0.113.12")
        ]
        found += [Visit("node", "TCP", at[pod], 8080) for pod in web]
        return [*found, *self._refused()]

    def _refused(self) -> list[Visit]:
        """Nobody listens, the node drops it, the node says that it is refused."""
        at = self.fabric.address
        web, db, cache = BY_NAME["web"].pods, BY_NAME["db"].pods, BY_NAME["cache"].pods[0]
        return [
            Visit(web[0], "TCP", at[cache], 6380, "ECONNREFUSED"),
            Visit(BY_NAME["batch"].pods[0], "TCP", at[db[1]], 9999, "timeout"),
            Visit(web[1], "TCP", "203.0.113.11", 8443, "ECONNREFUSED"),
            Visit("outside", "TCP", at[web[1]], 22, "ECONNREFUSED"),
        ]

    def visit(self) -> None:
        """Make all the traffic. Fails unless each visit ended as it must."""
        for folder in self.folders.values():
            (folder / "go").touch()
        self._all_have("told.json")
        for name, folder in self.folders.items():
            told = json.loads((folder / "told.json").read_text())
            wanted = [v for v in self.visits() if v.source == name]
            results = [[*v[1:4], v.from_address, [v.result] * v.times] for v in wanted]
            assert told == results, (name, told)

    def stop(self) -> None:
        """End the programs well."""
        for pod, container in self.containers.items():
            container.tell(signal.SIGTERM)
            assert container.wait() == 0, (pod, container.output())
        for process in self._processes.values():
            process.terminate()
            assert process.wait(PATIENCE_S) == 0

    def did(self) -> set[Did]:
        """What pods let through, at both ends: visits that succeeded, and all who were served."""
        found = {
            Did("egress", visit.source, visit.address, visit.protocol, visit.port)
            for visit in self.visits()
            if visit.result in ("ok", "sent") and visit.source in PODS
        }
        for pod in PODS:
            for protocol, port, peer in json.loads((self.folders[pod] / "served.json").read_text()):
                found.add(Did("ingress", pod, peer, protocol, port))
        return found

    def failed(self) -> set[Did]:
        """What pods tried in vain."""
        return {
            Did("egress", visit.source, visit.address, visit.protocol, visit.port)
            for visit in self.visits()
            if visit.result not in ("ok", "sent") and visit.source in PODS
        }

    # -- manifests

    def manifests(self) -> str:
        """All objects as ``kubectl get -o json`` shows them, one list."""
        spaces = [_object("v1", "Namespace", name, labels=labels) for name, labels in SPACES.items()]
        addresses = [{"type": "InternalIP", "address": self.fabric.node_address}]
        node = _object("v1", "Node", NODE, spec={"podCIDR": self.fabric.block}, status={"addresses": addresses})
        items = [*spaces, node, *self._services()]
        for item in WORKLOADS:
            if item.kind != "Job":  # its pods have no other owner in the manifests
                selector = {"matchLabels": _labels(item)}
                template = {"metadata": {"labels": _labels(item)}, "spec": {"containers": [{"name": "main"}]}}
                spec = {"selector": selector, "template": template}
                items.append(_object("apps/v1", item.kind, item.name, item.namespace, spec=spec))
            items += [self._pod(item, pod) for pod in item.pods]
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

    def _pod(self, item: Deployed, pod: str) -> dict[str, Any]:
        labels, owner = _labels(item), {"kind": item.kind, "name": item.name, "controller": True}
        if item.kind == "Deployment":
            labels |= {"pod-template-hash": item.hash}
            owner |= {"kind": "ReplicaSet", "name": f"{item.name}-{item.hash}"}
        ips = [{"ip": self.fabric.address[pod]}, {"ip": self.fabric.address6[pod]}]
        containers = [{"name": "main", "containerID": f"containerd://{self.identities[pod]}"}]
        return _object(
            "v1",
            "Pod",
            pod.partition("/")[2],
            item.namespace,
            labels=labels,
            ownerReferences=[owner],
            spec={"nodeName": NODE, "containers": [{"name": "main"}]},
            status={"phase": "Running", "podIPs": ips, "containerStatuses": containers},
        )

    def _services(self) -> list[dict[str, Any]]:
        found = []
        for name, (address, port, protocols, target) in SERVICES.items():
            item = BY_NAME[name]
            ports = [{"name": p.lower(), "protocol": p, "port": port, "targetPort": target} for p in protocols]
            spec = {"clusterIPs": [address], "selector": _labels(item), "ports": ports}
            found.append(_object("v1", "Service", name, item.namespace, spec=spec))
        ports = [{"name": "https", "port": 443, "targetPort": API_PORT}]
        found.append(
            _object("v1", "Service", "kubernetes", "default", spec={"clusterIPs": [API_SERVICE], "ports": ports})
        )
        piece = _object("discovery.k8s.io/v1", "EndpointSlice", "kubernetes", "default",
                        labels={"kubernetes.io/service-name": "kubernetes"})  # fmt: skip
        ends = {"endpoints": [{"addresses": [API_SERVER]}], "ports": [{"name": "https", "port": API_PORT}]}
        return [*found, piece | {"addressType": "IPv4"} | ends]


def _labels(item: Deployed) -> dict[str, str]:
    return {"app": item.name}


def _object(version: str, kind: str, name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    metadata |= {key: more.pop(key) for key in ("labels", "ownerReferences") if key in more}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}
