"""NetworkPolicy of networking.k8s.io/v1: from a document to the model, as the text of the API says.

Refuses what the API server refuses. Defaults are applied here, since files have not been through the server:
policyTypes, protocol TCP, namespace ``default``.
"""

from __future__ import annotations

import re

from fathom.policy import addresses, labels
from fathom.policy.fields import Field
from fathom.policy.metadata import name_of, namespace_of
from fathom.policy.model import (
    PROTOCOLS,
    Blocks,
    Direction,
    NamedPort,
    Peer,
    Pods,
    Policy,
    Port,
    PortRange,
    Rule,
    Unclear,
)
from fathom.policy.problems import Problem

_SPEC = frozenset(("podSelector", "policyTypes", "ingress", "egress"))
_PORT_NAME = re.compile(r"(?=[a-z0-9-]{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_TYPES: dict[str, Direction] = {"Ingress": "ingress", "Egress": "egress"}
_PEERS: dict[Direction, str] = {"ingress": "from", "egress": "to"}


def read(document: Field) -> list[Policy]:
    """The policy in ``document``. Raises Refused if the document is malformed."""
    namespace = namespace_of(document)
    spec = document.get("spec")
    directions = _directions(spec)
    unclear: list[tuple[Direction, Problem]] = []
    for unknown in spec.unknown(_SPEC):
        problem = unknown.not_understood("unknown field of a NetworkPolicy")
        unclear += [("ingress", problem), ("egress", problem)]
    rules: list[Rule] = []
    for direction in ("ingress", "egress"):
        found = [_rule(item, direction, namespace) for item in spec.get(direction).elements()]
        if direction in directions:
            rules += found
        elif found:
            spec.get(direction).warn(f"these rules have no effect: policyTypes does not name {direction.title()}")
    subject = labels.by_name(namespace) + labels.selector(spec.get("podSelector"), "pod")
    return [
        Policy(
            "NetworkPolicy",
            namespace,
            name_of(document),
            document.place,
            subject,
            isolates=directions,
            by_rules=() if spec.get("policyTypes").elements() or "egress" not in directions else ("egress",),
            rules=tuple(rules),
            unclear=tuple(unclear),
        )
    ]


def _directions(spec: Field) -> tuple[Direction, ...]:
    """policyTypes; where missing or empty: Ingress always, Egress if there are egress rules."""
    types = spec.get("policyTypes").elements()
    if not types:
        return ("ingress", "egress") if spec.get("egress").elements() else ("ingress",)
    found = {_TYPES[item.one_of(("Ingress", "Egress"))] for item in types}
    if len(types) > 2:
        raise spec.get("policyTypes").refuse("may not have more than two elements")
    return tuple(sorted(found, reverse=True))


def _rule(field: Field, direction: Direction, namespace: str) -> Rule:
    key = _PEERS[direction]
    if not field.mapping():
        field.warn(f"an empty rule allows all {direction}")
    widened = [
        unknown.not_understood("unknown field of a rule") for unknown in field.unknown(frozenset((key, "ports")))
    ]
    peers = [_peer(item, namespace) for item in field.get(key).elements()]
    ports = [port(item, widened) for item in field.get("ports").elements()]
    return Rule(
        field.place,
        direction,
        peers=tuple(peers) or None,
        ports=tuple(ports) or None,
        narrowed=tuple(widened),
        widened=tuple(widened),
    )


def _peer(field: Field, namespace: str) -> Peer:
    """Exactly one of ipBlock, or selectors; an empty peer is malformed, not "everything"."""
    known = ("podSelector", "namespaceSelector", "ipBlock")
    doubts = [unknown.not_understood("unknown field of a peer") for unknown in field.unknown(frozenset(known))]
    if not any(field.has(key) for key in known):
        if doubts:
            return Unclear(doubts[0])
        raise field.refuse("a peer needs podSelector, namespaceSelector or ipBlock")
    found = _ip_block(field) if field.has("ipBlock") else _pods(field, namespace)
    return Unclear(doubts[0]) if doubts else found


def _pods(field: Field, namespace: str) -> Peer:
    pods = labels.selector(field.get("podSelector"), "pod")
    if field.has("namespaceSelector"):
        return Pods(labels.selector(field.get("namespaceSelector"), "namespace") + pods)
    return Pods(labels.by_name(namespace) + pods)


def _ip_block(field: Field) -> Peer:
    if field.has("podSelector") or field.has("namespaceSelector"):
        raise field.refuse("ipBlock may not stand together with podSelector or namespaceSelector")
    given = field.get("ipBlock")
    found = Blocks((block_of(given, strict=True),), "option")
    for unknown in given.unknown(frozenset(("cidr", "except"))):
        return Unclear(unknown.not_understood("unknown field of ipBlock"))
    return found


def block_of(field: Field, *, strict: bool) -> addresses.Block:
    """``cidr`` with its ``except``, each of which must be (strictly) inside. Raises Refused if malformed."""
    whole = _cidr(field.get("cidr"))
    removed: list[tuple[int, int]] = []
    for item in field.get("except").elements():
        part = _cidr(item)
        inside = part.family == whole.family and whole.first <= part.first and part.last <= whole.last
        if not inside or (strict and (part.first, part.last) == (whole.first, whole.last)):
            raise item.refuse(f"{item.value} is not inside {field.get('cidr').value}, and smaller")
        removed.append((part.first, part.last))
    return addresses.Block(whole.family, whole.first, whole.last, tuple(sorted(set(removed))))


def _cidr(field: Field) -> addresses.Block:
    text = field.text()
    found = addresses.block(text)
    if found is None:
        raise field.refuse(f"{text[:64]!r} is not an address block")
    if text.partition("/")[0] != str(addresses.Address(found.family, found.first)) and found.first != found.last:
        given = addresses.address(text.partition("/")[0])
        if given is not None and given.number != found.first:
            field.warn("bits of the address beyond the block's length are ignored")
    return found


def port(field: Field, widened: list[Problem]) -> Port:
    """One NetworkPolicyPort. Raises Refused if it is malformed.

    Unknown fields are added to ``widened``: ``endPort`` was one of them once, and let more ports match.
    """
    for unknown in field.unknown(frozenset(("protocol", "port", "endPort"))):
        widened.append(unknown.not_understood("unknown field of a port"))
    protocol = PROTOCOLS[transport(field.get("protocol"))]
    value = field.get("port")
    if field.has("endPort"):
        if not isinstance(value.value, int):
            raise field.get("endPort").refuse("needs a numeric port beside it")
        first = value.integer(1, 65535)
        last = field.get("endPort").integer(1, 65535)
        if last < first:
            raise field.get("endPort").refuse(f"{last} is below port {first}")
        return PortRange(protocol, first, last)
    if value.absent:
        return PortRange(protocol)
    if isinstance(value.value, str):
        if not port_name(value.value):
            raise value.refuse(f"{value.value[:64]!r} is not a port name")
        return NamedPort(protocol, value.value)
    number = value.integer(1, 65535)
    return PortRange(protocol, number, number)


def transport(field: Field) -> str:
    """TCP where absent, else one of the three protocols that the API knows."""
    return "TCP" if field.absent else field.one_of(("TCP", "UDP", "SCTP"))


def port_name(text: str) -> bool:
    """Whether ``text`` is a port name: up to 15 of a-z, 0-9 and single dashes, with a letter (RFC 6335)."""
    return bool(_PORT_NAME.match(text))
