"""Peers of Cilium's rules: endpoint selectors, entities, blocks, names, services, nodes.

Keys of Cilium's selectors carry their source (``k8s:``, ``any:``, ``reserved:``); namespaces and service accounts are
labels there. Some labels are left out of Cilium's identities by default: a selector on them is uncertain, not exact.
"""

from __future__ import annotations

import re

from fathom.policy import addresses, labels, names
from fathom.policy.fields import Field
from fathom.policy.model import (
    Action,
    Blocks,
    Direction,
    Entity,
    Names,
    Nodes,
    NoPods,
    Operator,
    Peer,
    Pods,
    Requirement,
    Selector,
    Services,
    Unclear,
)
from fathom.policy.networkpolicy import block_of
from fathom.policy.problems import Problem

ENTITIES = (
    "all",
    "world",
    "world-ipv4",
    "world-ipv6",
    "cluster",
    "host",
    "remote-node",
    "kube-apiserver",
    "ingress",
    "init",
    "health",
    "unmanaged",
    "none",
)
_NAMESPACE = "io.kubernetes.pod.namespace"
_NAMESPACE_LABEL = "io.cilium.k8s.namespace.labels."
_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
_KEPT = re.compile(r"io\.kubernetes\.pod\.namespace|io\.cilium\.k8s\.|app\.kubernetes\.io")
_LEFT_OUT = re.compile(
    r"io\.kubernetes|kubernetes\.io|statefulset\.kubernetes\.io/pod-name|apps\.kubernetes\.io/pod-index"
    r"|batch\.kubernetes\.io/|.*beta\.kubernetes\.io|k8s\.io|pod-template-generation|pod-template-hash"
    r"|controller-revision-hash|annotation|controller-uid|etcd_node"
)
_MEMBERS: dict[Direction, tuple[str, ...]] = {
    "ingress": ("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromNodes", "fromGroups"),
    "egress": ("toEndpoints", "toCIDR", "toCIDRSet", "toEntities", "toNodes", "toGroups", "toServices", "toFQDNs"),
}
#: Deny rules have no such field.
_NOT_DENIED = frozenset(("toFQDNs",))
#: Of these, an empty list is left out by Cilium, or made into other peers, and does not select nothing.
_MAY_BE_EMPTY = frozenset(("toFQDNs", "toServices", "toGroups", "fromGroups"))
_REQUIRES: dict[Direction, str] = {"ingress": "fromRequires", "egress": "toRequires"}


def kept_in_identities(key: str) -> bool:
    """Whether Cilium keeps the pod label ``key`` in identities by default."""
    return bool(_KEPT.match(key)) or not _LEFT_OUT.match(key)


def members(direction: Direction, action: Action) -> frozenset[str]:
    """Names of the fields of a rule that choose peers."""
    found = frozenset((*_MEMBERS[direction], _REQUIRES[direction]))
    return found - _NOT_DENIED if action == "deny" else found


def subject(field: Field, namespace: str) -> Selector:
    """The endpointSelector. A namespaced policy selects in its own namespace, whatever its matchLabels say of it.

    Cilium takes out ``k8s:io.kubernetes.pod.namespace`` only; under its other names it stays a condition.
    """
    if not namespace:
        return labels.selector(field, "pod", _translate)
    given = field.mapping()
    matched = field.get("matchLabels").mapping()
    kept = {key: value for key, value in matched.items() if key != "k8s:" + _NAMESPACE}
    if len(kept) < len(matched):
        field.warn("the namespace in the endpointSelector has no effect: it is always the policy's own")
        field = Field({**given, "matchLabels": kept}, field.document, field.problems, field)
    return labels.by_name(namespace) + labels.selector(field, "pod", _translate)


def peers(
    field: Field, direction: Direction, action: Action, namespace: str, unclear: list[tuple[Direction, Problem]]
) -> tuple[Peer, ...] | None:
    """The peers of one rule: None where it names none. Raises Refused where two kinds are combined.

    A list that is there and empty selects nothing, whatever stands beside it. Requirements (``fromRequires``) bind
    every rule of the pod: they make it uncertain, through ``unclear``.
    """
    if field.get(_REQUIRES[direction]).elements():
        problem = field.get(_REQUIRES[direction]).not_understood("requirements on all peers are not evaluated")
        unclear.append((direction, problem))
    known = members(direction, action)
    present = [key for key in _MEMBERS[direction] if key in known and field.has(key)]
    filled = [key for key in present if field.get(key).elements()]
    if len(filled) > 1:
        raise field.refuse(f"{filled[0]} and {filled[1]} may not stand in one rule")
    found: list[Peer] = []
    for key in filled:
        for item in field.get(key).elements():
            found += _peer(item, key.removeprefix("from").removeprefix("to"), namespace)
    empty = [key for key in present if key not in filled]
    if any(key not in _MAY_BE_EMPTY for key in empty):
        return ()
    if empty:
        return (Unclear(field.get(empty[0]).not_understood("what an empty list of these selects differs")),)
    if filled == ["toServices"] and field.get("toPorts").elements():
        reason = "toServices with toPorts is refused by some versions"
        return (Unclear(field.get("toServices").not_understood(reason)),)
    return tuple(found) if filled else None


