"""Which rules match which rows: an array of rules × rows, twice: what must match, and what may.

The two differ only where something is not known or not understood. Everything is look-ups in bit matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bind import Bound, Given, uncertain
from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled, Group, RuleRef, Side
from fathom.policy.model import TRANSPORTS, NamePattern
from fathom.policy.names import matches


@dataclass(frozen=True)
class Matches:
    """Rules × rows. ``may`` is ``must`` itself where nothing is uncertain. ``direct`` leaves address blocks out."""

    must: Bools
    may: Bools
    direct: Bools


class Matcher:
    """Matches of one compiled set over the bound rows of one direction."""

    def __init__(self, compiled: Compiled, side: Side, bound: Bound) -> None:
        self.compiled = compiled
        self.side = side
        self.bound = bound
        self.unsure_class = uncertain(compiled.class_terms)
        self.unsure_cell = uncertain(bound.cell_terms)
        self.unsure_port = uncertain(bound.port_terms)
        self.open_port = np.array([isinstance(names, int) for names in bound.port_names], bool)
        self.has_cells = compiled.cell_terms.possible
        self._port_rows: dict[tuple[frozenset[tuple[int, str]], bool], Bools] = {}
        self._name_rows: dict[tuple[tuple[NamePattern, ...], frozenset[NamePattern] | None], Bools] = {}

    def unsure(self, group: Group, rows: NDArray[np.int64]) -> Bools:
        """Rows for which some rule of the group may match and need not, by what is known about the row."""
        bound = self.bound
        found: Bools = self.unsure_class[bound.classes[rows]] | self.unsure_cell[bound.cells[rows]]
        found |= self.unsure_port[bound.ports[rows]]
        if group.named:
            found |= self.open_port[bound.ports[rows]]
        if group.by_name:
            found |= bound.names[rows] > 0
        return found

    def matches(self, group: Group, rows: NDArray[np.int64]) -> Matches:
        """All rules of the group against the rows."""
        must, direct = self._matches(group, rows, 0)
        refs = [self.side.rules[number] for number in group.rules.tolist()]
        if group.plain and not self.unsure(group, rows).any():
            return Matches(must, must, direct)
        may, _ = self._matches(group, rows, 1)
        for at, ref in enumerate(refs):
            if ref.rule.narrowed:
                must[at] = False
                direct[at] = False
            if ref.rule.widened:
                may[at] = True
        return Matches(must, may, direct)

    def _matches(self, group: Group, rows: NDArray[np.int64], half: int) -> tuple[Bools, Bools]:
        bound, terms = self.bound, self.side.terms[group.rules]
        ports = bound.port_terms[half].look_up(terms[:, 2], bound.ports[rows])
        if group.named:
            self._add_named(group, rows, ports, bool(half))
        peers = self.compiled.class_terms[half].look_up(terms[:, 0], bound.classes[rows])
        if group.by_name:
            self._add_names(group, rows, peers, half)
        direct = ports & peers
        if not self.has_cells[terms[:, 1]].any():
            return direct, direct
        peers |= bound.cell_terms[half].look_up(terms[:, 1], bound.cells[rows])
        return ports & peers, direct

    def _add_named(self, group: Group, rows: NDArray[np.int64], ports: Bools, may: bool) -> None:
        for at, number in enumerate(group.rules.tolist()):
            ref = self.side.rules[number]
            named = ref.named if may else ref.named - ref.vague
            if named:
                ports[at] |= self._port_row(named, may)[self.bound.ports[rows]]

    def _port_row(self, named: frozenset[tuple[int, str]], may: bool) -> Bools:
        """The port columns where the destination pod gives one of these names to the port."""
        found = self._port_rows.get((named, may))
        if found is None:
            found = np.array([_gives(names, named, may) for names in self.bound.port_names], bool)
            self._port_rows[named, may] = found
        return found

    def _add_names(self, group: Group, rows: NDArray[np.int64], peers: Bools, half: int) -> None:
        for at, number in enumerate(group.rules.tolist()):
            ref = self.side.rules[number]
            if ref.names:
                seen = group.dns[half] if ref.learned else None
                peers[at] |= self._name_row(ref, seen, bool(half))[self.bound.names[rows]]

    def _name_row(self, ref: RuleRef, seen: frozenset[NamePattern] | None, may: bool) -> Bools:
        """The name columns that the rule covers; ``seen``: only names that some DNS rule lets the proxy see."""
        key = (ref.names, seen)
        found = self._name_rows.get(key)
        if found is None:
            found = np.zeros(3 + len(self.bound.name_sets), bool)
            for at, names in enumerate(self.bound.name_sets):
                found[3 + at] = any(_covered(name, ref.names, seen) for name in names)
            self._name_rows[key] = found
        if may and (seen is None or seen):
            found = found.copy()
            found[1] = True
        return found


def _gives(names: Given, wanted: frozenset[tuple[int, str]], may: bool) -> bool:
    if isinstance(names, int):
        return may and names in TRANSPORTS and any(asked in (0, names) for asked, _ in wanted)
    return any(name == other and asked in (0, protocol) for protocol, name in names for asked, other in wanted)


def _covered(name: str, patterns: tuple[NamePattern, ...], seen: frozenset[NamePattern] | None) -> bool:
    if not any(matches(pattern, name) for pattern in patterns):
        return False
    return seen is None or any(matches(pattern, name) for pattern in seen)
