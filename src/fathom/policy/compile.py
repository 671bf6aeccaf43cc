"""A policy set, compiled for one inventory: selectors to bit rows, blocks and ports to intervals, pods to groups.

Done once; ``evaluate`` then works on arrays. A *group* is the pods that the same policies select in one direction;
its program is those policies in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.errors import UsageError
from fathom.policy.addresses import Block, address, single
from fathom.policy.bits import BitMatrix, Bools, Terms
from fathom.policy.cells import Cells
from fathom.policy.classes import Classes
from fathom.policy.index import POD, Index
from fathom.policy.inventory import Inventory
from fathom.policy.labels import holds
from fathom.policy.model import (
    DIRECTIONS,
    Blocks,
    Direction,
    Entity,
    NamedPort,
    NamePattern,
    Names,
    Nodes,
    NoPods,
    Peer,
    Pods,
    Policy,
    PolicySet,
    Port,
    Requirement,
    Rule,
    Selector,
    Services,
    Unclear,
)
from fathom.policy.options import DEFAULTS, Options
from fathom.policy.portcells import PortCells, settled

Pair = tuple[Bools, Bools]


@dataclass(frozen=True)
class RuleRef:
    """A rule in the compiled table: which policy, which of its rules, and its terms.

    ``named`` are its ports by (protocol, name); of those in ``vague`` it is not certain which port they are.
    """

    policy: int
    rule: Rule
    classes: int
    cells: int
    ports: int
    named: frozenset[tuple[int, str]]
    vague: frozenset[tuple[int, str]]
    names: tuple[NamePattern, ...]
    learned: bool

    @property
    def doubtful(self) -> bool:
        """Whether something on the rule is not understood."""
        return bool(self.rule.narrowed or self.rule.widened or self.unclear)

    @property
    def unclear(self) -> bool:
        """Whether a peer of it is not understood."""
        return any(
            isinstance(peer, (Unclear, NoPods, Services))
            or (isinstance(peer, (Pods, Nodes)) and not peer.selector.understood)
            for peer in self.rule.peers or ()
        )


@dataclass(frozen=True)
class Member:
    """A policy in a group: its number, whether it surely selects the pods, and its rules (numbers in the table)."""

    policy: int
    sure: bool
    rules: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """The program of pods that the same policies select: tiers in order, members by priority.

    ``isolated`` (must, may): by the developer's tier. ``dns`` are the patterns of DNS rules of sure and of possible
    members. ``unclear``: some member makes everything uncertain. ``simple``: allow rules of sure members in the
    developer's tier only. ``plain``: all rules are understood. The last four say what occurs: named ports, names as
    peers, ipBlocks whose reach is an option, members of kind NetworkPolicy.
    """

    admin: tuple[Member, ...]
    developer: tuple[Member, ...]
    baseline: tuple[Member, ...]
    isolated: tuple[bool, bool]
    dns: tuple[frozenset[NamePattern], frozenset[NamePattern]]
    unclear: bool
    rules: NDArray[np.int64]
    simple: bool
    plain: bool
    named: bool
    by_name: bool
    blocks: bool
    networkpolicy: bool

    @property
    def members(self) -> tuple[Member, ...]:
        """All policies of the group."""
        return self.admin + self.developer + self.baseline


@dataclass(frozen=True)
class Side:
    """All that one direction needs: rules, their terms, and groups. ``group_of`` maps columns of classes to groups."""

    direction: Direction
    rules: tuple[RuleRef, ...]
    terms: NDArray[np.int64]
    groups: tuple[Group, ...]
    group_of: NDArray[np.int32]


@dataclass(frozen=True)
class Compiled:
    """A compiled policy set. ``class_terms`` are (must, may) over columns of ``classes``."""

    policies: tuple[Policy, ...]
    index: Index
    options: Options
    profiles: int
    classes: Classes
    cells: Cells
    ports: PortCells
    class_terms: tuple[BitMatrix, BitMatrix]
    cell_terms: Terms
    port_terms: Terms
    sides: dict[Direction, Side]
    hosts: bool

    @property
    def idle(self) -> list[str]:
        """Titles of policies that choose no pod of the inventory, in order; those about nodes are not looked at, and
        neither are those that say nothing. A pod that counts as its node is none."""
        presences = self.index.presences
        if self.options.host_network == "node":
            presences = presences[presences["kind"] == POD]
        columns = self.classes.profile_column[np.unique(presences["profile"])]
        chosen: set[int] = set()
        for side in self.sides.values():
            groups = set(side.group_of[columns].tolist()) - {-1}
            chosen.update(member.policy for group in groups for member in side.groups[group].members)
        speaking = [n for n, p in enumerate(self.policies) if not p.hosts and (p.isolates or p.rules or p.unclear)]
        return [self.policies[number].title for number in speaking if number not in chosen]

    def isolated(self, direction: Direction, profiles: NDArray[Any]) -> Bools:
        """Whether policies surely isolate pods of each of ``profiles``: what no rule allows is denied there."""
        side = self.sides[direction]
        sure = np.array([*(group.isolated[0] for group in side.groups), False])
        found: Bools = sure[side.group_of[self.classes.profile_column[profiles]]]
        return found

    def current(self) -> Compiled:
        """This, or compiled again where the index has met pods of namespaces that it did not know."""
        if self.profiles == len(self.index.profiles.values):
            return self
        return _compile(self.policies, self.index, self.options)


def compile_policies(policies: PolicySet, inventory: Inventory, options: Options = DEFAULTS) -> Compiled:
    """Compile a set for an inventory.

    Raises UsageError if documents of the set were refused: without them every verdict would be about another set.
    """
    if policies.refused:
        first = "\n  ".join(str(problem) for problem in policies.refused[:10])
        raise UsageError(f"{len(policies.refused)} documents are malformed:\n  {first}", do="correct or remove them")
    return _compile(policies.policies, inventory.index, options)


def _compile(policies: tuple[Policy, ...], index: Index, options: Options) -> Compiled:
    builder = _Builder(policies, index, options)
    sides = {direction: builder.side(direction) for direction in DIRECTIONS}
    return Compiled(
        policies,
        index,
        options,
        len(index.profiles.values),
        builder.classes,
        builder.cells,
        builder.ports,
        builder.class_terms.packed(),
        builder.cell_terms,
        builder.port_terms,
        sides,
        any(policy.hosts for policy in policies),
    )


class _Builder:
    """Terms shared by both directions."""

    def __init__(self, policies: tuple[Policy, ...], index: Index, options: Options) -> None:
        self.policies = policies
        self.index = index
        self.options = options
        self.services = {id(p): self._service(p) for p in _peers(policies) if isinstance(p, Services)}
        self.classes = Classes(index, self._requirements())
        self.cells = Cells(self._blocks())
        self._given = {item for profile in index.profiles.values for item in profile.ports}
        self._settled: dict[tuple[Port, ...] | None, tuple[Port, ...] | None] = {None: None}
        self.ports = PortCells(port for p in policies for rule in p.rules for port in self._meant(rule.ports) or ())
        self.class_terms = Terms(self.classes.count)
        self.cell_terms = Terms(self.cells.columns)
        self.port_terms = Terms(self.ports.count)
        self._peer_memory: dict[tuple[Peer, ...] | None, tuple[int, int]] = {}
        self._port_memory: dict[tuple[Port, ...] | None, int] = {}

    def _requirements(self) -> Iterable[Requirement]:
        for policy in self.policies:
            yield from policy.subject.requirements
        for peer in _peers(self.policies):
            if isinstance(peer, (Pods, Nodes)):
                yield from peer.selector.requirements
        for selectors, _ in self.services.values():
            for selector in selectors:
                yield from selector.requirements

    def _blocks(self) -> Iterable[Block]:
        for peer in _peers(self.policies):
            if isinstance(peer, Blocks):
                yield from peer.blocks
        for _, blocks in self.services.values():
            yield from blocks

    def _service(self, peer: Services) -> tuple[list[Selector], list[Block]]:
        """What stands behind: selectors of pods, or the addresses of endpoints that were made by hand."""
        selectors: list[Selector] = []
        blocks: list[Block] = []
        for service in self.index.records.services:
            if peer.namespace and service.namespace != peer.namespace:
                continue
            chosen = peer.selector
            if not (service.name == peer.name if chosen is None else _labelled(chosen, service.labels)):
                continue
            if service.selector:
                wanted = tuple(Requirement("pod", k, "In", (v,)) for k, v in sorted(service.selector.items()))
                selectors.append(Selector((Requirement("namespace-name", "", "In", (service.namespace,)), *wanted)))
            for item in self.index.records.slices if not service.selector else ():
                if (item.namespace, item.service) == (service.namespace, service.name):
                    texts = (text for backend in item.backends for text in backend.addresses)
                    blocks += [single(one) for text in texts if (one := address(text)) is not None]
        return selectors, blocks

    # -- one direction

    def side(self, direction: Direction) -> Side:
        rules: list[RuleRef] = []
        numbers: list[tuple[int, ...]] = []
        for number, policy in enumerate(self.policies):
            first = len(rules)
            rules += [self._rule(number, rule) for rule in policy.rules if rule.direction == direction]
            numbers.append(tuple(range(first, len(rules))))
        terms = np.array([(r.classes, r.cells, r.ports) for r in rules], np.int64).reshape(-1, 3)
        groups, group_of = self._groups(direction, rules, numbers)
        return Side(direction, tuple(rules), terms, groups, group_of)

    def _meant(self, ports: tuple[Port, ...] | None) -> tuple[Port, ...] | None:
        """The ports with shared names looked up among all pods."""
        if ports not in self._settled:
            self._settled[ports] = settled(ports or (), self._given)
        return self._settled[ports]

    def _rule(self, policy: int, rule: Rule) -> RuleRef:
        classes, cells = self._peers(rule.peers)
        ports = self._meant(rule.ports)
        given = [port for port in ports or () if isinstance(port, NamedPort)]
        named = frozenset((port.protocol, port.name) for port in given)
        vague = frozenset((port.protocol, port.name) for port in given if port.shared)
        names = [peer for peer in rule.peers or () if isinstance(peer, Names)]
        patterns = tuple(sorted(peer.pattern for peer in names))
        learned = any(peer.learned for peer in names)
        return RuleRef(policy, rule, classes, cells, self._ports(ports), named, vague, patterns, learned)

    def _peers(self, peers: tuple[Peer, ...] | None) -> tuple[int, int]:
        found = self._peer_memory.get(peers)
        if found is None:
            classes, cells = self._peer_rows(peers)
            found = (self.class_terms.number(*classes), self.cell_terms.number(*cells))
            self._peer_memory[peers] = found
        return found

    def _peer_rows(self, peers: tuple[Peer, ...] | None) -> tuple[Pair, Pair]:
        none = np.zeros(self.cells.columns, bool)
        if peers is None:
            return self.classes.everything(), (none, none)
        classes = [part.copy() for part in self.classes.nothing()]
        cells = [none.copy(), none.copy()]
        for peer in peers:
            self._add_peer(peer, classes, cells)
        return (classes[0], classes[1]), (cells[0], cells[1])

    def _add_peer(self, peer: Peer, classes: list[Bools], cells: list[Bools]) -> None:
        if isinstance(peer, Blocks):
            pair = self.cells.blocks(peer.blocks, peer.reach, pods=self.options.block_pods == "match")
            cells[0] |= pair[0]
            cells[1] |= pair[1]
            return
        if isinstance(peer, Services):
            self._add_services(peer, classes, cells)
            return
        if isinstance(peer, Pods):
            must, may = self.classes.pods(peer.selector)
        elif isinstance(peer, Nodes):
            must, may = self.classes.nodes(peer.selector)
        elif isinstance(peer, Entity):
            must, may = self.classes.entity(peer.name)
        elif isinstance(peer, Unclear):
            must, may = self.classes.anything()
        elif isinstance(peer, NoPods):
            must, may = self.classes.no_pods()
        else:
            return  # names are bound to rows later
        classes[0] |= must
        classes[1] |= may

    def _add_services(self, peer: Services, classes: list[Bools], cells: list[Bools]) -> None:
        """Endpoints made by hand match; pods behind a selector may, since only some versions select them."""
        selectors, blocks = self.services[id(peer)]
        for selector in selectors:
            classes[1] |= self.classes.pods(selector)[1]
        if blocks:
            must, _ = self.cells.blocks(blocks, "external", pods=False)
            _, may = self.cells.blocks(blocks, "all", pods=True)
            cells[0] |= must
            cells[1] |= may
        if not selectors and not blocks:
            classes[1] |= self.classes.anything()[1]

    def _ports(self, ports: tuple[Port, ...] | None) -> int:
        found = self._port_memory.get(ports)
        if found is None:
            found = self._port_memory[ports] = self.port_terms.number(*self.ports.ports(ports))
        return found

    # -- groups

    def _groups(
        self, direction: Direction, rules: list[RuleRef], numbers: list[tuple[int, ...]]
    ) -> tuple[tuple[Group, ...], NDArray[np.int32]]:
        """Columns of classes to groups: by the set of policies that (surely, possibly) select them."""
        relevant = [
            number
            for number, policy in enumerate(self.policies)
            if not policy.hosts
            and (direction in policy.isolates or numbers[number] or any(d == direction for d, _ in policy.unclear))
        ]
        group_of = np.full(self.classes.count, -1, np.int32)
        columns = np.r_[0, np.arange(self.classes.first_pod, self.classes.count)]
        if not relevant:
            return (), group_of
        packed, first, inverse = self._partition(relevant, columns)
        by_column = np.ascontiguousarray(packed.T)
        groups: list[Group] = []
        for position in first.tolist():
            bits = by_column[position >> 3] >> (position & 7) & 1
            members = [
                Member(relevant[at], bool(bits[2 * at]), numbers[relevant[at]])
                for at in np.flatnonzero(bits[1::2]).tolist()
            ]
            groups.append(program(self.policies, direction, members, rules))
        group_of[columns] = inverse
        empty = np.array([not group.members for group in groups])
        group_of[columns] = np.where(empty[inverse], -1, group_of[columns])
        return tuple(groups), group_of

    def _partition(
        self, relevant: list[int], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Packed rows (must, may of each policy), and columns parted by equal bits: first of each part, part of each.

        Parts are told apart by sums of random 64-bit numbers, one for each policy: a table of all bits would not fit.
        """
        random = _random(1 << (2 * len(relevant)).bit_length())
        sums = np.zeros((len(columns), 2), np.uint64)
        packed = np.zeros((2 * len(relevant), (len(columns) + 7) // 8), np.uint8)
        for at, number in enumerate(relevant):
            for half, row in enumerate(self.classes.pods(self.policies[number].subject)):
                chosen = row[columns]
                packed[2 * at + half] = np.packbits(chosen, bitorder="little")
                sums[chosen] += random[2 * at + half]
        _, first, inverse = np.unique(sums, axis=0, return_index=True, return_inverse=True)
        return packed, first, inverse.reshape(-1)


def program(
    policies: tuple[Policy, ...], direction: Direction, members: Sequence[Member], rules: Sequence[RuleRef]
) -> Group:
    """The group whose ``members`` (numbers in ``policies`` and ``rules``) select its pods in one direction."""
    tiers: dict[str, list[Member]] = {"admin": [], "developer": [], "baseline": []}
    for member in members:
        tiers[policies[member.policy].tier].append(member)
    for name in ("admin", "baseline"):
        tiers[name].sort(key=lambda m: policies[m.policy].priority)
    developer = tiers["developer"]
    isolating = [m for m in developer if direction in policies[m.policy].isolates]
    sure = {p for m in members if m.sure for n in m.rules for p in rules[n].rule.names}
    possible = {p for m in members for n in m.rules for p in rules[n].rule.names}
    listed = np.array([n for m in members for n in m.rules], np.int64)
    unclear = any(d == direction for m in members for d, _ in policies[m.policy].unclear)
    allowing = all(rules[n].rule.action == "allow" for n in listed.tolist())
    plain = not any(rules[n].doubtful for n in listed.tolist())
    settled = not unclear and all(m.sure for m in members) and not tiers["admin"] and not tiers["baseline"]
    return Group(
        tuple(tiers["admin"]),
        tuple(developer),
        tuple(tiers["baseline"]),
        (any(m.sure for m in isolating), bool(isolating)),
        (frozenset(sure), frozenset(possible)),
        unclear,
        listed,
        simple=settled and allowing,
        plain=plain,
        named=any(rules[n].named for n in listed.tolist()),
        by_name=any(rules[n].names for n in listed.tolist()),
        blocks=any(_optional(rules[n].rule) for n in listed.tolist()),
        networkpolicy=any(policies[m.policy].kind == "NetworkPolicy" for m in members),
    )


@lru_cache(maxsize=32)
def _random(rows: int) -> NDArray[np.uint64]:
    """Pairs of random 64-bit numbers, always the same ones."""
    return np.random.default_rng(0x5EED).integers(0, 1 << 63, (rows, 2), np.uint64)


def _peers(policies: Iterable[Policy]) -> Iterable[Peer]:
    return (peer for policy in policies for rule in policy.rules for peer in rule.peers or ())


def _optional(rule: Rule) -> bool:
    return any(isinstance(peer, Blocks) and peer.reach == "option" for peer in rule.peers or ())


def _labelled(selector: Selector, labels: dict[str, str]) -> bool:
    return all(holds(requirement, labels) for requirement in selector.requirements)
