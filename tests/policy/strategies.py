"""Hypothesis strategies that make whole cases: policy documents, a cluster with a history, and many flows.

A case is read off a tape of bytes, so that hypothesis makes and shrinks it with one draw; byte 0 is always the
simplest choice. The worlds are small on purpose: few labels, ports and addresses, so that they meet often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from reference_cluster import Doc, Settings, Timed

CHANGE = 1_000  # the moment at which labels, addresses and owners change
SPACES = ("a", "b", "c")
WORDS = ("web", "db", "dns")
OUTSIDE = ("93.184.216.34", "172.16.5.9", "172.16.7.9", "2001:db8::5", "::ffff:172.16.5.9", "169.254.20.10", "8.8.8.8")
NAMES = ("api.example.com", "www.example.com", "x.y.example.com", "other.org")
BLOCKS = (
    ("172.16.0.0/16", []),
    ("172.16.0.0/12", ["172.16.7.0/24"]),
    ("10.0.0.0/8", []),
    ("10.0.1.77/24", []),  # host bits
    ("0.0.0.0/0", ["10.0.0.0/8"]),
    ("0.0.0.0/0", ["172.16.0.0/16", "172.16.5.0/24"]),  # nested exceptions
    ("::/0", ["fd00::/8"]),
    ("2001:db8::/32", []),
    ("169.254.20.10/32", []),
    ("192.168.0.1/32", []),
    ("0.0.0.0/0", []),
    ("::ffff:172.16.0.0/112", []),
)
PORTS = (80, 8080, 53, 443, 30080, 9)


class Tape:
    """Choices from bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def below(self, count: int) -> int:
        """A number below ``count``."""
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1] % count

    def one(self, items: Any) -> Any:
        """One of the items."""
        return items[self.below(len(items))]

    def one_in(self, count: int) -> bool:
        """True once in ``count`` times."""
        return self.below(count) == count - 1

    def some(self, most: int) -> range:
        """A range of up to ``most`` steps."""
        return range(self.below(most + 1))


@dataclass(frozen=True)
class Case:
    """Policy documents (``other``: a second set), a cluster with its history, flows, options."""

    policies: list[Doc]
    other: list[Doc]
    cluster: list[Timed]
    flows: list[Doc]
    settings: Settings
    tape: str = ""

    def __repr__(self) -> str:
        return f"replayed({self.tape!r})"


def replayed(tape: str, flows: int = 240) -> Case:
    """The case of a tape that hypothesis printed."""
    return make(Tape(bytes.fromhex(tape)), flows)


def cases(flows: int = 240) -> st.SearchStrategy[Case]:
    """Cases of up to ``flows`` flows each."""
    return st.binary(min_size=480, max_size=480).map(lambda data: make(Tape(data), flows))


def make(tape: Tape, flows: int) -> Case:
    """One case off the tape."""
    settings = Settings(
        tape.one(("match", "match", "never")),
        tape.one(("node", "node", "node", "pod", "unknown")),
        tape.one(("rules", "rules", "rules", "allowed", "unknown")),
        tape.one(("after", "after", "after", "before")),
        tape.one(("allowed", "evaluate")),
    )
    traffic = Tape(bytes(reversed(tape.data)))
    cluster = make_cluster(tape)
    policies = [make_policy(tape, number) for number in range(1 + tape.below(5))]
    policies += [closed(tape, space) for space in SPACES if not tape.one_in(4)]
    if tape.one_in(3):
        policies.append(malformed_policy(tape))
    other = [doc for doc in policies if not tape.one_in(3)]
    other.append(make_policy(tape, 90))
    chosen = make_flows(traffic, cluster, flows)
    return Case(distinct(policies), distinct(other), cluster, chosen, settings, tape.data.hex())


def distinct(docs: list[Doc]) -> list[Doc]:
    """The first document of each name: a second one would be refused."""
    found: dict[Any, Doc] = {}
    for doc in docs:
        meta = doc["metadata"]
        found.setdefault((doc["kind"], meta.get("namespace") or "default", meta["name"]), doc)
    return list(found.values())


# -- cluster


