"""Each policy of a set by itself: what it alone would allow and deny of the flows that it concerns.

The set is compiled once, and all of its policies are evaluated in one pass: over pairs of a flow and a policy that
concerns it, each going through a program of that one policy. So the cost grows with such pairs, not with the product
of policies and flows. The parts of one document (``specs`` of Cilium) are one policy here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled, Group, Member, Side, program
from fathom.policy.endpoints import EGRESS, INGRESS
from fathom.policy.evaluate import Programs, Verdicts, evaluate
from fathom.policy.index import HOST_POD, NODE, POD
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.options import NOT_ORIENTED
from fathom.policy.resolve import Resolved

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Alone:
    """Policies by themselves: pairs of a ``policy`` (number in the set; the first of a document's parts) and a
    ``flow`` (number) that it concerns, sorted by policy, then by flow; ``resolved`` and ``verdicts`` have one entry for
    each pair."""

    policy: Ints
    flow: Ints
    resolved: Resolved
    verdicts: Verdicts

    def of(self, policy: int) -> slice:
        """The pairs of one policy."""
        first, last = np.searchsorted(self.policy, (policy, policy + 1)).tolist()
        return slice(first, last)


def parts(compiled: Compiled, policies: Sequence[int]) -> dict[int, int]:
    """Each of ``policies`` (numbers in the set) → the first of them that is of the same document."""
    first: dict[str, int] = {}
    return {number: first.setdefault(compiled.policies[number].title, number) for number in policies}


def alone(compiled: Compiled, resolved: Resolved, policies: Sequence[int]) -> Alone:
    """The verdicts of each of ``policies`` (numbers in the set) by itself.

    A flow is concerned where the policy selects, or may select, its source for egress or its destination for ingress
    (where it is not known who opened: either end); for any other flow its verdict is ``allowed``.
    """
    compiled = compiled.current()
    whole = parts(compiled, policies)
    sides = {direction: _Single(compiled, direction, whole) for direction in DIRECTIONS}
    hosts = sorted({whole[number] for number in policies if compiled.policies[number].hosts})
    row, policy = _concerned(resolved, compiled, sides, hosts)
    pairs = np.unique(np.stack([policy, resolved.rows["flow"][row]]), axis=1).astype(np.int64)
    part, origin, pair = _part(resolved, pairs[1])
    programs = _programs(compiled, resolved, sides, pairs[0][pair], origin)
    one = dataclasses.replace(compiled, sides={way: side.side for way, side in sides.items()}, hosts=False)
    verdicts = evaluate(one, part, programs)
    if hosts:
        verdicts = _joined(verdicts, evaluate(dataclasses.replace(one, hosts=True), part, programs), pairs[0], hosts)
    return Alone(pairs[0], pairs[1], part, verdicts)


class _Single:
    """Programs of single policies in one direction, and which of them the pods of each group of the set go through.

    ``whole``: as ``parts`` says.
    """

    def __init__(self, compiled: Compiled, direction: Direction, whole: dict[int, int]) -> None:
        self._groups = compiled.sides[direction].groups
        numbers: dict[tuple[Member, ...], int] = {}
        made: list[Group] = []
        members: list[tuple[int, int, int]] = []
        for group, held in enumerate(self._groups):
            mine: dict[int, list[Member]] = {}
            for member in held.members:
                if member.policy in whole:
                    mine.setdefault(whole[member.policy], []).append(member)
            for policy, together in mine.items():
                key = tuple(together)
                if key not in numbers:
                    numbers[key] = len(made)
                    made.append(program(compiled.policies, direction, together, compiled.sides[direction].rules))
                members.append((group, policy, numbers[key]))
        table = np.array(sorted(members), np.int64).reshape(-1, 3)
        #: For each group of the set its policies and their programs, behind one another.
        self.policy, self.program = table[:, 1], table[:, 2]
        self.start = np.searchsorted(table[:, 0], np.arange(len(self._groups) + 1))
        self.side: Side = dataclasses.replace(compiled.sides[direction], groups=tuple(made))

    def members(self, groups: NDArray[np.int32]) -> tuple[Ints, Ints]:
        """(row, place in ``policy`` and ``program``) for each policy of each row's group (-1: none)."""
        held = np.flatnonzero(groups >= 0)
        first = self.start[groups[held]]
        count = self.start[groups[held] + 1] - first
        row = np.repeat(held, count)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return row, np.repeat(first, count) + offset


def _groups_at(compiled: Compiled, resolved: Resolved, direction: Direction, end: str) -> NDArray[np.int32]:
    """The group of one end of each row in one direction; -1 where no policy selects it."""
    column = compiled.classes.profile_column[resolved.rows[end + "_profile"]]
    pod = (resolved.rows[end + "_kind"] == POD) & ~resolved.rows["allow"]
    found: NDArray[np.int32] = np.where(pod, compiled.sides[direction].group_of[column], -1).astype(np.int32)
    return found


def _looks(resolved: Resolved) -> list[tuple[Direction, str, Bools]]:
    """Which end is looked at in which direction, and in which rows."""
    rows = resolved.rows
    lost = (rows["src_cause"] | rows["dst_cause"]) & NOT_ORIENTED > 0
    found: list[tuple[Direction, str, Bools]] = [
        ("egress", "src", (rows["sides"] & EGRESS > 0) | lost),
        ("ingress", "dst", (rows["sides"] & INGRESS > 0) | lost),
    ]
    if lost.any():
        found += [("egress", "dst", lost), ("ingress", "src", lost)]
    return found


def _concerned(
    resolved: Resolved, compiled: Compiled, sides: dict[Direction, _Single], hosts: Sequence[int]
) -> tuple[Ints, Ints]:
    """(row, policy) wherever a policy concerns a row."""
    found: list[tuple[Ints, Ints]] = []
    for direction, end, wanted in _looks(resolved):
        groups = np.where(wanted, _groups_at(compiled, resolved, direction, end), -1)
        row, place = sides[direction].members(groups.astype(np.int32))
        found.append((row, sides[direction].policy[place]))
    for number in hosts:
        row = _of_nodes(resolved)
        found.append((row, np.full(len(row), number)))
    return np.concatenate([row for row, _ in found]), np.concatenate([policy for _, policy in found])


def _of_nodes(resolved: Resolved) -> Ints:
    """Rows with a node, or a pod on its network, at an end."""
    ends = [resolved.rows[end + "_kind"] for end in ("src", "dst")]
    return np.flatnonzero(np.logical_or.reduce([(kind == NODE) | (kind == HOST_POD) for kind in ends]))


def _part(resolved: Resolved, flows: Ints) -> tuple[Resolved, Ints, Ints]:
    """The rows of ``flows`` (which may stand several times), numbered from 0; each row's origin, and its number."""
    start = np.searchsorted(resolved.rows["flow"], np.arange(resolved.count + 1))
    count = start[flows + 1] - start[flows]
    pair = np.repeat(np.arange(len(flows)), count)
    origin = start[flows][pair] + np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
    rows = resolved.rows.select(origin)
    rows["flow"][:] = pair
    return dataclasses.replace(resolved, rows=rows, count=len(flows)), origin, pair


def _programs(
    compiled: Compiled, resolved: Resolved, sides: dict[Direction, _Single], policy: Ints, origin: Ints
) -> Programs:
    """The program of each row of the pairs: that of its policy, where this selects the row's end."""
    count = len(resolved.rows)
    wanted = policy * count + origin
    groups: dict[Direction, NDArray[np.int32]] = {}
    concerned = np.zeros(len(policy), bool)
    for direction, end, _ in _looks(resolved):
        single = sides[direction]
        row, place = single.members(_groups_at(compiled, resolved, direction, end))
        keys = single.policy[place] * count + row
        order = np.argsort(keys)
        at = np.minimum(np.searchsorted(keys[order], wanted), max(len(keys) - 1, 0))
        hit = keys[order][at] == wanted if len(keys) else np.zeros(len(wanted), bool)
        concerned |= hit
        if (direction, end) in (("egress", "src"), ("ingress", "dst")):
            found = single.program[place][order][at] if len(keys) else wanted
            groups[direction] = np.where(hit, found, -1).astype(np.int32)
    return Programs(groups, concerned)


def _joined(plain: Verdicts, on_hosts: Verdicts, policy: Ints, hosts: Sequence[int]) -> Verdicts:
    """The verdicts of policies about nodes in the place of those that leave nodes alone."""
    mine = np.isin(policy, list(hosts))
    names = (field.name for field in dataclasses.fields(Verdicts))
    return Verdicts(*(np.where(mine, getattr(on_hosts, name), getattr(plain, name)) for name in names))