def _peer(field: Field, kind: str, namespace: str) -> list[Peer]:
    if kind == "Endpoints":
        return _endpoints(field, namespace)
    if kind == "Entities":
        if field.value == "cluster-mesh":
            return [Unclear(field.not_understood("what other clusters hold is not known"))]
        return [Entity(field.one_of(ENTITIES))]
    if kind == "CIDR":
        return [Blocks((_block(field),), "external")]
    if kind == "CIDRSet":
        return [_cidr_set(field)]
    if kind == "FQDNs":
        return [Names(pattern, learned=True) for pattern in names.cilium(field)]
    if kind == "Services":
        return [_service(field)]
    if kind == "Nodes":
        return [Nodes(labels.selector(field, "node", _node_key))]
    return [Unclear(field.not_understood("groups of a cloud provider are not known"))]


def _endpoints(field: Field, namespace: str) -> list[Peer]:
    found = field.get("matchLabels").mapping()
    reserved = [key for key in found if isinstance(key, str) and key.startswith("reserved:")]
    if reserved:
        word = reserved[0].removeprefix("reserved:")
        if len(found) == 1 and not field.get("matchExpressions").elements() and word in ENTITIES:
            return [Entity(word)]
        return [Unclear(field.not_understood("reserved labels beside others are not evaluated"))]
    chosen = labels.selector(field, "pod", _translate)
    if any(r.operator == "?" and r.scope == "pod" and not r.key for r in chosen.requirements):
        return [Unclear(Problem(field.place, "unknown field of an endpoint selector", "not-understood"))]
    named = any(r.scope == "namespace-name" for r in chosen.requirements)
    labelled = any(r.scope == "namespace" for r in chosen.requirements)
    if namespace and not named and not labelled:
        return [Pods(labels.by_name(namespace) + chosen)]
    if all(r.operator in _MET_BY_ABSENCE for r in chosen.requirements) and (named or (namespace and labelled)):
        # Where a namespace is named, Cilium adds no other condition: these hold for whoever has no labels.
        reason = "these conditions hold for what is no pod as well: the outside, nodes"
        return [Pods(chosen), NoPods(field.not_understood(reason))]
    return [Pods(chosen)]


_MET_BY_ABSENCE = ("NotIn", "DoesNotExist", "?")


def _translate(field: Field, key: str, operator: Operator, values: tuple[str, ...]) -> Requirement:
    """A key of Cilium's to a requirement of the model."""
    source, colon, bare = key.partition(":")
    if not colon:
        source, bare = "any", key
    if source not in ("k8s", "any"):
        field.not_understood(f"labels of source {source[:32]!r} are not known")
        return Requirement("pod", bare, "?")
    if bare == _NAMESPACE:
        return Requirement("namespace-name", "", operator, values)
    if bare == _ACCOUNT:
        return Requirement("service-account", "", operator, values)
    if bare.startswith(_NAMESPACE_LABEL):
        return Requirement("namespace", bare.removeprefix(_NAMESPACE_LABEL), operator, values)
    if not labels.valid_key(bare):
        raise field.refuse(f"{bare[:80]!r} is not a label name")
    if not kept_in_identities(bare):
        field.not_understood(f"by default Cilium leaves the label {bare!r} out of identities")
        return Requirement("pod", bare, "?")
    if bare.startswith("io.cilium.k8s."):
        field.not_understood(f"the label {bare!r} is not known here")
        return Requirement("pod", bare, "?")
    return Requirement("pod", bare, operator, values)


def _node_key(field: Field, key: str, operator: Operator, values: tuple[str, ...]) -> Requirement:
    source, colon, bare = key.partition(":")
    if colon and source not in ("node", "any", "k8s"):
        field.not_understood(f"labels of source {source[:32]!r} are not known")
        return Requirement("node", bare, "?")
    return Requirement("node", bare if colon else key, operator, values)


def _block(field: Field) -> addresses.Block:
    """An element of a CIDR list: a block, or one address. Raises Refused if it is neither."""
    text = field.text()
    one = addresses.address(text)
    found = addresses.single(one) if one else addresses.block(text)
    if found is None:
        raise field.refuse(f"{text[:64]!r} is not an address block")
    return found


def _cidr_set(field: Field) -> Peer:
    others = field.unknown(frozenset(("cidr", "except")))
    doubts = [unknown.not_understood("groups of blocks are not known here") for unknown in others]
    if doubts and not field.has("cidr"):
        return Unclear(doubts[0])
    found = Blocks((block_of(field, strict=False),), "external")
    return Unclear(doubts[0]) if doubts else found


def _service(field: Field) -> Peer:
    """Without a namespace it is about the services of all, not of the policy's own."""
    if field.only("k8sService", "k8sServiceSelector").has("k8sService") == field.has("k8sServiceSelector"):
        raise field.refuse("needs exactly one of k8sService and k8sServiceSelector")
    if field.has("k8sService"):
        named = field.get("k8sService").only("serviceName", "namespace")
        return Services(named.get("namespace").text(default=""), named.get("serviceName").text())
    chosen = field.get("k8sServiceSelector").only("selector", "namespace")
    found = labels.selector(chosen.get("selector"), "pod", _node_key)
    plain = Selector(tuple(Requirement("pod", r.key, r.operator, r.values) for r in found.requirements))
    return Services(chosen.get("namespace").text(default=""), "", plain)
