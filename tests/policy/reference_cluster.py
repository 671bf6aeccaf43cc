"""The reference's view of a cluster: what an endpoint of a flow was, from raw documents and their times."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

ALLOW, DENY = "allow", "deny"
FOREVER = 1 << 62
TRANSPORTS = ("TCP", "UDP", "SCTP")
Doc = dict[str, Any]


@dataclass(frozen=True)
class Timed:
    """A document that was in force from ``since`` until ``until``."""

    doc: Doc
    since: int = 0
    until: int = FOREVER


@dataclass
class Thing:
    """What one end of a flow was: a pod, a node, something outside, or nobody knows."""

    kind: str  # pod, node, outside, nobody, self
    name: str = ""
    namespace: str | None = None
    labels: dict[str, str] | None = None
    space: dict[str, str] | None = None
    ips: tuple[str, ...] = ()
    node: str = ""
    ports: list[tuple[str, str, int]] | None = field(default_factory=list)
    account: str | None = None
    names: frozenset[str] | None = frozenset()
    since: int = 0
    until: int = FOREVER
    port: int = 0
    sides: str = "both"
    hides: bool = False
    host: bool = False
    identity: str = ""


@dataclass
class Settings:
    """The same choices as the engine's options."""

    block_pods: str = "match"
    host_network: str = "node"
    icmp: str = "rules"
    dnat: str = "after"
    established: str = "evaluate"


# -- three-valued logic


def both(*values: bool | None) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def either(*values: bool | None) -> bool | None:
    if True in values:
        return True
    return None if None in values else False


@lru_cache(maxsize=4096)
def plain_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(text)
    return getattr(parsed, "ipv4_mapped", None) or parsed


@lru_cache(maxsize=1 << 16)
def inside(ip: str, cidr: str) -> bool:
    one, network = plain_ip(ip), ipaddress.ip_network(cidr, strict=False)
    if network.version == 6 and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        network = ipaddress.ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")
    return one.version == network.version and one in network


def in_block(ip: str, cidr: str, excepts: list[str]) -> bool:
    return inside(ip, cidr) and not any(inside(ip, part) for part in excepts)


@lru_cache(maxsize=1 << 16)
def clauses_of_block(cidr: str, excepts: tuple[str, ...], ips: tuple[str, ...]) -> tuple[str, ...]:
    """What of edge case 11 occurs between a block and the addresses of a peer."""
    network = ipaddress.ip_network(cidr, strict=False)
    held = [ip for ip in ips if inside(ip, cidr)]
    taken = any(not in_block(ip, cidr, list(excepts)) for ip in held)
    clauses = {
        "host bits": str(network) != cidr and bool(held),
        "except": taken,
        "several excepts": len(excepts) > 1 and taken,
        "IPv6": network.version == 6 and any(plain_ip(ip).version == 6 for ip in held),
        "mapped": bool(held) and ("::ffff:" in cidr) != any("::ffff:" in ip for ip in held),
        "another family": any(plain_ip(ip).version != network.version for ip in ips),
    }
    return tuple(clause for clause, occurs in clauses.items() if occurs)


def finished(status: Doc) -> int:
    """A completed pod holds its address until its last container ended."""
    ends = [
        c["state"]["terminated"]["finishedAt"]
        for c in status.get("containerStatuses") or []
        if (c.get("state") or {}).get("terminated", {}).get("finishedAt")
    ]
    return (
        max(
            (int(e) if isinstance(e, (int, float)) else int(datetime.fromisoformat(e).timestamp()) for e in ends),
            default=0,
        )
        + 1
    )


def headless(doc: Doc) -> bool:
    """ServicePort: "targetPort ... is ignored for services with clusterIP=None"."""
    return bool((doc.get("spec") or {}).get("clusterIP") == "None")


