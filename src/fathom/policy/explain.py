"""Explain: why a flow has its verdict, and what traffic each rule was needed for.

A rule that decided nothing in the window is a candidate to remove: nothing matched it, or others had decided before
it. One that alone allowed something would be missed.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.columns import distinct, sums
from fathom.policy.compile import Compiled, Side
from fathom.policy.decide import Decision, Hit, Hits, SideDecision, decide, hits
from fathom.policy.endpoints import EGRESS, INGRESS
from fathom.policy.evaluate import ALLOW, DENY, UNKNOWN, VERDICTS, Verdicts
from fathom.policy.flows import Flows, protocol_word
from fathom.policy.labelling import Labels
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.options import ASSUMPTIONS, REASONS
from fathom.policy.problems import Place
from fathom.policy.replay import NOT_LET_THROUGH, words
from fathom.policy.resolve import Resolved
from fathom.policy.shadows import NOTHING

#: Rules that are named as standing before one.
_MOST_SHADOWS = 3
_OUTCOMES = {ALLOW: "allowed", DENY: "denied", UNKNOWN: "unknown"}


class SideVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One side of one flow: ``outcome`` is ``allowed``, ``denied`` or ``unknown``.

    ``tier``, ``policies`` and ``rules`` say who decided, as in ``decide``; ``because`` says why where no rule did.
    """

    outcome: str
    tier: str
    policies: tuple[str, ...]
    rules: tuple[Hit, ...]
    because: str = ""


class FlowVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One ``flow`` (its fields as in JSON lines), its verdict, and who decided at the source (``egress``) and at the
    destination (``ingress``).

    ``reasons`` say why a verdict is unknown, ``assumptions`` what it rests on beyond the API's text.
    """

    flow: dict[str, Any]
    verdict: str
    egress: SideVerdict
    ingress: SideVerdict
    reasons: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Traffic(msgspec.Struct, frozen=True):
    """Flows that used a rule, between two workloads over one protocol and port; times as in ``RuleUse``."""

    src: str
    dst: str
    protocol: str
    port: int
    flows: int
    connections: int
    first: int
    last: int


class RuleUse(msgspec.Struct, frozen=True):
    """What one rule matched in the window.

    ``flows`` and ``connections`` that it surely matched; ``alone`` counts flows that no other rule of their side
    matched; ``first`` and ``last`` are epoch seconds (0: never, or times not known). ``doubtful``: it may have matched
    more. ``example`` is a flow's number, -1 for none. ``traffic``: what matched it most, as far as asked for.

    ``decided`` counts the flows that it surely matched and that no other had decided before it; where it allows (or
    passes), those only that were let through when they were seen. ``unused``: it decided nothing and could not have
    (a DNS rule by which others know names is needed for those, and rules without which the policy would not isolate
    are needed for that); ``because`` says why.
    """

    policy: str
    place: Place
    direction: Direction
    action: str
    flows: int
    connections: int
    alone: int
    first: int
    last: int
    doubtful: int
    example: int
    unused: bool
    decided: int
    because: str = ""
    traffic: tuple[Traffic, ...] = ()


def explain(
    compiled: Compiled, flows: Flows, resolved: Resolved, verdicts: Verdicts, numbers: NDArray[np.int64] | None = None
) -> list[FlowVerdict]:
    """The flows ``numbers`` (default: all) with their verdicts, and for each side who decided."""
    wanted = np.arange(len(flows)) if numbers is None else numbers
    found = decide(compiled, resolved, numbers)
    return [_flow(flows, verdicts, number, decision) for number, decision in zip(wanted.tolist(), found, strict=True)]


def _flow(flows: Flows, verdicts: Verdicts, number: int, decision: Decision) -> FlowVerdict:
    return FlowVerdict(
        flows.to_dict(number),
        VERDICTS[int(verdicts.verdict[number])],
        _side(int(verdicts.egress[number]), decision.egress),
        _side(int(verdicts.ingress[number]), decision.ingress),
        words(REASONS, int(verdicts.reasons[number])),
        words(ASSUMPTIONS, int(verdicts.assumptions[number])),
    )


def _side(outcome: int, side: SideDecision) -> SideVerdict:
    because = ""
    if side.tier == "none":
        because = "no policy selects a pod at this side"
    elif not side.rules:
        because = "policies isolate the pod, and none of their rules matches"
    return SideVerdict(_OUTCOMES[outcome], side.tier, side.policies, side.rules, because)


def rule_use(compiled: Compiled, flows: Flows, resolved: Resolved, *, traffic: int = 0) -> list[RuleUse]:
    """The use of every rule of the set, in the order of the documents; each with what used it most (``traffic``)."""
    compiled = compiled.current()
    labels = Labels(flows, resolved) if traffic else None
    found: list[RuleUse] = []
    for direction in DIRECTIONS:
        found += _one_side(compiled, flows, resolved, direction, (labels, traffic))
    order = {policy.title: number for number, policy in enumerate(compiled.policies)}
    kept = _needed(compiled, found)
    return sorted(kept, key=lambda use: (order[use.policy], use.direction, use.place))


def _needed(compiled: Compiled, uses: list[RuleUse]) -> list[RuleUse]:
    """The same, where no rule is unused with which the policy's isolation of its pods would go."""
    isolating = {(policy.title, direction) for policy in compiled.policies for direction in policy.by_rules}
    used = {(use.policy, use.direction) for use in uses if not use.unused}
    alone = isolating - used
    return [
        msgspec.structs.replace(
            use, unused=False, because=f"{use.because}, but these rules alone make the policy isolate"
        )
        if (use.policy, use.direction) in alone
        else use
        for use in uses
    ]


