"""Grants: what one workload is given in one direction, before it is written as a policy of some kind.

The grants of one workload and direction never overlap, so that each observation is behind exactly one of them:
peers are told apart by subject, node or address, port 53 stands apart as the companion rule for DNS, addresses of
equal ports share blocks that hold no other address that is known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np

from fathom.policy.addresses import Address
from fathom.policy.aggregation import Known, aggregate, size
from fathom.policy.history import ADDRESSES, API_NODE, API_OUTSIDE, NODES, Observations
from fathom.policy.index import EXTERNAL as OUTER
from fathom.policy.index import HOST_POD, NODE, POD, SELF, Index
from fathom.policy.model import Direction
from fathom.policy.resolve import Resolved
from fathom.policy.subjects import Subjects

Form = Literal["networkpolicy", "cilium"]
DNS = 53
#: What a matchName may be (the pattern in Cilium's CRD).
_NAME = re.compile(r"(?!.{254})[-a-z0-9_]+(?:\.[-a-z0-9_]+)*\Z")
_DNS_PORTS = ((6, DNS, DNS), (17, DNS, DNS))
Span = tuple[int, int, int]  # IP protocol number, first and last port
Kind = Literal["pods", "namespace", "server", "nodes", "name", "blocks"]
_ORDER: tuple[Kind, ...] = ("pods", "namespace", "server", "nodes", "name", "blocks")
_PLACES = {kind: place for place, kind in enumerate(_ORDER)}


class Peer(msgspec.Struct, frozen=True, gc=False):
    """One kind of peer: pods of subject number ``subject``, of ``namespace``, the API server, nodes, a DNS ``name``, or
    ``blocks`` of addresses (which the API server and nodes have too)."""

    kind: Kind
    subject: int = -1
    namespace: str = ""
    name: str = ""
    blocks: tuple[str, ...] = ()


class Grant(msgspec.Struct, frozen=True, gc=False):
    """``ports`` of ``peer``. ``observations`` are behind it; ``companion``: it is the rule for DNS, whose second
    protocol need not have been seen. ``beyond``: how many (pair of pods, port) or (address, port) it allows that were
    not seen; of a name, the addresses that it may get are not counted."""

    peer: Peer
    ports: tuple[Span, ...]
    observations: tuple[int, ...]
    companion: bool = False
    beyond: int = 0


@dataclass(frozen=True)
class Shape:
    """How grants are made: for which form, how many addresses a block may hold for each that was seen, from how many
    adjacent ports on a range is written (0: never), and whether peers are widened to their namespace."""

    form: Form
    spread: int
    merge_ports: int
    widen: bool


class Granter:
    """Makes grants; knows the inventory's addresses and names."""

    def __init__(self, resolved: Resolved, subjects: Subjects, shape: Shape) -> None:
        self.index: Index = resolved.index
        self.subjects = subjects
        self.shape = shape
        self.names = resolved.names
        self._rows = resolved.rows
        self._start = np.searchsorted(resolved.rows["flow"], np.arange(resolved.count))
        self.known = Known(one for item in self.index.addresses.values for one in item)
        self._spaces: dict[str, set[str]] = defaultdict(set)
        for pod in self.index.records.pods:
            if not pod.host_network and not pod.virtual:
                self._spaces[pod.namespace].add(pod.name)
        self._clear = _clear_names(resolved) if shape.form == "cilium" else frozenset()

    def grants(self, direction: Direction, subject: int, seen: Observations, numbers: Iterable[int]) -> list[Grant]:
        """The grants of one subject in one direction, for the observations ``numbers``, in a stable order."""
        pods: dict[bool, dict[int, list[int]]] = {True: {}, False: {}}
        others: dict[bool, dict[int, list[int]]] = {True: {}, False: {}}
        ports = seen.port
        for number, peer in self._told_apart(seen, list(numbers)):
            (pods if peer < NODES else others)[ports[number] == DNS].setdefault(peer, []).append(number)
        found: list[Grant] = []
        asks_dns = direction == "egress" and bool(pods[True] or others[True])
        for dns in (True, False):
            found += self._pods(subject, seen, pods[dns], dns=dns)
            found += self._nodes(direction, seen, others[dns], dns=dns)
            found += self._outside(seen, others[dns], dns=dns, names=asks_dns and not dns)
        return sorted(found, key=lambda grant: _place(grant, self.subjects))

    def _told_apart(self, seen: Observations, numbers: list[int]) -> list[tuple[int, int]]:
        """(observation, peer). The API server on a node is that node on the ports that other rules open on nodes.

        The companion rule opens both protocols of DNS, whichever was seen.
        """

        def opens(number: int) -> tuple[int, int]:
            return (0 if seen.port[number] == DNS else seen.protocol[number]), seen.port[number]

        peers = seen.peer
        opened = {opens(n) for n in numbers if NODES <= peers[n] < ADDRESSES}
        found: list[tuple[int, int]] = []
        for number in numbers:
            peer = peers[number]
            if API_NODE <= peer < API_OUTSIDE and opens(number) in opened:
                peer = NODES + peer - API_NODE
            found.append((number, peer))
        return found

    def _spans(self, seen: Observations, numbers: Iterable[int], *, dns: bool) -> tuple[Span, ...]:
        if dns:
            return _DNS_PORTS
        return spans({(seen.protocol[n], seen.port[n]) for n in numbers}, self.shape.merge_ports)

    # -- kinds of peers

    def _pods(self, subject: int, seen: Observations, peers: Mapping[int, list[int]], *, dns: bool) -> list[Grant]:
        every = self.subjects.all
        groups: Mapping[int | str, list[int]] = peers  # type: ignore[assignment]  # a mapping's key is invariant
        if self.shape.widen:
            spaces: dict[int | str, list[int]] = defaultdict(list)
            for code, numbers in peers.items():
                spaces[every[code].namespace] += numbers
            groups = spaces
        found: list[Grant] = []
        mine = len(every[subject].pods)
        for key, numbers in groups.items():
            if len(numbers) == 1 and not dns and isinstance(key, int):  # most of all
                found.append(self._pod_once(mine, key, seen, numbers[0]))
                continue
            ports = self._spans(seen, numbers, dns=dns)
            if isinstance(key, str):
                peer, theirs = Peer("namespace", namespace=key), len(self._spaces[key])
            else:
                peer, theirs = Peer("pods", subject=key), len(every[key].pods)
            beyond = max(0, mine * theirs * count(ports) - sum([seen.pairs[n] for n in numbers]))
            found.append(Grant(peer, ports, tuple(sorted(numbers)), dns, beyond))
        return found

    def _pod_once(self, mine: int, theirs: int, seen: Observations, number: int) -> Grant:
        """A grant with one observation behind it, of one port."""
        beyond = mine * len(self.subjects.all[theirs].pods) - seen.pairs[number]
        port = _one_port(seen.protocol[number], seen.port[number])
        return Grant(Peer("pods", subject=theirs), port, (number,), False, max(0, beyond))

    def _nodes(
        self, direction: Direction, seen: Observations, peers: Mapping[int, list[int]], *, dns: bool
    ) -> list[Grant]:
        by_ports: dict[tuple[Span, ...], tuple[set[str], list[int]]] = defaultdict(lambda: (set(), []))
        if self.shape.form == "cilium":
            numbers = [n for code, of_it in peers.items() if NODES <= code < ADDRESSES for n in of_it]
            if not numbers:
                return []
            ports = self._spans(seen, numbers, dns=dns)
            every = sum([max(1, len(self._node_addresses(name))) for name in self.index.nodes.values])
            beyond = max(0, every * count(ports) - self._spoken(direction, seen, numbers))
            return [Grant(Peer("nodes"), ports, tuple(sorted(numbers)), dns, beyond)]
        for code, of_it in peers.items():
            if NODES <= code < ADDRESSES:
                nodes, numbers = by_ports[self._spans(seen, of_it, dns=dns)]
                nodes.add(self.index.nodes.values[code - NODES])
                numbers += of_it
        found: list[Grant] = []
        for ports, (nodes, numbers) in by_ports.items():
            blocks = _single(one for name in nodes for one in self._node_addresses(name))
            beyond = max(0, len(blocks) * count(ports) - self._spoken(direction, seen, numbers))
            found.append(Grant(Peer("nodes", blocks=blocks), ports, tuple(sorted(numbers)), dns, beyond))
        return found

    def _spoken(self, direction: Direction, seen: Observations, numbers: Iterable[int]) -> int:
        """How many (address of a node, port) were seen; a node of which no flow tells the address is one."""
        column = self._rows["dst_addresses" if direction == "egress" else "src_addresses"]
        found: dict[tuple[int, int, int], set[Address]] = defaultdict(set)
        for n in numbers:
            sets = set(column[self._start[seen.evidence([n])]].tolist())
            told = (self.index.addresses.values[number] for number in sets)
            found[seen.peer[n], seen.protocol[n], seen.port[n]].update(
                one for item in told if len(item) == 1 for one in item
            )
        return sum([max(1, len(addresses)) for addresses in found.values()])

    def _node_addresses(self, name: str) -> list[Address]:
        texts = [text for item in self.index.node_records.get(name, ()) for text in item.addresses]
        return list(self.index.addresses.values[self.index.address_set(texts)])

    def _outside(self, seen: Observations, peers: Mapping[int, list[int]], *, dns: bool, names: bool) -> list[Grant]:
        server = [n for code, of_it in peers.items() if code >= API_NODE for n in of_it]
        found: list[Grant] = []
        if server:
            ports = self._spans(seen, server, dns=dns)
            pairs = {(seen.peer[n], seen.protocol[n], seen.port[n]) for n in server}
            beyond = max(0, len(self.index.api_servers) * count(ports) - len(pairs))
            peer = Peer("server", blocks=_single(self.index.api_servers))
            found.append(Grant(peer, ports, tuple(sorted(server)), dns, beyond))
        by_name: dict[str, list[int]] = defaultdict(list)
        by_ports: dict[tuple[Span, ...], tuple[set[Address], list[int]]] = defaultdict(lambda: (set(), []))
        for code, numbers in peers.items():
            if not ADDRESSES <= code < API_NODE:
                continue
            name = self._name(seen, numbers) if names else ""
            if name:
                by_name[name] += numbers
                continue
            addresses, behind = by_ports[self._spans(seen, numbers, dns=dns)]
            addresses.update(self.index.addresses.values[code - ADDRESSES])
            behind += numbers
        for name, numbers in by_name.items():
            ports = self._spans(seen, numbers, dns=dns)
            found.append(Grant(Peer("name", name=name), ports, tuple(sorted(numbers)), dns))
        for ports, (addresses, numbers) in by_ports.items():
            blocks = aggregate(addresses, self.known, 1 if dns else self.shape.spread)
            pairs = {(seen.peer[n], seen.protocol[n], seen.port[n]) for n in numbers}
            beyond = size(blocks) * count(ports) - len(pairs)
            found.append(Grant(Peer("blocks", blocks=blocks), ports, tuple(sorted(numbers)), dns, beyond))
        return found

    def _name(self, seen: Observations, numbers: list[int]) -> str:
        """The one name that an address was always known by, if it is a clear one; else the empty text."""
        sets = {seen.name[n] for n in numbers}
        if len(sets) != 1 or -1 in sets:
            return ""
        names = self.names[sets.pop()]
        return next(iter(names)) if len(names) == 1 and names <= self._clear else ""


