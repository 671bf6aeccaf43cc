"""From what the store keeps about audited policies to what REST answers."""

from __future__ import annotations

from collections import defaultdict

from fathom.policy.findings import Count, Offender, Reason
from fathom.policy.promote import Need, Tried, objections
from fathom.server.answers import Loss, Window
from fathom.server.audit_answers import (
    Audit,
    AuditAnswer,
    AuditDenial,
    AuditedPolicy,
    AuditOffender,
    AuditReason,
    AuditVerdict,
)
from fathom.server.auditor import Told
from fathom.server.policytexts import not_understood, parsed
from fathom.server.times import text_s
from fathom.store.audits import AuditState


def audit(state: AuditState) -> Audit:
    """One set."""
    policies = parsed(state.set.name, state.set.documents)
    whole = [count for count in state.counts if not count.policy]
    return Audit(
        name=state.set.name,
        enforced=state.set.enforced,
        policies=[policy.title for policy in policies.policies],
        not_understood=not_understood(policies),
        added=text_s(state.set.added),
        since=text_s(state.set.since),
        flows=sum(count.flows for count in whole),
        denied=sum(count.flows for count in whole if count.new and count.verdict != "unknown"),
        unknown=sum(count.flows for count in whole if count.new and count.verdict == "unknown"),
        facts=state.totals.facts,
        missed=state.totals.missed_facts,
        seen_until=text_s(state.totals.last_seen) if state.totals.last_seen else None,
    )


def answer(state: AuditState, waiting: int, window: Window, loss: list[Loss], need: Need, now_s: int) -> AuditAnswer:
    """One set with its policies, and what speaks against enforcing it."""
    titles = [policy.title for policy in parsed(state.set.name, state.set.documents).policies]
    verdicts, reasons = defaultdict[str, list[AuditVerdict]](list), defaultdict[str, list[AuditReason]](list)
    for count in state.counts:
        verdicts[count.policy].append(_verdict(count))
    for reason in state.reasons:
        reasons[reason.policy].append(_reason(reason))
    tried = Tried(
        seconds=max(0, now_s - state.set.since),
        time=window.coverage.share,
        facts=state.totals.facts,
        missed=state.totals.missed_facts,
        lost=sum(row.count for row in loss),
        policies=titles,
        counts=state.counts,
    )
    return AuditAnswer(
        items=[AuditedPolicy(policy=t, verdicts=verdicts[t], reasons=reasons[t]) for t in titles],
        window=window,
        loss=loss,
        audit=audit(state),
        verdicts=verdicts[""],
        reasons=reasons[""],
        objections=[] if state.set.enforced else objections(tried, need),
        waiting=waiting,
    )


def offender(of: Offender) -> AuditOffender:
    """One row of evidence."""
    return AuditOffender(
        policy=of.policy,
        src=of.src,
        dst=of.dst,
        protocol=of.protocol,
        port=of.port,
        verdict=of.verdict,
        flows=of.flows,
        connections=of.connections,
        first_seen=text_s(of.first_seen),
        last_seen=text_s(of.last_seen),
        policies=list(of.policies),
        rules=list(of.rules),
        reasons=list(of.reasons),
        assumptions=list(of.assumptions),
    )


def denial(told: Told) -> AuditDenial:
    """One message of the stream."""
    return AuditDenial(time=text_s(int(told.at_s)), audit=told.audit, offender=offender(told.what))


def _verdict(count: Count) -> AuditVerdict:
    return AuditVerdict(count.verdict, count.new, count.flows, count.connections)


def _reason(reason: Reason) -> AuditReason:
    return AuditReason(reason.reason, reason.flows, reason.connections)
