"""Who began: the direction of flows of protocols that have no handshake.

The one who sent first is the client. An entry of the kernel's map lives for one interval only, so its first packet
may well be an answer: what was decided is remembered here for as long as there is room. Nothing is guessed: where
packets may have passed that nobody saw (before the probe, while a map was full), the answer is ``unknown``, until the
conversation was silent for as long as connection tracking gives it.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.events.observations import Direction

Records = npt.NDArray[np.void]
Numbers = npt.NDArray[np.uint64]

#: nf_conntrack_udp_timeout_stream of Linux: after this long a pair's next packet begins a new conversation.
SILENCE_NS = 120 * 10**9
#: Conversations that are remembered, 17 bytes each.
ROOM = 131_072
#: ``enum flow_event_message`` of bpf/flow/flow.h.
NONE, REQUEST, REPLY = 0, 1, 2

_SENT, _RECEIVED = Direction.EGRESS, Direction.INGRESS


class Conversations:
    """Directions of flows, by (socket, protocol, peer, ports).

    The local address is left out: a socket that listens to a group answers from its own address. ``began_ns`` is when
    the probe began to see packets (CLOCK_MONOTONIC).
    """

    def __init__(self, began_ns: int, room: int = ROOM) -> None:
        self._seed = np.uint64(secrets.randbits(64))
        self._room = room
        self._names: Numbers = np.zeros(0, np.uint64)  # sorted
        self._directions: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._seen: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        # Up to when a conversation may have begun unseen, by the direction that it then would have.
        self._unseen = {_SENT: began_ns, _RECEIVED: began_ns}

    def missed(self, until_ns: int) -> None:
        """Packets up to this moment were not counted by flow: what begins soon after may be older than it looks."""
        self._unseen = dict.fromkeys(self._unseen, until_ns)

    def judge(self, rows: Records, created: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """``Direction`` of each of ``rows``, and remember it.

        Rows have the fields of ``struct flow_event``, ``direction`` being that of the first packet; ``created`` is when
        the socket was made (CLOCK_MONOTONIC ns), 0 where it is older than the probe.
        """
        directions = np.full(len(rows), Direction.UNKNOWN, np.uint8)
        first, message = rows["direction"], rows["message"]
        # ICMP says by itself who asks.
        asks, answers = message == REQUEST, message == REPLY
        directions[asks] = first[asks]
        directions[answers] = np.where(first[answers] == _SENT, _RECEIVED, _SENT)
        spoken = np.flatnonzero(message == NONE)
        if spoken.size:
            directions[spoken] = self._converse(rows[spoken], created[spoken])
        return directions

    def _converse(self, rows: Records, created: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        self._ask_groups(rows)
        names = self._name(rows, rows["remote"])
        order = np.lexsort((rows["first"], names))
        unique, starts, counts = np.unique(names[order], return_index=True, return_counts=True)
        opening = order[starts]
        last = np.maximum.reduceat(rows["time"][order].astype(np.int64), starts)
        fresh = self._begin(rows[opening], created[opening])
        at, known = self._find(unique)
        before = np.where(known, self._directions[at], Direction.UNKNOWN) if self._names.size else fresh
        seen = self._seen[at] if self._names.size else last
        over = (before == Direction.UNKNOWN) & (rows["first"][opening].astype(np.int64) > seen + SILENCE_NS)
        decided = np.where(known & ~over, before, fresh).astype(np.uint8)
        self._remember(unique, decided, last)
        result = np.empty(len(rows), np.uint8)
        result[order] = np.repeat(decided, counts)
        return result

    def _begin(self, rows: Records, created: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Directions as if each row began its conversation, ``unknown`` where that is not certain."""
        sent = rows["direction"] == _SENT
        # What looks sent first is wrong if it was received before, unseen.
        unseen = np.where(sent, self._unseen[_RECEIVED], self._unseen[_SENT])
        certain = (created > unseen) | (rows["first"].astype(np.int64) >= unseen + SILENCE_NS)
        fresh = np.where(certain, rows["direction"], Direction.UNKNOWN)
        asked = self._find(self._name(rows, _nobody(rows)))[1] & ~sent
        return np.where(asked, _SENT, fresh).astype(np.uint8)

    def _ask_groups(self, rows: Records) -> None:
        """Who sent to a group asked all of it: what then comes from that port, from anybody, is an answer."""
        asked = rows[(rows["packets_sent"] > 0) & is_group(rows["remote"])]
        if asked.size:
            names = self._name(asked, _nobody(asked))
            unique, index = np.unique(names, return_index=True)
            self._remember(unique, np.full(unique.size, _SENT, np.uint8), asked["time"][index].astype(np.int64))

    def _name(self, rows: Records, remote: npt.NDArray[Any]) -> Numbers:
        """A 64-bit number for each conversation; the seed keeps others from making two that are equal."""
        words = np.ascontiguousarray(remote).view("<u8").reshape(-1, 2)
        rest = rows["local_port"].astype(np.uint64) << np.uint64(32)
        rest |= rows["remote_port"].astype(np.uint64) << np.uint64(16) | rows["protocol"].astype(np.uint64)
        name = np.full(len(rows), self._seed, np.uint64)
        for word in (rows["socket"].astype(np.uint64), words[:, 0], words[:, 1], rest):
            name = _mix(name ^ word)
        return name

    def _find(self, names: Numbers) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Where each name is remembered, and whether it is; where it is not, the place is any."""
        if not self._names.size:
            return np.zeros(names.size, np.intp), np.zeros(names.size, np.bool_)
        at = np.minimum(np.searchsorted(self._names, names), self._names.size - 1)
        return at, self._names[at] == names

    def _remember(self, names: Numbers, directions: npt.NDArray[np.uint8], seen: npt.NDArray[np.int64]) -> None:
        """Put in what was decided; ``names`` are sorted and differ."""
        at, known = self._find(names)
        self._directions[at[known]] = directions[known]
        self._seen[at[known]] = seen[known]
        new = ~known
        place = np.searchsorted(self._names, names[new])
        self._names = np.insert(self._names, place, names[new])
        self._directions = np.insert(self._directions, place, directions[new])
        self._seen = np.insert(self._seen, place, seen[new])
        if self._names.size > self._room:
            self._forget()

    def _forget(self) -> None:
        """Make room: the ones that were silent longest go, and from then on may begin anew unseen."""
        keep = np.zeros(self._names.size, np.bool_)
        keep[np.argsort(self._seen, kind="stable")[-(self._room * 3 // 4) :]] = True
        for direction in self._unseen:
            gone = self._seen[~keep & ((self._directions == direction) | (self._directions == Direction.UNKNOWN))]
            if gone.size:
                self._unseen[direction] = max(self._unseen[direction], int(gone.max()))
        self._names, self._directions, self._seen = self._names[keep], self._directions[keep], self._seen[keep]


def is_group(addresses: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each address (16 bytes) is multicast or 255.255.255.255. A subnet's own broadcast cannot be told."""
    octets = np.ascontiguousarray(addresses).view(np.uint8).reshape(-1, 16)
    words = np.ascontiguousarray(addresses).view(">u4").reshape(-1, 4)
    mapped = (words[:, 0] == 0) & (words[:, 1] == 0) & (words[:, 2] == 0xFFFF)
    group4 = mapped & ((octets[:, 12] >> 4 == 0xE) | (words[:, 3] == 0xFFFFFFFF))
    found: npt.NDArray[np.bool_] = group4 | (octets[:, 0] == 0xFF)
    return found


def _nobody(rows: Records) -> npt.NDArray[Any]:
    return np.zeros(len(rows), "V16")


def _mix(word: Numbers) -> Numbers:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of the input changes half of the output's."""
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)