def make_cluster(tape: Tape) -> list[Timed]:
    """Namespaces, nodes, pods, services, slices and DNS answers, some of which change at CHANGE."""
    items: list[Timed] = []
    for space in SPACES[: 2 + tape.below(2)]:
        if space == "c" and tape.one_in(2):
            continue  # only mentioned: its labels are not known
        items += changing(namespace(space, tape.below(3)), namespace(space, tape.below(3)), tape.one_in(4))
    items += [Timed(node("n1", "192.168.0.1", "10.0.1.0/24")), Timed(node("n2", "192.168.0.2", "10.0.2.0/24"))]
    for number in range(2 + tape.below(5)):
        items += make_pod(tape, number)
    items += make_services(tape)
    if not tape.one_in(4):
        items.append(Timed({"kind": "Answer", "name": "api.example.com", "address": "93.184.216.34"}))
        items.append(Timed({"kind": "Answer", "name": "x.y.Example.com.", "address": "2001:db8::5"}, 0, CHANGE))
        items.append(Timed({"kind": "Answer", "name": "other.org", "address": "2001:db8::5"}, CHANGE))
    return items


def changing(before: Doc, after: Doc, changes: bool) -> list[Timed]:
    """One document for ever, or two that follow one another."""
    return [Timed(before, 0, CHANGE), Timed(after, CHANGE)] if changes else [Timed(before)]


