"""Static connectivity: what a policy set allows between all ends of an inventory, and how two sets differ in it.

Works group by group: for the rules of one group most peers and ports are alike, so a few are evaluated (by the same
code as recorded flows) and the rest are copies. Results are bit planes: what may be allowed, what may be denied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.bind import Bound, PortColumns, bind, port_columns
from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled, Side
from fathom.policy.ends import ELSEWHERE, Ends, PortSpan, ends_of, latest, ports_of
from fathom.policy.evaluate import ALLOW, DENY, side_outcomes
from fathom.policy.flows import protocol_word
from fathom.policy.index import EXTERNAL, NODE, POD
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.pairs import Links, Pairs
from fathom.policy.resolve import ROW, Resolved, Rows

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class StaticChange(msgspec.Struct, frozen=True):
    """Ports of one protocol that changed from one kind of source to some kinds of destination.

    ``example`` is a counter-example: a source, a destination, a protocol and a port; a flow between them has the change
    when it is evaluated under both sets. ``sources`` and ``destinations`` count the pods that are meant (0: no pod).
    ``targets`` names up to five workloads.
    """

    change: str
    src: str
    protocol: str
    ports: tuple[tuple[int, int], ...]
    targets: tuple[str, ...]
    sources: int
    destinations: int
    example: tuple[str, str, str, int]


class StaticDifference(msgspec.Struct, frozen=True):
    """``changes`` up to a limit, and how many (kind of source, kind of destination) pairs changed, by kind."""

    changes: tuple[StaticChange, ...]
    pairs: dict[str, int]
    ends: int
    left_out: int

    @property
    def none(self) -> bool:
        """Whether nothing changed."""
        return not self.changes


@dataclass(frozen=True)
class Connectivity:
    """What one policy set says between ends. Planes are packed over ports: (may be allowed, may be denied).

    ``egress[g]`` and ``ingress[g]``: ends × ports for each kind of subject; ``of`` maps an end to its g, -1: all
    allowed; ``isolated`` are the ends that policies isolate. ``hosts``: policies that are not understood select nodes.
    """

    ends: Ends
    ports: tuple[PortSpan, ...]
    planes: dict[Direction, Planes]
    of: dict[Direction, NDArray[np.int64]]
    isolated: dict[Direction, Bools]
    hosts: bool

    def from_end(self, src: int) -> Planes:
        """From one end to all: (may be allowed, may be denied), each ends × packed ports."""
        width = (len(self.ports) + 7) // 8
        full = np.packbits(np.ones(len(self.ports), bool), bitorder="little")
        allowed = np.broadcast_to(full, (len(self.ends), width)).copy()
        denied = np.zeros((len(self.ends), width), np.uint8)
        mine = int(self.of["egress"][src])
        if mine >= 0:
            allowed &= self.planes["egress"][0][mine]
            denied |= self.planes["egress"][1][mine]
        theirs = self.of["ingress"]
        held = np.flatnonzero(theirs >= 0)
        allowed[held] &= self.planes["ingress"][0][theirs[held], src]
        denied[held] |= self.planes["ingress"][1][theirs[held], src]
        if self.hosts:
            denied[np.full(len(denied), self.ends.kind[src] == NODE) | (self.ends.kind == NODE)] = full
        if self.ends.kind[src] == POD and not self.ends.several[src]:  # a pod always reaches itself
            allowed[src], denied[src] = full, 0
        apart = (self.ends.family != self.ends.family[src]) & (self.ends.family > 0) & (self.ends.family[src] > 0)
        allowed[apart], denied[apart] = 0, full  # they have no address to talk with
        return allowed, denied


def connectivity(compiled: Compiled, ends: Ends, ports: tuple[PortSpan, ...]) -> Connectivity:
    """The connectivity of one set over given ends and ports; ``compiled`` being current."""
    planes: dict[Direction, Planes] = {}
    of: dict[Direction, NDArray[np.int64]] = {}
    for direction in DIRECTIONS:
        planes[direction], of[direction] = _Static(compiled, ends, ports, direction).run()
    isolated = {way: (ends.kind == POD) & compiled.isolated(way, ends.profile) for way in DIRECTIONS}
    return Connectivity(ends, ports, planes, of, isolated, compiled.hosts)


class _Static:
    """One direction of one set."""

    def __init__(self, compiled: Compiled, ends: Ends, ports: tuple[PortSpan, ...], direction: Direction) -> None:
        self.compiled = compiled
        self.ends = ends
        self.ports = ports
        self.direction = direction
        self.side: Side = compiled.sides[direction]
        self.number = np.array([p.protocol for p in ports], np.uint8)
        self.port = np.array([p.first for p in ports], np.uint16)

    def run(self) -> tuple[Planes, NDArray[np.int64]]:
        """Planes for each kind of subject, and the kind of each end."""
        ends = self.ends
        column = self.compiled.classes.profile_column[ends.profile]
        group = np.where(ends.kind == POD, self.side.group_of[column], -1).astype(np.int64)
        kinds = group << 32 | (ends.named if self.direction == "ingress" else 0)
        kinds = np.where(group >= 0, kinds, -1)
        unique, first, inverse = np.unique(kinds, return_index=True, return_inverse=True)
        of = inverse.reshape(-1).astype(np.int64) - (1 if len(unique) and unique[0] < 0 else 0)
        of = np.where(kinds < 0, -1, of)
        subjects = [int(n) for n, kind in zip(first.tolist(), unique.tolist(), strict=True) if kind >= 0]
        if not subjects:
            none = np.zeros((0, len(ends), (len(self.ports) + 7) // 8), np.uint8)
            return (none, none), of
        every = np.arange(len(ends))
        as_peers = self._resolved(np.full(len(every), subjects[0]), every, np.zeros(len(every), np.int64))
        bound = bind(self.compiled, as_peers, self.direction, _no_ports(self.compiled, len(every)))
        pieces = [self._representatives(bound, int(group[subject])) for subject in subjects]
        outcomes = self._evaluate(subjects, pieces)
        width = (len(self.ports) + 7) // 8
        planes = np.zeros((2, len(subjects), len(ends), width), np.uint8)
        for at, (outcome, (peers, ports)) in enumerate(zip(outcomes, pieces, strict=True)):
            whole = outcome[peers[1]][:, ports[1]]
            for plane, bit in enumerate((ALLOW, DENY)):
                planes[plane, at] = np.packbits(whole & bit > 0, axis=1, bitorder="little")
        return (planes[0], planes[1]), of

    def _representatives(self, bound: Bound, group: int) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
        """Peers, and ports, that stand for all: (their numbers, for each peer or port its position among them).

        ``bound`` has every end as a peer: no end's column depends on the subject here.
        """
        program, every = self.side.groups[group], np.arange(len(self.ends))
        terms = self.side.terms[program.rules]
        rows: list[Bools] = []
        for half in (0, 1):
            rows.append(self.compiled.class_terms[half].look_up(terms[:, 0], bound.classes))
            rows.append(bound.cell_terms[half].look_up(terms[:, 1], bound.cells))
        extra = [
            self.ends.kind.astype(np.int64),
            self.ends.relation,
            bound.names if program.by_name else np.zeros(len(every), np.int64),
        ]
        if program.named and self.direction == "egress":
            extra.append(self.ends.named)
        peers = _alike(np.concatenate(rows) if rows else np.zeros((0, len(every)), bool), extra)
        if program.named:
            positions = np.arange(len(self.ports))
            return peers, (positions, positions)
        cells = self.compiled.ports.cells(self.number, self.port)
        must, may = self.compiled.port_terms.packed()
        bits = np.concatenate([half.look_up(terms[:, 2], cells.astype(np.int64)) for half in (must, may)])
        transports = np.isin(self.number, (6, 17, 132)).astype(np.int64)
        return peers, _alike(bits, [transports])

    def _evaluate(
        self, subjects: list[int], pieces: list[tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]]
    ) -> list[NDArray[np.uint8]]:
        """Outcomes of all representatives, for each subject peers × ports."""
        shapes = [(len(peers[0]), len(ports[0])) for peers, ports in pieces]
        mine = np.concatenate([np.full(a * b, s) for s, (a, b) in zip(subjects, shapes, strict=True)])
        peer = np.concatenate([np.repeat(peers[0], len(ports[0])) for peers, ports in pieces])
        port = np.concatenate([np.tile(ports[0], len(peers[0])) for peers, ports in pieces])
        resolved = self._resolved(mine, peer, port)
        found = side_outcomes(self.compiled, resolved, self.direction, port_columns(self.compiled, resolved))
        edges = np.cumsum([a * b for a, b in shapes])[:-1]
        parts = np.split(found.outcome, edges)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _resolved(self, mine: NDArray[np.int64], peer: NDArray[np.int64], port: NDArray[np.int64]) -> Resolved:
        """Rows between subjects and peers, as if resolved from flows."""
        ends, count = self.ends, len(mine)
        rows = Rows({name: np.zeros(count, ROW[name]) for name in ROW.names or ()}, count)
        src, dst = (mine, peer) if self.direction == "egress" else (peer, mine)
        for end, chosen in (("src", src), ("dst", dst)):
            rows[end + "_kind"][:] = ends.kind[chosen]
            rows[end + "_profile"][:] = ends.profile[chosen]
            rows[end + "_addresses"][:] = ends.addresses[chosen]
            rows[end + "_node"][:] = np.where(ends.kind[chosen] == EXTERNAL, -1, ends.node[chosen])
        there = np.array([ends.node[peer], np.full(count, ELSEWHERE), np.full(count, -1)])  # LOCAL, REMOTE, UNSURE
        rows["src_node" if self.direction == "egress" else "dst_node"][:] = there[ends.relation[peer], np.arange(count)]
        rows["flow"][:] = np.arange(count)
        rows["sides"][:] = 3
        rows["names"][:] = ends.names[dst]
        rows["protocol"][:] = self.number[port]
        rows["port"][:] = self.port[port]
        index = self.compiled.index
        return Resolved(index, self.compiled.options, rows, count, ends.name_sets, bool(index.answers))


def _no_ports(compiled: Compiled, count: int) -> PortColumns:
    return PortColumns(np.zeros(count, np.int64), (frozenset(),) * compiled.ports.count, compiled.port_terms.packed())


def _alike(bits: Bools, extra: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns with equal bits and extras: one of each, and for every column its position among those."""
    packed = np.packbits(bits, axis=0) if len(bits) else np.zeros((0, bits.shape[1]), np.uint8)
    keys = np.concatenate([packed.T, *[item.reshape(-1, 1).view(np.uint8) for item in map(_plain, extra)]], axis=1)
    flat = np.ascontiguousarray(keys).view(np.dtype((np.void, keys.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
    return first.astype(np.int64), inverse.reshape(-1).astype(np.int64)


def _plain(item: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.ascontiguousarray(item, np.int64)


_KINDS = ("newly-denied", "newly-allowed", "now-unknown", "no-longer-unknown")


def connectivity_difference(
    old: Compiled, new: Compiled, *, time: int | None = None, limit: int = 1_000
) -> StaticDifference:
    """How two sets, compiled for one inventory, differ between all its ends at ``time`` (default: the newest).

    Each change is told with a flow that shows it when it is evaluated under both sets at that time.
    """
    old, new = old.current(), new.current()
    moment = latest(old.index) if time is None else time
    ends, ports = ends_of((old, new), moment, placed=True), ports_of((old, new))
    was, now = connectivity(old, ends, ports), connectivity(new, ends, ports)
    told = _Told(Pairs(ends), ports)
    found: list[StaticChange] = []
    pairs = dict.fromkeys(_KINDS, 0)
    left_out = 0
    for sources in told.kinds_of_sources():
        links: dict[str, list[tuple[int, NDArray[np.uint8]]]] = {kind: [] for kind in _KINDS}
        for src in sources:
            possible = told.pairs.possible(src)
            for kind, plane in zip(_KINDS, _changed(was.from_end(src), now.from_end(src), len(ports)), strict=True):
                plane[~possible] = 0
                links[kind].append((src, plane))
        for kind in _KINDS:
            records, targets = told.records(links[kind])
            pairs[kind] += targets
            room = max(0, limit - len(found))
            found += [told.change(kind, *record) for record in records[:room]]
            left_out += max(0, len(records) - room)
    return StaticDifference(tuple(found), pairs, len(ends), left_out)


def _changed(was: Planes, now: Planes, ports: int) -> tuple[NDArray[np.uint8], ...]:
    """Packed planes of the four kinds of change."""
    full = np.packbits(np.ones(ports, bool), bitorder="little")
    unknown = [allowed & denied for allowed, denied in (was, now)]
    allowed = [full & ~one[1] for one in (was, now)]
    denied = [full & ~one[0] for one in (was, now)]
    return (
        allowed[0] & denied[1],
        denied[0] & allowed[1],
        unknown[1] & ~unknown[0],
        unknown[0] & ~unknown[1],
    )


#: A protocol, its ports, and the links that changed on them.
_Record = tuple[int, tuple[tuple[int, int], ...], Links]


class _Told:
    """Changed planes as changes: from one kind of source, what has the same ports of one protocol together."""

    def __init__(self, pairs: Pairs, ports: tuple[PortSpan, ...]) -> None:
        self.pairs = pairs
        self.ports = ports
        self._spans: dict[bytes, list[tuple[int, tuple[tuple[int, int], ...]]]] = {}

    def kinds_of_sources(self) -> Iterable[list[int]]:
        """The ends, those that are the same pods or nodes together."""
        found: dict[int, list[int]] = {}
        for end, body in enumerate(self.pairs.body.tolist()):
            found.setdefault(body, []).append(end)
        return found.values()

    def records(self, planes: list[tuple[int, NDArray[np.uint8]]]) -> tuple[list[_Record], int]:
        """Records of the planes of sources that are one, and how many kinds of destination they have."""
        found: dict[tuple[int, tuple[tuple[int, int], ...]], Links] = {}
        every: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for src, plane in planes:
            targets = np.flatnonzero(plane.any(axis=1))
            if not len(targets):
                continue
            every.append(self.pairs.body[targets])
            unique, inverse = np.unique(plane[targets], axis=0, return_inverse=True)
            for at, bits in enumerate(unique):
                mine = targets[inverse.reshape(-1) == at]
                for key in self._in_spans(bits):
                    found.setdefault(key, []).append((src, mine))
        return [(*key, links) for key, links in found.items()], len(np.unique(np.concatenate(every)))

    def _in_spans(self, bits: NDArray[np.uint8]) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
        """(protocol, intervals of its ports) of packed ports."""
        known = self._spans.get(bits.tobytes())
        if known is None:
            chosen = np.flatnonzero(np.unpackbits(bits, count=len(self.ports), bitorder="little")).tolist()
            spans = [self.ports[number] for number in chosen]
            known = self._spans[bits.tobytes()] = [
                (protocol, joined([span for span in spans if span.protocol == protocol]))
                for protocol in sorted({span.protocol for span in spans})
            ]
        return known

    def change(self, kind: str, protocol: int, spans: tuple[tuple[int, int], ...], links: Links) -> StaticChange:
        """One record as it is told."""
        ends, word = self.pairs.ends, protocol_word(protocol)
        src, targets = links[0]
        numbers = np.unique(np.concatenate([found for _, found in links])).tolist()
        workloads = sorted({name for end in numbers for name in ends.workloads[end] or (ends.workload[end],)})
        example = (*self.pairs.example(src, int(targets[0])), word, spans[0][0])
        return StaticChange(
            kind, ends.workload[src], word, spans, tuple(workloads[:5]), *self.pairs.counted(links), example
        )


def joined(spans: list[PortSpan]) -> tuple[tuple[int, int], ...]:
    """(first, last) of ports, adjacent intervals as one."""
    found: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda s: s.first):
        if found and span.first == found[-1][1] + 1:
            found[-1] = (found[-1][0], span.last)
        else:
            found.append((span.first, span.last))
    return tuple(found)
