"""Verdicts: a compiled policy set over resolved flows, as arrays.

For each side of a connection the *outcome* is the set of results that are possible with what is known: allow, deny,
or both (unknown). Tiers and deny rules work on these sets, so that what is not known stays unknown exactly as far as
it matters. Source: the decision procedure of the API texts that the readers name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bind import Bound, PortColumns, bind, port_columns
from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled, Group, Member
from fathom.policy.endpoints import BOTH as BOTH_SIDES
from fathom.policy.endpoints import EGRESS, INGRESS
from fathom.policy.index import HOST_POD, NODE, POD
from fathom.policy.match import Matcher, Matches
from fathom.policy.model import DIRECTIONS, TRANSPORTS, Direction
from fathom.policy.options import (
    ABSENT,
    BLOCK_PODS,
    DNAT,
    ESTABLISHED,
    HIDDEN,
    HOST_NETWORK,
    ICMP,
    ICMP_PLUGIN,
    NO_ADDRESS,
    NO_NAME,
    NOT_ORIENTED,
    NOT_UNDERSTOOD,
    OWN_NODE,
    OWN_POD,
    TIE,
    WHICH_NODE,
)
from fathom.policy.resolve import Resolved

#: Outcomes of one side: sets of what is possible.
ALLOW, DENY, UNKNOWN = 1, 2, 3
_NONE, _PASS = 4, 8
_ACTIONS = {"allow": ALLOW, "deny": DENY, "pass": _PASS}
#: Verdicts of a flow, by number. ``denied-both`` is also: denied at one side or the other, by candidate.
VERDICTS = ("allowed", "denied-ingress", "denied-egress", "denied-both", "unknown")
ALLOWED, DENIED_INGRESS, DENIED_EGRESS, DENIED_BOTH, UNDECIDED = range(5)
Sets = NDArray[np.uint8]
#: Bits of a state of the developer's tier, and for each state the set of states that joining it to a set makes.
_ALLOWED, _DENIED, _ISOLATED = 1, 2, 4
_JOINED = np.array(
    [
        [sum({1 << (state | effect) for state in range(8) if mask >> state & 1}) for mask in range(256)]
        for effect in range(8)
    ],
    np.uint8,
)


@dataclass(frozen=True)
class Verdicts:
    """One entry for each flow: ``verdict`` (index into VERDICTS), ``egress`` and ``ingress`` outcomes, ``reasons`` of
    what is unknown and ``assumptions`` (bits of ``options``)."""

    verdict: Sets
    egress: Sets
    ingress: Sets
    reasons: NDArray[np.uint32]
    assumptions: NDArray[np.uint16]


@dataclass(frozen=True)
class RowOutcomes:
    """One entry for each row of one direction: outcome, reasons, assumptions, and the group (-1: not selected)."""

    outcome: Sets
    reasons: NDArray[np.uint32]
    assumed: NDArray[np.uint16]
    groups: NDArray[np.int32]


@dataclass(frozen=True)
class Programs:
    """Which group's program each row goes through at each side (-1: none), in the place of the one of its pod; and
    which rows of unknown orientation are ``concerned`` by it, whichever side opened."""

    groups: dict[Direction, NDArray[np.int32]]
    concerned: Bools


def evaluate(compiled: Compiled, resolved: Resolved, programs: Programs | None = None) -> Verdicts:
    """The verdict of every flow of ``resolved``; by other ``programs`` than the groups of its pods, where given."""
    compiled = compiled.current()
    ports = port_columns(compiled, resolved)
    egress, ingress = (side_outcomes(compiled, resolved, way, ports, programs) for way in DIRECTIONS[::-1])
    concerned = programs.concerned if programs else None
    return _combine(compiled, resolved, egress, ingress, concerned)


def side_outcomes(
    compiled: Compiled,
    resolved: Resolved,
    direction: Direction,
    ports: PortColumns,
    programs: Programs | None = None,
) -> RowOutcomes:
    """Outcomes of every row at one side, ``compiled`` being current."""
    bound = bind(compiled, resolved, direction, ports)
    if programs:
        bound = replace(bound, groups=programs.groups[direction])
    state = _State(compiled, resolved, direction, bound)
    wanted = EGRESS if direction == "egress" else INGRESS
    rows = resolved.rows
    chosen = np.flatnonzero((bound.groups >= 0) & (rows["sides"] & wanted > 0) & ~rows["allow"])
    keys = bound.groups[chosen]
    small = len(compiled.sides[direction].groups) < 1 << 16  # numpy sorts 16-bit numbers by radix
    order = chosen[np.argsort(keys.astype(np.uint16) if small else keys, kind="stable")]
    numbers = bound.groups[order]
    edges = np.flatnonzero(np.diff(numbers)) + 1
    for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(order)], strict=True):
        if begin < end:
            state.group(compiled.sides[direction].groups[int(numbers[begin])], order[begin:end])
    state.overrides()
    return RowOutcomes(state.outcome, state.reasons, state.assumed, bound.groups)


class _State:
    """Outcomes of one side while its groups are worked through."""

    def __init__(self, compiled: Compiled, resolved: Resolved, direction: Direction, bound: Bound) -> None:
        rows = resolved.rows
        self.compiled = compiled
        self.resolved = resolved
        self.direction = direction
        self.bound = bound
        self.matcher = Matcher(compiled, compiled.sides[direction], bound)
        self.outcome = np.full(len(rows), ALLOW, np.uint8)
        self.reasons = np.zeros(len(rows), np.uint32)
        self.assumed = np.zeros(len(rows), np.uint16)
        self.subject, self.peer = ("src", "dst") if direction == "egress" else ("dst", "src")
        self.own, self.maybe_own = _own_node(resolved, direction)
        self.icmp = ~np.isin(rows["protocol"], TRANSPORTS)

    # -- groups

    def group(self, group: Group, rows: NDArray[np.int64]) -> None:
        """The outcome of the group's rows."""
        if group.unclear:
            self.outcome[rows] = UNKNOWN
            self.reasons[rows] |= NOT_UNDERSTOOD
            return
        found = self.matcher.matches(group, rows)
        if group.simple and not (group.networkpolicy and self._icmp_is_open(rows).any()):
            self.outcome[rows] = self._simple(group, rows, found)
        else:
            self.outcome[rows] = self._tiers(group, rows, found)
        self._tell(group, rows, found)

    def _simple(self, group: Group, rows: NDArray[np.int64], found: Matches) -> Sets:
        """Allow rules only: what isolates denies what no rule matches."""
        if not group.isolated[0]:
            return np.full(len(rows), ALLOW, np.uint8)
        sure = found.must.any(axis=0) | self.own[rows]
        outcome = np.where(sure, ALLOW, DENY).astype(np.uint8)
        possible = self.maybe_own[rows]
        if found.may is not found.must:
            possible = possible | found.may.any(axis=0)
        outcome[~sure & possible] = UNKNOWN
        return outcome

    def _tiers(self, group: Group, rows: NDArray[np.int64], found: Matches) -> Sets:
        """Baseline, then the developer's tier over it, then admin over both."""
        places = dict(zip(group.rules.tolist(), range(len(group.rules)), strict=True))
        outcome = np.full(len(rows), ALLOW, np.uint8)
        outcome = self._ordered(group.baseline, rows, found, places, outcome)
        outcome = self._developer(group, rows, found, places, outcome)
        return self._ordered(group.admin, rows, found, places, outcome)

    def _developer(
        self, group: Group, rows: NDArray[np.int64], found: Matches, places: dict[int, int], below: Sets
    ) -> Sets:
        """Deny rules win, then allow rules; what isolates denies the rest; else what is below decides.

        Works on sets of states (allowed, denied, isolated), one bit for each of the eight, so that a policy that only
        may select the pod is either wholly there or not at all.
        """
        own, maybe = self.own[rows], self.own[rows] | self.maybe_own[rows]
        states = np.where(own, 1 << _ALLOWED, np.where(maybe, 1 << _ALLOWED | 1, 1)).astype(np.uint8)
        for member in group.developer:
            sure, may = self._effects(member, rows, found, places)
            isolates = _ISOLATED if self.direction in self.compiled.policies[member.policy].isolates else 0
            after = states.copy() if not member.sure else np.zeros(len(rows), np.uint8)
            for effect in range(4):
                possible = np.ones(len(rows), bool)
                for bit in (0, 1):
                    possible &= may[bit] if effect >> bit & 1 else ~sure[bit]
                after |= np.where(possible, _JOINED[effect | isolates][states], 0).astype(np.uint8)
            states = after
        outcome = np.zeros(len(rows), np.uint8)
        for state in range(8):
            result = DENY if state & _DENIED else ALLOW if state & _ALLOWED else DENY if state & _ISOLATED else below
            outcome |= np.where(states >> state & 1, result, 0).astype(np.uint8)
        return outcome

    def _effects(
        self, member: Member, rows: NDArray[np.int64], found: Matches, places: dict[int, int]
    ) -> tuple[list[Bools], list[Bools]]:
        """Whether an allow rule and a deny rule of the member match: (must, may), each [allow, deny]."""
        sure, may = ([np.zeros(len(rows), bool) for _ in range(2)] for _ in range(2))
        rules = self.compiled.sides[self.direction].rules
        for number in member.rules:
            at, bit = places[number], int(rules[number].rule.action == "deny")
            sure[bit] |= found.must[at]
            may[bit] |= found.may[at]
        if self.compiled.policies[member.policy].kind == "NetworkPolicy":
            open_icmp = self._icmp_is_open(rows)
            sure[0][open_icmp] = self.compiled.options.icmp == "allowed"
            may[0] |= open_icmp
        return sure, may

    def _icmp_is_open(self, rows: NDArray[np.int64]) -> Bools:
        """Rows of protocols that are outside the API of NetworkPolicy, where an option says what these let pass."""
        return self.icmp[rows] & (self.compiled.options.icmp != "rules")

    def _ordered(
        self, members: tuple[Member, ...], rows: NDArray[np.int64], found: Matches, places: dict[int, int], below: Sets
    ) -> Sets:
        """Rules in order of priority; of policies with equal priority any may be applied."""
        policies = self.compiled.policies
        outcome = below.copy()
        by_priority = [list(g) for _, g in groupby(members, key=lambda m: policies[m.policy].priority)]
        for level in reversed(by_priority):
            results = [self._first(member, len(rows), found, places) for member in level]
            union = np.bitwise_or.reduce(results)
            nobody = np.bitwise_and.reduce(results) & _NONE > 0
            decided = union & UNKNOWN | np.where(union & _PASS > 0, below, 0)
            if len(level) > 1:
                settled = [result & (ALLOW | DENY | _PASS) for result in results]
                lowest = np.bitwise_and.reduce([np.where(s > 0, s, 255) for s in settled])
                self.reasons[rows[(union & (ALLOW | DENY | _PASS) & ~lowest > 0) & (decided == UNKNOWN)]] |= TIE
            outcome = np.where(nobody, decided | outcome, decided).astype(np.uint8)
        return outcome

    def _first(self, member: Member, count: int, found: Matches, places: dict[int, int]) -> Sets:
        """What the first matching rule of one policy does: a set of actions, or none."""
        result = np.full(count, _NONE, np.uint8)
        rules = self.compiled.sides[self.direction].rules
        for number in reversed(member.rules):
            at, action = places[number], _ACTIONS[rules[number].rule.action]
            result = np.where(found.may[at], result | action, result)
            result = np.where(found.must[at], action, result)
        return (result if member.sure else result | _NONE).astype(np.uint8)

    # -- why

    def _tell(self, group: Group, rows: NDArray[np.int64], found: Matches) -> None:
        """Reasons of unknown outcomes, and the assumptions that outcomes rest on."""
        outcome = self.outcome[rows]
        unknown = outcome == UNKNOWN
        if unknown.any():
            part = Matches(found.must[:, unknown], found.may[:, unknown], found.direct[:, unknown])
            self._reasons(group, rows[unknown], part)
        if self.own[rows].any():
            spared = self.own[rows] & ~found.must.any(axis=0)
            self.assumed[rows[spared]] |= OWN_NODE
        if group.blocks:
            pods = self.resolved.rows[self.peer + "_kind"][rows] == POD
            if self.compiled.options.block_pods == "match":
                rests = ~found.direct.any(axis=0) & found.must.any(axis=0) & (outcome == ALLOW)
            else:
                rests = outcome == DENY
            self.assumed[rows[rests & pods]] |= BLOCK_PODS
        if group.networkpolicy:
            self.assumed[rows[self.icmp[rows]]] |= ICMP

    def _reasons(self, group: Group, rows: NDArray[np.int64], found: Matches) -> None:
        """Bits for rows whose outcome is unknown."""
        bound, table, matcher = self.bound, self.resolved.rows, self.matcher
        reasons = np.zeros(len(rows), np.uint32)
        open_rules = found.may & ~found.must
        refs = [self.compiled.sides[self.direction].rules[number] for number in group.rules.tolist()]
        doubtful = np.array([ref.doubtful for ref in refs], bool)
        reasons |= np.where(open_rules[doubtful].any(axis=0), NOT_UNDERSTOOD, 0).astype(np.uint32)
        others = open_rules[~doubtful].any(axis=0)
        column = bound.classes[rows]
        cause = table[self.peer + "_cause"][rows]
        if self.direction == "ingress":
            cause = np.where(table["hides"][rows], HIDDEN, cause)
        nobody = matcher.unsure_class[column]
        is_node = (column < self.compiled.classes.first_pod) & (column > 6)
        told = np.where(is_node, WHICH_NODE, np.where(cause > 0, cause, ABSENT))
        reasons |= np.where(others & nobody, told, 0).astype(np.uint32)
        nowhere = others & ~nobody & matcher.unsure_cell[bound.cells[rows]]
        reasons |= np.where(nowhere, np.where(cause > 0, cause, NO_ADDRESS), 0).astype(np.uint32)
        reasons |= np.where(others & (bound.names[rows] == 1), NO_NAME if group.by_name else 0, 0).astype(np.uint32)
        open_port = matcher.unsure_port[bound.ports[rows]] | (matcher.open_port[bound.ports[rows]] & group.named)
        blame = np.where(table["dst_cause"][rows] > 0, table["dst_cause"][rows], NOT_UNDERSTOOD)
        reasons |= np.where(others & open_port, blame, 0).astype(np.uint32)
        reasons |= np.where(self.maybe_own[rows], WHICH_NODE, 0).astype(np.uint32)
        unsure = [self.compiled.policies[member.policy].subject for member in group.members if not member.sure]
        if not all(subject.understood for subject in unsure):
            reasons |= NOT_UNDERSTOOD
        if any(subject.understood for subject in unsure):
            mine = table[self.subject + "_cause"][rows]
            reasons |= np.where(mine > 0, mine, ABSENT).astype(np.uint32)
        if group.networkpolicy and self.compiled.options.icmp == "unknown":
            reasons |= np.where(self.icmp[rows], ICMP_PLUGIN, 0).astype(np.uint32)
        self.reasons[rows] |= reasons

    def overrides(self) -> None:
        """What no policy decides, and what options decide."""
        rows, options = self.resolved.rows, self.compiled.options
        selected = self.bound.groups >= 0
        if self.compiled.hosts:
            kinds = rows[self.subject + "_kind"]
            self._set((kinds == NODE) | (kinds == HOST_POD), UNKNOWN, NOT_UNDERSTOOD)
        assumed = rows["assumed"]
        self.assumed |= np.where(selected, assumed & (DNAT | OWN_POD), 0).astype(np.uint16)
        for end in ("src", "dst"):
            host = rows[end + "_kind"] == HOST_POD
            column = self.compiled.classes.profile_column[rows[end + "_profile"]]
            mine = self.compiled.sides[self.direction].group_of[column] >= 0
            concerned = host & (selected if end == self.peer else mine)
            self.assumed |= np.where(concerned, HOST_NETWORK, 0).astype(np.uint16)
        if options.established == "allowed":
            old = (assumed & ESTABLISHED > 0) & selected
            self._set(old, ALLOW, 0)
            self.assumed |= np.where(old, ESTABLISHED, 0).astype(np.uint16)

    def _set(self, chosen: Bools, outcome: int, reason: int) -> None:
        self.outcome[chosen] = outcome
        self.reasons[chosen] = reason


