"""Flows against an inventory: each flow becomes one row for each pair of candidates that fit its time.

Independent of any policy: one resolution serves every policy set that is evaluated over the same flows. Most flows
have one candidate at either end and stay one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.policy.endpoints import BOTH, Candidate, Finder
from fathom.policy.flows import Flows
from fathom.policy.index import EXTERNAL, POD, SELF, Index
from fathom.policy.inventory import FOREVER, Inventory
from fathom.policy.options import ABSENT, DEFAULTS, DNAT, ESTABLISHED, NOT_ORIENTED, OWN_POD, Options

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
        ("gone", "<i4"),
        ("keeps", "?"),
        ("pod", "<i4"),
        ("within", "<i4"),
    ]
)

#: One row to evaluate. ``src`` and ``dst`` columns describe the ends (``pod``: a record of the inventory, -1 none).
#: ``sides``: which side's rules it speaks for. ``notes``: reasons that apply if the rows of one flow disagree;
#: ``cause``: reasons of this row's own uncertainty. ``allow``: the verdict needs no policy (a pod to itself).
#: ``names``: a set of DNS names (-1: none is known).
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
        ("src_pod", "<i4"),
        ("dst_kind", "u1"),
        ("dst_profile", "<i4"),
        ("dst_addresses", "<i4"),
        ("dst_node", "<i4"),
        ("dst_pod", "<i4"),
    ]
)


class Rows:
    """Columns of ROW (or of another record type), each an array of its own, since most steps touch few of them."""

    __slots__ = ("_columns", "_count")

    def __init__(self, columns: dict[str, NDArray[Any]], count: int) -> None:
        self._columns = columns
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def select(self, chosen: NDArray[Any]) -> Rows:
        """The rows that an index array or mask chooses."""
        columns = {name: column[chosen] for name, column in self._columns.items()}
        return Rows(columns, len(next(iter(columns.values()))))

    def between(self, begin: int, end: int, counted: str, less: int) -> Rows:
        """The rows ``begin`` to ``end`` (exclusive), with ``less`` taken off the column ``counted``."""
        columns = {name: column[begin:end] for name, column in self._columns.items()}
        return Rows({**columns, counted: columns[counted] - less}, end - begin)


@dataclass(frozen=True)
class Resolved:
    """Rows of ROW for ``count`` flows, sorted by flow; ``names`` are the sets of DNS names that rows point at."""

    index: Index
    options: Options
    rows: Rows
    count: int
    names: tuple[frozenset[str], ...]
    named: bool

    def part(self, first: int, last: int) -> Resolved:
        """The rows of flows ``first`` to ``last`` (exclusive) alone; flow ``first`` becomes number 0."""
        begin, end = np.searchsorted(self.rows["flow"], (first, last)).tolist()
        rows = self.rows.between(begin, end, "flow", first)
        return Resolved(self.index, self.options, rows, last - first, self.names, self.named)


def resolve(flows: Flows, inventory: Inventory, options: Options = DEFAULTS) -> Resolved:
    """Rows to evaluate for every flow, at least one each."""
    index = inventory.index
    finder = Finder(index, options)
    src_table, src_keys = _sources(flows, finder)
    dst_table, dst_keys = _destinations(flows, finder)
    first, last = _window(flows)
    flow, src = _expand(src_table, src_keys, first, last)
    flow, src = _bounded(src_table, src_keys, (flow, src), np.diff(dst_table.start)[dst_keys])
    position, dst = _expand(dst_table, dst_keys[flow], first[flow], last[flow])
    flow, src = flow[position], src[position]
    if not (src_table.timeless and dst_table.timeless):
        kept = _together(src_table, src, dst_table, dst, (first[flow], last[flow], flow))
        flow, src, dst = flow[kept], src[kept], dst[kept]
    own = np.zeros(len(flow), bool)
    if finder.within:
        position, own = _with_own(finder, (src_table, src), (dst_table, dst))
        flow, src, dst = flow[position], src[position], dst[position]
    rows = _rows(flows, flow, (src_table, src), (dst_table, dst), own)
    _pick_addresses(flows, rows, index)
    names, sets = _names(flows, rows, index)
    rows["names"][:] = names
    return Resolved(index, options, rows, len(flows), sets, bool(index.answers))


#: A flow between more pairs of pods than this (two workloads whose many replicas have labels of their own) is taken
#: as one from a pod of which no more than the namespace is known.
MOST_PAIRS = 1 << 16


class _Table:
    """Candidates of all keys behind one another; ``start`` has one entry more than there are keys.

    Behind them stand spare ones, which no key names: ``spare`` maps some keys to theirs.
    """

    def __init__(self, lists: list[list[Candidate]], spare: dict[int, Candidate] | None = None) -> None:
        self.start = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(item) for item in lists], out=self.start[1:])
        self.spare = {key: int(self.start[-1]) + place for place, key in enumerate(spare or ())}
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
                c.gone,
                c.keeps,
                c.pod,
                c.within,
            )
            for item in (*lists, (spare or {}).values())
            for c in item
        ]
        rows = np.array(flat, dtype=_CANDIDATE)
        self.rows = Rows({name: np.ascontiguousarray(rows[name]) for name in _CANDIDATE.names or ()}, len(rows))
        self.timeless = bool(np.all((rows["since"] <= 0) & (rows["until"] >= FOREVER)))


def _sources(flows: Flows, finder: Finder) -> tuple[_Table, NDArray[np.int64]]:
    used, keys = _used(flows.rows["src"], len(flows.strings))
    texts = [flows.strings[number] for number in used.tolist()]
    lists = [finder.find(text) for text in texts]
    spare = {key: finder.some_pod(texts[key]) for key, item in enumerate(lists) if len(item) > 1}
    return _Table(lists, spare), keys


def _used(numbers: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers that occur, and for each entry its position among them."""
    occurs = np.zeros(count, bool)
    occurs[numbers] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[numbers]


