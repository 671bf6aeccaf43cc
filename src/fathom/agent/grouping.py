"""From rows to edges: who it was and which edge that makes, remembered so that a row like one before costs one look.

What makes a row's edge (process, cgroup, direction, verdict, reason, protocol, server port, peer) is mixed into one
hash, and the edge's number is found by it. Only rows that are new go through identity and the table of edges. What is
remembered is forgotten whenever identity checks its own answers, and when edges get new numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fathom.agent.edges import META_ENUMS, EdgeTable, Ends
from fathom.events.batches import Clock
from fathom.events.edges import Workload
from fathom.events.observations import OBSERVATION, Direction
from fathom.events.rows import Rows, take
from fathom.identity.identities import Identities
from fathom.identity.slots import I32, U64, Mixer, Slots, distinct
from fathom.identity.workloads import OTHER, OWN

#: In place of an edge's number: there was no room; the row is Fathom's own.
NO_ROOM, MINE = -1, -2
#: Answers remembered at a time; above, all are forgotten.
_LIMIT = 32_768
#: Low bits of a remembered answer, above which is the edge's number.
_MINE, _OTHER_WORKLOAD, _OTHER_EDGE, _BITS = 1, 2, 4, 3
_OFFSETS = {name: field[1] for name, field in (OBSERVATION.fields or {}).items()}
_WORDS = {
    "cgroup": ("<u8", _OFFSETS["cgroup"]),
    "pid": ("<u4", _OFFSETS["pid"]),
    "comm0": ("<u8", _OFFSETS["comm"]),
    "comm1": ("<u8", _OFFSETS["comm"] + 8),
    "high": ("<u8", _OFFSETS["remote"]),
    "low": ("<u8", _OFFSETS["remote"] + 8),
    "enums": ("<u8", _OFFSETS["owner_source"]),
}
_VIEW = np.dtype(
    {
        "names": list(_WORDS),
        "formats": [form for form, _ in _WORDS.values()],
        "offsets": [offset for _, offset in _WORDS.values()],
        "itemsize": OBSERVATION.itemsize,
    }
)
_BYTE = np.uint64(0xFF)
#: Plain numbers: looking up a member of an enum costs as much as an array operation.
_EGRESS, _UNKNOWN = np.uint64(Direction.EGRESS), np.uint64(Direction.UNKNOWN)
_PROTOCOL_SHIFT, _DIRECTION_SHIFT = np.uint64(16), np.uint64(24)
#: Protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite (IANA protocol numbers).
_PORTS = np.zeros(256, np.uint64)
_PORTS[[6, 17, 33, 132, 136]] = 0xFFFF


@dataclass(slots=True)
class Merged:
    """Rows that count under another name than their own since start: workload or edge ``other``."""

    workloads: int = 0
    edges: int = 0


class Grouping:
    """Edge numbers of rows, in the table ``edges``. With ``show_own``, Fathom's own rows are like others."""

    def __init__(self, identities: Identities, edges: EdgeTable, *, show_own: bool = False) -> None:
        self.merged = Merged()
        self.edges = edges
        self._identities = identities
        self._show_own = show_own
        self._mixer = Mixer(7)
        self._slots = Slots()
        self._state = (0, 0)

    def numbers(self, rows: Rows, now: Clock) -> I32:
        """For each row (dtype ``OBSERVATION``) its edge's number, ``NO_ROOM`` or ``MINE`` (``int32``)."""
        self._identities.keep_fresh(now)
        state = (self._identities.checks, self.edges.renumbered)
        if state != self._state or len(self._slots) > _LIMIT:
            self._state, self._slots = state, Slots()
        meta = _meta(rows)
        view = rows.view(_VIEW)
        high, low = np.ascontiguousarray(view["high"]), np.ascontiguousarray(view["low"])
        hashes = self._mixer(
            np.ascontiguousarray(view["cgroup"]),
            view["pid"].astype(np.uint64),
            np.ascontiguousarray(view["comm0"]),
            np.ascontiguousarray(view["comm1"]),
            meta,
            high,
            low,
        )
        answers = self._slots.find(hashes)
        new = np.flatnonzero(answers < 0)
        if new.size:
            first, inverse = distinct(hashes[new])
            sample = new[first]
            found = self._resolve(take(rows, sample), meta[sample], high[sample], low[sample], now)
            answers[new] = found[inverse]
            if self._identities.sure:
                fitting = found >= 0
                self._slots.add(hashes[sample][fitting], found[fitting])
        return self._unpacked(answers)

    def _resolve(self, rows: Rows, meta: U64, high: U64, low: U64, now: Clock) -> I32:
        """Answers for rows that are new, one of each kind: the edge's number and bits, -1 where there is no room."""
        table, numbers = self._identities.resolve(rows, now)
        bits = np.where(numbers == OTHER, _OTHER_WORKLOAD, 0).astype(np.int32)
        mine = (numbers == OWN) & (not self._show_own)
        answers = np.full(numbers.size, _MINE, np.int32)
        foreign = np.flatnonzero(~mine)
        if foreign.size:
            answers[foreign] = self._edges(
                Ends(high, low, meta, self._identities.workloads.keys[numbers], numbers).take(foreign),
                table,
                bits[foreign],
            )
        return answers

    def _edges(self, ends: Ends, table: list[Workload], bits: I32) -> I32:
        edges = self.edges.find(ends, table)
        bits = bits | np.where(self.edges.is_other(edges), _OTHER_EDGE, 0).astype(np.int32)
        return np.where(edges < 0, NO_ROOM, edges << _BITS | bits).astype(np.int32)

    def _unpacked(self, answers: I32) -> I32:
        bits = answers & (1 << _BITS) - 1
        numbers = answers >> _BITS
        if bits.any():
            room = answers >= 0
            self.merged.workloads += int(((bits & _OTHER_WORKLOAD > 0) & room).sum())
            self.merged.edges += int(((bits & _OTHER_EDGE > 0) & room).sum())
            numbers[(bits & _MINE > 0) & room] = MINE
        return numbers


def _meta(rows: Rows) -> U64:
    """The word of ``fathom.agent.edges.unpack`` for each row, made from one load of its six enum columns."""
    enums = rows.view(_VIEW)["enums"]
    direction = enums >> _DIRECTION_SHIFT & _BYTE
    port = np.where(direction == _EGRESS, rows["remote_port"], rows["local_port"]).astype(np.uint64)
    port &= _PORTS[enums >> _PROTOCOL_SHIFT & _BYTE]
    port *= direction != _UNKNOWN
    port |= enums & META_ENUMS
    return port
