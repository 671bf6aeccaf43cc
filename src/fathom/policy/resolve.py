"""Flows against an inventory: each flow becomes one row for each pair of candidates that fit its time.

Independent of any policy: one resolution serves every policy set that is evaluated over the same flows. Most flows
have one candidate at either end and stay one row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.policy.endpoints import BOTH, Candidate, Finder
from fathom.policy.flows import Flows
from fathom.policy.index import EXTERNAL, POD, SELF, Index
from fathom.policy.inventory import FOREVER, Inventory
from fathom.policy.options import DEFAULTS, DNAT, ESTABLISHED, NOT_ORIENTED, OWN_POD, Options

#: Columns of one candidate in arrays.
_CANDIDATE = np.dtype(
    [
        ("kind", "u1"),
        ("profile", "<i4"),
        ("identity", "<i4"),
        ("addresses", "<i4"),
        ("node", "<i4"),
        ("since", "<i8"),
        ("until", "<i8"),
        ("port", "<u2"),
        ("sides", "u1"),
        ("hides", "?"),
        ("note", "<u4"),
        ("cause", "<u4"),
        ("inferred", "?"),
    ]
)

#: One row to evaluate. ``src`` and ``dst`` columns describe the ends; ``sides`` which side's rules it speaks for;
#: ``notes``: reasons that apply if the rows of one flow disagree; ``cause``: reasons of this row's own uncertainty.
#: ``allow``: the verdict needs no policy (a pod to itself). ``names``: a set of DNS names (-1: none is known).
ROW = np.dtype(
    [
        ("flow", "<i4"),
        ("sides", "u1"),
        ("allow", "?"),
        ("hides", "?"),
        ("protocol", "u1"),
        ("port", "<u2"),
        ("names", "<i4"),
        ("notes", "<u4"),
        ("src_cause", "<u4"),
        ("dst_cause", "<u4"),
        ("assumed", "<u2"),
        ("src_kind", "u1"),
        ("src_profile", "<i4"),
        ("src_addresses", "<i4"),
        ("src_node", "<i4"),
        ("dst_kind", "u1"),
        ("dst_profile", "<i4"),
        ("dst_addresses", "<i4"),
        ("dst_node", "<i4"),
    ]
)


@dataclass(frozen=True)
class Resolved:
    """Rows of ROW for ``count`` flows, sorted by flow; ``names`` are the sets of DNS names that rows point at."""

    index: Index
    options: Options
    rows: NDArray[np.void]
    count: int
    names: tuple[frozenset[str], ...]
    named: bool


def resolve(flows: Flows, inventory: Inventory, options: Options = DEFAULTS) -> Resolved:
    """Rows to evaluate for every flow, at least one each."""
    index = inventory.index
    finder = Finder(index, options)
    src_table, src_keys = _sources(flows, finder)
    dst_table, dst_keys = _destinations(flows, finder)
    first, last = _window(flows)
    flow, src = _expand(src_table, src_keys, first, last)
    position, dst = _expand(dst_table, dst_keys[flow], first[flow], last[flow])
    flow, src = flow[position], src[position]
    kept = _together(src_table.rows[src], dst_table.rows[dst], first[flow], last[flow], flow)
    flow, src, dst = flow[kept], src[kept], dst[kept]
    rows = _rows(flows, flow, src_table.rows[src], dst_table.rows[dst])
    _pick_addresses(flows, rows, index)
    names, sets = _names(flows, rows, index)
    rows["names"] = names
    return Resolved(index, options, rows, len(flows), sets, bool(index.answers) or bool(np.any(flows.rows["name"])))


class _Table:
    """Candidates of all keys behind one another; ``start`` has one entry more than there are keys."""

    def __init__(self, lists: list[list[Candidate]]) -> None:
        self.start = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(item) for item in lists], out=self.start[1:])
        flat = [
            (
                c.kind,
                c.profile,
                c.identity,
                c.addresses,
                c.node,
                c.since,
                c.until,
                c.port,
                c.sides,
                c.hides,
                c.note,
                c.cause,
                c.inferred,
            )
            for item in lists
            for c in item
        ]
        self.rows = np.array(flat, dtype=_CANDIDATE)


def _sources(flows: Flows, finder: Finder) -> tuple[_Table, NDArray[np.int64]]:
    used, keys = np.unique(flows.rows["src"], return_inverse=True)
    return _Table([finder.find(flows.strings[number]) for number in used.tolist()]), keys.astype(np.int64)


def _destinations(flows: Flows, finder: Finder) -> tuple[_Table, NDArray[np.int64]]:
    """As sources; where the destination is a service, a key of its own for each protocol and port."""
    rows = flows.rows
    used, keys = np.unique(rows["dst"], return_inverse=True)
    keys = keys.astype(np.int64)
    texts = [flows.strings[number] for number in used.tolist()]
    is_service = np.array([bool(finder.services(text)) for text in texts], bool)
    lists = [[] if service else finder.find(text) for text, service in zip(texts, is_service.tolist(), strict=True)]
    through = np.flatnonzero(is_service[keys]) if len(keys) else np.zeros(0, np.int64)
    if len(through):
        code = (keys[through] << 24) | (rows["protocol"][through].astype(np.int64) << 16) | rows["port"][through]
        unique, inverse = np.unique(code, return_inverse=True)
        keys[through] = len(lists) + inverse
        for item in unique.tolist():
            lists.append(finder.through(texts[item >> 24], item >> 16 & 0xFF, item & 0xFFFF))
    return _Table(lists), keys


def _window(flows: Flows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last second of each flow; a flow without a time may have been at any."""
    first, last = flows.rows["first"].astype(np.int64), flows.rows["last"].astype(np.int64)
    timeless = last == 0
    return np.where(timeless, 0, first), np.where(timeless, FOREVER - 1, last)