def namespace(name: str, kind: int) -> Doc:
    labels = ({"team": "x"}, {"team": "y", "env": "prod"}, {})[kind]
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def node(name: str, address: str, block: str) -> Doc:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"zone": name}},
        "spec": {"podCIDRs": [block]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def make_pod(tape: Tape, number: int) -> list[Timed]:
    """A pod; it may change its labels, end, or leave its address to the next."""
    home, host = tape.one(("n1", "n2", "n1", "n2", "")), tape.one_in(7)
    address = f"10.0.{1 + number % 2}.{10 + number}"
    fate = tape.below(9)
    if fate == 1:
        address = "10.0.1.10"  # the first pod's address, reused after it
    ips = [] if tape.one_in(8) else [address] + ([f"fd00::{10 + number}"] if tape.one_in(3) else [])
    if host:
        ips = [{"n1": "192.168.0.1", "n2": "192.168.0.2"}[home]] if home else []
    space = tape.one((*SPACES, "a", "b", "default"))
    doc = pod(f"p{number}", space, pod_labels(tape), ips, home, host, tape)
    if fate == 0 and number == 0:
        return [Timed(doc, 0, CHANGE)] if tape.one_in(3) else [Timed(doc)]
    if fate == 1:
        return [Timed(doc, CHANGE)]
    if fate == 2:
        second = {**doc, "metadata": {**doc["metadata"], "labels": pod_labels(tape)}}
        return [Timed(doc, 0, CHANGE), Timed(second, CHANGE)]
    if fate == 3:
        ended = {"state": {"terminated": {"finishedAt": "1970-01-01T00:15:00Z"}}}
        done = {"status": {**doc["status"], "phase": "Succeeded", "containerStatuses": [ended]}}
        return [Timed({**doc, **done})]
    return [Timed(doc)]


def pod_labels(tape: Tape) -> dict[str, str]:
    labels = {"app": tape.one(WORDS)}
    if tape.one_in(2):
        labels["tier"] = tape.one(("1", "2"))
    if tape.one_in(5):
        labels["pod-template-hash"] = "abc"
    if tape.one_in(5):
        labels["role"] = "ingress-controller"
    return labels


def pod(name: str, space: str, labels: dict[str, str], ips: list[str], home: str, host: bool, tape: Tape) -> Doc:
    ports: list[Doc] = []
    if not tape.one_in(3):
        ports.append({"name": "http", "containerPort": tape.one((80, 8080))})
    if tape.one_in(3):
        ports.append({"name": "dns", "containerPort": 53, "protocol": "UDP"})
    if tape.one_in(2):
        ports.append({"containerPort": 8080, "hostPort": 9, "hostIP": tape.one(("192.168.0.1", "0.0.0.0"))})
    spec: Doc = {"containers": [{"name": "c", "ports": ports}]}
    if home:
        spec["nodeName"] = home
    if host:
        spec["hostNetwork"] = True
    if tape.one_in(6):
        spec["serviceAccountName"] = "robot"
    status = {"podIPs": [{"ip": ip} for ip in ips], "podIP": ips[0]} if ips else {}
    meta = {"name": name, "namespace": space, "labels": labels}
    meta["ownerReferences"] = [{"kind": "StatefulSet", "name": labels["app"], "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def make_services(tape: Tape) -> list[Timed]:
    items: list[Timed] = []
    ports: list[Doc] = [{"port": 80, "targetPort": tape.one((8080, "http", 80)), "name": "w", "nodePort": 30080}]
    ports.append({"port": 53, "protocol": "UDP", "name": "d"})
    spec: Doc = {"clusterIP": "10.96.0.1", "selector": {"app": tape.one(WORDS)}, "ports": ports}
    if tape.one_in(3):
        spec["externalIPs"] = ["8.8.8.8"]
    if tape.one_in(4):
        spec["externalTrafficPolicy"] = "Local"
    items.append(Timed(service("s", tape.one(SPACES), spec)))
    if not tape.one_in(4):
        server = {"clusterIP": "10.96.0.2", "ports": [{"port": 443, "targetPort": 6443, "name": "https"}]}
        items.append(Timed(service("kubernetes", "default", server)))
        items.append(Timed(slice_of("kubernetes", "default", ["192.168.0.1"], [("https", 6443)])))
    if tape.one_in(2):
        by_hand = {"clusterIP": "10.96.0.3", "ports": [{"port": 443, "name": "x"}]}
        items.append(Timed(service("hand", "a", by_hand)))
        items.append(Timed(slice_of("hand", "a", ["172.16.5.9", "93.184.216.34"][: 1 + tape.below(2)], [("x", 443)])))
    return items


def service(name: str, space: str, spec: Doc) -> Doc:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": space}, "spec": spec}


def slice_of(name: str, space: str, ips: list[str], ports: list[tuple[str, int]]) -> Doc:
    labels = {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": space, "labels": labels},
        "endpoints": [{"addresses": [ip]} for ip in ips],
        "ports": [{"name": word, "port": number} for word, number in ports],
    }


# -- policies


def make_policy(tape: Tape, number: int) -> Doc:
    """A policy of any kind, NetworkPolicy most often."""
    kind = tape.below(10)
    if kind == 6:
        return cilium_policy(tape, number, False)
    if kind == 7:
        return cilium_policy(tape, number, True)
    if kind == 8:
        return cluster_policy(tape, number)
    if kind == 9:
        return admin_policy(tape, number)
    return network_policy(tape, number)


def closed(tape: Tape, space: str) -> Doc:
    """Every pod of a namespace isolated both ways, with a rule each way at most."""
    spec: Doc = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for direction, key in (("ingress", "from"), ("egress", "to")):
        if tape.one_in(2):
            spec[direction] = [network_rule(tape, key)]
    meta = {"name": "closed", "namespace": space}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def selector(tape: Tape) -> Doc:
    """A pod selector, often by app."""
    kind = tape.below(9)
    if kind < 3:
        return {"matchLabels": {"app": WORDS[kind]}}
    if kind < 5:
        return {}
    return {"matchExpressions": [expression(tape, ("app", "tier"), ("web", "1", "db"))]}


def expression(tape: Tape, keys: Any, values: Any) -> Doc:
    operator = tape.one(("In", "NotIn", "Exists", "DoesNotExist"))
    item = {"key": tape.one(keys), "operator": operator}
    if operator in ("In", "NotIn"):
        item["values"] = [tape.one(values), tape.one(values)]
    return item


def space_selector(tape: Tape) -> Doc:
    kind = tape.below(6)
    if kind == 0:
        return {}
    if kind < 3:
        return {"matchLabels": {"kubernetes.io/metadata.name": tape.one(SPACES)}}
    if kind < 5:
        return {"matchLabels": {"team": tape.one(("x", "y"))}}
    return {"matchExpressions": [expression(tape, ("team", "env"), ("x", "prod"))]}


def network_policy(tape: Tape, number: int) -> Doc:
    meta = {"name": tape.one((f"np{number}", f"np{number}", "same"))}
    space = tape.one(("a", "b", "a", "b", "c", ""))
    if space:
        meta["namespace"] = space
    if meta["name"] == "same":
        meta["name"] = f"same-{number // 2}"  # two of a name, seldom of a namespace
        meta["namespace"] = SPACES[number % 2]
    spec: Doc = {"podSelector": selector(tape)}
    types = tape.one((None, ["Ingress"], ["Egress"], ["Ingress", "Egress"], ["Ingress", "Egress"], []))
    if types is not None:
        spec["policyTypes"] = types
    for direction, key in (("ingress", "from"), ("egress", "to")):
        shape = tape.below(6)
        if shape == 0:
            continue
        rules = [network_rule(tape, key) for _ in range(1 + tape.below(2))]
        spec[direction] = ([], [{}], None)[tape.below(3)] if shape == 1 else rules
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def network_rule(tape: Tape, key: str) -> Doc:
    rule: Doc = {}
    if not tape.one_in(5):
        rule[key] = [network_peer(tape) for _ in range(1 + tape.below(2))]
    elif tape.one_in(2):
        rule[key] = []
    if not tape.one_in(4):
        rule["ports"] = [network_port(tape) for _ in range(1 + tape.below(2))]
    return rule


def network_peer(tape: Tape) -> Doc:
    kind = tape.below(6)
    if kind == 0:
        return {"podSelector": selector(tape)}
    if kind == 1:
        return {"podSelector": selector(tape), "namespaceSelector": None}
    if kind == 2:
        return {"namespaceSelector": space_selector(tape)}
    if kind == 3:
        return {"namespaceSelector": space_selector(tape), "podSelector": selector(tape)}
    cidr, excepts = tape.one(BLOCKS)
    return {"ipBlock": {"cidr": cidr, "except": excepts} if excepts else {"cidr": cidr}}


def network_port(tape: Tape) -> Doc:
    port: Doc = {}
    protocol = tape.one(("TCP", None, "UDP", "SCTP"))
    if protocol:
        port["protocol"] = protocol
    kind = tape.below(6)
    if kind < 2:
        port["port"] = tape.one((80, 443, 53))
    elif kind == 2:
        port |= {"port": 80, "endPort": tape.one((80, 443, 8080))}
    elif kind < 5:
        port["port"] = tape.one(("http", "http", "dns"))
    return port


def malformed_policy(tape: Tape) -> Doc:
    """One of the mistakes that must be refused."""
    doc = network_policy(tape, 80)
    doc["metadata"] = {"name": "broken", "namespace": tape.one(SPACES)}
    peer = tape.one(
        (
            {},
            {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}},
            {"podSelector": {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["x"]}]}},
            None,
        )
    )
    rule: Doc = {"from": [peer]} if peer is not None else {"ports": [{"port": 90, "endPort": 80}]}
    return {**doc, "spec": {**doc["spec"], "policyTypes": ["Ingress"], "ingress": [rule]}}


