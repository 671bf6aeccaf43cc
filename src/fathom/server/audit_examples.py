"""One example of each answer about audited policies; see ``fathom.server.examples``."""

from __future__ import annotations

import msgspec

from fathom.server.answers import Coverage, Window
from fathom.server.audit_answers import (
    Audit,
    AuditAnswer,
    AuditAsked,
    AuditDenial,
    AuditDocuments,
    AuditedPolicy,
    AuditOffender,
    AuditOffenders,
    Audits,
    AuditVerdict,
)

_SINCE, _UNTIL = "2026-01-30T12:00:00Z", "2026-01-31T12:00:00Z"
_WINDOW = Window(_SINCE, _UNTIL, Coverage(1.0, 259_200.0, 259_200.0, []))
_TEXT = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
"""
_POLICY = "NetworkPolicy shop/db"
_AUDIT = Audit(
    name="web",
    enforced=False,
    policies=[_POLICY],
    not_understood=[],
    added=_SINCE,
    since=_SINCE,
    flows=48_113,
    denied=12,
    unknown=0,
    facts=48_113,
    missed=0,
    seen_until=_UNTIL,
)
_OFFENDER = AuditOffender(
    policy="",
    src="shop/CronJob/report",
    dst="shop/StatefulSet/db",
    protocol="TCP",
    port=5432,
    verdict="denied-ingress",
    flows=12,
    connections=24,
    first_seen="2026-01-30T23:00:00Z",
    last_seen="2026-01-30T23:01:59Z",
    policies=[_POLICY],
    rules=[],
    reasons=[],
    assumptions=[],
)
AUDIT_ASKED = AuditAsked("web", _TEXT)
AUDITS = Audits(items=[_AUDIT], window=_WINDOW, loss=[], waiting=0)
AUDIT = AuditAnswer(
    items=[
        AuditedPolicy(
            policy=_POLICY,
            verdicts=[AuditVerdict("allowed", False, 8_640, 8_702), AuditVerdict("denied-ingress", True, 12, 24)],
            reasons=[],
        )
    ],
    window=_WINDOW,
    loss=[],
    audit=_AUDIT,
    verdicts=[AuditVerdict("allowed", False, 48_101, 60_204), AuditVerdict("denied-ingress", True, 12, 24)],
    reasons=[],
    objections=["12 flows (24 connections) that pass today would be denied"],
    waiting=0,
)
AUDIT_OFFENDERS = AuditOffenders(items=[_OFFENDER], window=_WINDOW, loss=[], omitted=0, left_out=0)
AUDIT_DOCUMENTS = AuditDocuments("web", _TEXT)
_DENIAL = AuditDenial(time="2026-01-30T23:02:01Z", audit="web", offender=_OFFENDER)
AUDIT_STREAM = (
    f"id: 1\ndata: {msgspec.json.encode(_DENIAL).decode()}\n\n"
    'event: loss\ndata: {"node":"","events":12,"reason":"slow_reader"}\n\n'
    ": alive\n\n"
)
