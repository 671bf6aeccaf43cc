"""Explain: why a flow has its verdict, and what traffic each rule was needed for.

A rule that no flow used in the window is a candidate to remove; one that alone allowed something would be missed.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from fathom.policy.compile import Compiled
from fathom.policy.decide import Decision, SideDecision, decide, hits
from fathom.policy.endpoints import EGRESS, INGRESS
from fathom.policy.evaluate import Verdicts
from fathom.policy.flows import Flows
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.problems import Place
from fathom.policy.replay import to_dict
from fathom.policy.resolve import Resolved


class RuleUse(msgspec.Struct, frozen=True):
    """What one rule matched in the window.

    ``flows`` and ``connections`` that it surely matched; ``alone`` counts flows that no other rule of their side
    matched; ``first`` and ``last`` are epoch seconds (0: never, or times not known). ``doubtful``: it may have matched
    more. ``example`` is a flow's number, -1 for none.
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

    @property
    def unused(self) -> bool:
        """Whether nothing matched it, surely or possibly."""
        return not self.flows and not self.doubtful


def explain(compiled: Compiled, flows: Flows, resolved: Resolved, verdicts: Verdicts, number: int) -> dict[str, Any]:
    """One flow, its verdict, and for each side the tier, policies and rules that decided, as plain data."""
    decision = decide(compiled, resolved, np.array([number], np.int64))[0]
    return with_decision(to_dict(flows, verdicts, number), decision)


def with_decision(found: dict[str, Any], decision: Decision) -> dict[str, Any]:
    """The printed form of a flow with who decided on each side."""
    for name, side in (("egress", decision.egress), ("ingress", decision.ingress)):
        found[name] |= _side(side)
    return found


def _side(side: SideDecision) -> dict[str, Any]:
    if side.tier == "none":
        return {"because": "no policy selects a pod at this side"}
    rules = [
        {"policy": hit.policy, "file": hit.place.file, "path": hit.place.path, "action": hit.action}
        | ({} if hit.sure else {"certain": False})
        | ({"name": hit.title} if hit.title else {})
        for hit in side.rules
    ]
    found: dict[str, Any] = {"tier": side.tier, "policies": list(side.policies), "rules": rules}
    if not rules:
        found["because"] = "policies isolate the pod, and none of their rules matches"
    return found


def rule_use(compiled: Compiled, flows: Flows, resolved: Resolved) -> list[RuleUse]:
    """The use of every rule of the set, in the order of the documents."""
    compiled = compiled.current()
    found: list[RuleUse] = []
    for direction in DIRECTIONS:
        found += _one_side(compiled, flows, resolved, direction)
    order = {policy.title: number for number, policy in enumerate(compiled.policies)}
    return sorted(found, key=lambda use: (order[use.policy], use.direction, use.place))


def _one_side(compiled: Compiled, flows: Flows, resolved: Resolved, direction: Direction) -> list[RuleUse]:
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
    connections, first = np.zeros(count, np.int64), np.full(count, 1 << 62, np.int64)
    last, example = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    np.add.at(connections, rule, flows.rows["count"][which])
    np.minimum.at(first, rule, np.where(flows.rows["last"][which] > 0, flows.rows["first"][which], 1 << 62))
    np.maximum.at(last, rule, flows.rows["last"][which])
    example[rule[::-1]] = which[::-1]
    used = np.bincount(rule, minlength=count)
    alone = np.bincount(rule[matched[which] == 1], minlength=count)
    doubtful = np.bincount(doubts[:, 0], minlength=count)
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
        )
        for n, ref in enumerate(side.rules)
    ]


def _no_pairs() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.zeros((0, 2), np.int64)
