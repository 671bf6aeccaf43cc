"""Rows of flows as columns of a compiled set: for each side, group, peer's class, peer's cell, port and name.

Columns that the compiled set could not know (sets of addresses in different cells, ports that pods name, names of
the outside) are added here, for these rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.policy import cells, classes
from fathom.policy.bits import BitMatrix, Bools
from fathom.policy.compile import Compiled
from fathom.policy.index import EXTERNAL, HOST_POD, NODE, POD, Profile
from fathom.policy.model import Direction
from fathom.policy.resolve import Resolved

Column = NDArray[np.int64]


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
    port_cells: NDArray[np.int64]
    port_names: tuple[frozenset[tuple[int, str]] | None, ...]


def bind(compiled: Compiled, resolved: Resolved, direction: Direction) -> Bound:
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
    cell_column, cell_terms = _cells(compiled, part, address_sets)
    ports, port_cells, port_names, port_terms = _ports(compiled, resolved)
    names = _names(resolved, direction)
    return Bound(
        groups,
        class_column,
        cell_column,
        ports,
        names,
        port_terms,
        cell_terms,
        resolved.names,
        port_cells,
        port_names,
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
    used, inverse = np.unique(sets, return_inverse=True)
    found: list[int] = []
    for number in used.tolist():
        held = compiled.index.addresses.values[number]
        families = {one.family for one in held}
        base = classes.OUTSIDE[families.pop() if len(families) == 1 else 0]
        server = bool(held) and set(held) <= compiled.index.api_servers
        found.append(base + 3 * server)
    return np.array(found, np.int64)[inverse.reshape(-1)]


def _parts(kind: NDArray[np.uint8]) -> Column:
    found: Column = np.where(kind == POD, cells.OF_POD, np.where(kind == EXTERNAL, cells.OUTSIDE, cells.OF_NODE))
    return found


def _cells(compiled: Compiled, part: Column, sets: Column) -> tuple[Column, tuple[BitMatrix, BitMatrix]]:
    """The column of each row's peer address, and the terms with columns for sets in several cells."""
    table, terms = compiled.cells, compiled.cell_terms
    used, inverse = np.unique(sets, return_inverse=True)
    every = table.cells([compiled.index.addresses.values[number] for number in used.tolist()])
    mixed = {item: number for number, item in enumerate(dict.fromkeys(item for item in every if len(item) > 1))}
    single = np.array([next(iter(item)) if len(item) == 1 else -1 for item in every], np.int64)
    several = np.array([mixed.get(item, -1) for item in every], np.int64)
    position = inverse.reshape(-1)
    column = part * table.count + single[position]
    is_mixed = single[position] < 0
    column[is_mixed] = table.columns + part[is_mixed] * len(mixed) + several[position][is_mixed]
    if not mixed:
        return column, terms.packed()
    total = table.columns + 3 * len(mixed)
    members = [np.array(sorted(item)) + part * table.count for part in range(3) for item in mixed]
    must = [np.r_[row, [row[item].all() for item in members]] for row in terms.must]
    may = [np.r_[row, [row[item].any() for item in members]] for row in terms.may]
    return column, (BitMatrix(must, total), BitMatrix(may, total))


_PortColumns = tuple[
    Column, NDArray[np.int64], tuple[frozenset[tuple[int, str]] | None, ...], tuple[BitMatrix, BitMatrix]
]


def _ports(compiled: Compiled, resolved: Resolved) -> _PortColumns:
    """The port's column of each row. Where a pod names ports that rules ask for, columns of its own.

    Returns the columns; the plain cell of each column; the names of each column (None: not known); the terms.
    """
    rows, table, terms = resolved.rows, compiled.ports, compiled.port_terms
    cell = table.cells(rows["protocol"], rows["port"]).astype(np.int64)
    names: list[frozenset[tuple[int, str]] | None] = [frozenset()] * table.count
    plain = list(range(table.count))
    if not table.named or not len(rows):
        return cell, np.array(plain), tuple(names), terms.packed()
    profiles = compiled.index.profiles.values
    asked = np.array([_asks(profile, table.named) for profile in profiles], bool)
    concerned = np.flatnonzero((rows["dst_kind"] == POD) & asked[rows["dst_profile"]])
    made: dict[tuple[int, frozenset[tuple[int, str]] | None], int] = {}
    memory: dict[tuple[int, int, int], int] = {}
    keys = zip(
        concerned.tolist(),
        rows["dst_profile"][concerned].tolist(),
        rows["protocol"][concerned].tolist(),
        rows["port"][concerned].tolist(),
        cell[concerned].tolist(),
        strict=True,
    )
    for place, profile, protocol, port, here in keys:
        column = memory.get((profile, protocol, port))
        if column is None:
            held = _held(profiles[profile], protocol, port, table.named)
            column = here
            if held is None or held:
                column = made.setdefault((here, held), table.count + len(made))
            memory[profile, protocol, port] = column
        cell[place] = column
    for here, held in made:
        plain.append(here)
        names.append(held)
    must = [np.r_[row, row[plain[table.count :]]] for row in terms.must]
    may = [np.r_[row, row[plain[table.count :]]] for row in terms.may]
    total = len(plain)
    return cell, np.array(plain), tuple(names), (BitMatrix(must, total), BitMatrix(may, total))


def _asks(profile: Profile, wanted: frozenset[str]) -> bool:
    return profile.pod is None or any(name in wanted for name, _, _ in profile.ports)


def _held(profile: Profile, protocol: int, port: int, wanted: frozenset[str]) -> frozenset[tuple[int, str]] | None:
    """Names that the pod gives to this port; None where the pod's ports are not known."""
    if profile.pod is None:
        return None
    return frozenset(
        (p, name) for name, p, number in profile.ports if name in wanted and (p, number) == (protocol, port)
    )


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