def cluster_policy(tape: Tape, number: int) -> Doc:
    """ClusterNetworkPolicy v1alpha2."""
    spec: Doc = {"tier": tape.one(("Admin", "Admin", "Baseline")), "priority": tape.below(3)}
    spec["subject"] = admin_pods(tape)
    for direction, key in (("ingress", "from"), ("egress", "to")):
        spec[direction] = [admin_rule(tape, key, ("Deny", "Accept", "Pass"), "protocols") for _ in range(tape.below(3))]
    version = "policy.networking.k8s.io/v1alpha2"
    return {"apiVersion": version, "kind": "ClusterNetworkPolicy", "metadata": {"name": f"k{number}"}, "spec": spec}


def admin_policy(tape: Tape, number: int) -> Doc:
    """AdminNetworkPolicy or BaselineAdminNetworkPolicy v1alpha1."""
    base = tape.one_in(2)
    spec: Doc = {"subject": admin_pods(tape)}
    actions = ("Deny", "Allow") if base else ("Deny", "Allow", "Pass")
    for direction, key in (("ingress", "from"), ("egress", "to")):
        spec[direction] = [admin_rule(tape, key, actions, "ports") for _ in range(tape.below(3))]
    if not base:
        spec["priority"] = tape.below(3)
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha1",
        "kind": "BaselineAdminNetworkPolicy" if base else "AdminNetworkPolicy",
        "metadata": {"name": "default" if base else f"anp{number}"},
        "spec": spec,
    }


def admin_pods(tape: Tape) -> Doc:
    if tape.one_in(2):
        return {"namespaces": space_selector(tape)}
    return {"pods": {"namespaceSelector": space_selector(tape), "podSelector": selector(tape)}}