def _destinations(flows: Flows, finder: Finder) -> tuple[_Table, NDArray[np.int64]]:
    """As sources; where the destination is a service, a key of its own for each protocol and port."""
    rows = flows.rows
    used, keys = _used(rows["dst"], len(flows.strings))
    texts = [flows.strings[number] for number in used.tolist()]
    is_service = np.array([finder.leads_on(text) for text in texts], bool)
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
    if table.timeless and np.all(count == 1):
        return np.arange(len(keys)), start
    position = np.repeat(np.arange(len(keys)), count)
    offset = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count)
    chosen = start[position] + offset
    fits = (table.rows["since"][chosen] <= last[position]) & (table.rows["until"][chosen] > first[position])
    some = np.zeros(len(keys), bool)
    some[position[fits]] = True
    fits |= ~some[position]
    return position[fits], chosen[fits]


def _bounded(
    table: _Table,
    keys: NDArray[np.int64],
    found: tuple[NDArray[np.int64], NDArray[np.int64]],
    others: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(flow, candidate) pairs, each flow with no more than MOST_PAIRS of them times its candidates at the other end."""
    flow, chosen = found
    if len(flow) == len(keys):
        return found
    count = np.bincount(flow, minlength=len(keys))
    many = (count > 1) & (count * others > MOST_PAIRS)
    if not many.any():
        return found
    replaced = np.flatnonzero(many)
    spare = np.array([table.spare[key] for key in keys[replaced].tolist()], np.int64)
    kept = ~many[flow]
    flow, chosen = np.concatenate([flow[kept], replaced]), np.concatenate([chosen[kept], spare])
    order = np.argsort(flow, kind="stable")
    return flow[order], chosen[order]


def _together(
    src_table: _Table,
    src: NDArray[np.int64],
    dst_table: _Table,
    dst: NDArray[np.int64],
    window: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.bool_]:
    """Pairs of candidates that held at one moment of the flow; where no pair did, all pairs."""
    first, last, flow = window
    begin = np.maximum(np.maximum(src_table.rows["since"][src], dst_table.rows["since"][dst]), first)
    end = np.minimum(np.minimum(src_table.rows["until"][src], dst_table.rows["until"][dst]) - 1, last)
    kept: NDArray[np.bool_] = begin <= end
    if kept.all():
        return kept
    some = np.zeros(int(flow.max()) + 1, bool)
    some[flow[kept]] = True
    kept |= ~some[flow]
    return kept


_End = tuple[_Table, NDArray[np.int64]]


def _with_own(finder: Finder, src: _End, dst: _End) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(position, own): each row, and where the source is among the pods of the destination a second one, by which it
    reaches itself."""
    within, mine = dst[0].rows["within"][dst[1]].astype(np.int64), src[0].rows["identity"][src[1]]
    some = np.flatnonzero((within >= 0) & (mine >= 0))
    pairs, inverse = np.unique(within[some] << 32 | mine[some], return_inverse=True)
    inside = np.array([pair & 0xFFFFFFFF in finder.within[pair >> 32] for pair in pairs.tolist()], bool)
    again = some[inside[inverse.reshape(-1)]] if len(some) else some
    position = np.concatenate([np.arange(len(within)), again])
    order = np.argsort(position, kind="stable")
    return position[order], order >= len(within)


def _rows(flows: Flows, flow: NDArray[np.int64], src: _End, dst: _End, own: NDArray[np.bool_]) -> Rows:
    """The columns of ROW, from candidates at both ends; ``own``: the source reaches itself."""
    given = flows.rows
    rows = Rows({name: np.zeros(len(flow), ROW[name]) for name in ROW.names or ()}, len(flow))
    whole = len(flow) == len(flows)
    rows["flow"][:] = flow
    rows["protocol"][:] = given["protocol"] if whole else given["protocol"][flow]
    port = given["port"] if whole else given["port"][flow]
    for end, (table, chosen) in (("src", src), ("dst", dst)):
        for name in ("kind", "profile", "addresses", "node", "cause", "pod"):
            rows[f"{end}_{name}"][:] = table.rows[name][chosen]
    table, chosen = dst
    for name in ("sides", "hides"):
        rows[name][:] = table.rows[name][chosen]
    for table_of, number in (src, dst):
        rows["notes"][:] |= np.where(_varies(flow, number), table_of.rows["note"][number], 0).astype(np.uint32)
    moved = table.rows["port"][chosen]
    rows["port"][:] = np.where(moved > 0, moved, port)
    mine, theirs = src[0].rows["identity"][src[1]], table.rows["identity"][chosen]
    myself = own | ((mine >= 0) & (mine == theirs))
    rows["dst_pod"][own] = rows["src_pod"][own]
    if not (src[0].timeless and dst[0].timeless):
        myself &= ~_too_late(flows, rows, src, dst)
    myself |= (rows["dst_kind"] == SELF) | (rows["src_kind"] == SELF)
    rows["allow"][:] = myself
    rows["assumed"][myself] |= OWN_POD
    rows["assumed"][table.rows["inferred"][chosen]] |= DNAT
    old = (given["count"] == 0) & (given["edge"] != 0)
    if old.any():
        rows["assumed"][old[flow]] |= ESTABLISHED
    lost = ~given["oriented"]
    if lost.any():
        rows["src_cause"][lost[flow]] |= NOT_ORIENTED
        rows["dst_cause"][lost[flow]] |= NOT_ORIENTED
    return rows


def _varies(flow: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The rows of flows that have more than one candidate at this end; rows are sorted by flow."""
    begin = np.flatnonzero(np.concatenate([[True], flow[1:] != flow[:-1]])) if len(flow) else np.zeros(0, np.int64)
    length = np.diff(np.append(begin, len(flow)))
    differs = chosen != np.repeat(chosen[begin], length)
    found: NDArray[np.bool_] = np.repeat(np.logical_or.reduceat(differs, begin), length) if len(flow) else differs
    return found


def _too_late(flows: Flows, rows: Rows, src: _End, dst: _End) -> NDArray[np.bool_]:
    """A pod that the inventory holds only at another time is a pod of which nothing is known at this one.

    Returns the rows of which an end, not being given by a pod's name, was nobody that is known then.
    """
    nobody = np.zeros(len(rows), bool)
    first, last = _window(flows)
    first, last = first[rows["flow"]], last[rows["flow"]]
    for name, (table, chosen) in (("src", src), ("dst", dst)):
        gone = (table.rows["since"][chosen] > last) | (table.rows["until"][chosen] <= first)
        away = rows[name + "_kind"] == EXTERNAL
        rows[name + "_addresses"][gone & away] = 0
        gone &= ~away
        there = chosen[gone]
        rows[name + "_kind"][gone] = POD
        rows[name + "_profile"][gone] = table.rows["gone"][there]
        rows[name + "_addresses"][gone] = np.where(table.rows["keeps"][there], table.rows["addresses"][there], 0)
        rows[name + "_node"][gone] = -1
        rows[name + "_cause"][gone] |= ABSENT
        nobody |= gone & (table.rows["gone"][chosen] == 0)
    return nobody


def _pick_addresses(flows: Flows, rows: Rows, index: Index) -> None:
    """The address that the flow itself names; and of a dual-stack pod, those of the flow's family.

    A backend of a service keeps its own: what was asked then is the address before translation.
    """
    for name in ("src", "dst"):
        given = flows.rows[name + "_address"]
        if not given.any():
            continue
        spoken = np.zeros(len(flows.strings), np.int32)
        for number in np.flatnonzero(np.bincount(given, minlength=len(spoken))).tolist():
            spoken[number] = index.address_set([flows.strings[number]])
        wanted = spoken[given[rows["flow"]]]
        if name == "dst":
            wanted[rows["assumed"] & DNAT > 0] = 0
        rows[name + "_addresses"][wanted > 0] = wanted[wanted > 0]
    sets = index.addresses
    for name, other in (("src", "dst"), ("dst", "src")):
        families = np.array([_family(item) for item in sets.values], np.uint8)
        mine, theirs = families[rows[name + "_addresses"]], families[rows[other + "_addresses"]]
        mixed = np.flatnonzero((mine == 10) & ((theirs == 4) | (theirs == 6)))
        pairs = rows[name + "_addresses"][mixed].astype(np.int64) * 16 + theirs[mixed]
        unique, inverse = np.unique(pairs, return_inverse=True)
        kept = [
            sets.number(tuple(one for one in sets.values[code // 16] if one.family == code % 16))
            for code in unique.tolist()
        ]
        rows[name + "_addresses"][mixed] = np.array(kept, np.int32)[inverse.reshape(-1)] if kept else 0


def _family(addresses: tuple[object, ...]) -> int:
    """4 or 6 where all addresses are of one family, 10 where both occur, 0 where there is none."""
    return sum({getattr(item, "family", 0) for item in addresses})


def _names(flows: Flows, rows: Rows, index: Index) -> tuple[NDArray[np.int32], tuple[frozenset[str], ...]]:
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
        key = (name, text, target, begin, end) if answers else (name, text)
        number = memory.get(key)
        if number is None:
            known = {item[0] for item in answers if item[1] <= end and item[2] > begin}
            spoken = flows.strings[text]
            if name:
                known.add(flows.strings[name].lower().removesuffix("."))
            elif "/" not in spoken and any(c.isalpha() for c in spoken) and ":" not in spoken:
                known.add(spoken.lower().removesuffix("."))
            number = memory[key] = sets.setdefault(frozenset(known), len(sets)) if known else -1
        found[place] = number
    return found, tuple(sets)
