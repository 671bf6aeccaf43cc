"""Rows of flows as columns of a compiled set: for each side, group, peer's class, peer's cell, port and name.

Columns that the compiled set could not know (sets of addresses in different cells, ports that pods name, names of
the outside) are added here, for these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.policy import cells, classes
from fathom.policy.bits import BitMatrix, Bools
from fathom.policy.compile import Compiled
from fathom.policy.index import EXTERNAL, HOST_POD, NODE, POD
from fathom.policy.model import Direction
from fathom.policy.resolve import Resolved

Column = NDArray[np.int64]
#: The names that a pod gives to a port, with their protocol; where its ports are not known, only the flow's protocol.
Given = frozenset[tuple[int, str]] | int


@dataclass(frozen=True)
class Bound:
    """Columns for rows of one direction. ``groups`` -1: no policy selects. ``named``: sets of (protocol, name)."""

    groups: NDArray[np.int32]
    classes: Column
    cells: Column
    ports: Column
    names: Column
    port_terms: tuple[BitMatrix, BitMatrix]
    cell_terms: tuple[BitMatrix, BitMatrix]
    name_sets: tuple[frozenset[str], ...]
    port_names: tuple[Given, ...]


def bind(compiled: Compiled, resolved: Resolved, direction: Direction, ports: PortColumns) -> Bound:
    """Columns of every row of ``resolved`` for one direction."""
    rows = resolved.rows
    subject, peer = ("src", "dst") if direction == "egress" else ("dst", "src")
    side = compiled.sides[direction]
    table = compiled.classes
    selected = rows[subject + "_kind"] == POD
    groups = np.where(selected, side.group_of[table.profile_column[rows[subject + "_profile"]]], -1).astype(np.int32)
    class_column = _peer_classes(compiled, resolved, subject, peer)
    part, address_sets = _parts(rows[peer + "_kind"]), rows[peer + "_addresses"].astype(np.int64)
    if direction == "ingress":
        hidden = rows["hides"]
        class_column[hidden] = classes.NOBODY
        address_sets = np.where(hidden, 0, address_sets)
        part = np.where(hidden, cells.OUTSIDE, part)
    nobody = (class_column == classes.NOBODY) & (address_sets == 0)
    part = np.where(nobody, cells.OUTSIDE, part)
    cell_column, cell_terms = _cells(compiled, part, address_sets)
    names = _names(resolved, direction)
    return Bound(
        groups,
        class_column,
        cell_column,
        ports.columns,
        names,
        ports.terms,
        cell_terms,
        resolved.names,
        ports.names,
    )


def _peer_classes(compiled: Compiled, resolved: Resolved, subject: str, peer: str) -> Column:
    rows, table = resolved.rows, compiled.classes
    kind = rows[peer + "_kind"]
    found: Column = table.profile_column[rows[peer + "_profile"]].astype(np.int64)
    is_node = (kind == NODE) | (kind == HOST_POD)
    if is_node.any():
        mine, theirs = rows[subject + "_node"][is_node], rows[peer + "_node"][is_node]
        relation = np.where(mine == theirs, classes.LOCAL, classes.REMOTE)
        relation = np.where((mine < 0) | (theirs < 0), classes.UNSURE, relation)
        found[is_node] = table.node_column(theirs, relation.astype(np.int64))
    outside = kind == EXTERNAL
    if outside.any():
        found[outside] = _outside(compiled, rows[peer + "_addresses"][outside])
    return found


def _outside(compiled: Compiled, sets: NDArray[np.int32]) -> Column:
    """Columns of the outside by family, and by whether the API server is there."""
    used, inverse = _used(sets, len(compiled.index.addresses.values))
    found: list[int] = []
    for number in used.tolist():
        held = compiled.index.addresses.values[number]
        families = {one.family for one in held}
        base = classes.OUTSIDE[families.pop() if len(families) == 1 else 0]
        server = bool(held) and set(held) <= compiled.index.api_servers
        found.append(base + 3 * server)
    return np.array(found, np.int64)[inverse]


def _parts(kind: NDArray[np.uint8]) -> Column:
    found: Column = np.where(kind == POD, cells.OF_POD, np.where(kind == EXTERNAL, cells.OUTSIDE, cells.OF_NODE))
    return found


def _used(numbers: NDArray[Any], count: int) -> tuple[Column, Column]:
    """The numbers (below ``count``) that occur, and for each entry its position among them."""
    occurs = np.zeros(count, bool)
    occurs[numbers] = True
    position = np.cumsum(occurs) - 1
    return np.flatnonzero(occurs), position[numbers]


def _cells(compiled: Compiled, part: Column, sets: Column) -> tuple[Column, tuple[BitMatrix, BitMatrix]]:
    """The column of each row's peer address, and the terms with columns for sets in several cells."""
    table, terms = compiled.cells, compiled.cell_terms
    used, position = _used(sets, len(compiled.index.addresses.values))
    every = table.cells([compiled.index.addresses.values[number] for number in used.tolist()])
    mixed = {item: number for number, item in enumerate(dict.fromkeys(item for item in every if len(item) > 1))}
    single = np.array([next(iter(item)) if len(item) == 1 else -1 for item in every], np.int64)
    several = np.array([mixed.get(item, -1) for item in every], np.int64)
    column = part * table.count + single[position]
    is_mixed = single[position] < 0
    column[is_mixed] = table.columns + part[is_mixed] * len(mixed) + several[position][is_mixed]
    if not mixed:
        return column, terms.packed()
    members = [np.array(sorted(item)) + part * table.count for part in range(3) for item in mixed]
    return column, terms.extended(members)