def _own_node(resolved: Resolved, direction: Direction) -> tuple[Bools, Bools]:
    """Rows from a node to a pod of its own (must, may): the API text lets them pass."""
    rows = resolved.rows
    none = np.zeros(len(rows), bool)
    if direction == "egress":
        return none, none
    from_node = (rows["src_kind"] == NODE) | (rows["src_kind"] == HOST_POD)
    from_node &= (rows["dst_kind"] == POD) & ~rows["hides"]
    known = (rows["src_node"] >= 0) & (rows["dst_node"] >= 0)
    return from_node & known & (rows["src_node"] == rows["dst_node"]), from_node & ~known


def _combine(
    compiled: Compiled, resolved: Resolved, egress: RowOutcomes, ingress: RowOutcomes, chosen: Bools | None
) -> Verdicts:
    """Rows to flows: the union of outcomes, and a verdict. ``chosen``: rows that are concerned, where that is given."""
    rows, count = resolved.rows, resolved.count
    out, into = egress.outcome.copy(), ingress.outcome.copy()
    lost = ((rows["src_cause"] | rows["dst_cause"]) & NOT_ORIENTED > 0) & ~rows["allow"]
    reasons = egress.reasons | ingress.reasons
    if lost.any():
        concerned = lost & (_concerned(compiled, resolved) if chosen is None else chosen)
        out[concerned] = into[concerned] = UNKNOWN
        reasons[lost] = np.where(concerned[lost], NOT_ORIENTED, 0)
    assumed = egress.assumed | ingress.assumed
    one_row = len(rows) == count
    out[rows["sides"] & EGRESS == 0] = 0
    into[rows["sides"] & INGRESS == 0] = 0
    if not one_row:
        start = np.searchsorted(rows["flow"], np.arange(count))
        denied = (out == DENY) | (into == DENY) | (rows["sides"] != BOTH_SIDES)
        always = np.logical_and.reduceat(denied & (rows["sides"] == BOTH_SIDES), start) if count else denied
        split = _disagree(out, into, start, rows["flow"])
        reasons |= np.where(split, rows["notes"], 0).astype(np.uint32)
        out, into = np.bitwise_or.reduceat(out, start), np.bitwise_or.reduceat(into, start)
        reasons, assumed = np.bitwise_or.reduceat(reasons, start), np.bitwise_or.reduceat(assumed, start)
    else:
        always = np.zeros(count, bool)
    out, into = np.where(out == 0, ALLOW, out), np.where(into == 0, ALLOW, into)
    verdict = np.full(count, UNDECIDED, np.uint8)
    verdict[(out == ALLOW) & (into == ALLOW)] = ALLOWED
    verdict[always] = DENIED_BOTH
    verdict[into == DENY] = DENIED_INGRESS
    verdict[out == DENY] = DENIED_EGRESS
    verdict[(out == DENY) & (into == DENY)] = DENIED_BOTH
    reasons[(out != UNKNOWN) & (into != UNKNOWN)] = 0
    return Verdicts(verdict, out.astype(np.uint8), into.astype(np.uint8), reasons, assumed)


def _concerned(compiled: Compiled, resolved: Resolved) -> Bools:
    """Rows of unknown orientation at whose ends some policy selects, whichever side opened."""
    selected = np.logical_or.reduce([compiled.sides[direction].group_of >= 0 for direction in DIRECTIONS])
    found = np.zeros(len(resolved.rows), bool)
    for end in ("src", "dst"):
        column = compiled.classes.profile_column[resolved.rows[end + "_profile"]]
        found |= (resolved.rows[end + "_kind"] == POD) & selected[column]
    return found


def _disagree(out: Sets, into: Sets, start: NDArray[np.int64], flow: NDArray[np.int32]) -> Bools:
    """Rows of flows that are unknown at a side although each of their rows is decided there."""
    found = np.zeros(len(start), bool)
    for side in (out, into):
        alone = np.logical_or.reduceat(side == UNKNOWN, start)
        found |= (np.bitwise_or.reduceat(side, start) == UNKNOWN) & ~alone
    return found[flow]
