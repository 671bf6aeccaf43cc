"""The ends and ports of a static analysis: one of each kind that the compared policy sets can tell apart.

Ends are pods (by class, address cell and named ports), nodes, and the outside (one address of each interval that
blocks cut, each API server, and for DNS names one address of each place and set of patterns that it meets, or the name
alone where no answer is known). A node is an end other than the pod's own node; where ends are ``placed``, also one
that is, and one of which it is not known. Ports are intervals of each protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathom.policy.addresses import BITS, Address
from fathom.policy.cells import OF_NODE, OF_POD
from fathom.policy.classes import LOCAL, REMOTE, UNSURE
from fathom.policy.compile import Compiled
from fathom.policy.index import EXTERNAL, HOST_POD, NODE, POD, Index
from fathom.policy.inventory import FOREVER
from fathom.policy.labelling import workload_of
from fathom.policy.model import NamePattern
from fathom.policy.names import example, matches

#: A node number that is no node: pods of a static analysis are on none of the nodes that they meet.
ELSEWHERE = 1 << 30
#: Addresses set apart for documentation (RFC 5737, RFC 3849): they stand for the outside where they can.
_SPOKEN = {4: (203 << 24) + (113 << 8) + 1, 6: (0x20010DB8 << 96) + 1}


class Member(NamedTuple):
    """A pod or node that an end stands for: ``text`` names it, ``node`` is where it is (-1: not known).

    ``pod`` is its record (-1: a node). ``single``: it has addresses of one family only. ``clear``: no rule tells its
    addresses apart. ``address`` is, where it is not single, its address of the end's family (empty where that would
    name another thing too).
    """

    text: str
    node: int
    pod: int
    single: bool
    clear: bool
    address: str


@dataclass(frozen=True)
class Ends:
    """Parallel arrays over ends. A pod with addresses of both families is two ends.

    ``pods`` counts the pods that an end stands for and no other end counts (0: it is no pod). ``family`` is 4, 6 or 0
    (not known). ``named`` numbers what the pod's named ports are, of those that rules ask for. ``relation`` is a
    node's to the pod at the other end (LOCAL, REMOTE, UNSURE). ``several``: two of its pods may talk with one another.
    ``text`` and ``workload`` name one, ``address`` is its address, if known. ``workloads`` are all that it stands for,
    each with how many of its pods (counted as in ``pods``); ``members`` are its pods or nodes.
    """

    kind: NDArray[np.uint8]
    profile: NDArray[np.int64]
    addresses: NDArray[np.int64]
    node: NDArray[np.int64]
    names: NDArray[np.int64]
    named: NDArray[np.int64]
    relation: NDArray[np.int64]
    several: NDArray[np.bool_]
    pods: NDArray[np.int64]
    family: NDArray[np.int64]
    text: tuple[str, ...]
    address: tuple[str, ...]
    workload: tuple[str, ...]
    workloads: tuple[dict[str, int], ...]
    members: tuple[tuple[Member, ...], ...]
    name_sets: tuple[frozenset[str], ...]

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class PortSpan:
    """Ports ``first`` to ``last`` of one protocol, which no policy of the compared sets tells apart."""

    protocol: int
    first: int
    last: int


def ends_of(sets: Sequence[Compiled], time: int, *, placed: bool = False) -> Ends:
    """All kinds of ends at ``time`` (epoch seconds); ``placed``: nodes by their relation to pods, and pods on them."""
    index = sets[0].index
    collector = _Collector(sets, index, time, placed)
    collector.pods()
    collector.nodes()
    collector.outside()
    return collector.ends()


class _Collector:
    def __init__(self, sets: Sequence[Compiled], index: Index, time: int, placed: bool) -> None:
        self.sets = sets
        self.index = index
        self.time = time
        self.placed = placed
        self.rows: list[list[int]] = []
        self.texts: list[tuple[str, str, str]] = []
        self.workloads: dict[int, dict[str, int]] = {}
        self.members: dict[int, list[Member]] = {}
        self.name_sets: dict[frozenset[str], int] = {}
        self._cells: dict[int, tuple[frozenset[int], ...]] = {}
        self._same: dict[tuple[tuple[frozenset[int], ...], int], bool] = {}
        table = index.presences
        self.living = (table["since"] <= time) & (table["until"] > time)
        self.hosts = sets[0].options.host_network

    def pods(self) -> None:
        table, index = self.index.presences, self.index
        wanted = {name for compiled in self.sets for name in compiled.ports.named}
        named: dict[tuple[object, ...], int] = {(): 0}
        seen: dict[tuple[object, ...], int] = {}
        on_host = self.placed and self.hosts != "node"
        chosen = self.living & ((table["kind"] == POD) | ((table["kind"] == HOST_POD) & on_host))
        for row in sorted(np.flatnonzero(chosen).tolist(), key=self._name):
            number, profile, node = (int(table[name][row]) for name in ("pod", "profile", "node"))
            addresses = self._addresses(row)
            if table["kind"][row] == HOST_POD and self.hosts == "unknown":
                profile = 0
            known = index.profiles.values[profile]
            ports = (known.pod is None, *(item for item in known.ports if item[0] in wanted))
            mine = 0 if ports == (False,) else named.setdefault(ports, len(named))
            columns = tuple(int(compiled.classes.profile_column[profile]) for compiled in self.sets)
            pod = index.records.pods[number]
            workload = workload_of(pod)
            name = workload if pod.virtual else f"{pod.namespace}/{pod.name}"
            for first, (family, part) in enumerate(self._families(addresses)):
                key = (columns, self._in_cells(part), mine, family)
                at = seen.setdefault(key, len(self.rows))
                if at == len(self.rows):
                    self.rows.append([POD, profile, part, ELSEWHERE, -1, mine, REMOTE, 0, 0, family])
                    spoken = str(index.addresses.values[part][0]) if index.addresses.values[part] else ""
                    self.texts.append((name, spoken, workload))
                self.rows[at][7] |= pod.virtual or at in self.members
                self.rows[at][8] += not first
                members = self.workloads.setdefault(at, {})
                members[workload] = members.get(workload, 0) + (not first)
                self._stand(at, (name, node, number), addresses, part)

    def _name(self, row: int) -> tuple[str, str]:
        pod = self.index.records.pods[int(self.index.presences["pod"][row])]
        return pod.namespace, pod.name

    def _addresses(self, row: int) -> int:
        """The addresses of a pod: on the host's network its node's, where no others are known."""
        table, index = self.index.presences, self.index
        addresses, node = int(table["addresses"][row]), int(table["node"][row])
        if table["kind"][row] != HOST_POD or addresses or node < 0:
            return addresses
        return self._of_node(index.nodes.values[node])

    def _of_node(self, name: str) -> int:
        records = self.index.node_records.get(name, ())
        return self.index.address_set(text for item in records for text in item.addresses)

    def _stand(self, at: int, who: tuple[str, int, int], addresses: int, part: int) -> None:
        """One more that the end ``at`` stands for: ``who`` (name, node, pod), with ``part`` of its ``addresses``."""
        single = part == addresses
        clear = single or self._undivided(self._in_cells(addresses), OF_NODE if self.rows[at][0] == NODE else OF_POD)
        held = self.index.addresses.values[part]
        spoken = str(held[0]) if not single and len(held) == 1 and self._alone(held[0]) else ""
        self.members.setdefault(at, []).append(Member(*who, single, clear, spoken))

    def _undivided(self, cells: tuple[frozenset[int], ...], seen_from: int) -> bool:
        """Whether no block of a set is in one of the cells and not in another."""
        found = self._same.get((cells, seen_from))
        if found is None:
            found = True
            for compiled, mine in zip(self.sets, cells, strict=True):
                columns = np.array(sorted(mine), np.int64) + seen_from * compiled.cells.count
                for half in compiled.cell_terms.packed():
                    bits = half.look_up(np.arange(len(half)), columns)
                    found = found and bool((bits == bits[:, :1]).all())
            self._same[cells, seen_from] = found
        return found

    def _alone(self, one: Address) -> bool:
        """Whether just one thing has the address, at the time."""
        holders = self.index.holders.get(one, ())
        return sum(since <= self.time < until for _, _, since, until in holders) == 1

    def _families(self, addresses: int) -> list[tuple[int, int]]:
        """(family, set of its addresses) of a set of addresses; (0, the set) where there is none."""
        held = self.index.addresses.values[addresses]
        families = sorted({one.family for one in held})
        if len(families) < 2:
            return [(families[0] if families else 0, addresses)]
        number = self.index.addresses.number
        return [(family, number(tuple(one for one in held if one.family == family))) for family in families]

    def _in_cells(self, addresses: int) -> tuple[frozenset[int], ...]:
        found = self._cells.get(addresses)
        if found is None:
            held = self.index.addresses.values[addresses]
            found = self._cells[addresses] = tuple(c.cells.cells([held])[0] for c in self.sets)
        return found

    def nodes(self) -> None:
        """Nodes, and (placed) what is on the host's network of a node that has no record."""
        found: dict[tuple[bool, object, object, int], list[tuple[str, int, int, int, int]]] = {}
        parts: dict[tuple[bool, object, object, int], tuple[int, str]] = {}
        for name, number, pod, workload, addresses in chain(self._nodes(), self._on_hosts() if self.placed else ()):
            classes = tuple(int(c.classes.node_class[number]) for c in self.sets)
            for family, part in self._families(addresses):
                key = (number < 0, classes, self._in_cells(part), family)
                parts.setdefault(key, (part, workload))
                found.setdefault(key, []).append((name, number, pod, addresses, part))
        used = {one.node for members in self.members.values() for one in members}
        for kind, members in found.items():
            part, workload = parts[kind]
            here = {number for _, number, *_ in members}
            relations = [UNSURE] * (-1 in used or -1 in here) + [LOCAL] * bool(used & here - {-1})
            for relation in [REMOTE] * (-1 not in here) + relations * self.placed:
                at = len(self.rows)
                self.rows.append([NODE, 0, part, members[0][1], -1, 0, relation, 1, 0, kind[3]])
                self.texts.append((members[0][0], "", workload))
                for name, number, pod, addresses, own in members:
                    self._stand(at, (name, number, pod), addresses, own)
                if members[0][2] >= 0:
                    self.rows[at][8] = len(members)

    def _nodes(self) -> Iterator[tuple[str, int, int, str, int]]:
        for name, number in sorted(self.index.nodes.numbers.items()):
            if name in self.index.node_records:
                yield f"Node/{name}", number, -1, f"Node/{name}", self._of_node(name)

    def _on_hosts(self) -> Iterator[tuple[str, int, int, str, int]]:
        """Pods on the host's network that are their node."""
        if self.hosts != "node":
            return
        table, index = self.index.presences, self.index
        for row in sorted(np.flatnonzero(self.living & (table["kind"] == HOST_POD)).tolist(), key=self._name):
            pod, node = int(table["pod"][row]), int(table["node"][row])
            held = index.records.pods[pod]
            name = workload_of(held) if held.virtual else f"{held.namespace}/{held.name}"
            yield name, node, pod, workload_of(held), self._addresses(row)

    def outside(self) -> None:
        """One address of each interval; then the API servers, those that names were answered with, and names."""
        for family in (4, 6):
            edges = sorted({e for c in self.sets for e in c.cells.edges(family)})
            for at, first in enumerate(edges):
                last = (edges[at + 1] if at + 1 < len(edges) else 1 << BITS[family]) - 1
                one = self._outer(family, first, last)
                if one is not None:
                    self._add_outside(one, frozenset())
        for one in sorted(self.index.api_servers):
            if self._is_outside(one):
                self._add_outside(one, frozenset())
        self._named()

    def _named(self) -> None:
        """Of the addresses that DNS answers gave, one for each place and each set of patterns that its names meet."""
        every = {pattern for compiled in self.sets for pattern in _patterns(compiled)}
        globs = sorted(pattern for pattern in every if pattern.style != "exact")
        met: set[NamePattern] = set()
        seen: set[tuple[object, ...]] = set()
        for one, answers in sorted(self.index.answers.items()):
            names = frozenset(name for name, since, until in answers if since <= self.time < until)
            if not names or not self._is_outside(one):
                continue
            mine = {NamePattern("exact", name) for name in names} & every
            mine |= {pattern for pattern in globs if any(matches(pattern, name) for name in names)}
            key = (self._in_cells(self.index.addresses.number((one,))), frozenset(mine))
            if key not in seen:
                seen.add(key)
                met |= mine
                self._add_outside(one, names)
        for name in sorted({example(pattern) for pattern in every - met}):
            number = self.name_sets.setdefault(frozenset((name,)), len(self.name_sets))
            self.rows.append([EXTERNAL, 0, 0, -1, number, 0, REMOTE, 1, 0, 0])
            self.texts.append((name, "", name))

    def _is_outside(self, one: Address) -> bool:
        return one not in self.index.holders and not self.index.in_pod_blocks(one)

    def _outer(self, family: int, first: int, last: int) -> Address | None:
        """An address of the interval that is neither of the cluster nor of the machine itself."""
        middle = (first + last) // 2
        for number in (_SPOKEN[family], first, first + 1, last, middle, middle + 1):
            one = Address(family, number)
            loops = number >> 24 in (0, 127) if family == 4 else number <= 1
            ours = one in self.index.holders or one in self.index.answers or self.index.in_pod_blocks(one)
            if first <= number <= last and not loops and not ours:
                return one
        return None

    def _add_outside(self, one: Address, names: frozenset[str]) -> None:
        number = self.name_sets.setdefault(names, len(self.name_sets)) if names else -1
        self.rows.append([EXTERNAL, 0, self.index.addresses.number((one,)), -1, number, 0, REMOTE, 1, 0, one.family])
        self.texts.append((str(one), str(one), str(one)))

    def ends(self) -> Ends:
        table = np.array(self.rows, np.int64).reshape(-1, 10)
        return Ends(
            table[:, 0].astype(np.uint8),
            table[:, 1],
            table[:, 2],
            table[:, 3],
            table[:, 4],
            table[:, 5],
            table[:, 6],
            table[:, 7] > 0,
            table[:, 8],
            table[:, 9],
            tuple(text for text, _, _ in self.texts),
            tuple(spoken for _, spoken, _ in self.texts),
            tuple(workload for _, _, workload in self.texts),
            tuple(self.workloads.get(n, {}) for n in range(len(self.texts))),
            tuple(tuple(self.members.get(n, ())) for n in range(len(self.texts))),
            tuple(self.name_sets),
        )


