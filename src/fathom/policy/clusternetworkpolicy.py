"""ClusterNetworkPolicy of policy.networking.k8s.io (v1alpha2, v1beta1), and the v1alpha1 kinds that it replaced.

AdminNetworkPolicy and BaselineAdminNetworkPolicy become the same model: tiers ``admin`` and ``baseline`` around the
developer's NetworkPolicy, rules in order with allow, deny or pass. Source: the types of network-policy-api.
"""

from __future__ import annotations

from dataclasses import dataclass

from fathom.policy import addresses, labels, names
from fathom.policy.fields import Field
from fathom.policy.metadata import name_of
from fathom.policy.model import (
    PROTOCOLS,
    TRANSPORTS,
    Action,
    Blocks,
    Direction,
    NamedPort,
    Names,
    Nodes,
    Peer,
    Pods,
    Policy,
    Port,
    PortRange,
    Rule,
    Selector,
    Tier,
    Unclear,
)
from fathom.policy.networkpolicy import port_name, transport
from fathom.policy.problems import Problem


@dataclass(frozen=True)
class _Form:
    """What differs between the kinds: words for actions, where ports stand, and how many items a list may have."""

    kind: str
    actions: dict[str, Action]
    ports: str
    most: int
    fields: frozenset[str]


_CLUSTER = _Form(
    "ClusterNetworkPolicy",
    {"Accept": "allow", "Deny": "deny", "Pass": "pass"},
    "protocols",
    25,
    frozenset(("tier", "priority", "subject", "ingress", "egress")),
)
_ADMIN = _Form(
    "AdminNetworkPolicy",
    {"Allow": "allow", "Deny": "deny", "Pass": "pass"},
    "ports",
    100,
    frozenset(("priority", "subject", "ingress", "egress")),
)
_BASELINE = _Form(
    "BaselineAdminNetworkPolicy",
    {"Allow": "allow", "Deny": "deny"},
    "ports",
    100,
    frozenset(("subject", "ingress", "egress")),
)
_FORMS = {form.kind: form for form in (_CLUSTER, _ADMIN, _BASELINE)}
KINDS = tuple(_FORMS)
_PEERS: dict[Direction, str] = {"ingress": "from", "egress": "to"}


def read(document: Field, kind: str) -> list[Policy]:
    """The policy in ``document``. Raises Refused if the document is malformed."""
    form = _FORMS[kind]
    name, spec = name_of(document), document.get("spec")
    if kind == "BaselineAdminNetworkPolicy" and name != "default":
        raise document.get("metadata").get("name").refuse("a BaselineAdminNetworkPolicy must be called default")
    unclear: list[tuple[Direction, Problem]] = []
    for unknown in spec.unknown(form.fields):
        problem = unknown.not_understood(f"unknown field of a {kind}")
        unclear += [("ingress", problem), ("egress", problem)]
    rules: list[Rule] = []
    for direction in ("ingress", "egress"):
        items = spec.get(direction).elements()
        if len(items) > form.most:
            raise spec.get(direction).refuse(f"more than {form.most} rules")
        rules += [_rule(item, direction, form) for item in items]
    tier = _tier(spec, form)
    priority = 0 if form is _BASELINE else spec.get("priority").integer(0, 1000)
    return [
        Policy(
            kind,
            "",
            name,
            document.place,
            _subject(spec.get("subject")),
            tier=tier,
            priority=priority,
            rules=tuple(rules),
            unclear=tuple(unclear),
        )
    ]


def _tier(spec: Field, form: _Form) -> Tier:
    if form is _CLUSTER:
        return "admin" if spec.get("tier").one_of(("Admin", "Baseline")) == "Admin" else "baseline"
    return "admin" if form is _ADMIN else "baseline"


def _subject(field: Field) -> Selector:
    known = frozenset(("namespaces", "pods"))
    for unknown in field.unknown(known):
        raise unknown.refuse("a subject has exactly one of namespaces and pods")
    if field.has("namespaces") == field.has("pods"):
        raise field.refuse("a subject has exactly one of namespaces and pods")
    return _pods(field)


def _pods(field: Field) -> Selector:
    """namespaces: a selector of namespaces. pods: one of namespaces and one of pods."""
    if field.has("namespaces"):
        return labels.selector(field.get("namespaces"), "namespace")
    both = field.get("pods")
    for unknown in both.unknown(frozenset(("namespaceSelector", "podSelector"))):
        raise unknown.refuse("pods has namespaceSelector and podSelector only")
    namespaces = labels.selector(both.get("namespaceSelector"), "namespace")
    return namespaces + labels.selector(both.get("podSelector"), "pod")


