"""What the enforcer of the cluster (kube-router's policy controller) does otherwise than the API's text says.

Each difference is a *reading*: a policy set rewritten into one that means, by the API's text, what the enforcer makes
of it. A verdict that is not met by the real connection is explained only by a reading under which the engine's verdict
is what was met. Source: kube-router 2.1.0, pkg/controllers/netpol/policy.go.
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Callable, Iterator

from reference_cluster import Doc

_KEYS = {"ingress": "from", "egress": "to"}


class Readings:
    """Readings of policy documents in a cluster of ``pods`` and ``namespaces`` (documents, as the API has them)."""

    def __init__(self, pods: list[Doc], namespaces: list[Doc]) -> None:
        self.pods = [pod for pod in pods if not pod["spec"].get("hostNetwork")]
        self.namespaces = {item["metadata"]["name"]: item["metadata"].get("labels", {}) for item in namespaces}
        self.named: dict[str, Callable[[Doc, str, Doc], list[Doc]]] = {
            "names of ports that no pod has open all ports": self.open_names,
            "names of ports without peers are the numbers that the policy's own namespace has": self.own_names,
            "names of ports do not go with blocks in egress": self.nameless_blocks,
            "blocks of one rule are one set, the narrowest entry decides": self.one_set,
        }

    def __iter__(self) -> Iterator[tuple[str, Callable[[list[Doc]], list[Doc]]]]:
        """(name, reading), then all of them together."""
        for name, change in self.named.items():
            yield name, lambda documents, change=change: self.read(documents, [change])  # type: ignore[misc]
        yield "several of these", lambda documents: self.read(documents, list(self.named.values()))

    def read(self, documents: list[Doc], changes: list[Callable[[Doc, str, Doc], list[Doc]]]) -> list[Doc]:
        """The documents with every rule replaced by what the changes make of it."""
        found = copy.deepcopy(documents)
        for doc in found:
            for direction in _KEYS:
                rules = doc["spec"].get(direction) or []
                for change in changes:
                    rules = [new for rule in rules for new in change(doc, direction, rule)]
                doc["spec"][direction] = rules
        return found

    # -- readings of one rule

    def open_names(self, doc: Doc, direction: str, rule: Doc) -> list[Doc]:
        """Peers that are pods, ports that are names, and no pod that has them: the ports are forgotten."""
        peers = [peer for peer in rule.get(_KEYS[direction]) or [] if "ipBlock" not in peer]
        names = _names(rule)
        if not names or len(names) < len(rule["ports"]):
            return [rule]
        theirs = [pod for peer in peers for pod in self.chosen(doc, peer)]
        owners = theirs if direction == "egress" else self.selected(doc)
        if not theirs or any(_numbers(pod, port) for pod in owners for port in names):
            return [rule]
        return [rule, {_KEYS[direction]: peers}]

    def own_names(self, doc: Doc, direction: str, rule: Doc) -> list[Doc]:
        """Egress to anybody on a name: to anybody on its numbers in the policy's namespace."""
        names = _names(rule)
        if direction == "ingress" or rule.get("to") or not names:
            return [rule]
        own = [pod for pod in self.pods if pod["metadata"]["namespace"] == _space(doc)]
        numbers = {(port.get("protocol", "TCP"), n) for port in names for pod in own for n in _numbers(pod, port)}
        ports = [port for port in rule["ports"] if port not in names]
        ports += [{"protocol": word, "port": number} for word, number in sorted(numbers)]
        return [{"ports": ports}] if ports else []

    def nameless_blocks(self, _doc: Doc, direction: str, rule: Doc) -> list[Doc]:
        names, blocks = _names(rule), [peer for peer in rule.get(_KEYS[direction]) or [] if "ipBlock" in peer]
        if direction == "ingress" or not names or not blocks:
            return [rule]
        others = [peer for peer in rule["to"] if "ipBlock" not in peer]
        numbers = [port for port in rule["ports"] if port not in names]
        found = [{**rule, "to": others}] if others else []
        return found + ([{"to": blocks, "ports": numbers}] if numbers else [])

    def one_set(self, _doc: Doc, direction: str, rule: Doc) -> list[Doc]:
        """Blocks and exceptions are entries of one set; an address is in it if the narrowest entry that holds it is no
        exception. An entry that is both is what it was added as last."""
        key = _KEYS[direction]
        blocks = [peer["ipBlock"] for peer in rule.get(key) or [] if "ipBlock" in peer]
        if len(blocks) < 2:
            return [rule]
        entries: dict[ipaddress.IPv4Network, bool] = {}
        for block in blocks:
            entries |= dict.fromkeys(_halves(block["cidr"]), True)
            entries |= {half: False for text in block.get("except") or [] for half in _halves(text)}
        peers = [peer for peer in rule[key] if "ipBlock" not in peer]
        for network in (one for one, holds in entries.items() if holds):
            narrower = [str(n) for n, holds in entries.items() if not holds and n != network and n.subnet_of(network)]
            block = {"cidr": str(network), "except": narrower} if narrower else {"cidr": str(network)}
            peers.append({"ipBlock": block})
        return [{**rule, key: peers}] if peers else []

    # -- whom selectors choose

    def selected(self, doc: Doc) -> list[Doc]:
        return self.chosen(doc, {"podSelector": doc["spec"].get("podSelector") or {}})

    def chosen(self, doc: Doc, peer: Doc) -> list[Doc]:
        spaces = {_space(doc)}
        if peer.get("namespaceSelector") is not None:
            spaces = {name for name, labels in self.namespaces.items() if matches(peer["namespaceSelector"], labels)}
        return [
            pod
            for pod in self.pods
            if pod["metadata"]["namespace"] in spaces
            and matches(peer.get("podSelector") or {}, pod["metadata"].get("labels", {}))
        ]


def matches(selector: Doc, labels: dict[str, str]) -> bool:
    """meta/v1 LabelSelector."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for item in selector.get("matchExpressions") or []:
        has, wanted = item["key"] in labels, item.get("values") or []
        inside = has and labels[item["key"]] in wanted
        if not {"In": inside, "NotIn": not inside, "Exists": has, "DoesNotExist": not has}[item["operator"]]:
            return False
    return True


def _space(doc: Doc) -> str:
    return str(doc["metadata"].get("namespace") or "default")


def _names(rule: Doc) -> list[Doc]:
    return [port for port in rule.get("ports") or [] if isinstance(port.get("port"), str)]


def _numbers(pod: Doc, port: Doc) -> list[int]:
    """The numbers that a named port has on a pod."""
    return [
        item["containerPort"]
        for container in pod["spec"]["containers"]
        for item in container.get("ports") or []
        if item.get("name") == port["port"] and item.get("protocol", "TCP") == port.get("protocol", "TCP")
    ]


def _halves(cidr: str) -> list[ipaddress.IPv4Network]:
    """The entries of a set that a block makes: host bits go, and everything is two halves."""
    network = ipaddress.IPv4Network(cidr, strict=False)
    return list(network.subnets()) if network.prefixlen == 0 else [network]
