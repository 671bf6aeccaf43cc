"""Rules that match and yet decide nothing: what stands before them has decided already.

Admin and baseline policies are read in order, and the first rule that matches decides; a deny of the developer's tier
wins over its allow rules; what a tier decides, the tiers below it do not. Rules of one tier that together allow
something share it: each of them decides.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled, Group, Member
from fathom.policy.match import Matches
from fathom.policy.model import Direction

#: No rule stands before; below it, -2 - n is policy n, which isolates.
NOTHING = -1
Numbers = NDArray[np.int64]


def shadows(compiled: Compiled, direction: Direction, group: Group, found: Matches) -> Numbers:
    """What stands before each rule of the group at each row (rules × rows): a rule's number, or NOTHING."""
    before = np.full(found.may.shape, NOTHING, np.int64)
    if not group.simple and not group.unclear:
        _Shadows(compiled, direction, group, found, before).run()
    return before


class _Shadows:
    def __init__(self, compiled: Compiled, direction: Direction, group: Group, found: Matches, before: Numbers) -> None:
        self.policies = compiled.policies
        self.rules = compiled.sides[direction].rules
        self.direction = direction
        self.group = group
        self.found = found
        self.before = before
        self.place = dict(zip(group.rules.tolist(), range(len(group.rules)), strict=True))

    def run(self) -> None:
        """Admin, then the developer's tier, then baseline: each closed by what those before it decide."""
        nothing = np.full(self.found.may.shape[1], NOTHING, np.int64)
        closed = self._developer(self._ordered(self.group.admin, nothing))
        self._ordered(self.group.baseline, closed)

    def _ordered(self, members: tuple[Member, ...], closed: Numbers) -> Numbers:
        """Marks the rules of the tier; what then stands before the tier below."""
        ended, may_pass = closed.copy(), np.zeros(len(closed), bool)
        for _, level in groupby(members, key=lambda member: self.policies[member.policy].priority):
            after = ended.copy()
            for member in level:
                stopped = ended.copy()
                for number in member.rules:
                    at = self.place[number]
                    self.before[at] = stopped
                    if self.rules[number].rule.action == "pass":
                        may_pass |= self.found.may[at] & (stopped == NOTHING)
                    stopped = np.where((stopped == NOTHING) & self.found.must[at], number, stopped)
                if member.sure:
                    after = np.where(after == NOTHING, stopped, after)
            ended = after
        return np.where(may_pass, closed, ended)

    def _developer(self, closed: Numbers) -> Numbers:
        denied = closed.copy()
        for number, member in self._developers():
            if self.rules[number].rule.action == "deny":
                self.before[self.place[number]] = closed
                denied = self._decided(denied, number, member)
        for number, _ in self._developers():
            if self.rules[number].rule.action != "deny":
                self.before[self.place[number]] = denied
        below = denied
        for number, member in self._developers():
            below = self._decided(below, number, member)
        for member in self.group.developer:
            if member.sure and self.direction in self.policies[member.policy].isolates:
                below = np.where(below == NOTHING, -2 - member.policy, below)
        return below

    def _developers(self) -> list[tuple[int, Member]]:
        return [(number, member) for member in self.group.developer for number in member.rules]

    def _decided(self, before: Numbers, number: int, member: Member) -> Numbers:
        sure: Bools = self.found.must[self.place[number]] & member.sure
        return np.where((before == NOTHING) & sure, number, before)
