"""What policies say, in one model for all kinds: tiers, policies, rules, peers, ports, each with its place.

The readers (``networkpolicy``, ``cilium``, ``clusternetworkpolicy``) turn documents into it; everything after them
knows no document kind. Differences between kinds are in the data: what a block may match, what isolates, which action.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fathom.policy.addresses import Block
from fathom.policy.problems import Place, Problem

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, Direction] = ("ingress", "egress")
Action = Literal["allow", "deny", "pass"]
Tier = Literal["admin", "developer", "baseline"]
Scope = Literal["pod", "namespace", "namespace-name", "service-account", "node"]
Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "?"]
Reach = Literal["option", "all", "external"]

#: IP protocol numbers by the names that policies and flows use.
PROTOCOLS: dict[str, int] = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58}
TRANSPORTS = (6, 17, 132)


class Requirement(msgspec.Struct, frozen=True, order=True):
    """One condition on a label of the pod, its namespace or node, or on a name. ``?`` is not understood."""

    scope: Scope
    key: str
    operator: Operator
    values: tuple[str, ...] = ()


class Selector(msgspec.Struct, frozen=True, order=True):
    """All requirements must hold. None at all matches everything of its kind."""

    requirements: tuple[Requirement, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether every requirement is understood."""
        return all(requirement.operator != "?" for requirement in self.requirements)

    def __add__(self, other: Selector) -> Selector:
        return Selector(self.requirements + other.requirements)


class Pods(msgspec.Struct, frozen=True):
    """Pods of the cluster that are not on the host's network (by default), chosen by selector."""

    selector: Selector


class Nodes(msgspec.Struct, frozen=True):
    """Nodes of the cluster, by the selector of their labels."""

    selector: Selector


class Blocks(msgspec.Struct, frozen=True):
    """Addresses. ``reach``: ``external`` never matches pods or nodes, ``all`` does, ``option`` asks the options."""

    blocks: tuple[Block, ...]
    reach: Reach


class Entity(msgspec.Struct, frozen=True):
    """One of Cilium's entities."""

    name: str


class NamePattern(msgspec.Struct, frozen=True, order=True):
    """DNS names: ``exact``, ``glob`` (Cilium: ``*`` is inside one label), ``subdomains`` (``*.`` is some labels)."""

    style: Literal["exact", "glob", "subdomains"]
    text: str


class Names(msgspec.Struct, frozen=True):
    """External addresses by DNS name.

    ``learned``: whether the name counts only where a DNS rule of the same pod lets the proxy see its answer.
    """

    pattern: NamePattern
    learned: bool


class Services(msgspec.Struct, frozen=True):
    """What stands behind Kubernetes services: by namespace and name, or by labels (``selector``)."""

    namespace: str
    name: str
    selector: Selector | None = None


class Unclear(msgspec.Struct, frozen=True):
    """A peer that is not understood: it may match anything."""

    problem: Problem


class NoPods(msgspec.Struct, frozen=True):
    """Whatever is no pod: it may match."""

    problem: Problem


Peer = Pods | Nodes | Blocks | Entity | Names | Services | Unclear | NoPods


class PortRange(msgspec.Struct, frozen=True, order=True):
    """Ports ``first`` to ``last``, inclusive, of one IP protocol."""

    protocol: int
    first: int = 0
    last: int = 65535


class NamedPort(msgspec.Struct, frozen=True, order=True):
    """The port that the destination pod calls ``name``; protocol 0 is any.

    ``shared``: it is looked up among all pods, so that it is certain only where they agree.
    """

    protocol: int
    name: str
    shared: bool = False


class PossiblePort(msgspec.Struct, frozen=True, order=True):
    """A port that a shared name stands for at some pod: it may match at others."""

    protocol: int
    number: int


class IcmpType(msgspec.Struct, frozen=True, order=True):
    """One ICMP type of a family; flows do not say their type, so this is at most a may-match."""

    protocol: int
    type: str


Port = PortRange | NamedPort | PossiblePort | IcmpType


class Rule(msgspec.Struct, frozen=True):
    """Allows, denies or passes on what matches both ``peers`` and ``ports``.

    ``peers`` and ``ports``: None matches all, an empty tuple nothing. ``narrowed``: conditions that are not
    understood and could only make the rule match less; ``widened``: what could make it match more. ``names`` are the
    patterns of a DNS rule on it (regular expressions as in ``Names``).
    """

    place: Place
    direction: Direction
    action: Action = "allow"
    peers: tuple[Peer, ...] | None = None
    ports: tuple[Port, ...] | None = None
    narrowed: tuple[Problem, ...] = ()
    widened: tuple[Problem, ...] = ()
    names: tuple[NamePattern, ...] = ()
    title: str = ""


class Policy(msgspec.Struct, frozen=True):
    """One policy: whom it selects, which directions it isolates, and its rules in order.

    ``isolates`` matters in tier ``developer`` only; of these directions it isolates ``by_rules`` only because it has
    rules for them. ``unclear`` holds, by direction, what makes every verdict about
    a selected pod uncertain. ``hosts``: it is about nodes, not pods.
    """

    kind: str
    namespace: str
    name: str
    place: Place
    subject: Selector
    tier: Tier = "developer"
    priority: int = 0
    isolates: tuple[Direction, ...] = ()
    by_rules: tuple[Direction, ...] = ()
    rules: tuple[Rule, ...] = ()
    unclear: tuple[tuple[Direction, Problem], ...] = ()
    hosts: bool = False

    @property
    def title(self) -> str:
        """``NetworkPolicy shop/web``."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class PolicySet(msgspec.Struct, frozen=True):
    """Policies in the order in which they were read, and all problems found while reading."""

    policies: tuple[Policy, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def refused(self) -> tuple[Problem, ...]:
        """The problems of documents that could not be taken into the set."""
        return tuple(p for p in self.problems if p.severity == "refused")
