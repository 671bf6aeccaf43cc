"""The edges that the agent has in hand, numbered: a bounded table from what an observation says to an edge.

What finds no room is merged into edges whose peer is ``other`` (same workload, direction, protocol, port, verdict);
what finds no room there either gets no number, and the reducer counts it as lost. Nothing is dropped silently.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fathom.events import observations
from fathom.events.edges import Direction, Edge, Verdict, Workload
from fathom.identity.slots import I32, U64, Mixer, Slots, distinct

_DIRECTIONS: tuple[Direction, ...] = ("unknown", "egress", "ingress")
_VERDICTS: tuple[Verdict, ...] = ("unknown", "forwarded", "failed", "dropped")
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
#: Name of the peer that stands for all that found no room, and the word of its address, which no peer can have.
OTHER_PEER = "other"
_OTHER = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_MAPPED = bytes(10) + b"\xff\xff"

#: What is kept of an edge besides its workload; ``id`` is 0 until somebody asked.
_KEPT = np.dtype([("hash", "<u8"), ("high", "<u8"), ("low", "<u8"), ("meta", "<u8"), ("who", "<u8"), ("id", "<i8")])


@dataclass(frozen=True, slots=True)
class Ends:
    """What tells edges apart, an entry per row. ``high``/``low``: the words of the remote address as they lie in
    memory; ``meta``: as of ``pack``; ``who``: hash of the workload; ``numbers``: its number (``int32``)."""

    high: U64
    low: U64
    meta: U64
    who: U64
    numbers: I32

    def take(self, rows: npt.NDArray[np.intp]) -> Ends:
        """The entries of ``rows``."""
        return Ends(self.high[rows], self.low[rows], self.meta[rows], self.who[rows], self.numbers[rows])


#: Which bits of an observation's bytes from ``owner_source`` on belong to a ``meta`` word: protocol, direction, verdict
#: and reason, a byte each from bit 16 on. The low 16 bits are for the server's port.
META_ENUMS = np.uint64(0x0000_FFFF_FFFF_0000)


def pack(protocol: int, direction: int, verdict: int, reason: int, port: int) -> int:
    """The ``meta`` word that tells edges of one workload and peer apart."""
    return reason << 40 | verdict << 32 | direction << 24 | protocol << 16 | port


def unpack(meta: int) -> tuple[int, int, int, int, int]:
    """Protocol, direction, verdict, reason and port of a ``meta`` word."""
    return meta >> 16 & 0xFF, meta >> 24 & 0xFF, meta >> 32 & 0xFF, meta >> 40 & 0xFF, meta & 0xFFFF


def protocol_name(number: int) -> str:
    """``TCP``, ``UDP``, ``ICMP``, ``ICMPv6``, or the IP protocol number as text."""
    return _PROTOCOLS.get(number, str(number))


def direction_name(number: int) -> Direction:
    """The word for a direction's number."""
    return _DIRECTIONS[number] if number < len(_DIRECTIONS) else "unknown"


def reason_name(number: int) -> str:
    """The word for a failure's number, ``""`` for none."""
    if number == 0:
        return ""
    known = number in observations.Reason.__members__.values()
    return observations.Reason(number).name.lower() if known else str(number)


def address_text(address: bytes) -> str:
    """The 16 bytes of an address as text; IPv4 in IPv6 as IPv4."""
    if address.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)


