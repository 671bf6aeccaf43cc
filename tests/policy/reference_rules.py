"""The reference's reading of rules: whom a policy selects, and whether a rule matches, one document at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from reference_cluster import TRANSPORTS, Cluster, Doc, Thing, both, clauses_of_block, either, in_block, plain_ip

LEFT_OUT = ("pod-template-hash", "controller-revision-hash")


@dataclass
class Context:
    """One side of one connection: the pod, its peer, the pod that owns the port, and the port."""

    direction: str
    me: Thing
    peer: Thing
    target: Thing
    word: str
    port: int
    dns: tuple[list[Doc], list[Doc]]


def specs_of(doc: Doc) -> list[Doc]:
    if doc["kind"].startswith("Cilium"):
        return ([doc["spec"]] if doc.get("spec") else []) + list(doc.get("specs") or [])
    return [doc.get("spec") or {}]


def types_of(spec: Doc) -> list[str]:
    """NetworkPolicy: "policies that contain an egress section are assumed to affect egress, and all ingress"."""
    if spec.get("policyTypes"):
        return [word.lower() for word in spec["policyTypes"]]
    return ["ingress", "egress"] if spec.get("egress") else ["ingress"]


def isolating(doc: Doc, spec: Doc) -> list[str]:
    if doc["kind"] == "NetworkPolicy":
        return types_of(spec)
    if not doc["kind"].startswith("Cilium"):
        return []
    wanted = spec.get("enableDefaultDeny") or {}
    return [d for d in ("ingress", "egress") if wanted.get(d, bool(spec.get(d)) or bool(spec.get(d + "Deny")))]


def own_namespace(selector: Doc) -> Doc:
    """A namespaced policy is about its own namespace: it replaces the one in matchLabels, of that source."""
    labels = selector.get("matchLabels") or {}
    return {**selector, "matchLabels": {k: v for k, v in labels.items() if k != "k8s:io.kubernetes.pod.namespace"}}


def tier_of(doc: Doc) -> str:
    if doc["kind"] == "ClusterNetworkPolicy":
        return str(doc["spec"]["tier"])
    return {"AdminNetworkPolicy": "Admin", "BaselineAdminNetworkPolicy": "Baseline"}.get(doc["kind"], "Developer")


def priority_of(doc: Doc) -> int:
    return 0 if doc["kind"] == "BaselineAdminNetworkPolicy" else int(doc["spec"].get("priority", 0))


class Rules(Cluster):
    """Selectors, peers and ports."""

    listed: list[tuple[Doc, Doc]]

    # -- whom does a policy select

    def selects(self, doc: Doc, spec: Doc, pod: Thing) -> bool | None:
        if pod.kind == "nobody":
            return None
        kind = doc["kind"]
        if kind == "NetworkPolicy":
            namespace = doc["metadata"].get("namespace") or "default"
            if pod.namespace != namespace:
                return False
            if not doc["metadata"].get("namespace"):
                self.met(4, "no namespace")
            if not spec.get("podSelector"):
                self.met(4, "all pods")
            found = self.labels(spec.get("podSelector"), pod.labels)
            if found is not False:
                self.np_shape(spec)
            return found
        if kind == "CiliumNetworkPolicy":
            if pod.namespace != (doc["metadata"].get("namespace") or "default"):
                return False
            return self.cilium_selector(own_namespace(spec["endpointSelector"]), pod, None)
        if kind == "CiliumClusterwideNetworkPolicy":
            return self.cilium_selector(spec["endpointSelector"], pod, None)
        return self.admin_pods(spec["subject"], pod)

    def np_shape(self, spec: Doc) -> None:
        types = spec.get("policyTypes")
        if not types:
            self.met(1, "both" if spec.get("egress") else "ingress only")
        elif types == ["Egress"] and spec.get("ingress"):
            self.met(2)
        for direction in types_of(spec):
            if direction not in spec:
                self.met(3, "missing")
            elif not spec[direction]:
                self.met(3, "null" if spec[direction] is None else "empty list")
            elif spec[direction] == [{}]:
                self.met(3, "empty rule")

    def labels(self, selector: Doc | None, labels: dict[str, str] | None) -> bool | None:
        """meta/v1 LabelSelector; an empty one matches everything, whether the labels are known or not."""
        values: list[bool | None] = []
        for key, value in ((selector or {}).get("matchLabels") or {}).items():
            values.append(None if labels is None else labels.get(key) == value)
        for item in (selector or {}).get("matchExpressions") or []:
            self.met(8, item["operator"])
            if labels is None:
                values.append(None)
                continue
            have, wanted = labels.get(item["key"]), item.get("values") or []
            if have is None:
                self.met(8, item["operator"] + " absent")
            values.append(
                {
                    "In": have is not None and have in wanted,
                    "NotIn": have is None or have not in wanted,
                    "Exists": have is not None,
                    "DoesNotExist": have is None,
                }[item["operator"]]
            )
        return both(*values)

    def space(self, selector: Doc | None, pod: Thing) -> bool | None:
        """A namespaceSelector; the name is a label that the API server sets."""
        wanted = list((selector or {}).get("matchLabels") or {})
        wanted += [item["key"] for item in (selector or {}).get("matchExpressions") or []]
        if "kubernetes.io/metadata.name" in wanted:
            self.met(10)
        labels = pod.space
        if labels is None and pod.namespace is not None and set(wanted) <= {"kubernetes.io/metadata.name"}:
            labels = {"kubernetes.io/metadata.name": pod.namespace}
        if labels is None and pod.namespace is not None and selector:
            named = {"kubernetes.io/metadata.name": pod.namespace}
            parts: list[bool | None] = []
            for key, value in (selector.get("matchLabels") or {}).items():
                parts.append(named.get(key) == value if key in named else None)
            for item in selector.get("matchExpressions") or []:
                one = {"matchExpressions": [item]}
                parts.append(self.labels(one, named) if item["key"] in named else None)
            return both(*parts)
        return self.labels(selector, labels)

    # -- NetworkPolicy

    def np_rule(self, doc: Doc, rule: Doc | None, context: Context) -> bool | None:
        rule = rule or {}
        peers = rule.get("from" if context.direction == "ingress" else "to") or []
        return both(self.np_ports(rule.get("ports") or [], context), self.np_peers(doc, peers, context))

    def np_peers(self, doc: Doc, peers: list[Doc], context: Context) -> bool | None:
        if not peers:
            return True  # empty or missing: all, outside the cluster too
        namespace = doc["metadata"].get("namespace") or "default"
        found: list[bool | None] = []
        blocks: list[tuple[str, list[str]]] = []
        for peer in peers:
            if "ipBlock" in peer and peer["ipBlock"] is not None:
                blocks.append((peer["ipBlock"]["cidr"], peer["ipBlock"].get("except") or []))
            else:
                found.append(self.np_pods(peer, namespace, context.peer))
        return either(*found, self.blocks(blocks, context.peer, "option"))

    def np_pods(self, peer: Doc, namespace: str, who: Thing) -> bool | None:
        if peer.get("podSelector") is None and peer.get("namespaceSelector") is None:
            return None  # a peer of a kind that only others know
        if peer.get("podSelector") == {} or peer.get("namespaceSelector") == {}:
            self.met(7, "empty")
        if None in peer.values():
            self.met(7, "null")
        if who.kind == "nobody":
            return None
        if who.kind != "pod":
            return False
        chosen = [key for key in ("podSelector", "namespaceSelector") if peer.get(key) is not None]
        self.met(6, " and ".join(chosen))
        if peer.get("namespaceSelector") is None:
            here: bool | None = who.namespace == namespace
        else:
            here = self.space(peer["namespaceSelector"], who)
        return both(here, self.labels(peer.get("podSelector"), who.labels))

    def blocks(self, blocks: list[tuple[str, list[str]]], who: Thing, reach: str) -> bool | None:
        """``reach``: option (ipBlock), all (networks), external (Cilium)."""
        if not blocks:
            return False
        if who.kind == "nobody" and not who.ips:
            return self.unknown_address(blocks)
        if who.kind in ("pod", "nobody"):
            self.met(12, self.settings.block_pods if reach == "option" else reach)
            if reach == "external" or (reach == "option" and self.settings.block_pods == "never"):
                return False
        if who.kind == "node" and reach == "external":
            return False
        if not who.ips:
            return self.unknown_address(blocks)
        for cidr, out in blocks:
            for clause in clauses_of_block(cidr, tuple(out), who.ips):
                self.met(11, clause)
        hits = [any(in_block(ip, cidr, out) for cidr, out in blocks) for ip in who.ips]
        return True if all(hits) else (None if any(hits) else False)

    def unknown_address(self, blocks: list[tuple[str, list[str]]]) -> bool | None:
        whole = {cidr for cidr, out in blocks if not out}
        halves = [{"0.0.0.0/0"}, {"::/0"}]
        return True if all(whole & half for half in halves) else None

    def np_ports(self, ports: list[Doc], context: Context) -> bool | None:
        if not ports:
            return True
        return either(*(self.np_port(port, context) for port in ports))

    def np_port(self, port: Doc, context: Context) -> bool | None:
        if not port.get("protocol"):
            self.met(14, "no protocol")
        if port.get("port") is None:
            self.met(14, "no port")
        word = port.get("protocol") or "TCP"
        number = port.get("port")
        if word != context.word:
            if number == context.port:
                self.met(18)
            return False
        if number is None:
            return True
        if isinstance(number, str):
            return self.named(number, (word,), context)
        self.met(15, "range" if port.get("endPort") else "number")
        return number <= context.port <= (port.get("endPort") or number)

    def shared(self, name: str, words: tuple[str, ...], context: Context) -> bool | None:
        """Cilium's egress: the number that all pods (in some versions: all selected ones) give to the name.

        Where they disagree it is an error, and the rule is about no port; which pods are asked differs.
        """
        numbers = {
            number
            for pod in self.pods()
            for given, word, number in pod.ports or []
            if given == name and word == context.word and word in words
        }
        own = self.named(name, words, context)
        if len(numbers) < 2 and own is not False:
            return own
        return None if context.port in numbers or own is None else False

    def named(self, name: str, words: tuple[str, ...], context: Context) -> bool | None:
        """The destination pod's containerPort of that name and protocol."""
        if context.target.kind in ("outside", "node"):
            self.met(16, "outside")
            return False
        self.met(16, "of a pod")
        if context.target.kind == "nobody" or context.target.ports is None:
            return None if context.word in words else False
        return any(
            (n, p) == (name, context.word) and p in words and number == context.port
            for n, p, number in context.target.ports
        )

    # -- ClusterNetworkPolicy and the kinds before it

    def admin_pods(self, selection: Doc, pod: Thing) -> bool | None:
        if pod.kind == "nobody":
            return None
        if pod.kind != "pod":
            return False
        if selection.get("namespaces") is not None:
            return self.space(selection["namespaces"], pod)
        if selection.get("pods") is None:
            return None  # a peer of a kind that only others know
        both_of = selection["pods"]
        return both(
            self.space(both_of.get("namespaceSelector"), pod), self.labels(both_of.get("podSelector"), pod.labels)
        )

    def admin_peers(self, rule: Doc, context: Context) -> bool | None:
        who = context.peer
        found: list[bool | None] = []
        blocks: list[tuple[str, list[str]]] = []
        for peer in rule.get("from" if context.direction == "ingress" else "to") or []:
            if "networks" in peer:
                blocks += [(cidr, []) for cidr in peer["networks"]]
            elif "nodes" in peer:
                found.append(self.node_peer(peer["nodes"], who))
            elif "domainNames" in peer:
                found.append(self.domain(peer["domainNames"], who))
            else:
                found.append(self.admin_pods(peer, who))
        return either(*found, self.blocks(blocks, who, "all"))

    def node_peer(self, selector: Doc, who: Thing) -> bool | None:
        if who.kind == "nobody":
            return None
        if who.kind != "node":
            return False
        records = [i.doc for i in self.of_kind.get("Node", []) if i.doc["metadata"]["name"] == who.node]
        if not records:
            return None if selector.get("matchLabels") or selector.get("matchExpressions") else True
        return self.labels(selector, dict(records[-1]["metadata"].get("labels") or {}))

    def domain(self, names: list[str], who: Thing) -> bool | None:
        """ "*." stands for one or more labels, as a prefix only."""
        if who.kind != "outside":
            return False
        if who.names is None:
            return None

        def fits(wanted: str, name: str) -> bool:
            wanted = wanted.lower().rstrip(".")
            if wanted.startswith("*."):
                return bool(re.fullmatch(r"[^.]+(\.[^.]+)*" + re.escape(wanted[1:]), name))
            return wanted == name

        return any(fits(wanted, name) for wanted in names for name in who.names)

    def admin_ports(self, doc: Doc, rule: Doc, context: Context) -> bool | None:
        items = rule.get("protocols" if doc["kind"] == "ClusterNetworkPolicy" else "ports")
        if not items:
            return True
        return either(*(self.admin_port(item, context) for item in items))

    def admin_port(self, item: Doc, context: Context) -> bool | None:
        name = item.get("destinationNamedPort") or item.get("namedPort")
        if name:
            return self.named(name, TRANSPORTS, context)
        if "portNumber" in item:
            one = item["portNumber"]
            return one.get("protocol", "TCP") == context.word and one["port"] == context.port
        if "portRange" in item:
            one = item["portRange"]
            return one.get("protocol", "TCP") == context.word and one["start"] <= context.port <= one["end"]
        word, body = next(iter(item.items()))
        port = body["destinationPort"]
        low, high = (port["number"],) * 2 if "number" in port else (port["range"]["start"], port["range"]["end"])
        return word.upper() == context.word and low <= context.port <= high

    # -- Cilium

    def cilium_selector(self, selector: Doc, pod: Thing, default: str | None) -> bool | None:
        """An endpoint selector; without a namespace of its own it is about the policy's (``default``)."""
        if pod.kind == "nobody":
            return None
        if pod.kind != "pod":
            return self.holds_without_labels(selector, default)
        parts: list[bool | None] = []
        spoken = False
        exprs = [
            {"key": k, "operator": "In", "values": [v]} for k, v in (selector.get("matchLabels") or {}).items()
        ] + list(selector.get("matchExpressions") or [])
        for item in exprs:
            key = item["key"].removeprefix("k8s:").removeprefix("any:")
            one = {**item, "key": "x"}
            if key == "io.kubernetes.pod.namespace":
                spoken = True
                parts.append(self.labels({"matchExpressions": [one]}, {"x": pod.namespace or ""}))
            elif key == "io.cilium.k8s.policy.serviceaccount":
                known = None if pod.account is None else {"x": pod.account}
                parts.append(self.labels({"matchExpressions": [one]}, known))
            elif key.startswith("io.cilium.k8s.namespace.labels."):
                spoken = True
                bare = key.removeprefix("io.cilium.k8s.namespace.labels.")
                parts.append(self.space({"matchExpressions": [{**item, "key": bare}]}, pod))
            elif key in LEFT_OUT:
                parts.append(None)  # Cilium leaves these out of identities, by default
            else:
                parts.append(self.labels({"matchExpressions": [{**item, "key": key}]}, pod.labels))
        if default is not None and not spoken:
            parts.append(pod.namespace == default)
        return both(*parts)

    def holds_without_labels(self, selector: Doc, default: str | None) -> bool | None:
        """Nodes and the outside have no labels of pods. Where a namespace is named no other condition is added."""
        exprs = selector.get("matchExpressions") or []
        keys = [*(selector.get("matchLabels") or {}), *(item["key"] for item in exprs)]
        bare = [key.removeprefix("k8s:").removeprefix("any:") for key in keys]
        free = "io.kubernetes.pod.namespace" in bare
        if default is not None:
            free |= any(key.startswith("io.cilium.k8s.namespace.labels.") for key in bare)
        words = ["In"] * len(selector.get("matchLabels") or {}) + [item["operator"] for item in exprs]
        holds = [
            None if key in LEFT_OUT else word in ("NotIn", "DoesNotExist")
            for key, word in zip(bare, words, strict=True)
        ]
        return None if free and both(*holds) is not False else False

    def cilium_rule(self, doc: Doc, rule: Doc, context: Context) -> bool | None:
        """Peers and ports; an empty rule matches nothing, nor does an empty list of peers."""
        if not rule:
            return False
        side = "from" if context.direction == "ingress" else "to"
        peers = self.cilium_peers(doc, rule, side, context)
        ports = rule.get("toPorts") or []
        if peers is Ellipsis:
            if not ports and not rule.get("icmps"):
                return False
            peers = True
        if rule.get("icmps"):
            words = {"IPv4": "ICMP", "IPv6": "ICMPv6"}
            fields = [f for i in rule["icmps"] for f in i.get("fields") or []]
            fits = any(words[f.get("family") or "IPv4"] == context.word for f in fields)
            return both(peers, None if fits else False)
        if not ports:
            return both(peers)
        return both(peers, either(*(self.cilium_port_rule(item, context) for item in ports)))

    def cilium_peers(self, doc: Doc, rule: Doc, side: str, context: Context) -> Any:
        names = ("Endpoints", "CIDR", "CIDRSet", "Entities", "FQDNs", "Services", "Nodes")
        present = [name for name in names if rule.get(side + name) is not None]
        if not present:
            return ...
        empty = {name for name in present if not rule[side + name]}
        if empty - {"FQDNs", "Services"}:
            return False
        if empty:
            return None
        found: list[bool | None] = []
        for name in present:
            items = rule[side + name]
            if name == "CIDR":
                blocks = [(i if "/" in i else f"{i}/{plain_ip(i).max_prefixlen}", []) for i in items]
                found.append(self.blocks(blocks, context.peer, "external"))
            elif name == "CIDRSet":
                known = [(i["cidr"], i.get("except") or []) for i in items if i.get("cidr")]
                found.append(self.blocks(known, context.peer, "external"))
                found += [None] * (len(items) - len(known))  # groups of blocks
            else:
                found += [self.cilium_peer(name, item, doc, context) for item in items]
        return either(*found)

    def cilium_peer(self, kind: str, item: Any, doc: Doc, context: Context) -> bool | None:
        who = context.peer
        if kind == "Endpoints":
            space = doc["metadata"].get("namespace") or "default" if doc["kind"] == "CiliumNetworkPolicy" else None
            return self.cilium_selector(item, who, space)
        if kind == "Entities":
            return self.entity(item, context)
        if kind == "FQDNs":
            return self.fqdn(item, context)
        if kind == "Nodes":
            return self.node_peer(item, who)
        return self.behind(item, who)

    def entity(self, name: str, context: Context) -> bool | None:
        who, me = context.peer, context.me
        if name == "all":
            return True
        if name == "none":
            return False
        if who.kind == "nobody":
            return None
        servers = {
            plain_ip(ip)
            for i in self.of_kind.get("EndpointSlice", [])
            if i.doc["metadata"].get("labels", {}).get("kubernetes.io/service-name") == "kubernetes"
            and (i.doc["metadata"].get("namespace") or "default") == "default"
            for e in i.doc.get("endpoints") or []
            for ip in e.get("addresses") or []
        }
        server = bool(who.ips) and {plain_ip(ip) for ip in who.ips} <= servers
        if who.kind == "node":
            server = any(plain_ip(ip) in servers for ip in self.node_ips(who.node))
            known = self.is_node(who.node) if who.node else False
            if name == "kube-apiserver":
                return server if known else None
            if name == "cluster":
                return True
            if name in ("host", "remote-node"):
                if not known or not me.node:
                    return None
                return (who.node == me.node) == (name == "host")
            return False
        if who.kind == "pod":
            return name == "cluster"
        families = {plain_ip(ip).version for ip in who.ips}
        worlds = {"world-ipv4": {4}, "world-ipv6": {6}}
        if name in worlds:
            return families == worlds[name] if len(families) == 1 else None
        return {"world": True, "kube-apiserver": server, "cluster": server}.get(name, False)

    def fqdn(self, item: Doc, context: Context) -> bool | None:
        """Only names whose answers a DNS rule of the same pod showed to the proxy."""
        who = context.peer
        if who.kind != "outside":
            return False
        sure, possible = context.dns
        if who.names is None:
            return None if possible else False
        names = [name for name in who.names if self.pattern(item, name)]
        if any(self.pattern(p, name) for p in sure for name in names):
            return True
        return None if any(self.pattern(p, name) for p in possible for name in names) else False

    def pattern(self, item: Doc, name: str) -> bool:
        if item.get("matchName") and item["matchName"].lower().rstrip(".") == name:
            return True
        text = (item.get("matchPattern") or "").lower().rstrip(".")
        if not text:
            return False
        if text == "*":
            return True
        lead = ""
        if text.startswith("**."):
            lead, text = r"([-a-z0-9_]+\.)+", text[3:]
        body = "".join("[-a-z0-9_]*" if c == "*" else re.escape(c) for c in text)
        return bool(re.fullmatch(lead + body, name))

    def dns_patterns(self, chosen: list[tuple[Doc, Doc, bool | None]], direction: str) -> tuple[list[Doc], list[Doc]]:
        sure: list[Doc] = []
        possible: list[Doc] = []
        for doc, spec, selected in chosen:
            if not doc["kind"].startswith("Cilium") or direction != "egress":
                continue
            for rule in spec.get("egress") or []:
                for item in rule.get("toPorts") or []:
                    patterns = (item.get("rules") or {}).get("dns") or []
                    possible += patterns
                    sure += patterns if selected else []
        return sure, possible

    def behind(self, item: Doc, who: Thing) -> bool | None:
        """toServices: endpoints made by hand; pods behind a selector differ between versions."""
        wanted = item.get("k8sService") or {}
        space = wanted.get("namespace") or ""  # none: the services of all namespaces
        services = [
            i.doc
            for i in self.of_kind.get("Service", [])
            if i.doc["metadata"]["name"] == wanted.get("serviceName")
            and (not space or (i.doc["metadata"].get("namespace") or "default") == space)
        ]
        found: list[bool | None] = []
        for service in services:
            home = service["metadata"].get("namespace") or "default"
            selector = (service.get("spec") or {}).get("selector")
            if selector:
                chosen = self.labels({"matchLabels": selector}, who.labels) if who.kind == "pod" else False
                here = both(chosen, who.namespace == home)
                found.append(None if here is not False or who.kind == "nobody" else False)
                continue
            ips = [
                ip
                for i in self.of_kind.get("EndpointSlice", [])
                if i.doc["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service["metadata"]["name"]
                and (i.doc["metadata"].get("namespace") or "default") == home
                for e in i.doc.get("endpoints") or []
                for ip in e.get("addresses") or []
            ]
            blocks = [(f"{ip}/{plain_ip(ip).max_prefixlen}", list[str]()) for ip in ips]
            if not blocks:
                continue
            sure = self.blocks(blocks, who, "external")
            found.append(sure if sure else self.weaker(self.blocks(blocks, who, "all")))
        if not any((s.get("spec") or {}).get("selector") for s in services) and not found:
            return None
        return either(*found)

    def weaker(self, value: bool | None) -> bool | None:
        return None if value is not False else False

    def cilium_port_rule(self, item: Doc, context: Context) -> bool | None:
        found = either(*(self.cilium_port(port, context) for port in item.get("ports") or []))
        rules = item.get("rules") or {}
        others = {key for key in item if key not in ("ports", "rules")} | (set(rules) - {"dns"})
        narrow = rules.get("dns") is not None and {"matchPattern": "*"} not in rules["dns"]
        return both(found, None) if others or narrow else found

    def cilium_port(self, port: Doc, context: Context) -> bool | None:
        word = port.get("protocol") or "ANY"
        text = str(port["port"])
        if any(c.isalpha() for c in text):
            words = TRANSPORTS if word == "ANY" else (word,)
            find = self.shared if context.direction == "egress" else self.named
            return find(text.lower(), words, context)
        number = int(text)
        if number == 0 and not port.get("endPort"):
            return word == "ANY" or word == context.word
        words = TRANSPORTS if word == "ANY" else (word,)
        return context.word in words and number <= context.port <= (port.get("endPort") or number)