class Cluster:
    """Things by name and by address at a time."""

    of_kind: dict[str, list[Timed]]
    settings: Settings
    touched: set[str]
    _pods: list[Thing] | None = None
    _memory: dict[Any, tuple[list[Thing], frozenset[str]]]

    def met(self, number: int, clause: str = "") -> None:
        """Count an edge case, and a clause of it."""
        self.touched.add(str(number))
        if clause:
            self.touched.add(f"{number} {clause}")

    # -- who is it

    def space_versions(self, namespace: str) -> list[tuple[dict[str, str] | None, int, int]]:
        found = [
            ({**(t.doc["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": namespace}, t.since, t.until)
            for t in self.of_kind.get("Namespace", [])
            if t.doc["metadata"]["name"] == namespace
        ]
        return found or [(None, 0, FOREVER)]

    def pods(self) -> list[Thing]:
        if self._pods is None:
            self._pods = [pod for item in self.of_kind.get("Pod", []) for pod in self.pod_versions(item)]
        return self._pods

    def pod_versions(self, item: Timed) -> list[Thing]:
        """The pod, once for each state of its namespace while it lived."""
        doc = item.doc
        meta, spec = doc["metadata"], doc.get("spec") or {}
        status = doc.get("status") or {}
        ips = tuple(entry["ip"] for entry in status.get("podIPs") or []) or (
            (status["podIP"],) if status.get("podIP") else ()
        )
        until = item.until
        if status.get("phase") in ("Succeeded", "Failed"):
            until = min(until, finished(status))
        ports = [
            (p["name"], p.get("protocol", "TCP"), p["containerPort"])
            for c in spec.get("containers") or []
            for p in c.get("ports") or []
            if p.get("name")
        ]
        namespace = meta.get("namespace") or "default"
        versions = self.space_versions(namespace)
        living = [v for v in versions if v[1] < until and v[2] > item.since] or [(None, item.since, until)]
        return [
            Thing(
                "pod",
                meta["name"],
                namespace,
                dict(meta.get("labels") or {}),
                labels,
                ips,
                spec.get("nodeName", ""),
                ports,
                spec.get("serviceAccountName") or "default",
                since=max(item.since, since),
                until=min(until, end),
                host=bool(spec.get("hostNetwork")),
                identity=f"{namespace}/{meta['name']}",
            )
            for labels, since, end in living
        ]

    def as_seen(self, pod: Thing) -> Thing:
        """A pod on the host's network is what the option says."""
        if not pod.host:
            return pod
        self.met(19, self.settings.host_network)
        if self.settings.host_network == "pod":
            return pod
        if self.settings.host_network == "unknown":
            changed = {"kind": "nobody", "names": None, "ports": None, "ips": pod.ips or self.node_ips(pod.node)}
            return Thing(**{**pod.__dict__, **changed})
        ips = pod.ips or self.node_ips(pod.node)
        return Thing(**{**pod.__dict__, "kind": "node", "ips": ips})

    def node_ips(self, name: str) -> tuple[str, ...]:
        return tuple(
            entry["address"]
            for item in self.of_kind.get("Node", [])
            if item.doc["metadata"]["name"] == name
            for entry in (item.doc.get("status") or {}).get("addresses") or []
            if entry.get("type") in ("InternalIP", "ExternalIP")
        )

    def fitting(self, things: list[Thing], window: tuple[int, int], space: str = "") -> list[Thing]:
        """Those that lived in the window; if none did, all, of which no more than the namespace is known."""
        living = [t for t in things if t.since <= window[1] and t.until > window[0]]
        if len(things) > len(living) or any(t.since > 0 for t in things):
            self.met(25, "changed" if len(living) > 1 else "at that time")
            if len({t.identity for t in things}) > 1:
                self.met(25, "reused")
        if living:
            return living
        if things:
            self.met(13, "at another time")
        if space:
            return [self.absent(space, t.identity) for t in things]
        return [Thing("nobody", names=None, ips=t.ips) for t in things]

    def absent(self, space: str, identity: str = "") -> Thing:
        """A pod of which the namespace is known, and what labels that always had, and nothing else."""
        versions = [labels for labels, _, _ in self.space_versions(space)]
        labels = versions[0] if all(other == versions[0] for other in versions) else None
        return Thing("pod", "", space, None, labels, (), ports=None, identity=identity)

    def remembered(self, find: Callable[..., list[Thing]], *asked: Any) -> list[Thing]:
        """What ``find`` says, with the edge cases that it met; looked up once."""
        key = (find.__name__, *asked)
        if key not in self._memory:
            before, self.touched = self.touched, set()
            self._memory[key] = (find(*asked), frozenset(self.touched))
            self.touched = before
        found, met = self._memory[key]
        self.touched |= met
        return found

    def at(self, text: str, window: tuple[int, int], name: str | None = None) -> list[Thing]:
        """What an endpoint was, service addresses not translated."""
        return self.remembered(self._at, text, window, name)

    def _at(self, text: str, window: tuple[int, int], name: str | None) -> list[Thing]:
        if text.startswith("Node/"):
            node = text[5:]
            return [Thing("node", node, ips=self.node_ips(node), node=node)]
        if "/" in text:
            namespace, _, pod_name = text.partition("/")
            if pod_name.startswith("Service/"):
                return [Thing("nobody", names=None, ports=None)]  # none that is known: it may lead anywhere
            if "/" in pod_name:
                return self.workload(text, window)
            mine = [self.as_seen(p) for p in self.pods() if (p.namespace, p.name) == (namespace, pod_name)]
            if mine:
                return self.fitting(mine, window, namespace)
            self.met(13, "pod")
            return [self.absent(namespace)]
        try:
            plain_ip(text)
        except ValueError:
            return self.by_name(text, window)
        return self.at_ip(text, window, name)

    def workload(self, text: str, window: tuple[int, int]) -> list[Thing]:
        namespace, kind, name = text.split("/")
        found = []
        for item in self.of_kind.get("Pod", []):
            owners = item.doc["metadata"].get("ownerReferences") or []
            if any((o["kind"], o["name"]) == (kind, name) for o in owners):
                found += [p for p in self.pod_versions(item) if p.namespace == namespace]
        found = [Thing(**self.as_seen(p).__dict__) for p in found]
        alike: dict[Any, list[Thing]] = {}
        for pod in found:
            key = (
                pod.kind,
                pod.node if pod.kind == "node" else "",
                repr(pod.labels),
                repr(pod.space),
                repr(pod.ports),
                pod.account,
            )
            alike.setdefault(key, []).append(pod)
        merged = []
        for group in alike.values():
            ips = tuple(sorted({ip for pod in group for ip in pod.ips}))
            nodes = {pod.node for pod in group}
            whole = dict(group[0].__dict__)
            whole |= {"identity": "", "ips": ips, "node": nodes.pop() if len(nodes) == 1 else ""}
            whole |= {"since": min(p.since for p in group), "until": max(p.until for p in group)}
            merged.append(Thing(**whole))
        if merged:
            return self.fitting(merged, window, namespace)
        self.met(13)
        return [self.absent(namespace)]

    def at_ip(self, text: str, window: tuple[int, int], name: str | None) -> list[Thing]:
        return self.fitting(self.holders(text, window, name), window)

    def holders(self, text: str, window: tuple[int, int], name: str | None) -> list[Thing]:
        """Everything that ever had the address, with its times."""
        one = plain_ip(text)
        if one.is_loopback:
            return [Thing("self")]
        found = [
            Thing(**{**pod.__dict__, "ips": (text,)})
            for pod in self.pods()
            if (not pod.host) and any(plain_ip(ip) == one for ip in pod.ips)
        ]
        found += [
            Thing("node", item.doc["metadata"]["name"], ips=(text,), node=item.doc["metadata"]["name"])
            for item in self.of_kind.get("Node", [])
            if any(plain_ip(ip) == one for ip in self.node_ips(item.doc["metadata"]["name"]))
        ]
        if found:
            return found
        for item in self.of_kind.get("Node", []):
            if any(in_block(text, cidr, []) for cidr in (item.doc.get("spec") or {}).get("podCIDRs") or []):
                self.met(13, "address")
                return [Thing("nobody", names=None, ips=(text,))]
        if text == "169.254.20.10":
            self.met(27)
        return [Thing("outside", ips=(text,), names=self.names_of(text, window, name))]

    def answers(self) -> list[Timed]:
        return self.of_kind.get("Answer", [])

    def names_of(self, ip: str, window: tuple[int, int], name: str | None) -> frozenset[str] | None:
        """Names that the address had at the time; None where no DNS answer was recorded at all."""
        known = {
            t.doc["name"].lower().rstrip(".")
            for t in self.answers()
            if plain_ip(t.doc["address"]) == plain_ip(ip) and t.since <= window[1] and t.until > window[0]
        }
        if name:
            known.add(name.lower().rstrip("."))
        if known or self.answers():
            return frozenset(known)
        return None

    def by_name(self, text: str, window: tuple[int, int]) -> list[Thing]:
        """Whoever has an address that the name's answers gave, while they did."""
        wanted = text.lower().rstrip(".")
        found: list[Thing] = []
        for item in self.answers():
            if item.doc["name"].lower().rstrip(".") != wanted:
                continue
            for thing in self.holders(item.doc["address"], window, text):
                since, until = max(thing.since, item.since), min(thing.until, item.until)
                if since < until:
                    found.append(Thing(**{**thing.__dict__, "since": since, "until": until}))
        living = [t for t in found if t.since <= window[1] and t.until > window[0]]
        nowhere = Thing("outside", names=frozenset((wanted,)))
        return living or [nowhere]

    # -- services

    def targets(self, flow: Doc, window: tuple[int, int]) -> list[Thing]:
        """The destination: for a service, its backends (and what egress may see before translation)."""
        asked = flow["dst"], flow.get("protocol", "TCP"), flow.get("port", 0), flow.get("name")
        return self.remembered(self._targets, *asked, window)

    def _targets(self, text: str, word: str, port: int, name: str | None, window: tuple[int, int]) -> list[Thing]:
        found: list[Thing] = []
        for service in self.of_kind.get("Service", []):
            way = self.way(service.doc, text)
            if way is None:
                continue
            for entry in (service.doc.get("spec") or {}).get("ports") or []:
                ours = entry.get("nodePort") if way == "node" else entry["port"]
                if entry.get("protocol", "TCP") == word and ours == port:
                    self.met(22, self.settings.dnat)
                    found += self.through(service, entry, way, text, (window, name))
        found += self.behind_host_port(text, word, port, (window, name))
        if found:
            return self.fitting_sides(found, window)
        return self.at(text, window, name)

    def fitting_sides(self, things: list[Thing], window: tuple[int, int]) -> list[Thing]:
        living = [t for t in things if t.since <= window[1] and t.until > window[0]]
        if living:
            return living
        return [Thing("nobody", names=None, sides=t.sides, port=t.port, hides=t.hides) for t in things]

    def way(self, doc: Doc, text: str) -> str | None:
        """How the text names the service: by name, by its own address, by an outer one, or by a node's."""
        meta, spec = doc["metadata"], doc.get("spec") or {}
        if text == f"{meta.get('namespace') or 'default'}/Service/{meta['name']}":
            return "name"
        if "/" in text:
            return None
        try:
            one = plain_ip(text)
        except ValueError:
            return None
        inner = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        if any(ip not in ("", "None") and plain_ip(ip) == one for ip in inner):
            return "inner"
        outer = list(spec.get("externalIPs") or [])
        outer += [e["ip"] for e in (((doc.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [])]
        if any(plain_ip(ip) == one for ip in outer):
            return "outer"
        nodes = [item.doc["metadata"]["name"] for item in self.of_kind.get("Node", [])]
        if any(plain_ip(ip) == one for name in nodes for ip in self.node_ips(name)):
            return "node" if any(p.get("nodePort") for p in spec.get("ports") or []) else None
        return None

    def through(
        self, service: Timed, entry: Doc, way: str, text: str, asked: tuple[tuple[int, int], str | None]
    ) -> list[Thing]:
        """The backends; beside them what egress saw: the outer address, with the name that was asked for."""
        backends = []
        for thing in self.backends(service.doc, entry):
            since, until = max(thing.since, service.since), min(thing.until, service.until)
            if since < until:
                backends.append(Thing(**{**thing.__dict__, "since": since, "until": until}))
        if not backends:
            nobody = Thing("nobody", names=None, ports=None)
            backends = [Thing(**{**nobody.__dict__, "since": service.since, "until": service.until})]
        if way != "name":  # a translation does not change the family
            version = plain_ip(text).version
            for number, thing in enumerate(backends):
                same = tuple(ip for ip in thing.ips if plain_ip(ip).version == version)
                backends[number] = Thing(**{**thing.__dict__, "ips": same or thing.ips})
        spec = service.doc.get("spec") or {}
        outer = way in ("outer", "node")
        hides = outer and spec.get("externalTrafficPolicy") != "Local"
        inner = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if ip not in ("", "None")]
        before = self.settings.dnat == "before" and not outer and bool(inner)
        found = [Thing(**{**b.__dict__, "sides": "ingress" if before else "both", "hides": hides}) for b in backends]
        if before:
            ips = tuple(inner) if way == "name" else (text,)
            found.append(Thing("outside", ips=ips, names=self.vip_names(), sides="egress"))
        elif outer:
            found += [Thing(**{**t.__dict__, "sides": "egress"}) for t in self.at_ip(text, *asked)]
        if (service.doc["metadata"].get("namespace") or "default", service.doc["metadata"]["name"]) == (
            "default",
            "kubernetes",
        ):
            self.met(28)
        return found

    def behind_host_port(
        self, text: str, word: str, port: int, asked: tuple[tuple[int, int], str | None]
    ) -> list[Thing]:
        """core/v1 ContainerPort: hostPort is a port of the pod's host, on hostIP; with hostNetwork it is the pod's own.
        A pod of which the node is not known may be on any: then the node itself may have been meant."""
        nodes = [] if "/" in text else [item.doc["metadata"]["name"] for item in self.of_kind.get("Node", [])]
        found: list[Thing] = []
        surely = True
        for item in self.of_kind.get("Pod", []) if nodes else []:
            spec = item.doc.get("spec") or {}
            home = spec.get("nodeName", "")
            here = any(text in self.node_ips(name) for name in nodes if home in ("", name))
            for entry in [p for c in spec.get("containers") or [] for p in c.get("ports") or []]:
                bound = entry.get("hostIP", "0.0.0.0") in ("0.0.0.0", text) and not spec.get("hostNetwork")
                theirs = (entry.get("protocol", "TCP"), entry.get("hostPort", 0))
                if here and bound and port and theirs == (word, port):
                    self.met(23, "hostPort")
                    pods = self.pod_versions(item)
                    found += [Thing(**{**pod.__dict__, "port": entry["containerPort"]}) for pod in pods]
                    surely = surely and bool(home)
        itself = self.at(text, *asked) if found else []
        return found + [Thing(**{**t.__dict__, "sides": "egress" if surely else "both"}) for t in itself]

    def vip_names(self) -> frozenset[str] | None:
        return frozenset() if self.answers() else None

    def backends(self, doc: Doc, entry: Doc) -> list[Thing]:
        """Endpoints of the slices; where there is none, the pods that the selector finds now."""
        namespace, name = doc["metadata"].get("namespace") or "default", doc["metadata"]["name"]
        slices = [
            item
            for item in self.of_kind.get("EndpointSlice", [])
            if (item.doc["metadata"].get("namespace") or "default") == namespace
            and (item.doc["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
        ]
        found: list[Thing] = []
        for item in slices:
            for port in item.doc.get("ports") or []:
                if port.get("name", "") != entry.get("name", "") or port.get("protocol", "TCP") != entry.get(
                    "protocol", "TCP"
                ):
                    continue
                for endpoint in item.doc.get("endpoints") or []:
                    number = entry["port"] if headless(doc) else port["port"]
                    found += self.endpoint(item, endpoint, number, namespace)
        if slices:
            return found
        selector = (doc.get("spec") or {}).get("selector")
        for pod in self.pods() if selector else []:
            if pod.namespace == namespace and selector.items() <= (pod.labels or {}).items():
                target = entry["port"] if headless(doc) else entry.get("targetPort") or entry["port"]
                if isinstance(target, str):
                    numbers = [
                        n for w, proto, n in pod.ports or [] if (w, proto) == (target, entry.get("protocol", "TCP"))
                    ]
                    if not numbers:
                        continue
                    target = numbers[0]
                found.append(Thing(**{**self.as_seen(pod).__dict__, "port": target}))
        return found

    def endpoint(self, item: Timed, endpoint: Doc, port: int, namespace: str) -> list[Thing]:
        if not (endpoint.get("conditions") or {}).get("ready", True):
            return []
        target = endpoint.get("targetRef") or {}
        things: list[Thing] = []
        if target.get("kind") == "Pod":
            things = [self.as_seen(p) for p in self.pods() if (p.namespace, p.name) == (namespace, target["name"])]
        if not things:
            things = [t for ip in endpoint.get("addresses") or [] for t in self.at_ip(ip, (0, FOREVER - 1), None)]
        found = []
        for thing in things:
            since, until = max(thing.since, item.since), min(thing.until, item.until)
            if since < until:
                found.append(Thing(**{**thing.__dict__, "port": port, "since": since, "until": until}))
        return found