def admin_rule(tape: Tape, key: str, actions: Any, ports: str) -> Doc:
    rule: Doc = {"action": tape.one(actions), key: [admin_pods(tape)]}
    kind = tape.below(8)
    named = True
    if key == "to" and kind in (5, 6, 7):
        named = False
        accepts = rule["action"] in ("Accept", "Allow")
        outer: Any = {"networks": [tape.one(BLOCKS)[0] for _ in range(1 + tape.below(2))]}
        if kind == 6:
            outer = {"nodes": {"matchLabels": {"zone": "n1"}} if tape.one_in(2) else {}}
        if kind == 7 and accepts:
            outer = {"domainNames": [tape.one(("*.example.com", "api.example.com", "other.org"))]}
        rule[key] = [outer, *rule[key]][: 1 + tape.below(2)]
    if not tape.one_in(3):
        rule[ports] = [admin_port(tape, ports, named)]
    return rule


def admin_port(tape: Tape, form: str, named: bool) -> Doc:
    kind, word = tape.below(3), tape.one(("TCP", "UDP", "SCTP"))
    if kind == 2 and named:
        return {"destinationNamedPort" if form == "protocols" else "namedPort": "http"}
    if form == "protocols":
        port = {"number": tape.one((80, 443, 53))} if kind else {"range": {"start": 53, "end": 443}}
        return {word.lower(): {"destinationPort": port}}
    if kind:
        return {"portNumber": {"protocol": word, "port": tape.one((80, 443, 53))}}
    return {"portRange": {"protocol": word, "start": 53, "end": 443}}


def cilium_policy(tape: Tape, number: int, clusterwide: bool) -> Doc:
    kind = "CiliumClusterwideNetworkPolicy" if clusterwide else "CiliumNetworkPolicy"
    meta = {"name": f"c{number}"}
    if not clusterwide:
        meta["namespace"] = tape.one(SPACES)
    body: Doc = {"specs": [cilium_spec(tape) for _ in range(1 + tape.below(3))]} if tape.one_in(6) else {}
    if not body or tape.one_in(4):
        body["spec"] = cilium_spec(tape)
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": meta, **body}


def cilium_spec(tape: Tape) -> Doc:
    spec: Doc = {"endpointSelector": cilium_selector(tape)}
    for direction, side in (("ingress", "from"), ("egress", "to")):
        if tape.one_in(4):
            continue
        spec[direction] = [cilium_rule(tape, side, deny=False) for _ in range(tape.below(3))]
        if tape.one_in(5):
            spec[direction + "Deny"] = [cilium_rule(tape, side, deny=True)]
    if tape.one_in(8):
        spec["enableDefaultDeny"] = {"ingress": tape.one_in(2)}
    return spec


def cilium_selector(tape: Tape) -> Doc:
    kind = tape.below(9)
    if kind == 8:
        keys = ("k8s:io.kubernetes.pod.namespace", "io.cilium.k8s.namespace.labels.team")
        return {"matchExpressions": [expression(tape, keys, ("a", "b", "x"))]}
    if kind < 3:
        return {"matchLabels": {tape.one(("app", "k8s:app", "any:app")): tape.one(WORDS)}}
    if kind == 3:
        return {}
    if kind == 4:
        keys = ("k8s:io.kubernetes.pod.namespace", "k8s:io.kubernetes.pod.namespace", "io.kubernetes.pod.namespace")
        return {"matchLabels": {tape.one(keys): tape.one(SPACES)}}
    if kind == 5:
        return {"matchExpressions": [expression(tape, ("k8s:app", "tier"), ("web", "1"))]}
    if kind == 6:
        return {"matchLabels": {"io.cilium.k8s.namespace.labels.team": "x"}}
    return {"matchLabels": {tape.one(("io.cilium.k8s.policy.serviceaccount", "pod-template-hash")): "robot"}}


def cilium_rule(tape: Tape, side: str, *, deny: bool) -> Doc:
    if tape.one_in(8) and not deny:
        return {}
    rule: Doc = {}
    kind = tape.below(9)
    if kind < 3:
        rule[side + "Endpoints"] = [cilium_selector(tape) for _ in range(tape.below(3))]
    elif kind == 3:
        rule[side + "CIDR"] = [tape.one(("172.16.0.0/12", "93.184.216.34", "10.0.0.0/8", "2001:db8::5"))]
    elif kind == 4:
        cidr, excepts = tape.one(BLOCKS)
        rule[side + "CIDRSet"] = [{"cidr": cidr, "except": excepts}]
    elif kind < 7:
        entities = ("world", "cluster", "host", "remote-node", "kube-apiserver", "all", "world-ipv4", "none")
        rule[side + "Entities"] = [tape.one(entities)]
        if tape.one_in(9):
            rule[side + "CIDR"] = []  # there and empty
    elif kind == 7 and side == "to" and not deny:
        name = tape.one(
            ({"matchName": "API.example.com."}, {"matchPattern": "*.example.com"}, {"matchPattern": "**.example.com"})
        )
        rule["toFQDNs"] = [] if tape.one_in(6) else [name]
    elif kind == 8 and side == "to" and tape.one_in(2):
        wanted = tape.one((("s", "a"), ("kubernetes", "default"), ("hand", "a"), ("none", "b")))
        return {"toServices": [{"k8sService": {"serviceName": wanted[0], "namespace": wanted[1]}}]}
    if not rule and tape.one_in(6):
        rule["icmps"] = [{"fields": [{"type": 8, "family": tape.one(("IPv4", "IPv6"))}]}]
        return rule
    if not rule or not tape.one_in(3):
        rule["toPorts"] = [cilium_ports(tape, side, deny)]
    return rule


