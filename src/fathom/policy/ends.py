"""The ends and ports of a static analysis: one of each kind that the compared policy sets can tell apart.

Ends are pods (by class, address cell and named ports), nodes other than the pod's own, and the outside (one address
of each interval that blocks cut, each API server, and for DNS names one address of each place and set of patterns that
it meets, or the name alone where no answer is known). Ports are intervals of each protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.policy.addresses import BITS, Address
from fathom.policy.compile import Compiled
from fathom.policy.index import EXTERNAL, NODE, POD, Index
from fathom.policy.inventory import FOREVER
from fathom.policy.labelling import workload_of
from fathom.policy.model import NamePattern
from fathom.policy.names import example, matches

#: A node number that is no node: pods of a static analysis are on none of the nodes that they meet.
ELSEWHERE = 1 << 30
#: Addresses set apart for documentation (RFC 5737, RFC 3849): they stand for the outside where they can.
_SPOKEN = {4: (203 << 24) + (113 << 8) + 1, 6: (0x20010DB8 << 96) + 1}


@dataclass(frozen=True)
class Ends:
    """Parallel arrays over ends. A pod with addresses of both families is two ends.

    ``members`` counts the pods that an end stands for, ``pods`` those of them that no other end counts (0: it is no
    pod). ``family`` is 4, 6 or 0 (not known). ``named`` numbers what the pod's named ports are, of those that rules
    ask for. ``text`` and ``workload`` name one, ``address`` is its address, if known. ``workloads`` are all that it
    stands for, each with how many of its pods (counted as in ``pods``).
    """

    kind: NDArray[np.uint8]
    profile: NDArray[np.int64]
    addresses: NDArray[np.int64]
    node: NDArray[np.int64]
    names: NDArray[np.int64]
    named: NDArray[np.int64]
    members: NDArray[np.int64]
    pods: NDArray[np.int64]
    family: NDArray[np.int64]
    text: tuple[str, ...]
    address: tuple[str, ...]
    workload: tuple[str, ...]
    workloads: tuple[dict[str, int], ...]
    name_sets: tuple[frozenset[str], ...]

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class PortSpan:
    """Ports ``first`` to ``last`` of one protocol, which no policy of the compared sets tells apart."""

    protocol: int
    first: int
    last: int


def ends_of(sets: Sequence[Compiled], time: int) -> Ends:
    """All kinds of ends at ``time`` (epoch seconds)."""
    index = sets[0].index
    collector = _Collector(sets, index, time)
    collector.pods()
    collector.nodes()
    collector.outside()
    return collector.ends()


class _Collector:
    def __init__(self, sets: Sequence[Compiled], index: Index, time: int) -> None:
        self.sets = sets
        self.index = index
        self.time = time
        self.rows: list[list[int]] = []
        self.texts: list[tuple[str, str, str]] = []
        self.workloads: dict[int, dict[str, int]] = {}
        self.name_sets: dict[frozenset[str], int] = {}
        self._cells: dict[int, tuple[frozenset[int], ...]] = {}

    def pods(self) -> None:
        table, index = self.index.presences, self.index
        wanted = {name for compiled in self.sets for name in compiled.ports.named}
        named: dict[tuple[object, ...], int] = {(): 0}
        seen: dict[tuple[object, ...], int] = {}
        living = (table["since"] <= self.time) & (table["until"] > self.time) & (table["kind"] == POD)
        for row in np.flatnonzero(living).tolist():
            number, profile, addresses = (int(table[name][row]) for name in ("pod", "profile", "addresses"))
            ports = tuple(item for item in index.profiles.values[profile].ports if item[0] in wanted)
            mine = named.setdefault(ports, len(named))
            columns = tuple(int(compiled.classes.profile_column[profile]) for compiled in self.sets)
            pod = index.records.pods[number]
            workload = workload_of(pod)
            for first, (family, part) in enumerate(self._families(addresses)):
                key = (columns, self._in_cells(part), mine, family)
                at = seen.setdefault(key, len(self.rows))
                if at == len(self.rows):
                    self.rows.append([POD, profile, part, ELSEWHERE, -1, mine, 0, 0, family])
                    spoken = str(index.addresses.values[part][0]) if index.addresses.values[part] else ""
                    self.texts.append((workload if pod.virtual else f"{pod.namespace}/{pod.name}", spoken, workload))
                self.rows[at][6] += 1
                self.rows[at][7] += not first
                members = self.workloads.setdefault(at, {})
                members[workload] = members.get(workload, 0) + (not first)

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
        seen: set[tuple[object, ...]] = set()
        for number, name in enumerate(self.index.nodes.values):
            texts = [text for item in self.index.node_records.get(name, ()) for text in item.addresses]
            classes = tuple(int(c.classes.node_class[number]) for c in self.sets)
            for family, part in self._families(self.index.address_set(texts)):
                key = (classes, self._in_cells(part), family)
                if name in self.index.node_records and key not in seen:
                    seen.add(key)
                    self.rows.append([NODE, 0, part, number, -1, 0, 0, 0, family])
                    self.texts.append((f"Node/{name}", "", f"Node/{name}"))

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
            if one not in self.index.holders:
                self._add_outside(one, frozenset())
        self._named()

    def _named(self) -> None:
        """Of the addresses that DNS answers gave, one for each place and each set of patterns that its names meet."""
        every = {pattern for compiled in self.sets for pattern in _patterns(compiled)}
        globs = sorted(pattern for pattern in every if pattern.style != "exact")
        met: set[NamePattern] = set()
        seen: set[tuple[object, ...]] = set()
        for one, answers in self.index.answers.items():
            names = frozenset(name for name, since, until in answers if since <= self.time < until)
            if not names or one in self.index.holders:
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
            self.rows.append([EXTERNAL, 0, 0, -1, number, 0, 0, 0, 0])
            self.texts.append((name, "", name))

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
        self.rows.append([EXTERNAL, 0, self.index.addresses.number((one,)), -1, number, 0, 0, 0, one.family])
        self.texts.append((str(one), str(one), str(one)))

    def ends(self) -> Ends:
        table = np.array(self.rows, np.int64).reshape(-1, 9)
        return Ends(
            table[:, 0].astype(np.uint8),
            table[:, 1],
            table[:, 2],
            table[:, 3],
            table[:, 4],
            table[:, 5],
            table[:, 6],
            table[:, 7],
            table[:, 8],
            tuple(text for text, _, _ in self.texts),
            tuple(spoken for _, spoken, _ in self.texts),
            tuple(workload for _, _, workload in self.texts),
            tuple(self.workloads.get(n, {}) for n in range(len(self.texts))),
            tuple(self.name_sets),
        )


def _patterns(compiled: Compiled) -> set[NamePattern]:
    return {pattern for side in compiled.sides.values() for rule in side.rules for pattern in rule.names}


def ports_of(sets: Sequence[Compiled]) -> tuple[PortSpan, ...]:
    """Intervals of TCP, UDP and SCTP that the sets cut, those that named ports stand for cut out too, and ICMP."""
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
    return (*found, PortSpan(1, 0, 0))


def latest(index: Index) -> int:
    """A time at which the newest records hold: the last start of a presence, if any is bounded."""
    table = index.presences
    bounded = table["until"][table["until"] < FOREVER]
    if not len(table) or (table["until"] >= FOREVER).any():
        return FOREVER - 1
    return int(bounded.max()) - 1