@dataclass(frozen=True)
class PortColumns:
    """The port's column of each row, the names that pods give to each column, and the terms."""

    columns: Column
    names: tuple[Given, ...]
    terms: tuple[BitMatrix, BitMatrix]


def port_columns(compiled: Compiled, resolved: Resolved) -> PortColumns:
    """Columns of ports, the same for both directions. What a pod names, and rules ask for, has columns of its own."""
    rows, table, terms = resolved.rows, compiled.ports, compiled.port_terms
    cell = table.cells(rows["protocol"], rows["port"]).astype(np.int64)
    names: list[Given] = [frozenset()] * table.count
    plain = list(range(table.count))
    if not table.named or not len(rows):
        return PortColumns(cell, tuple(names), terms.packed())
    made: dict[tuple[int, Given], int] = {}
    to_pod = rows["dst_kind"] == POD
    closed = np.array([profile.pod is None for profile in compiled.index.profiles.values], bool)
    for place in np.flatnonzero(to_pod & closed[rows["dst_profile"]]).tolist():
        protocol = int(rows["protocol"][place])
        cell[place] = made.setdefault((int(cell[place]), protocol), table.count + len(made))
    keys, held = _named_ports(compiled)
    if len(keys):
        asked = rows["dst_profile"].astype(np.int64) << 24 | rows["protocol"].astype(np.int64) << 16 | rows["port"]
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        hit = np.flatnonzero((keys[at] == asked) & to_pod)
        pair = at[hit] * table.count + cell[hit]
        unique, inverse = np.unique(pair, return_inverse=True)
        columns = [
            made.setdefault((code % table.count, held[code // table.count]), table.count + len(made))
            for code in unique.tolist()
        ]
        cell[hit] = np.array(columns, np.int64)[inverse.reshape(-1)]
    for here, given in made:
        plain.append(here)
        names.append(given)
    extra = [np.array([here]) for here in plain[table.count :]]
    return PortColumns(cell, tuple(names), terms.extended(extra))


def _named_ports(compiled: Compiled) -> tuple[Column, list[frozenset[tuple[int, str]]]]:
    """Sorted keys (profile, protocol, port) of ports whose names rules ask for, and the names of each."""
    found: dict[int, set[tuple[int, str]]] = {}
    for number, profile in enumerate(compiled.index.profiles.values):
        for name, protocol, port in profile.ports:
            if name in compiled.ports.named:
                found.setdefault(number << 24 | protocol << 16 | port, set()).add((protocol, name))
    keys = sorted(found)
    return np.array(keys, np.int64), [frozenset(found[key]) for key in keys]


def _names(resolved: Resolved, direction: Direction) -> Column:
    """0: names do not apply; 1: no name is known because none was recorded at all; 2: none is known; 3 …: sets."""
    rows = resolved.rows
    if direction == "ingress":
        return np.zeros(len(rows), np.int64)
    found = np.where(rows["names"] >= 0, rows["names"] + 3, 2 if resolved.named else 1)
    return np.where(rows["dst_kind"] == EXTERNAL, found, 0).astype(np.int64)


def uncertain(terms: tuple[BitMatrix, BitMatrix]) -> Bools:
    """The columns for which some term may match and need not."""
    must, may = terms
    if not len(must):
        return np.zeros(must.columns, bool)
    differ = np.bitwise_or.reduce(must.packed ^ may.packed, axis=0)
    return np.unpackbits(differ, count=must.columns, bitorder="little").view(np.bool_)
