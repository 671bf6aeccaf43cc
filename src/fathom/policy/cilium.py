"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: from a document to the model, with Cilium's own meaning.

What differs from NetworkPolicy and is easily got wrong: an empty rule allows nothing; a direction without rules is
not isolated; an empty list of peers selects nothing; deny rules win; blocks never match pods or nodes; names need a
DNS rule. L7 rules are not read: what only they could decide is unknown.
"""

from __future__ import annotations

import re

from fathom.policy import cilium_peers, names
from fathom.policy.fields import Field
from fathom.policy.metadata import name_of, namespace_of
from fathom.policy.model import (
    PROTOCOLS,
    TRANSPORTS,
    Action,
    Direction,
    IcmpType,
    NamedPort,
    NamePattern,
    Names,
    Peer,
    Policy,
    Port,
    PortRange,
    Rule,
    Selector,
)
from fathom.policy.problems import Problem, Refused

_SPEC = frozenset(
    (
        "endpointSelector",
        "nodeSelector",
        "ingress",
        "ingressDeny",
        "egress",
        "egressDeny",
        "enableDefaultDeny",
        "labels",
        "description",
        "log",
    )
)
_SECTIONS: tuple[tuple[str, Direction, Action], ...] = (
    ("ingressDeny", "ingress", "deny"),
    ("ingress", "ingress", "allow"),
    ("egressDeny", "egress", "deny"),
    ("egress", "egress", "allow"),
)
#: Fields of a port rule that let less pass, beside ``rules``.
_NARROWING = frozenset(("terminatingTLS", "originatingTLS", "serverNames", "listener"))
#: As an IANA service name; there is no double dash, and none at an end.
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-zA-Z])[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*\Z")
_MOST = 40  # ports or ICMP fields of one rule


def read(document: Field, kind: str) -> list[Policy]:
    """One policy for each of ``spec`` and ``specs``. Raises Refused if the document is malformed."""
    clusterwide = kind == "CiliumClusterwideNetworkPolicy"
    namespace = "" if clusterwide else namespace_of(document)
    name = name_of(document)
    specs = [document.get("spec")] if document.has("spec") else []
    specs += document.get("specs").elements()
    if not specs:
        raise document.refuse("needs spec or specs")
    return [_spec(spec, kind, namespace, name) for spec in specs]


def _spec(spec: Field, kind: str, namespace: str, name: str) -> Policy:
    hosts = spec.has("nodeSelector")
    if hosts == spec.has("endpointSelector"):
        raise spec.refuse("needs exactly one of endpointSelector and nodeSelector")
    if hosts and namespace:
        raise spec.get("nodeSelector").refuse("only a CiliumClusterwideNetworkPolicy may select nodes")
    unclear: list[tuple[Direction, Problem]] = []
    for unknown in spec.unknown(_SPEC):
        problem = unknown.not_understood(f"unknown field of a {kind}")
        unclear += [("ingress", problem), ("egress", problem)]
    rules: list[Rule] = []
    for key, direction, action in _SECTIONS:
        for item in spec.get(key).elements():
            rules += _rules(item, direction, action, namespace, unclear)
    if hosts:
        problem = spec.get("nodeSelector").not_understood("policies for nodes are not evaluated")
        unclear += [("ingress", problem), ("egress", problem)]
        subject = Selector()
    else:
        subject = cilium_peers.subject(spec.get("endpointSelector"), namespace)
    isolates = _isolates(spec)
    return Policy(
        kind,
        namespace,
        name,
        spec.place,
        subject,
        isolates=isolates,
        by_rules=tuple(d for d in isolates if not spec.get("enableDefaultDeny").get(d).boolean(False)),
        rules=tuple(rules),
        unclear=tuple(unclear),
        hosts=hosts,
    )


def _isolates(spec: Field) -> tuple[Direction, ...]:
    """enableDefaultDeny, else the directions that have at least one rule."""
    wanted = spec.get("enableDefaultDeny")
    for unknown in wanted.unknown(frozenset(("ingress", "egress"))):
        raise unknown.refuse("enableDefaultDeny knows ingress and egress only")
    found: list[Direction] = []
    for direction, deny in (("ingress", "ingressDeny"), ("egress", "egressDeny")):
        some = bool(spec.get(direction).elements() or spec.get(deny).elements())
        if wanted.get(direction).boolean(some):
            found.append("ingress" if direction == "ingress" else "egress")
    return tuple(found)


def _rules(
    field: Field, direction: Direction, action: Action, namespace: str, unclear: list[tuple[Direction, Problem]]
) -> list[Rule]:
    """One rule of the document is one rule of the model for each element of its ``toPorts``."""
    if not field.mapping():
        if action == "deny":
            widened = (field.not_understood("what an empty deny rule denies differs between versions"),)
            return [Rule(field.place, direction, action, peers=(), widened=widened)]
        field.warn("an empty rule allows nothing: it only isolates (a NetworkPolicy would allow all)")
        return [Rule(field.place, direction, action, peers=())]
    widened_list = [
        unknown.not_understood("unknown field of a rule")
        for unknown in field.unknown(cilium_peers.members(direction, action) | {"toPorts", "icmps", "authentication"})
    ]
    peers = cilium_peers.peers(field, direction, action, namespace, unclear)
    narrowed = _authentication(field.get("authentication"))
    ports = field.get("toPorts").elements()
    icmps = field.get("icmps").elements()
    if ports and icmps:
        raise field.get("icmps").refuse("may not stand together with toPorts")
    sure, wide = (*narrowed, *widened_list), tuple(widened_list)
    if icmps:
        types = tuple(kind for item in icmps for kind in _icmp(item))
        return [Rule(field.place, direction, action, peers, types, sure, wide)]
    if not ports:
        return [Rule(field.place, direction, action, peers or (), None, sure, wide)]
    return [_port_rule(item, direction, action, peers, (narrowed, widened_list)) for item in ports]


def _authentication(field: Field) -> list[Problem]:
    if field.only("mode").absent or field.get("mode").text(default="disabled") == "disabled":
        return []
    return [field.not_understood("the outcome of mutual authentication is not known")]


def _port_rule(
    field: Field,
    direction: Direction,
    action: Action,
    peers: tuple[Peer, ...] | None,
    doubts: tuple[list[Problem], list[Problem]],
) -> Rule:
    """One element of toPorts: its ports, and what of L7 and TLS narrows it."""
    narrowed, widened = list(doubts[0]), list(doubts[1])
    for unknown in field.unknown(frozenset(("ports", "rules"))):
        problem = unknown.not_understood("L7, TLS and listener conditions are not evaluated")
        (narrowed if unknown.place.path.rpartition(".")[2] in _NARROWING else widened).append(problem)
    patterns = _l7(field.get("rules"), direction, narrowed)
    items = field.get("ports").elements()
    if len(items) > _MOST:
        raise field.get("ports").refuse(f"more than {_MOST} ports")
    ports = tuple(port for item in items for port in _ports(item, direction))
    if not items:
        widened.append(field.not_understood("what toPorts without ports matches differs between versions"))
    if patterns and not any(isinstance(p, PortRange) and p.first <= 53 <= p.last for p in ports):
        raise field.get("rules").refuse("DNS rules need port 53")
    if patterns and any(isinstance(p, PortRange) and p.first != p.last for p in ports):
        raise field.get("rules").refuse("DNS rules do not support port ranges")
    if field.has("rules") and any(isinstance(p, PortRange) and p.first == 0 for p in ports):
        raise field.get("rules").refuse("L7 rules cannot stand with port 0")
    return Rule(
        field.place,
        direction,
        action,
        peers,
        ports,
        (*narrowed, *widened),
        tuple(widened),
        tuple(sorted(set(patterns))),
    )


def _l7(field: Field, direction: Direction, narrowed: list[Problem]) -> list[NamePattern]:
    """The DNS patterns of ``rules``; any other L7 rule makes the match uncertain."""
    for unknown in field.unknown(frozenset(("dns",))):
        narrowed.append(unknown.not_understood("L7 rules are not evaluated"))
    if field.absent or not field.has("dns"):
        return []
    if direction == "ingress":
        raise field.get("dns").refuse("DNS rules are not allowed on ingress")
    patterns: list[NamePattern] = []
    for item in field.get("dns").elements():
        patterns += names.cilium(item)
    if names.EVERY not in patterns:
        narrowed.append(field.not_understood("the DNS rule lets some names pass only; flows do not say what was asked"))
    return patterns


def _ports(field: Field, direction: Direction) -> list[Port]:
    """One PortProtocol. Raises Refused if malformed: the port is a string in Cilium, and required.

    On egress Cilium looks a name up among all pods (or all that the rule selects: versions differ).
    """
    for unknown in field.unknown(frozenset(("port", "protocol", "endPort"))):
        raise unknown.refuse("unknown field of a port")
    protocol_field = field.get("protocol")
    words = (*PROTOCOLS, "ANY")
    word = "ANY" if protocol_field.absent or protocol_field.value == "" else protocol_field.one_of(words)
    text = field.get("port").text()
    if any(c.isalpha() for c in text):
        if not _PORT_NAME.match(text):
            raise field.get("port").refuse(f"{text[:64]!r} is neither a port number nor a port name")
        if field.has("endPort"):
            raise field.get("endPort").refuse("needs a numeric port beside it")
        return [NamedPort(PROTOCOLS.get(word, 0), text.lower(), shared=direction == "egress")]
    if len(text) > 1 and text[0] == "0":
        raise field.get("port").refuse(f"Cilium reads {text[:64]!r} as octal; write it without leading zeros")
    if not (text.isdigit() and text.isascii() and len(text) <= 5 and int(text) <= 65535):
        raise field.get("port").refuse(f"{text[:64]!r} is neither a port number nor a port name")
    if word not in ("TCP", "UDP", "SCTP", "ANY"):
        return [IcmpType(PROTOCOLS[word], text)]  # a type, which flows do not hold
    first = int(text)
    last = field.get("endPort").integer(0, 65535) if field.has("endPort") else 0
    if last and last < first:
        raise field.get("endPort").refuse(f"{last} is below port {first}")
    if word == "ANY" and first == 0 and not last:
        return [PortRange(-1)]
    low, high = (0, 65535) if first == 0 and not last else (first, last or first)
    numbers = TRANSPORTS if word == "ANY" else (PROTOCOLS[word],)
    return [PortRange(number, low, high) for number in numbers]


def _icmp(field: Field) -> list[Port]:
    found: list[Port] = []
    fields = field.only("fields").get("fields").elements()
    if len(fields) > _MOST:
        raise field.get("fields").refuse(f"more than {_MOST} fields")
    for item in fields:
        family = item.only("family", "type").get("family").text(default="IPv4") or "IPv4"
        if family not in ("IPv4", "IPv6"):
            raise item.get("family").refuse(f"{family[:64]!r} is neither IPv4 nor IPv6")
        kind = item.get("type").value
        if isinstance(kind, bool) or not isinstance(kind, (int, str)):
            raise Refused(item.get("type").place, "must be an ICMP type's number or name")
        found.append(IcmpType(PROTOCOLS["ICMP" if family == "IPv4" else "ICMPv6"], str(kind)))
    return found


def without_dns(policies: list[Policy]) -> list[Problem]:
    """A warning for each rule that names peers by DNS where no policy of the set has a DNS rule at all."""
    if any(rule.names for policy in policies for rule in policy.rules):
        return []
    return [
        Problem(rule.place, "toFQDNs without a DNS rule (rules.dns): the names are never learned", "warning")
        for policy in policies
        for rule in policy.rules
        if any(isinstance(peer, Names) and peer.learned for peer in rule.peers or ())
    ]