def _rule(field: Field, direction: Direction, form: _Form) -> Rule:
    key = _PEERS[direction]
    widened = [
        unknown.not_understood("unknown field of a rule")
        for unknown in field.unknown(frozenset(("name", "action", key, form.ports)))
    ]
    action = form.actions[field.get("action").one_of(tuple(form.actions))]
    title = field.get("name").text(default="")
    if len(title) > 100:
        raise field.get("name").refuse("longer than 100 characters")
    items = field.get(key).elements()
    if not 1 <= len(items) <= form.most:
        raise field.get(key).refuse(f"must have 1 to {form.most} elements")
    peers = tuple(peer for item in items for peer in _peer(item, direction, action))
    ports = _ports(field.get(form.ports), form)
    outside = any(isinstance(peer, (Nodes, Blocks, Names)) for peer in peers)
    if outside and any(isinstance(port, NamedPort) for port in ports or ()):
        raise field.get(form.ports).refuse("nodes, networks and domainNames have no named ports")
    return Rule(
        field.place, direction, action, peers, ports, narrowed=tuple(widened), widened=tuple(widened), title=title
    )


def _peer(field: Field, direction: Direction, action: Action) -> list[Peer]:
    """Exactly one field. One that is not known here may mean anything."""
    known = ("namespaces", "pods") if direction == "ingress" else _EGRESS_PEERS
    doubts = [unknown.not_understood("unknown kind of peer") for unknown in field.unknown(frozenset(known))]
    present = [key for key in known if field.has(key)]
    if len(present) != 1 and not (doubts and not present):
        raise field.refuse(f"a peer has exactly one of {', '.join(known)}")
    found = _known_peer(field, present[0], action) if present else []
    return [Unclear(doubts[0])] if doubts else found


def _known_peer(field: Field, kind: str, action: Action) -> list[Peer]:
    if kind in ("namespaces", "pods"):
        return [Pods(_pods(field))]
    if kind == "nodes":
        return [Nodes(labels.selector(field.get("nodes"), "node"))]
    items = field.get(kind).elements()
    if not 1 <= len(items) <= 100:
        raise field.get(kind).refuse("must have 1 to 100 elements")
    if kind == "networks":
        return [Blocks(tuple(_network(item) for item in items), "all")]
    if action != "allow":
        raise field.get(kind).refuse("domainNames may stand in rules that accept only")
    return [Names(names.domain(item), learned=False) for item in items]


_EGRESS_PEERS = ("namespaces", "pods", "nodes", "networks", "domainNames")


def _network(field: Field) -> addresses.Block:
    found = addresses.block(field.text())
    if found is None:
        raise field.refuse(f"{field.text()[:64]!r} is not an address block")
    return found


def _ports(field: Field, form: _Form) -> tuple[Port, ...] | None:
    if field.absent:
        return None
    items = field.elements()
    if len(items) > form.most or (form is _CLUSTER and not items):
        raise field.refuse(f"must have 1 to {form.most} elements")
    read_one = _protocol if form is _CLUSTER else _port
    return tuple(port for item in items for port in read_one(item)) or None


def _protocol(field: Field) -> list[Port]:
    """One of tcp, udp, sctp with a destination port, or a named port of any protocol."""
    known = ("tcp", "udp", "sctp", "destinationNamedPort")
    chosen = _only(field, known)
    if chosen == "destinationNamedPort":
        return [NamedPort(number, _port_name(field.get(chosen))) for number in TRANSPORTS]
    port = field.get(chosen).get("destinationPort")
    for unknown in field.get(chosen).unknown(frozenset(("destinationPort",))):
        raise unknown.refuse("unknown condition on a protocol")
    protocol = PROTOCOLS[chosen.upper()]
    if port.absent:
        raise field.get(chosen).refuse("needs destinationPort")
    if _only(port, ("number", "range")) == "number":
        number = port.get("number").integer(1, 65535)
        return [PortRange(protocol, number, number)]
    return [_range(port.get("range").only("start", "end"), protocol, shortest=1)]


def _port(field: Field) -> list[Port]:
    """One AdminNetworkPolicyPort: portNumber, namedPort or portRange."""
    chosen = _only(field, ("portNumber", "namedPort", "portRange"))
    if chosen == "namedPort":
        return [NamedPort(number, _port_name(field.get(chosen))) for number in TRANSPORTS]
    found = field.get(chosen)
    protocol = PROTOCOLS[transport(found.get("protocol"))]
    if chosen == "portNumber":
        number = found.only("protocol", "port").get("port").integer(1, 65535)
        return [PortRange(protocol, number, number)]
    return [_range(found.only("protocol", "start", "end"), protocol, shortest=0)]


def _range(field: Field, protocol: int, *, shortest: int) -> PortRange:
    start, end = field.get("start").integer(1, 65535), field.get("end").integer(1, 65535)
    if end < start + shortest:
        raise field.refuse(f"end {end} is not above start {start}")
    return PortRange(protocol, start, end)


def _only(field: Field, known: tuple[str, ...]) -> str:
    for unknown in field.unknown(frozenset(known)):
        raise unknown.refuse(f"must be one of {', '.join(known)}")
    present = [key for key in known if field.has(key)]
    if len(present) != 1:
        raise field.refuse(f"must have exactly one of {', '.join(known)}")
    return present[0]


def _port_name(field: Field) -> str:
    if not port_name(field.text()):
        raise field.refuse(f"{field.text()[:64]!r} is not a port name")
    return field.text()