def spans(ports: Iterable[tuple[int, int]], merge: int) -> tuple[Span, ...]:
    """(protocol, first, last), sorted; ``merge`` or more adjacent ports become one span (0: never)."""
    if not merge:
        return tuple([(protocol, port, port) for protocol, port in sorted(ports)])
    found: list[Span] = []
    run: list[tuple[int, int]] = []
    for protocol, port in [*sorted(ports), (0, 0)]:
        if run and (run[-1][0], run[-1][1] + 1) != (protocol, port):
            if len(run) >= max(2, merge):
                found.append((run[0][0], run[0][1], run[-1][1]))
            else:
                found += [(of, number, number) for of, number in run]
            run = []
        run.append((protocol, port))
    return tuple(found)


@lru_cache(maxsize=1 << 12)
def _one_port(protocol: int, port: int) -> tuple[Span, ...]:
    return ((protocol, port, port),)


def count(ports: Iterable[Span]) -> int:
    """How many ports the spans hold."""
    return sum([last - first + 1 for _, first, last in ports])


def _single(addresses: Iterable[Address]) -> tuple[str, ...]:
    return tuple(f"{one}/{32 if one.family == 4 else 128}" for one in sorted(set(addresses)))


def _place(grant: Grant, subjects: Subjects) -> tuple[object, ...]:
    peer = grant.peer
    who: tuple[str, ...] = (peer.namespace, peer.name)
    if peer.subject >= 0:
        subject = subjects.all[peer.subject]
        who = (subject.namespace, subject.name)
    return not grant.companion, _PLACES[peer.kind], who, grant.ports, peer.blocks


def _clear_names(resolved: Resolved) -> frozenset[str]:
    """Names that mean one thing: each address that one was seen with is outside, and has no other name."""
    index, rows = resolved.index, resolved.rows
    names_of: dict[Address, set[str]] = defaultdict(set)
    for one, answers in index.answers.items():
        names_of[one].update(name for name, _, _ in answers)
    pairs = set(zip(rows["names"].tolist(), rows["dst_addresses"].tolist(), strict=True))
    for number, addresses in pairs:
        if number >= 0:
            for one in index.addresses.values[addresses]:
                names_of[one].update(resolved.names[number])
    unclear: set[str] = set()
    for one, names in names_of.items():
        inside = any(kind in (POD, HOST_POD, NODE, SELF, OUTER) for kind, *_ in index.holders.get(one, ()))
        if len(names) > 1 or inside or index.in_pod_blocks(one) or one in index.api_servers:
            unclear |= names
    every = {name for names in names_of.values() for name in names}
    return frozenset(name for name in every - unclear if "." in name and _NAME.match(name))