def _one_side(
    compiled: Compiled, flows: Flows, resolved: Resolved, direction: Direction, told: tuple[Labels | None, int]
) -> list[RuleUse]:
    side = compiled.sides[direction]
    rows = np.flatnonzero(resolved.rows["sides"] & (EGRESS if direction == "egress" else INGRESS))
    every = hits(compiled, resolved, direction, rows)
    count = len(side.rules)
    flow = resolved.rows["flow"][every.row].astype(np.int64)
    sure, maybe = every.sure, ~every.sure
    pairs = np.unique(np.stack([every.rule[sure], flow[sure]], axis=1), axis=0) if sure.any() else _no_pairs()
    doubts = np.unique(np.stack([every.rule[maybe], flow[maybe]], axis=1), axis=0) if maybe.any() else _no_pairs()
    rule, which = pairs[:, 0], pairs[:, 1]
    matched = np.bincount(which, minlength=len(flows))
    connections, first = sums(flows.rows["count"][which], rule, count), np.full(count, 1 << 62, np.int64)
    last, example = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    np.minimum.at(first, rule, np.where(flows.rows["last"][which] > 0, flows.rows["first"][which], 1 << 62))
    np.maximum.at(last, rule, flows.rows["last"][which])
    example[rule[::-1]] = which[::-1]
    used = np.bincount(rule, minlength=count)
    alone = np.bincount(rule[matched[which] == 1], minlength=count)
    doubtful = np.bincount(doubts[:, 0], minlength=count)
    decides = _decides(side, flows, every, flow)
    decided = _flows_of(every.rule, flow, sure & decides, count)
    could = _flows_of(every.rule, flow, maybe & decides, count) + _teaches(side)
    because = _Because(compiled, side, every)
    labels, most = told
    traffic = {} if labels is None else _traffic(flows, labels, rule, which, most)
    return [
        RuleUse(
            compiled.policies[ref.policy].title,
            ref.rule.place,
            direction,
            ref.rule.action,
            int(used[n]),
            int(connections[n]),
            int(alone[n]),
            int(first[n]) if last[n] else 0,
            int(last[n]),
            int(doubtful[n]),
            int(example[n]),
            not (decided[n] or could[n]),
            int(decided[n]),
            "" if decided[n] or could[n] else because(n),
            traffic.get(n, ()),
        )
        for n, ref in enumerate(side.rules)
    ]


