"""One case through the engine and the reference: every verdict must be the same; what was met is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import engine
import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from reference import Reference, malformed
from reference_cluster import Doc
from strategies import Case, cases

from fathom.policy.decide import hits
from fathom.policy.difference import CHANGES, changes
from fathom.policy.evaluate import ALLOWED, VERDICTS, Verdicts, evaluate
from fathom.policy.replay import replay

TRANSPORTS = ("TCP", "UDP", "SCTP")
FLOWS = 240


@dataclass
class Tally:
    """Triples of (policy set, inventory, flow) that were compared, and what occurred in them.

    ``flows`` counts them by the case that they are of, so that a case which came twice counts once.
    """

    flows: dict[str, int] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)

    @property
    def triples(self) -> int:
        """How many different triples."""
        return sum(self.flows.values())

    def add(self, other: Tally) -> None:
        """Count what another tally counted."""
        self.flows |= other.flows
        self.verdicts += other.verdicts
        self.cases += other.cases

    @property
    def denied(self) -> float:
        """Share of triples whose verdict is a denial."""
        denied = sum(n for word, n in self.verdicts.items() if word.startswith("denied"))
        return denied / max(1, self.verdicts.total())


def compare(triples: int, chosen: int | None = None) -> Tally:
    """Let hypothesis make cases until about that many triples were compared; ``chosen`` seeds it (None: repeatable)."""
    tally = Tally()

    @settings(
        max_examples=triples // FLOWS + 1,
        deadline=None,
        database=None,
        derandomize=chosen is None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(FLOWS))
    def run(case: Case) -> None:
        agree(case, tally)

    (run if chosen is None else seed(chosen)(run))()
    return tally


def agree(case: Case, tally: Tally) -> None:
    """Compare every flow of the case: verdicts, matching rules, grouped denials, and the difference of two sets."""
    refused = {p.place.document for p in engine.policy_set(case.policies).refused}
    assert refused == {n for n, doc in enumerate(case.policies) if malformed(doc)}, case.policies
    verdicts, compiled, resolved = engine.run(case.policies, case.cluster, case.flows, case.settings)
    reference = Reference(case.policies, case.cluster, case.settings)
    matched = matched_rules(compiled, resolved)
    wanted: list[str] = []
    for number, flow in enumerate(case.flows):
        want = reference.verdict(flow)
        got = engine.told(verdicts, number)
        assert got == want, f"{flow}\nengine    {got}\nreference {want}"
        wanted.append(want[0])
        told(verdicts, number)
        touched = reference.touched
        if refused:
            touched.add("9")
        if matched.get(number) is not None and comparable(flow):
            assert matched[number] == {m for m in reference.matched if m[0] == "NetworkPolicy"}, flow
            touched.add("29")
        tally.cases.update(touched)
    tally.flows[sha256(repr((case.policies, case.cluster, case.settings)).encode()).hexdigest()] = len(wanted)
    tally.verdicts.update(wanted)
    grouped(case, compiled, resolved, verdicts, tally)
    compared(case, wanted, verdicts, tally)


def told(verdicts: Verdicts, number: int) -> None:
    """What is unknown says why, and only that."""
    assert bool(verdicts.reasons[number]) == (3 in (verdicts.egress[number], verdicts.ingress[number]))


def comparable(flow: Doc) -> bool:
    """Flows whose rules are looked at in both evaluators, however they are decided."""
    return flow["protocol"] in TRANSPORTS and flow.get("oriented", True) and not flow.get("established")


def matched_rules(compiled: Any, resolved: Any) -> dict[int, set[tuple[str, str, str, int]] | None]:
    """For each flow of one row, the rules of NetworkPolicies that surely match, at either side."""
    compiled = compiled.current()
    flows = resolved.rows["flow"]
    single = np.bincount(flows, minlength=resolved.count) == 1
    found: dict[int, Any] = {n: set() if single[n] else None for n in range(resolved.count)}
    found |= {int(flows[row]): None for row in np.flatnonzero(resolved.rows["allow"])}
    for direction in ("egress", "ingress"):
        side = compiled.sides[direction]
        every = hits(compiled, resolved, direction, np.arange(len(resolved.rows)))
        for row, rule, sure in zip(every.row.tolist(), every.rule.tolist(), every.sure.tolist(), strict=True):
            policy, ref = compiled.policies[side.rules[rule].policy], side.rules[rule]
            mine = found[int(flows[row])]
            if sure and mine is not None and policy.kind == "NetworkPolicy":
                index = int(ref.rule.place.path.rpartition("[")[2].rstrip("]"))
                mine.add((policy.kind, policy.name, direction, index))
    return found


def grouped(case: Case, compiled: Any, resolved: Any, verdicts: Verdicts, tally: Tally) -> None:
    """Replay's groups hold each flow that is not allowed once, with its times."""
    table = engine.flows(case.flows)
    found = replay(compiled, table, resolved, verdicts)
    every = found.groups + found.stopped
    not_allowed = np.flatnonzero(verdicts.verdict != ALLOWED)
    assert sum(item.flows for item in every) == len(not_allowed)
    assert sum(item.connections for item in every) == int(table.rows["count"][not_allowed].sum())
    timed = [n for n in not_allowed.tolist() if case.flows[n].get("last_seen")]
    if timed:
        assert max(item.last for item in every) == max(case.flows[n]["last_seen"] for n in timed)
        firsts = [item.first for item in every if item.last]
        assert min(firsts) == min(case.flows[n]["first_seen"] for n in timed)
        tally.cases["31"] += len(timed)


def compared(case: Case, wanted: list[str], verdicts: Verdicts, tally: Tally) -> None:
    """The difference to a second set, against the reference's verdicts of both."""
    who = engine.inventory(case.cluster)
    compiled = engine.compile_policies(
        engine.accepted(engine.policy_set(case.other)), who, engine.options(case.settings)
    )
    again = engine.resolve(engine.flows(case.flows), who, engine.options(case.settings))
    other = evaluate(compiled, again)
    kinds = changes(verdicts, other)
    reference = Reference(case.other, case.cluster, case.settings)
    for number in range(0, len(case.flows), 7):
        now = reference.verdict(case.flows[number])[0]
        assert now == VERDICTS[int(other.verdict[number])], case.flows[number]
        assert CHANGES[int(kinds[number])] == change(wanted[number], now)
        tally.cases["32"] += 1
        tally.cases[f"32 {CHANGES[int(kinds[number])]}"] += 1


def change(was: str, now: str) -> str:
    """The kind of change between two verdicts, in words."""
    if was == "allowed" and now.startswith("denied"):
        return "newly-denied"
    if was.startswith("denied") and now == "allowed":
        return "newly-allowed"
    if (was == "unknown") == (now == "unknown"):
        return "same"
    return "now-unknown" if now == "unknown" else "no-longer-unknown"
