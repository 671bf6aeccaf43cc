"""The audit: what registered policies would do to traffic if they were enforced, together and each by itself.

What counts against a set is what is *new*: traffic that got through, that the policies in force do not deny, and that
they would deny together with the set. What is unknown is never taken for allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.alone import Alone, alone, parts
from fathom.policy.bits import Bools
from fathom.policy.columns import total
from fathom.policy.compile import Compiled
from fathom.policy.decide import Hit
from fathom.policy.evaluate import ALLOWED, UNDECIDED, VERDICTS, Verdicts, evaluate
from fathom.policy.findings import Count, Findings, Offender, Reason
from fathom.policy.flows import OBSERVED, Flows
from fathom.policy.model import PolicySet
from fathom.policy.options import ASSUMPTIONS, REASONS, Options
from fathom.policy.replay import Group, group, told, words
from fathom.policy.resolve import Resolved

OPTIONS = Options()
_PASSED = (OBSERVED.index("forwarded"), OBSERVED.index("unknown"))
Key = tuple[str, str, str, str, int, str]


def together(enforced: PolicySet, audited: PolicySet) -> tuple[PolicySet, tuple[int, ...]]:
    """The set that would be in force: ``audited`` in the place of equally named policies of ``enforced``, and the
    others of those; and the numbers of the audited policies in it."""
    replaced = {policy.title for policy in audited.policies}
    kept = tuple(policy for policy in enforced.policies if policy.title not in replaced)
    own = tuple(range(len(kept), len(kept) + len(audited.policies)))
    return PolicySet((*kept, *audited.policies)), own


def audit(
    compiled: Compiled,
    own: Sequence[int],
    flows: Flows,
    resolved: Resolved,
    before: Verdicts,
    *,
    known: Collection[Key] = (),
    room: Mapping[str, int] | None = None,
) -> Findings:
    """What the policies ``own`` (numbers in ``compiled``, which holds what is enforced too) do to ``flows``.

    ``before`` are the verdicts of what is enforced. ``known`` are the keys of offenders that need no explanation any
    more; of the others at most ``room`` (by kind; default: all) are told with who decided.
    """
    compiled = compiled.current()
    passed = np.isin(flows.rows["observed"], _PASSED)
    found = _Finding(known, room)
    verdicts = evaluate(compiled, resolved)
    new = _new(verdicts, before, passed)
    found.count("", flows, verdicts, new)
    groups = found.sorted("", group(flows, resolved, verdicts.verdict, np.flatnonzero(new)))
    explained = told(compiled, resolved, verdicts, groups) if groups else []
    found.offenders += [_offender("", item) for item in explained]
    apart = alone(compiled, resolved, own)
    new = passed[apart.flow] & (apart.verdicts.verdict != ALLOWED)
    for number in dict.fromkeys(parts(compiled, own).values()):
        title, mine = compiled.policies[number].title, apart.of(number)
        found.one(title, flows.select(apart.flow[mine]), _part(apart, mine), new[mine])
    return Findings(tuple(found.counts), tuple(found.reasons), tuple(found.offenders + found.others))


def _part(apart: Alone, mine: slice) -> tuple[Resolved, Verdicts]:
    """What is about the pairs ``mine``."""
    verdicts = Verdicts(*(getattr(apart.verdicts, field.name)[mine] for field in fields(Verdicts)))
    return apart.resolved.part(mine.start, mine.stop), verdicts


def _new(verdicts: Verdicts, before: Verdicts, passed: Bools) -> Bools:
    """Which verdicts speak against what passes today, and are not those of what is enforced."""
    was_denied = (before.verdict != ALLOWED) & (before.verdict != UNDECIDED)
    denied = (verdicts.verdict != ALLOWED) & (verdicts.verdict != UNDECIDED)
    unknown = (verdicts.verdict == UNDECIDED) & (before.verdict == ALLOWED)
    new: Bools = passed & ((denied & ~was_denied) | unknown)
    return new


class _Finding:
    """Collects what is found. ``others`` are offenders that are not explained."""

    def __init__(self, known: Collection[Key], room: Mapping[str, int] | None) -> None:
        self.counts: list[Count] = []
        self.reasons: list[Reason] = []
        self.offenders: list[Offender] = []
        self.others: list[Offender] = []
        self._known = known
        self._room = dict(room) if room is not None else None

    def one(self, policy: str, flows: Flows, at: tuple[Resolved, Verdicts], new: Bools) -> None:
        """What one policy does by itself to the flows that it concerns. What it denies it denies alone: it is named,
        and no other policy can be."""
        resolved, verdicts = at
        if not len(flows):
            return
        self.count(policy, flows, verdicts, new)
        denied = np.flatnonzero(new & (verdicts.verdict != UNDECIDED))
        if not len(denied):
            return
        for item in self.sorted(policy, group(flows, resolved, verdicts.verdict, denied)):
            assumptions = words(ASSUMPTIONS, int(verdicts.assumptions[item.example]))
            named = msgspec.structs.replace(item, policies=(policy,), assumptions=assumptions)
            self.offenders.append(_offender(policy, named))

    def count(self, policy: str, flows: Flows, verdicts: Verdicts, new: Bools) -> None:
        """Count what ``policy`` (``""``: the whole set) does; ``new`` says what counts against it."""
        weights = flows.rows["count"]
        code = verdicts.verdict.astype(np.int64) * 2 + new
        for item in np.unique(code).tolist():
            chosen = code == item
            counted = int(chosen.sum()), total(weights[chosen])
            self.counts.append(Count(policy, VERDICTS[item // 2], bool(item % 2), *counted))
        unknown = verdicts.verdict == UNDECIDED
        reasons: NDArray[np.uint32] = verdicts.reasons[unknown]
        if not len(reasons):
            return
        for bit, text in REASONS.items():
            chosen = reasons & bit > 0
            if chosen.any():
                self.reasons.append(Reason(policy, text, int(chosen.sum()), total(weights[unknown][chosen])))

    def sorted(self, policy: str, groups: Sequence[Group]) -> list[Group]:
        """Those that are to be explained; the rest goes to ``others``."""
        fresh: list[Group] = []
        for item in groups:
            offender = _offender(policy, item)
            if offender.key in self._known or not self._has_room(offender.kind):
                self.others.append(offender)
            else:
                fresh.append(item)
        return fresh

    def _has_room(self, kind: str) -> bool:
        if self._room is None:
            return True
        left = self._room.get(kind, 0)
        self._room[kind] = left - 1
        return left > 0


def _offender(policy: str, item: Group) -> Offender:
    return Offender(
        policy,
        item.src,
        item.dst,
        item.protocol,
        item.port,
        item.verdict,
        item.flows,
        item.connections,
        item.first,
        item.last,
        item.policies,
        tuple(
            f"{hit.policy}: {hit.place.path}: {hit.action}{'' if hit.sure else ' (may match)'}" for hit in item.rules
        ),
        item.reasons,
        item.assumptions,
    )


def _rule(hit: Hit) -> str:
    return f"{hit.policy}: {hit.place.path}: {hit.action}{'' if hit.sure else ' (may match)'}"