def _decides(side: Side, flows: Flows, every: Hits, flow: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each hit is of a rule that nothing stands before, and of a flow that it can have been needed for."""
    denies = np.array([ref.rule.action == "deny" for ref in side.rules], bool)
    through = ~np.isin(flows.rows["observed"], NOT_LET_THROUGH)
    found: NDArray[np.bool_] = (every.before == NOTHING) & (denies[every.rule] | through[flow])
    return found


def _flows_of(
    rule: NDArray[np.int64], flow: NDArray[np.int64], chosen: NDArray[np.bool_], count: int
) -> NDArray[np.int64]:
    """How many flows each rule has among the chosen hits."""
    pairs, _ = distinct([rule[chosen].astype(np.int64), flow[chosen]])
    return np.bincount(pairs[:, 0], minlength=count) if len(pairs) else np.zeros(count, np.int64)


def _teaches(side: Side) -> NDArray[np.int64]:
    """1 for each rule that lets names be seen, where rules go by such names."""
    needed = any(ref.learned for ref in side.rules)
    return np.array([needed and bool(ref.rule.names) for ref in side.rules], np.int64)


class _Because:
    """Why a rule decided nothing, in words."""

    def __init__(self, compiled: Compiled, side: Side, every: Hits) -> None:
        self.compiled = compiled
        self.side = side
        pairs, place = distinct([every.rule.astype(np.int64), every.before])
        self.before: dict[int, list[tuple[int, int]]] = {}
        for (rule, before), number in zip(
            pairs.tolist(), np.bincount(place, minlength=len(pairs)).tolist(), strict=True
        ):
            self.before.setdefault(rule, []).append((number, before))

    def __call__(self, rule: int) -> str:
        """For the rule of this number."""
        found = self.before.get(rule, [])
        if not found and self.side.rules[rule].rule.action == "deny":
            return "nothing matched it; without it, what others allow of it passes"
        if not found:
            return "nothing matched it"
        named = sorted((-number, self._named(before)) for number, before in found if before != NOTHING)
        told = [text for _, text in named[:_MOST_SHADOWS]]
        told += [f"{len(named) - len(told)} more"] * (len(named) > len(told))
        through = "what matched it was not let through"
        if not told:
            return through
        return f"shadowed by {', '.join(told)}" + (f"; the rest of {through}" if len(named) < len(found) else "")

    def _named(self, before: int) -> str:
        if before < NOTHING:
            return f"{self.compiled.policies[-2 - before].title} (isolates)"
        ref = self.side.rules[before]
        return f"{self.compiled.policies[ref.policy].title} {ref.rule.place.path} ({ref.rule.action})"


def _traffic(
    flows: Flows, labels: Labels, rule: NDArray[np.int64], which: NDArray[np.int64], most: int
) -> dict[int, tuple[Traffic, ...]]:
    """Rule → the ``most`` groups of its flows with the most connections; ``rule`` and ``which`` (flow) are pairs."""
    rows = flows.rows[which]
    ports = rows["protocol"].astype(np.int64) << 16 | rows["port"]
    unique, inverse = distinct([rule, labels.src[which], labels.dst[which], ports])
    number, connections = np.bincount(inverse, minlength=len(unique)), sums(rows["count"], inverse, len(unique))
    first, last = np.full(len(unique), 1 << 62, np.int64), np.zeros(len(unique), np.int64)
    np.minimum.at(first, inverse, np.where(rows["last"] > 0, rows["first"], 1 << 62))
    np.maximum.at(last, inverse, rows["last"])
    order = np.lexsort((unique[:, 3], unique[:, 2], unique[:, 1], -connections, unique[:, 0]))
    starts = np.searchsorted(unique[order, 0], unique[order, 0])
    found: dict[int, tuple[Traffic, ...]] = {}
    for n in order[np.arange(len(order)) - starts < most].tolist():
        mine, src, dst, port = unique[n].tolist()
        begin = int(first[n]) if last[n] else 0
        ends = labels.texts[src], labels.texts[dst], protocol_word(port >> 16), port & 0xFFFF
        one = Traffic(*ends, int(number[n]), int(connections[n]), begin, int(last[n]))
        found[mine] = (*found.get(mine, ()), one)
    return found


def _no_pairs() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.zeros((0, 2), np.int64)
