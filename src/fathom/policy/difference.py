"""Difference of two policy sets on recorded flows: what is newly denied, newly allowed, and what became unknown.

What both sets are not sure of, or agree on, is no difference. The static difference is in ``connectivity``.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.evaluate import ALLOWED, UNDECIDED, Verdicts
from fathom.policy.flows import Flows
from fathom.policy.replay import Group, group
from fathom.policy.resolve import Resolved

#: Kinds of difference, by number; 0 is none.
CHANGES = ("same", "newly-denied", "newly-allowed", "now-unknown", "no-longer-unknown")
SAME, NEWLY_DENIED, NEWLY_ALLOWED, NOW_UNKNOWN, NOW_KNOWN = range(5)


class Difference(msgspec.Struct, frozen=True):
    """Groups by kind of change (in ``verdict``), most connections first, and how many flows each kind has."""

    groups: tuple[Group, ...]
    flows: dict[str, int]

    @property
    def none(self) -> bool:
        """Whether nothing changed."""
        return not self.groups


def changes(old: Verdicts, new: Verdicts) -> NDArray[np.uint8]:
    """The kind of change of each flow."""
    found = np.zeros(len(old.verdict), np.uint8)
    was, now = old.verdict, new.verdict
    denied = (was != ALLOWED) & (was != UNDECIDED), (now != ALLOWED) & (now != UNDECIDED)
    found[(was == ALLOWED) & denied[1]] = NEWLY_DENIED
    found[denied[0] & (now == ALLOWED)] = NEWLY_ALLOWED
    found[(was != UNDECIDED) & (now == UNDECIDED)] = NOW_UNKNOWN
    found[(was == UNDECIDED) & (now != UNDECIDED)] = NOW_KNOWN
    return found


def difference(flows: Flows, resolved: Resolved, old: Verdicts, new: Verdicts) -> Difference:
    """The difference of two sets of verdicts over the same flows."""
    kind = changes(old, new)
    groups = group(flows, resolved, kind, np.flatnonzero(kind), CHANGES)
    counted = {word: int(np.sum(kind == number)) for number, word in enumerate(CHANGES) if number}
    return Difference(tuple(groups), counted)
