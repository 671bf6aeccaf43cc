"""Each policy of a set by itself: what it alone would allow and deny of the flows that it concerns.

The set is compiled once. A policy by itself is the same program with all other policies taken out of the groups, so
that what it costs depends on the pods that it selects, not on the size of the set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled, Group, Side, program
from fathom.policy.endpoints import EGRESS, INGRESS
from fathom.policy.evaluate import Verdicts, evaluate
from fathom.policy.index import HOST_POD, NODE, POD
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.options import NOT_ORIENTED
from fathom.policy.resolve import Resolved


@dataclass(frozen=True)
class Alone:
    """Policy number ``policy`` by itself. ``flows`` are the numbers of the flows that it concerns, in order;
    ``resolved`` and ``verdicts`` are of those, ``compiled`` of this policy."""

    policy: int
    flows: NDArray[np.int64]
    compiled: Compiled
    resolved: Resolved
    verdicts: Verdicts


def alone(compiled: Compiled, resolved: Resolved, policies: Iterable[int]) -> Iterator[Alone]:
    """The verdicts of each of ``policies`` (numbers in the set) that concerns some flow of ``resolved``.

    A flow is concerned where the policy selects, or may select, its source for egress or its destination for ingress
    (where it is not known who opened: either end); for any other flow its verdict is ``allowed``.
    """
    compiled = compiled.current()
    sides = {direction: _Groups(compiled, direction) for direction in DIRECTIONS}
    selected = _selected(compiled, resolved)
    start = np.searchsorted(resolved.rows["flow"], np.arange(resolved.count + 1))
    for number in policies:
        hosts = compiled.policies[number].hosts
        concerned = [rows.of(sides[rows.direction].of_policy.get(number, ())) for rows in selected]
        if hosts:
            concerned.append(_of_nodes(resolved))
        flows = np.unique(resolved.rows["flow"][np.concatenate(concerned)]).astype(np.int64)
        if not len(flows):
            continue
        own = {direction: sides[direction].only(number) for direction in DIRECTIONS}
        one = dataclasses.replace(compiled, sides=own, hosts=hosts)
        part = _part(resolved, flows, start)
        yield Alone(number, flows, one, part, evaluate(one, part))


class _Groups:
    """The groups of one direction, and which of them hold which policy."""

    def __init__(self, compiled: Compiled, direction: Direction) -> None:
        self._policies, self._direction = compiled.policies, direction
        self._side: Side = compiled.sides[direction]
        self.of_policy: dict[int, list[int]] = {}
        for number, group in enumerate(self._side.groups):
            for member in group.members:
                self.of_policy.setdefault(member.policy, []).append(number)

    def only(self, policy: int) -> Side:
        """The side with no other policy."""
        numbers = self.of_policy.get(policy, [])
        new = np.full(len(self._side.groups) + 1, -1, np.int32)
        new[numbers] = np.arange(len(numbers))
        groups = tuple(self._program(self._side.groups[number], policy) for number in numbers)
        return dataclasses.replace(self._side, groups=groups, group_of=new[self._side.group_of])

    def _program(self, group: Group, policy: int) -> Group:
        members = [member for member in group.members if member.policy == policy]
        return program(self._policies, self._direction, members, self._side.rules)


class _Selected:
    """Rows by the group of one of their ends."""

    def __init__(self, compiled: Compiled, resolved: Resolved, direction: Direction, end: str, wanted: Bools) -> None:
        side = compiled.sides[direction]
        self.direction = direction
        column = compiled.classes.profile_column[resolved.rows[end + "_profile"]]
        pod = (resolved.rows[end + "_kind"] == POD) & ~resolved.rows["allow"]
        groups = np.where(wanted & pod, side.group_of[column], -1)
        self._order = np.argsort(groups, kind="stable")
        self._start = np.searchsorted(groups[self._order], np.arange(len(side.groups) + 1))

    def of(self, groups: Sequence[int]) -> NDArray[np.int64]:
        """Rows whose end is in one of ``groups``."""
        parts = [self._order[self._start[n] : self._start[n + 1]] for n in groups]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _selected(compiled: Compiled, resolved: Resolved) -> list[_Selected]:
    """The subjects of either direction; and where it is not known who opened, either end as either."""
    rows = resolved.rows
    found = [
        _Selected(compiled, resolved, "egress", "src", rows["sides"] & EGRESS > 0),
        _Selected(compiled, resolved, "ingress", "dst", rows["sides"] & INGRESS > 0),
    ]
    lost = (rows["src_cause"] | rows["dst_cause"]) & NOT_ORIENTED > 0
    if lost.any():
        found += [_Selected(compiled, resolved, way, end, lost) for way in DIRECTIONS for end in ("src", "dst")]
    return found


def _of_nodes(resolved: Resolved) -> NDArray[np.int64]:
    """Rows with a node, or a pod on its network, at an end."""
    ends = [resolved.rows[end + "_kind"] for end in ("src", "dst")]
    return np.flatnonzero(np.logical_or.reduce([(kind == NODE) | (kind == HOST_POD) for kind in ends]))


def _part(resolved: Resolved, flows: NDArray[np.int64], start: NDArray[np.int64]) -> Resolved:
    """The rows of ``flows`` alone, numbered from 0; ``start`` is the first row of each flow."""
    count = start[flows + 1] - start[flows]
    flow = np.repeat(np.arange(len(flows)), count)
    rows = resolved.rows.select(start[flows][flow] + np.arange(len(flow)) - np.repeat(np.cumsum(count) - count, count))
    rows["flow"][:] = flow
    return dataclasses.replace(resolved, rows=rows, count=len(flows))
