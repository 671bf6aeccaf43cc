"""Metrics of the audit: they begin with 0, end with their set, and stay few."""

from __future__ import annotations

import re

from test_server_metrics import parsed

from fathom.policy.findings import Count, Findings, Reason
from fathom.policy.options import REASONS
from fathom.server.audit_meters import REASON_WORDS, AuditMeters, render

WEB = "NetworkPolicy shop/web"


def found(policy: str = "") -> Findings:
    counts = (
        Count(policy, "allowed", False, 3, 30),
        Count(policy, "denied-ingress", True, 2, 20),
        Count(policy, "denied-ingress", False, 1, 10),
        Count(policy, "unknown", True, 4, 40),
    )
    return Findings(counts, (Reason(policy, REASONS[1], 4, 40),))


def test_every_series_of_a_set_begins_with_zero() -> None:
    meters = AuditMeters()
    meters.sets({"web": (WEB,)})
    text = parsed(render(meters))
    assert text['fathom_policy_audit_flows_total{audit="web",verdict="denied-both"}'] == 0
    assert text['fathom_policy_audit_denied_flows_total{audit="web"}'] == 0
    assert text[f'fathom_policy_audit_policy_flows_total{{audit="web",policy="{WEB}",verdict="unknown"}}'] == 0


def test_what_is_found_is_counted_by_verdict_and_only_what_is_new_as_denied() -> None:
    meters = AuditMeters()
    meters.sets({"web": (WEB,)})
    for _ in range(2):
        meters.found("web", found())
        meters.found("web", found(WEB))
    text = parsed(render(meters))
    assert text['fathom_policy_audit_flows_total{audit="web",verdict="denied-ingress"}'] == 6
    assert text['fathom_policy_audit_connections_total{audit="web",verdict="allowed"}'] == 60
    assert text['fathom_policy_audit_denied_flows_total{audit="web"}'] == 4
    assert text['fathom_policy_audit_unknown_flows_total{audit="web",reason="absent"}'] == 8
    assert text[f'fathom_policy_audit_policy_flows_total{{audit="web",policy="{WEB}",verdict="denied-ingress"}}'] == 6
    assert text[f'fathom_policy_audit_policy_connections_total{{audit="web",policy="{WEB}",verdict="unknown"}}'] == 80


def test_series_end_with_their_set() -> None:
    meters = AuditMeters()
    meters.sets({"web": (WEB,), "db": (WEB,)})
    meters.found("db", found())
    meters.found("web", found())
    meters.sets({"web": (WEB,)})
    text = render(meters)
    assert 'audit="db"' not in text
    assert parsed(text)['fathom_policy_audit_flows_total{audit="web",verdict="allowed"}'] == 3


def test_policies_beyond_the_bound_are_counted_together() -> None:
    meters = AuditMeters(most_policies=2)
    titles = tuple(f"NetworkPolicy a/p{n}" for n in range(50))
    meters.sets({"web": titles})
    for title in titles:
        meters.found("web", Findings((Count(title, "allowed", False, 1, 1),)))
    text = render(meters)
    assert set(re.findall(r'policy="([^"]+)"', text)) == {titles[0], titles[1], "other"}
    assert parsed(text)['fathom_policy_audit_policy_flows_total{audit="web",policy="other",verdict="allowed"}'] == 48
    meters.sets({"new": titles[10:12]})
    assert set(re.findall(r'policy="([^"]+)"', render(meters))) == {titles[10], titles[11]}


def test_each_reason_has_a_word_of_its_own() -> None:
    assert len(set(REASON_WORDS.values())) == len(REASONS)
    assert all(re.fullmatch(r"[a-z_]+", word) for word in REASON_WORDS.values())