def _expand(
    table: _Table, keys: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(position, candidate) pairs of candidates that overlap the time; where none does, all of them."""
    start = table.start[keys]
    count = table.start[keys + 1] - start
    if np.all(count == 1) and np.all((table.rows["since"] <= 0) & (table.rows["until"] >= FOREVER)):
        return np.arange(len(keys)), start
    position = np.repeat(np.arange(len(keys)), count)
    offset = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count)
    chosen = start[position] + offset
    fits = (table.rows["since"][chosen] <= last[position]) & (table.rows["until"][chosen] > first[position])
    some = np.zeros(len(keys), bool)
    some[position[fits]] = True
    fits |= ~some[position]
    return position[fits], chosen[fits]


def _together(
    src: NDArray[np.void],
    dst: NDArray[np.void],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    flow: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Pairs of candidates that held at one moment of the flow; where no pair did, all pairs."""
    begin = np.maximum(np.maximum(src["since"], dst["since"]), first)
    end = np.minimum(np.minimum(src["until"] - 1, dst["until"] - 1), last)
    kept: NDArray[np.bool_] = begin <= end
    if kept.all():
        return kept
    some = np.zeros(int(flow.max()) + 1, bool)
    some[flow[kept]] = True
    kept |= ~some[flow]
    return kept


def _rows(flows: Flows, flow: NDArray[np.int64], src: NDArray[np.void], dst: NDArray[np.void]) -> NDArray[np.void]:
    given = flows.rows[flow]
    rows = np.zeros(len(flow), ROW)
    rows["flow"] = flow
    rows["sides"] = dst["sides"]
    rows["hides"] = dst["hides"]
    rows["protocol"] = given["protocol"]
    rows["port"] = np.where(dst["port"] > 0, dst["port"], given["port"])
    rows["notes"] = src["note"] | dst["note"]
    rows["src_cause"], rows["dst_cause"] = src["cause"], dst["cause"]
    for name in ("kind", "profile", "addresses", "node"):
        rows["src_" + name], rows["dst_" + name] = src[name], dst[name]
    outside = (src["since"] > 0) | (src["until"] < FOREVER) | (dst["since"] > 0) | (dst["until"] < FOREVER)
    if outside.any():
        _too_late(flows, rows, src, dst)
    myself = (src["identity"] >= 0) & (src["identity"] == dst["identity"])
    myself |= (dst["kind"] == SELF) | (src["kind"] == SELF)
    rows["assumed"] |= np.where(myself, OWN_POD, 0).astype(np.uint16)
    rows["assumed"] |= np.where(dst["inferred"], DNAT, 0).astype(np.uint16)
    old = (given["count"] == 0) & (given["edge"] != 0)
    rows["assumed"] |= np.where(old, ESTABLISHED, 0).astype(np.uint16)
    rows["allow"] = myself
    lost = ~given["oriented"]
    rows["src_cause"][lost] |= NOT_ORIENTED
    rows["dst_cause"][lost] |= NOT_ORIENTED
    return rows


def _too_late(flows: Flows, rows: NDArray[np.void], src: NDArray[np.void], dst: NDArray[np.void]) -> None:
    """A pod that the inventory holds only at another time is a pod of which nothing is known at this one."""
    first, last = _window(flows)
    first, last = first[rows["flow"]], last[rows["flow"]]
    for name, side in (("src", src), ("dst", dst)):
        gone = (side["since"] > last) | (side["until"] <= first)
        rows[name + "_profile"][gone] = 0
        rows[name + "_kind"][gone & (rows[name + "_kind"] != EXTERNAL)] = POD
        rows[name + "_cause"][gone] |= 1


def _pick_addresses(flows: Flows, rows: NDArray[np.void], index: Index) -> None:
    """The address that the flow itself names; and of a dual-stack pod, those of the flow's family."""
    for name in ("src", "dst"):
        given = flows.rows[name + "_address"][rows["flow"]]
        for number in np.unique(given[given > 0]).tolist():
            ours = (given == number) & (rows[name + "_kind"] != EXTERNAL)
            known = index.address_set([flows.strings[number]])
            rows[name + "_addresses"][ours] = known
            outside = (given == number) & (rows[name + "_kind"] == EXTERNAL)
            rows[name + "_addresses"][outside] = known
    sets = index.addresses
    families = np.array([_family(item) for item in sets.values], np.uint8)
    for name, other in (("src", "dst"), ("dst", "src")):
        mine, theirs = families[rows[name + "_addresses"]], families[rows[other + "_addresses"]]
        mixed = (mine == 10) & ((theirs == 4) | (theirs == 6))
        for position in np.flatnonzero(mixed).tolist():
            kept = tuple(a for a in sets.values[rows[name + "_addresses"][position]] if a.family == theirs[position])
            rows[name + "_addresses"][position] = sets.number(kept)


def _family(addresses: tuple[object, ...]) -> int:
    """4 or 6 where all addresses are of one family, 10 where both occur, 0 where there is none."""
    return sum({getattr(item, "family", 0) for item in addresses})


def _names(flows: Flows, rows: NDArray[np.void], index: Index) -> tuple[NDArray[np.int32], tuple[frozenset[str], ...]]:
    """For each row the set of names that its outside destination was known by at the time."""
    found = np.full(len(rows), -1, np.int32)
    sets: dict[frozenset[str], int] = {}
    outside = np.flatnonzero((rows["dst_kind"] == EXTERNAL) & (rows["sides"] & BOTH > 0))
    if not len(outside):
        return found, ()
    first, last = _window(flows)
    flow = rows["flow"][outside]
    given, targets, dst = flows.rows["name"][flow], rows["dst_addresses"][outside], flows.rows["dst"][flow]
    memory: dict[tuple[int, ...], int] = {}
    for place, name, target, text, begin, end in zip(
        outside.tolist(),
        given.tolist(),
        targets.tolist(),
        dst.tolist(),
        first[flow].tolist(),
        last[flow].tolist(),
        strict=True,
    ):
        answers = [item for one in index.addresses.values[target] for item in index.answers.get(one, ())]
        key = (name, text if not target else -1, target, begin, end) if answers else (name, text if not target else -1)
        number = memory.get(key)
        if number is None:
            known = {item[0] for item in answers if item[1] <= end and item[2] > begin}
            spoken = flows.strings[text]
            if name:
                known.add(flows.strings[name].lower().removesuffix("."))
            elif "/" not in spoken and any(c.isalpha() for c in spoken) and ":" not in spoken:
                known = {spoken.lower().removesuffix(".")}
            number = memory[key] = sets.setdefault(frozenset(known), len(sets)) if known else -1
        found[place] = number
    return found, tuple(sets)
