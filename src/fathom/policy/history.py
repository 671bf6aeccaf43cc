"""What a recorded history says that policies must allow: observations, and every flow that says nothing, with why.

An *observation* is one subject, in one direction, with one peer over one protocol and port. A flow that was not let
through, of which an end is not known, or that would make a server of a client is left out, by name: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bits import Bools
from fathom.policy.columns import distinct, sums
from fathom.policy.declared import ephemeral
from fathom.policy.endpoints import EGRESS, INGRESS
from fathom.policy.flows import OBSERVED, Flows
from fathom.policy.index import EXTERNAL, HOST_POD, NODE, POD, SELF, Index
from fathom.policy.model import DIRECTIONS, TRANSPORTS, Direction
from fathom.policy.options import DNAT
from fathom.policy.resolve import Resolved
from fathom.policy.subjects import NOBODY, ON_HOST, Subjects

#: Why a flow is left out; 0: it is not.
REASONS = (
    "",
    "both ends are outside of pods: no policy applies",
    "in the excluded window",
    "seen less often than asked for",
    "the other end has no known address",
    "the address is a service's, and not on one of its ports",
    "no label chooses the pods of the workload",
    "the pod is on the host's network: no selector is sure to mean it",
    "the source is hidden by address translation",
    "the end may have been different things at that time",
    "an end is not in the inventory at that time",
    "a port of the ephemeral range that its destination does not declare: it may be a client's",
    "the protocol is outside of the API",
    "it is not known who opened the connection",
    "it is not known whether it was let through",
    "it was dropped, refused or rejected",
)
(
    USED,
    NO_POD,
    EXCLUDED,
    SELDOM,
    NO_ADDRESS,
    VIP,
    NO_SUBJECT,
    HOST_NETWORKED,
    HIDDEN,
    AMBIGUOUS,
    ABSENT,
    EPHEMERAL,
    PROTOCOL,
    NOT_ORIENTED,
    NOT_KNOWN,
    NOT_ALLOWED,
) = range(len(REASONS))
#: Where peers are told apart: numbers of subjects, nodes, address sets, and the API server (by node or address set).
NODES, ADDRESSES, API_NODE, API_OUTSIDE = 1 << 32, 2 << 32, 3 << 32, 4 << 32
#: Later than any time.
NEVER = int(np.iinfo(np.int64).max)
_NO_EDGE = frozenset((0,))


@dataclass(frozen=True)
class Limits:
    """What of a history counts: at least ``minimum`` connections, and not what was seen only between ``excluded``
    (begin, end; epoch seconds). ``servers``: ports of the ephemeral range that are servers' nonetheless."""

    minimum: int = 1
    excluded: tuple[int, int] | None = None
    servers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Observations:
    """Parallel arrays, one entry for each observation of one direction: ``subject``, ``peer``, ``protocol``, ``port``,
    ``name`` (a set of DNS names of the resolution, -1 none).

    ``flows`` are the flows behind observation n at ``start[n]`` to ``start[n + 1]``, ascending; ``count`` their
    connections; ``pairs`` in how many pairs of pods they were (with peers that are no pods: of the subject's pods).
    ``edges`` are the store's ids of ``flows`` (empty: none has one); ``first`` and ``last`` when the observation was
    made, epoch seconds, NEVER and 0 where that is not known. Lists, since they are read one by one, hundreds of
    thousands of times.
    """

    subject: list[int]
    peer: list[int]
    protocol: list[int]
    port: list[int]
    name: list[int]
    count: list[int]
    pairs: list[int]
    flows: list[int]
    start: list[int]
    edges: list[int]
    first: list[int]
    last: list[int]

    def evidence(self, numbers: Sequence[int]) -> list[int]:
        """The flows behind some observations, ascending, each once."""
        return self._behind(self.flows, numbers)

    def edges_behind(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """The store's ids of the flows behind some observations, ascending, each once."""
        return tuple(sorted(set(self._behind(self.edges, numbers)) - _NO_EDGE)) if self.edges else ()

    def _behind(self, values: list[int], numbers: Sequence[int]) -> list[int]:
        start = self.start
        if len(numbers) == 1:
            return values[start[numbers[0]] : start[numbers[0] + 1]]
        return sorted({value for n in numbers for value in values[start[n] : start[n + 1]]})


@dataclass(frozen=True)
class History:
    """Observations by direction, and for each flow why it is left out (index into REASONS)."""

    observations: dict[Direction, Observations]
    left_out: NDArray[np.uint8]

    @property
    def subjects(self) -> set[int]:
        """All subjects of observations."""
        return {subject for seen in self.observations.values() for subject in seen.subject}


class _Rows:
    """Columns of the resolution that observations are made of. ``pod``: the first record of each record's pod."""

    def __init__(self, resolved: Resolved, subjects: Subjects) -> None:
        rows = resolved.rows
        self.resolved = resolved
        self.flow = rows["flow"]
        self.kind = {end: rows[end + "_kind"] for end in ("src", "dst")}
        self.unit = {
            end: np.where(self.kind[end] == POD, subjects.of_pod[rows[end + "_pod"]], NOBODY).astype(np.int64)
            for end in ("src", "dst")
        }
        first: dict[tuple[str, str], int] = {}
        names = [(pod.namespace, pod.name) for pod in resolved.index.records.pods]
        self.pod = np.array([*(first.setdefault(name, number) for number, name in enumerate(names)), -1], np.int64)
        self.code = {end: _codes(resolved, self.kind[end], self.unit[end], end) for end in ("src", "dst")}


def read(flows: Flows, resolved: Resolved, subjects: Subjects, limits: Limits) -> History:
    """The history in ``flows``, which ``resolved`` resolves."""
    rows = _Rows(resolved, subjects)
    # What stands for egress alone says nothing of a source outside of pods.
    said = (rows.kind["src"] == POD) | (resolved.rows["sides"] != EGRESS)
    reasons = np.full(len(flows), NO_POD, np.uint8)
    reasons[rows.flow[said]] = USED
    np.maximum.at(reasons, rows.flow[said], _row_reasons(rows)[said])
    _differing(rows, reasons)
    reasons = np.maximum(reasons, _flow_reasons(flows, rows, limits))
    seldom = _seldom(flows, rows, reasons, limits.minimum)
    reasons[seldom] = SELDOM
    return History({d: _observe(flows, rows, reasons, d) for d in DIRECTIONS}, reasons)


def _codes(resolved: Resolved, kind: NDArray[np.uint8], unit: NDArray[np.int64], end: str) -> NDArray[np.int64]:
    """What each row's end is as a peer; -1 where it is none."""
    rows, index = resolved.rows, resolved.index
    node, addresses = rows[end + "_node"].astype(np.int64), rows[end + "_addresses"].astype(np.int64)
    sets = index.addresses.values
    server = np.array([bool(item) and set(item) <= index.api_servers for item in sets], bool)[addresses]
    is_node = (kind == NODE) | (kind == HOST_POD)
    code = np.where(kind == POD, unit, -1)
    code = np.where(is_node & (node >= 0), NODES + node, code)
    code = np.where(is_node & (node >= 0) & server, API_NODE + node, code)
    code = np.where((kind == EXTERNAL), ADDRESSES + addresses, code)
    found: NDArray[np.int64] = np.where((kind == EXTERNAL) & server, API_OUTSIDE + addresses, code)
    return found


def _row_reasons(rows: _Rows) -> NDArray[np.uint8]:
    table, index = rows.resolved.rows, rows.resolved.index
    found = np.zeros(len(rows.flow), np.uint8)

    def mark(where: Bools, reason: int) -> None:
        found[where] = np.maximum(found[where], reason)

    services = {
        one for one, held in index.holders.items() if held and all(kind in (SELF, EXTERNAL) for kind, *_ in held)
    }
    vip = np.array([bool(services.intersection(item)) for item in index.addresses.values], bool)
    single = np.array([len(item) == 1 for item in index.addresses.values], bool)
    node_known = np.array([_has_address(index, name) for name in [*index.nodes.values, ""]], bool)
    pod = {end: rows.kind[end] == POD for end in ("src", "dst")}
    mark(~pod["src"] & ~pod["dst"], NO_POD)
    for end in ("src", "dst"):
        kind, addresses, node = rows.kind[end], table[end + "_addresses"], table[end + "_node"]
        mark(table[end + "_cause"] > 0, ABSENT)
        mark(pod[end] & (rows.unit[end] == NOBODY) & (table[end + "_cause"] == 0), NO_SUBJECT)
        mark(pod[end] & (rows.unit[end] == ON_HOST), HOST_NETWORKED)
        outside = kind == EXTERNAL
        mark(outside & ~single[addresses], NO_ADDRESS)
        mark(outside & vip[addresses] & (table["sides"] & INGRESS > 0), VIP)
        mark(((kind == NODE) | (kind == HOST_POD)) & ~node_known[node], NO_ADDRESS)
    mark(table["hides"] & pod["dst"], HIDDEN)
    found[table["allow"]] = USED
    return found


def _has_address(index: Index, name: str) -> bool:
    return any(item.addresses for item in index.node_records.get(name, ()))


def _differing(rows: _Rows, reasons: NDArray[np.uint8]) -> None:
    """Flows whose rows have different ends, other than the backends of one service or the addresses of one name."""
    if len(rows.flow) == len(reasons):
        return
    start = np.searchsorted(rows.flow, np.arange(len(reasons)))
    table = rows.resolved.rows
    inferred = np.logical_and.reduceat(table["assumed"] & DNAT > 0, start)
    outside = np.logical_and.reduceat(rows.kind["dst"] == EXTERNAL, start)
    for end in ("src", "dst"):
        lowest, highest = np.minimum.reduceat(rows.code[end], start), np.maximum.reduceat(rows.code[end], start)
        differs = lowest != highest
        if end == "dst":
            differs &= ~inferred & ~outside
        reasons[differs] = np.maximum(reasons[differs], AMBIGUOUS)
    mixed = np.logical_or.reduceat(table["allow"], start) & ~np.logical_and.reduceat(table["allow"], start)
    reasons[mixed & ~inferred] = np.maximum(reasons[mixed & ~inferred], AMBIGUOUS)


def _flow_reasons(flows: Flows, rows: _Rows, limits: Limits) -> NDArray[np.uint8]:
    given = flows.rows
    found = np.zeros(len(flows), np.uint8)
    if limits.excluded is not None:
        begin, end = limits.excluded
        found[(given["last"] > 0) & (given["first"] >= begin) & (given["last"] < end)] = EXCLUDED
    found[ephemeral(flows, rows.resolved, limits.servers)] = EPHEMERAL
    found[~np.isin(given["protocol"], TRANSPORTS)] = PROTOCOL
    found[~given["oriented"]] = NOT_ORIENTED
    for word, reason in (("unknown", NOT_KNOWN), ("failed", NOT_ALLOWED), ("dropped", NOT_ALLOWED)):
        found[given["observed"] == OBSERVED.index(word)] = reason
    return found


def _keys(
    rows: _Rows, reasons: NDArray[np.uint8], direction: Direction
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """(rows, columns of keys) of observations: subject, peer, protocol with port, set of names."""
    table = rows.resolved.rows
    subject, peer = ("src", "dst") if direction == "egress" else ("dst", "src")
    wanted = EGRESS if direction == "egress" else INGRESS
    chosen = (reasons[rows.flow] == USED) & (rows.unit[subject] >= 0) & (table["sides"] & wanted > 0) & ~table["allow"]
    if direction == "ingress":
        is_node = (rows.kind["src"] == NODE) | (rows.kind["src"] == HOST_POD)
        chosen &= ~(is_node & (table["src_node"] == table["dst_node"]))
    at = np.flatnonzero(chosen)
    ports = table["protocol"][at].astype(np.int64) << 16 | table["port"][at]
    outside = (rows.kind["dst"][at] == EXTERNAL) & (direction == "egress")
    names = np.where(outside, table["names"][at], -1)
    return at, [rows.unit[subject][at], rows.code[peer][at], ports, names.astype(np.int64)]


def _observe(flows: Flows, rows: _Rows, reasons: NDArray[np.uint8], direction: Direction) -> Observations:
    at, keys = _keys(rows, reasons, direction)
    unique, number = distinct(keys)
    pairs, _ = distinct([number, rows.flow[at].astype(np.int64)])
    of, flow = pairs.T
    behind = flows.rows[flow]
    timed = behind["last"] > 0
    count, first = sums(behind["count"], of, len(unique)), np.full(len(unique), NEVER)
    last = np.zeros(len(unique), np.int64)
    np.minimum.at(first, of, np.where(timed, behind["first"], NEVER))
    np.maximum.at(last, of, np.where(timed, behind["last"], 0))
    pods, _ = distinct([number, *(rows.pod[rows.resolved.rows[end + "_pod"][at]] for end in ("src", "dst"))])
    ports = unique[:, 2]
    return Observations(
        unique[:, 0].tolist(),
        unique[:, 1].tolist(),
        (ports >> 16).tolist(),
        (ports & 0xFFFF).tolist(),
        unique[:, 3].tolist(),
        count.tolist(),
        np.bincount(pods[:, 0], minlength=len(unique)).tolist(),
        flow.tolist(),
        np.searchsorted(of, np.arange(len(unique) + 1)).tolist(),
        behind["edge"].tolist() if behind["edge"].any() else [],
        first.tolist(),
        last.tolist(),
    )


def _seldom(flows: Flows, rows: _Rows, reasons: NDArray[np.uint8], minimum: int) -> Bools:
    """Used flows of which some observation has fewer connections than ``minimum``."""
    found = np.zeros(len(flows), bool)
    if minimum <= 1:
        return found
    for direction in DIRECTIONS:
        seen = _observe(flows, rows, reasons, direction)
        few = np.repeat(np.array(seen.count, np.int64) < minimum, np.diff(seen.start))
        found[np.array(seen.flows, np.int64)[few]] = True
    return found
