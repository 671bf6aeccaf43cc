"""Mistakes that are made in documents which are right: named ones, and at every place the same few."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from kube_cluster import Doc

#: Changes a document in place. Raises LookupError or TypeError where it has nothing to change.
Mistake = Callable[[Doc], None]
LONG = "x" * 254


def put(value: Any, *path: Any) -> Mistake:
    """``value`` at a path of keys and indices; ``*`` is the first element that has the rest of the path."""

    def change(document: Doc) -> None:
        holder = reach(document, path[:-1], path[-1])
        holder[path[-1]] = value

    return change


def drop(*path: Any) -> Mistake:
    """Nothing at the path."""

    def change(document: Doc) -> None:
        holder = reach(document, path[:-1], path[-1])
        del holder[path[-1]]

    return change


def add(value: Any, *path: Any) -> Mistake:
    """One more element in the list at the path."""

    def change(document: Doc) -> None:
        reach(document, path[:-1], path[-1])[path[-1]].append(value)

    return change


def reach(value: Any, path: tuple[Any, ...], last: Any) -> Any:
    """What is at the path. ``last``: the key that will be changed there, which need not be there for a mapping."""
    for number, key in enumerate(path):
        if key == "*":
            for item in value:
                try:
                    return reach(item, path[number + 1 :], last)
                except (LookupError, TypeError):
                    continue
            raise LookupError("*")
        value = value[key]
    return value


def in_turn(*mistakes: Mistake) -> Mistake:
    """All of them, one after another."""

    def change(document: Doc) -> None:
        for one in mistakes:
            one(document)

    return change


_TO, _PORT = ("spec", "egress", "*", "to", 0), ("spec", "egress", 0, "ports", 0)
_BLOCK = ("spec", "egress", "*", "to", "*", "ipBlock")
_OPERATOR = {"key": "app", "operator": "Like", "values": ["x"]}
NETWORK_POLICY: dict[str, Mistake] = {
    "no name": drop("metadata", "name"),
    "a name in capitals": put("Web", "metadata", "name"),
    "a name of 254 characters": put(LONG, "metadata", "name"),
    "a name with two dots in a row": put("a..b", "metadata", "name"),
    "an annotation that is a number": put(7, "metadata", "annotations", "fathom.dev/lost"),
    "an annotation of a wrong name": put("x", "metadata", "annotations", "fathom dev/lost"),
    "another API version": put("networking.k8s.io/v2", "apiVersion"),
    "no selector": drop("spec", "podSelector"),
    "a label value with a blank": put("a b", "spec", "podSelector", "matchLabels", "app"),
    "a label value of 64 characters": put("x" * 64, "spec", "podSelector", "matchLabels", "app"),
    "a label value that is a number": put(1, "spec", "podSelector", "matchLabels", "app"),
    "a label name with a blank": put("x", "spec", "podSelector", "matchLabels", "a b"),
    "a label name with two slashes": put("x", "spec", "podSelector", "matchLabels", "a/b/c"),
    "an unknown operator": put([_OPERATOR], "spec", "podSelector", "matchExpressions"),
    "In without values": put([{"key": "app", "operator": "In"}], "spec", "podSelector", "matchExpressions"),
    "Exists with values": put(
        [{"key": "app", "operator": "Exists", "values": ["x"]}], "spec", "podSelector", "matchExpressions"
    ),
    "an unknown type of policy": put(["Ingress", "Both"], "spec", "policyTypes"),
    "three types of policy": put(["Ingress", "Egress", "Egress"], "spec", "policyTypes"),
    "types that are no list": put("Egress", "spec", "policyTypes"),
    "an unknown field of the spec": put([], "spec", "egressDeny"),
    "an unknown field of a rule": put([], "spec", "egress", 0, "http"),
    "an unknown field of a peer": put({}, *_TO, "serviceSelector"),
    "an unknown field of a block": put("x", *_BLOCK, "name"),
    "an unknown field of a port": put("x", *_PORT, "name"),
    "a peer of nothing": put([{}], "spec", "egress", 0, "to"),
    "a block and a selector": put([{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}], "spec", "egress", 0, "to"),
    "a block without addresses": drop(*_BLOCK, "cidr"),
    "a block of no addresses": put("example.com", *_BLOCK, "cidr"),
    "a block that is an address": put("10.0.0.1", *_BLOCK, "cidr"),
    "a block of 33 bits": put("10.0.0.0/33", *_BLOCK, "cidr"),
    "an exception outside of the block": put({"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}, *_BLOCK),
    "an exception of the other family": put({"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}, *_BLOCK),
    "an exception of the whole block": put({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}, *_BLOCK),
    "an exception of no addresses": put({"cidr": "10.0.0.0/8", "except": ["10"]}, *_BLOCK),
    "port 0": put(0, *_PORT, "port"),
    "port 65536": put(65536, *_PORT, "port"),
    "a port below 0": put(-1, *_PORT, "port"),
    "a port that is text": put("80", *_PORT, "port"),
    "a port with a fraction": put(80.5, *_PORT, "port"),
    "a port name in capitals": put("HTTP", *_PORT, "port"),
    "a port name of 16 characters": put("abcdefghijklmnop", *_PORT, "port"),
    "a range that ends below its begin": in_turn(put(90, *_PORT, "port"), put(80, *_PORT, "endPort")),
    "a range without a begin": in_turn(drop(*_PORT, "port"), put(80, *_PORT, "endPort")),
    "a range that begins with a name": in_turn(put("http", *_PORT, "port"), put(80, *_PORT, "endPort")),
    "a range beyond all ports": put(65536, *_PORT, "endPort"),
    "an end of a range that is text": put("65000", *_PORT, "endPort"),
    "a protocol that has no ports": put("ICMP", *_PORT, "protocol"),
    "a protocol in small letters": put("tcp", *_PORT, "protocol"),
    "a protocol that is a number": put(6, *_PORT, "protocol"),
    "rules that are no list": put({}, "spec", "egress"),
    "peers that are no list": put({"podSelector": {}}, "spec", "egress", 0, "to"),
    "ports that are numbers": put([80], "spec", "egress", 0, "ports"),
    "a selector that is text": put("app=web", "spec", "podSelector"),
}

_ENDS, _TO_PORT = ("spec", "endpointSelector"), ("spec", "egress", "*", "toPorts", 0, "ports", 0)
_MANY = [{"port": str(number), "protocol": "TCP"} for number in range(1, 42)]
CILIUM_POLICY: dict[str, Mistake] = {
    "no name": drop("metadata", "name"),
    "a name in capitals": put("Web", "metadata", "name"),
    "a name of 254 characters": put(LONG, "metadata", "name"),
    "an annotation that is a number": put(7, "metadata", "annotations", "fathom.dev/lost"),
    "no selector": drop(*_ENDS),
    "a label value with a blank": put("a b", *_ENDS, "matchLabels", "k8s:app"),
    "a label value that is a number": put(1, *_ENDS, "matchLabels", "k8s:app"),
    "a label value of 64 characters": put("x" * 64, *_ENDS, "matchLabels", "k8s:app"),
    "an unknown operator": put([_OPERATOR], *_ENDS, "matchExpressions"),
    "an operator without a key": put([{"operator": "Exists"}], *_ENDS, "matchExpressions"),
    "an unknown field of the spec": put([], "spec", "egressAllow"),
    "an unknown field of a rule": put([], "spec", "egress", 0, "ports"),
    "an unknown field of a port": put("x", *_TO_PORT, "name"),
    "names of peers in ingress": put([{"matchName": "example.com"}], "spec", "ingress", 0, "toFQDNs"),
    "no direction": in_turn(drop("spec", "ingress"), drop("spec", "egress")),
    "a default that is text": put("yes", "spec", "enableDefaultDeny", "egress"),
    "an unknown default": put(True, "spec", "enableDefaultDeny", "both"),
    "a port that is a number": put(80, *_TO_PORT, "port"),
    "port 65536": put("65536", *_TO_PORT, "port"),
    "a port below 0": put("-1", *_TO_PORT, "port"),
    "no port": drop(*_TO_PORT, "port"),
    "a range beyond all ports": put(65536, *_TO_PORT, "endPort"),
    "an end of a range that is text": put("65000", *_TO_PORT, "endPort"),
    "a range that ends below its begin": in_turn(put("90", *_TO_PORT, "port"), put(80, *_TO_PORT, "endPort")),
    "a protocol that is none": put("HTTP", *_TO_PORT, "protocol"),
    "a protocol in small letters": put("tcp", *_TO_PORT, "protocol"),
    "41 ports": put(_MANY, "spec", "egress", "*", "toPorts", 0, "ports"),
    "an unknown entity": put(["universe"], "spec", "egress", "*", "toEntities"),
    "a block of no addresses": put(["example.com"], "spec", "egress", "*", "toCIDR"),
    "a block of 33 bits": put(["10.0.0.0/33"], "spec", "egress", "*", "toCIDR"),
    "a name with a blank": put([{"matchName": "a b"}], "spec", "egress", "*", "toFQDNs"),
    "a name of 256 characters": put([{"matchName": "x" * 256}], "spec", "egress", "*", "toFQDNs"),
    "a name of nothing": put([{}], "spec", "egress", "*", "toFQDNs"),
    "a pattern that is no list": put({"matchPattern": "*"}, "spec", "egress", "*", "toPorts", 0, "rules", "dns"),
    "an unknown field of a name": put([{"matchRegex": ".*"}], "spec", "egress", "*", "toFQDNs"),
    "rules that are no list": put({}, "spec", "egress"),
    "peers that are no list": put({}, "spec", "egress", "*", "toEndpoints"),
    "ports that are numbers": put([80], "spec", "egress", 0, "toPorts"),
}
MISTAKES = {"NetworkPolicy": NETWORK_POLICY, "CiliumNetworkPolicy": CILIUM_POLICY}


def made_in(documents: list[Doc], mistake: Mistake) -> Doc:
    """The first of the documents that has the place, with the mistake. Raises LookupError if none has it."""
    for document in documents:
        changed = copy.deepcopy(document)
        try:
            mistake(changed)
        except (LookupError, TypeError):
            continue
        if changed != document:
            return changed
    raise LookupError("no document has the place")


#: What is put at every place of a document.
WRONG_VALUES: tuple[Any, ...] = (7, -1, "", "a b", [], {}, None, True, ["x"], {"x": "y"})


def everywhere(document: Doc) -> Iterator[tuple[str, Doc]]:
    """(what, document) for each place below ``spec``: without it, and with each of WRONG_VALUES instead of it."""
    for path in places(document["spec"], ("spec",)):
        for value in WRONG_VALUES:
            changed = copy.deepcopy(document)
            reach(changed, path[:-1], path[-1])[path[-1]] = copy.deepcopy(value)
            yield f"{path} = {value!r}", changed
        changed = copy.deepcopy(document)
        del reach(changed, path[:-1], path[-1])[path[-1]]
        yield f"{path} removed", changed


def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))
