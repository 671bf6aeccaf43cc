"""Why a verdict is what it is: on each side, the tier that decided, the policies that select the pod, and the rules.

Slower than ``evaluate``, since it names things: asked for the flows that a person looks at, or all of a small set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.bind import bind, port_columns
from fathom.policy.compile import Compiled, Group
from fathom.policy.endpoints import EGRESS, INGRESS
from fathom.policy.match import Matcher
from fathom.policy.model import Direction, Tier
from fathom.policy.problems import Place
from fathom.policy.resolve import Resolved
from fathom.policy.shadows import shadows

_RANK: dict[str, int] = {"admin": 0, "developer": 1, "baseline": 2}


class Hit(msgspec.Struct, frozen=True, order=True):
    """A rule that matches (``sure``), or may match, and what it does."""

    policy: str
    place: Place
    action: str
    sure: bool
    title: str = ""


class SideDecision(msgspec.Struct, frozen=True):
    """One side of one flow. ``tier`` ``none``: no policy selects the pod, or there is no pod at this side.

    ``policies`` are those of the deciding tier that select the pod; ``rules`` those of them that match (for a denial
    by isolation: none).
    """

    tier: Tier | Literal["none"]
    policies: tuple[str, ...] = ()
    rules: tuple[Hit, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """Both sides of one flow."""

    egress: SideDecision
    ingress: SideDecision


@dataclass(frozen=True)
class Hits:
    """Matches as parallel arrays: ``row`` of the resolution, ``rule`` of the side's table, whether it is ``sure``.

    ``groups`` is the group of every row of the resolution (-1: not selected); ``before`` is what has decided before the
    rule, as in ``shadows``.
    """

    row: NDArray[np.int64]
    rule: NDArray[np.int64]
    sure: NDArray[np.bool_]
    groups: NDArray[np.int32]
    before: NDArray[np.int64]


def decide(compiled: Compiled, resolved: Resolved, flows: NDArray[np.int64] | None = None) -> list[Decision]:
    """A decision for each of ``flows`` (indices), or for all, in order."""
    compiled = compiled.current()
    wanted = np.arange(resolved.count) if flows is None else np.asarray(flows, np.int64)
    position = np.full(resolved.count, -1, np.int64)
    position[wanted] = np.arange(len(wanted))
    chosen = np.flatnonzero(position[resolved.rows["flow"]] >= 0)
    sides: dict[Direction, list[SideDecision]] = {}
    for direction in ("egress", "ingress"):
        found = hits(compiled, resolved, direction, chosen)
        place = position[resolved.rows["flow"]]
        sides[direction] = _sides(compiled, resolved, direction, found, (chosen, place, len(wanted)))
    return [Decision(e, i) for e, i in zip(sides["egress"], sides["ingress"], strict=True)]


def hits(compiled: Compiled, resolved: Resolved, direction: Direction, rows: NDArray[np.int64]) -> Hits:
    """Every rule that matches or may match each of ``rows`` at one side; ``compiled`` being current."""
    bound = bind(compiled, resolved, direction, port_columns(compiled, resolved))
    side = compiled.sides[direction]
    matcher = Matcher(compiled, side, bound)
    wanted = EGRESS if direction == "egress" else INGRESS
    concerned = (bound.groups[rows] >= 0) & (resolved.rows["sides"][rows] & wanted > 0) & ~resolved.rows["allow"][rows]
    mine = rows[concerned]
    order = mine[np.argsort(bound.groups[mine], kind="stable")]
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]] = []
    for group, members in _runs(side.groups, bound.groups, order):
        found = matcher.matches(group, members)
        at, column = np.nonzero(found.may | found.must)
        before = shadows(compiled, direction, group, found)[at, column]
        parts.append((members[column], group.rules[at], found.must[at, column], before))
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Hits(nothing, nothing, np.zeros(0, bool), bound.groups, nothing)
    row, rule, sure, before = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Hits(row, rule, sure, bound.groups, before)


def _runs(
    groups: tuple[Group, ...], numbers: NDArray[np.int32], order: NDArray[np.int64]
) -> Iterator[tuple[Group, NDArray[np.int64]]]:
    edges = np.flatnonzero(np.diff(numbers[order])) + 1
    for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(order)], strict=True):
        if begin < end:
            yield groups[int(numbers[order[begin]])], order[begin:end]


def _sides(
    compiled: Compiled,
    resolved: Resolved,
    direction: Direction,
    found: Hits,
    chosen: tuple[NDArray[np.int64], NDArray[np.int64], int],
) -> list[SideDecision]:
    """Rows to flows: the union of what decided in each row."""
    rows, place, count = chosen
    refs = compiled.sides[direction].rules
    by_row: dict[int, list[tuple[int, bool]]] = {}
    for row, rule, sure in zip(found.row.tolist(), found.rule.tolist(), found.sure.tolist(), strict=True):
        by_row.setdefault(row, []).append((rule, sure))
    policies: list[set[str]] = [set() for _ in range(count)]
    rules: list[set[Hit]] = [set() for _ in range(count)]
    tiers: list[str] = ["none"] * count
    wanted = EGRESS if direction == "egress" else INGRESS
    for row in rows.tolist():
        group = int(found.groups[row])
        if group < 0 or resolved.rows["allow"][row] or not resolved.rows["sides"][row] & wanted:
            continue
        members = compiled.sides[direction].groups[group]
        matched = by_row.get(row, [])
        tier = _tier(compiled, members, [(refs[n].policy, refs[n].rule.action, sure) for n, sure in matched])
        flow = int(place[row])
        if tiers[flow] == "none" or _RANK[tier] < _RANK[tiers[flow]]:
            tiers[flow] = tier
        policies[flow] |= {
            compiled.policies[m.policy].title for m in members.members if compiled.policies[m.policy].tier == tier
        }
        for number, sure in matched:
            ref = refs[number]
            if compiled.policies[ref.policy].tier == tier or not sure:
                title = compiled.policies[ref.policy].title
                rules[flow].add(Hit(title, ref.rule.place, ref.rule.action, sure, ref.rule.title))
    return [
        SideDecision(tiers[n], tuple(sorted(policies[n])), tuple(sorted(rules[n])))  # type: ignore[arg-type]
        for n in range(count)
    ]


def _tier(compiled: Compiled, group: Group, matched: list[tuple[int, str, bool]]) -> Tier:
    """The tier whose word was the last: the first that surely allows or denies, else the first that isolates."""
    by_tier: dict[str, list[tuple[int, str]]] = {}
    for policy, action, sure in matched:
        if sure:
            by_tier.setdefault(compiled.policies[policy].tier, []).append((policy, action))
    admin = sorted(by_tier.get("admin", []), key=lambda item: compiled.policies[item[0]].priority)
    if admin and admin[0][1] != "pass":
        return "admin"
    if group.isolated[1] or by_tier.get("developer"):
        return "developer"
    if by_tier.get("baseline"):
        return "baseline"
    if group.developer:
        return "developer"
    return "baseline" if group.baseline else "admin"
