"""The audit: what registered policies would do to traffic if they were enforced, together and each by itself.

What counts against a set is what is *new*: traffic that got through, that the policies in force do not deny, and that
they would deny together with the set. What is unknown is never taken for allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fathom.policy.alone import alone
from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled
from fathom.policy.decide import Hit
from fathom.policy.evaluate import ALLOWED, UNDECIDED, VERDICTS, Verdicts, evaluate
from fathom.policy.findings import Count, Findings, Offender, Reason
from fathom.policy.flows import OBSERVED, Flows
from fathom.policy.model import PolicySet
from fathom.policy.options import REASONS, Options
from fathom.policy.replay import Group, group, told
from fathom.policy.resolve import Resolved

#: A connection that is open already is judged as if it were opened now: it will be, after the next restart.
OPTIONS = Options(established="evaluate")
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
    found.add("", compiled, (flows, resolved, verdicts), _new(verdicts, before, passed))
    for one in alone(compiled, resolved, own):
        new = passed[one.flows] & (one.verdicts.verdict != ALLOWED)
        title = compiled.policies[one.policy].title
        found.add(title, one.compiled, (flows.select(one.flows), one.resolved, one.verdicts), new)
    return Findings(tuple(found.counts), tuple(found.reasons), tuple(found.offenders))


def _new(verdicts: Verdicts, before: Verdicts, passed: Bools) -> Bools:
    """Which verdicts speak against what passes today, and are not those of what is enforced."""
    was_denied = (before.verdict != ALLOWED) & (before.verdict != UNDECIDED)
    denied = (verdicts.verdict != ALLOWED) & (verdicts.verdict != UNDECIDED)
    unknown = (verdicts.verdict == UNDECIDED) & (before.verdict == ALLOWED)
    new: Bools = passed & ((denied & ~was_denied) | unknown)
    return new


class _Finding:
    """Collects what is found."""

    def __init__(self, known: Collection[Key], room: Mapping[str, int] | None) -> None:
        self.counts: list[Count] = []
        self.reasons: list[Reason] = []
        self.offenders: list[Offender] = []
        self._known = known
        self._room = dict(room) if room is not None else None

    def add(self, policy: str, compiled: Compiled, at: tuple[Flows, Resolved, Verdicts], new: Bools) -> None:
        """Count and name what ``policy`` (``""``: the whole set) does; ``new`` says what counts against it."""
        flows, resolved, verdicts = at
        self._count(policy, flows, verdicts, new)
        wanted = new if not policy else new & (verdicts.verdict != UNDECIDED)
        groups = group(flows, resolved, verdicts.verdict, np.flatnonzero(wanted))
        self._name(policy, compiled, resolved, verdicts, groups)

    def _count(self, policy: str, flows: Flows, verdicts: Verdicts, new: Bools) -> None:
        weights = flows.rows["count"]
        code = verdicts.verdict.astype(np.int64) * 2 + new
        for item in np.unique(code).tolist():
            chosen = code == item
            counted = int(chosen.sum()), int(weights[chosen].sum())
            self.counts.append(Count(policy, VERDICTS[item // 2], bool(item % 2), *counted))
        unknown = verdicts.verdict == UNDECIDED
        reasons: NDArray[np.uint32] = verdicts.reasons[unknown]
        if not len(reasons):
            return
        for bit, text in REASONS.items():
            chosen = reasons & bit > 0
            if chosen.any():
                self.reasons.append(Reason(policy, text, int(chosen.sum()), int(weights[unknown][chosen].sum())))

    def _name(
        self, policy: str, compiled: Compiled, resolved: Resolved, verdicts: Verdicts, groups: Sequence[Group]
    ) -> None:
        fresh, others = list[Group](), list[Offender]()
        for item in groups:
            offender = _offender(policy, item)
            if offender.key in self._known or not self._has_room(offender.kind):
                others.append(offender)
            else:
                fresh.append(item)
        explained = told(compiled, resolved, verdicts, fresh) if fresh else []
        self.offenders += [*(_offender(policy, item) for item in explained), *others]

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