def _patterns(compiled: Compiled) -> set[NamePattern]:
    return {pattern for side in compiled.sides.values() for rule in side.rules for pattern in rule.names}


def ports_of(sets: Sequence[Compiled]) -> tuple[PortSpan, ...]:
    """Intervals of TCP, UDP and SCTP that the sets cut, those that named ports stand for cut out too; and ICMP."""
    found: list[PortSpan] = []
    index = sets[0].index
    wanted = {name for compiled in sets for name in compiled.ports.named}
    named = {
        (protocol, port)
        for profile in index.profiles.values
        for name, protocol, port in profile.ports
        if name in wanted
    }
    for protocol in (6, 17, 132):
        edges = {1} | {e for compiled in sets for e in compiled.ports.edges(protocol) if e > 0}
        edges |= {edge for p, port in named if p == protocol for edge in (port, port + 1)}
        cuts = sorted(edge for edge in edges if edge < 65536)
        found += [
            PortSpan(protocol, first, (cuts[at + 1] if at + 1 < len(cuts) else 65536) - 1)
            for at, first in enumerate(cuts)
        ]
    apart = any(_tells_icmp_apart(compiled) for compiled in sets)
    return (*found, PortSpan(1, 0, 0), *([PortSpan(58, 0, 0)] if apart else []))


def _tells_icmp_apart(compiled: Compiled) -> bool:
    """Whether some rule tells ICMPv6 from ICMP; where none does, one stands for both."""
    cells = compiled.ports.cells(np.array([1, 58], np.uint8), np.zeros(2, np.uint16)).astype(np.int64)
    every = np.arange(len(compiled.port_terms.packed()[0]))
    found = [half.look_up(every, cells) for half in compiled.port_terms.packed()]
    return any(bool((bits[:, 0] != bits[:, 1]).any()) for bits in found)


def latest(index: Index) -> int:
    """A time at which the newest records hold: the last start of a presence, if any is bounded."""
    table = index.presences
    bounded = table["until"][table["until"] < FOREVER]
    if not len(table) or (table["until"] >= FOREVER).any():
        return FOREVER - 1
    return int(bounded.max()) - 1