def cilium_ports(tape: Tape, side: str, deny: bool) -> Doc:
    kind = tape.below(7)
    if kind == 0 and side == "to" and not deny:
        patterns = [{"matchPattern": tape.one(("*", "*", "*.example.com"))}]
        return {"ports": [{"port": "53", "protocol": tape.one(("UDP", "ANY"))}], "rules": {"dns": patterns}}
    if kind == 1 and not deny:
        return {"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
    port: Doc = {"port": tape.one(("80", "443", "53", "0", "http"))}
    word = tape.one((None, "TCP", "UDP", "ANY", "SCTP"))
    if word:
        port["protocol"] = word
    if port["port"] == "80" and tape.one_in(2):
        port["endPort"] = 443
    return {"ports": [port]}


# -- flows


def make_flows(tape: Tape, cluster: list[Timed], most: int) -> list[Doc]:
    """Flows between all kinds of endpoints, all different: a walk over their pairs with steps from the tape."""
    pods = [item.doc for item in cluster if item.doc["kind"] == "Pod"]
    names = sorted({f"{d['metadata']['namespace']}/{d['metadata']['name']}" for d in pods})
    owners = sorted({f"{d['metadata']['namespace']}/StatefulSet/{d['metadata']['labels']['app']}" for d in pods})
    ips = sorted({e["ip"] for d in pods for e in d["status"].get("podIPs", [])})
    odd = ["a/gone", "10.0.1.200", "Node/n1", "192.168.0.2", "127.0.0.1"]
    sources = names * 6 + ips * 2 + owners + odd + list(OUTSIDE[:4])
    services = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "192.168.0.1", "a/Service/s", "b/Service/s", "8.8.8.8"]
    services.append("default/Service/kubernetes")
    targets = names * 6 + ips * 2 + owners + odd + list(OUTSIDE) + services + list(NAMES)
    flows: dict[str, Doc] = {}
    step = 1 + 2 * tape.below(60)
    at = tape.below(256)
    for number in range(2 * most):
        if len(flows) == most:
            break
        at += step
        flow: Doc = {"src": sources[at % len(sources)], "dst": targets[(at * 7 + number) % len(targets)]}
        flow["protocol"], flow["port"] = PAIRS[(at * 3 + number // 5) % len(PAIRS)]
        when = (at // 3 + number) % 8
        if when in (1, 2, 3):
            flow |= {"first_seen": 100, "last_seen": 900}
        elif when in (4, 5):
            flow |= {"first_seen": 1_100, "last_seen": 2_000}
        elif when == 6:
            flow |= {"first_seen": 900, "last_seen": 1_100}
        spice = (at + number) % 41
        if spice == 0:
            flow["oriented"] = False
        elif spice == 1:
            flow["established"] = True
        elif spice == 2 and flow["dst"] in OUTSIDE:
            flow["name"] = NAMES[number % len(NAMES)]
        if number % 3 == 0 and flow["dst"][0].isdigit():
            flow["dst_address"] = flow["dst"]  # as recorded edges have it
        flows.setdefault(repr(flow), flow)
    return list(flows.values())


PAIRS: tuple[tuple[str, int], ...] = (
    ("TCP", 80),
    ("TCP", 8080),
    ("UDP", 53),
    ("TCP", 443),
    ("TCP", 53),
    ("TCP", 30080),
    ("UDP", 80),
    ("TCP", 80),
    ("SCTP", 80),
    ("ICMP", 0),
    ("TCP", 9),
    ("UDP", 53),
    ("ICMPv6", 0),
)