class EdgeTable:
    """At most ``limit`` edges at a time, and beside them an eighth of that (at least 64) with the peer ``other``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: How often ``keep`` gave edges new numbers.
        self.renumbered = 0
        self._others_limit = max(limit // 8, 64)
        self._others = 0
        self._mixer = Mixer(4)
        self._slots = Slots()
        self._kept = np.zeros(256, _KEPT)
        self._workloads: list[Workload] = []

    def __len__(self) -> int:
        return len(self._workloads)

    def find(self, ends: Ends, workloads: list[Workload]) -> I32:
        """The number of each row's edge (``int32``), new ones included; -1 where there was no room at all."""
        hashes = self._mixer(ends.high, ends.low, ends.meta, ends.who)
        found = self._slots.find(hashes)
        new = np.flatnonzero(found < 0)
        if new.size:
            room = self.limit - (len(self._workloads) - self._others)
            found[new] = self._admit(hashes[new], ends.take(new), workloads, room)
            full = new[found[new] < 0]
            if full.size:
                found[full] = self._merge(ends.take(full), workloads)
        return found

    def told(self, numbers: npt.NDArray[np.intp]) -> tuple[list[Edge], npt.NDArray[np.int64]]:
        """The edges ``numbers`` themselves, and their lasting ids (``Edge.id``, ``int64``)."""
        ids = self._kept["id"]
        edges = [self.edge(number) for number in numbers.tolist()]
        for position in np.flatnonzero(ids[numbers] == 0).tolist():
            ids[numbers[position]] = edges[position].id
        return edges, ids[numbers]

    def edge(self, number: int) -> Edge:
        """The edge itself."""
        kept = self._kept[number]
        protocol, direction, verdict, reason, port = unpack(int(kept["meta"]))
        merged = kept["high"] == _OTHER and kept["low"] == _OTHER
        address = "" if merged else address_text(kept["high"].tobytes() + kept["low"].tobytes())
        return Edge(
            workload=self._workloads[number],
            direction=direction_name(direction),
            peer=OTHER_PEER if merged else address,
            peer_address=address,
            protocol=protocol_name(protocol),
            port=port,
            verdict=_VERDICTS[verdict] if verdict < len(_VERDICTS) else "unknown",
            reason=reason_name(reason),
        )

    def meta(self, numbers: npt.NDArray[np.intp]) -> U64:
        """The ``pack`` words of the edges ``numbers``."""
        return self._kept["meta"][numbers]

    def who(self, numbers: npt.NDArray[np.intp]) -> U64:
        """The hashes of the workloads of the edges ``numbers``."""
        return self._kept["who"][numbers]

    def workload(self, number: int) -> Workload:
        """The workload of the edge ``number``."""
        return self._workloads[number]

    def is_other(self, numbers: I32) -> npt.NDArray[np.bool_]:
        """Which of ``numbers`` are edges with the peer ``other``; -1 is none."""
        kept = self._kept[np.maximum(numbers, 0)]
        return np.asarray((numbers >= 0) & (kept["high"] == _OTHER) & (kept["low"] == _OTHER), np.bool_)

    def keep(self, numbers: npt.NDArray[np.intp]) -> None:
        """Forget all edges but ``numbers`` (ascending), which from now on are 0, 1, …"""
        self.renumbered += 1
        kept = self._kept[numbers]
        self._kept = np.zeros(max(256, 2 * numbers.size), _KEPT)
        self._kept[: numbers.size] = kept
        self._workloads = [self._workloads[number] for number in numbers.tolist()]
        self._others = int(((kept["high"] == _OTHER) & (kept["low"] == _OTHER)).sum())
        self._slots.replace(kept["hash"].copy(), np.arange(numbers.size, dtype=np.int32), room=2)

    def _merge(self, ends: Ends, workloads: list[Workload]) -> I32:
        other = np.full(ends.meta.size, _OTHER)
        merged = Ends(other, other, ends.meta, ends.who, ends.numbers)
        hashes = self._mixer(other, other, ends.meta, ends.who)
        found = self._slots.find(hashes)
        new = np.flatnonzero(found < 0)
        before = len(self._workloads)
        found[new] = self._admit(hashes[new], merged.take(new), workloads, self._others_limit - self._others)
        self._others += len(self._workloads) - before
        return found

    def _admit(self, hashes: U64, ends: Ends, workloads: list[Workload], room: int) -> I32:
        """Take in the first ``room`` edges that are new, in the order of their rows; the number of each row's."""
        first, inverse = distinct(hashes)
        order = np.argsort(first)[: max(room, 0)]
        rows, start = first[order], len(self._workloads)
        numbers = np.full(first.size, -1, np.int32)
        numbers[order] = np.arange(start, start + order.size)
        while start + order.size > self._kept.size:
            self._kept = np.concatenate((self._kept, np.zeros(self._kept.size, _KEPT)))
        kept = self._kept[start : start + order.size]
        kept["hash"], kept["high"], kept["low"] = hashes[rows], ends.high[rows], ends.low[rows]
        kept["meta"], kept["who"] = ends.meta[rows], ends.who[rows]
        self._workloads.extend(workloads[number] for number in ends.numbers[rows].tolist())
        self._slots.add(hashes[rows], numbers[order])
        return numbers[inverse]
