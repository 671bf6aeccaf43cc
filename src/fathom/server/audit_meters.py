"""What the audit of policies counts since the server's start, as Prometheus metrics; it names policies, no workload.

Cardinality is bounded: sets are few, and beyond a number of policies the others are counted together as ``other``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fathom.policy.evaluate import VERDICTS
from fathom.policy.findings import Findings
from fathom.policy.options import REASONS
from fathom.server.exposition import Duration, Page, labels
from fathom.store.audits import AuditTotals

_OTHER = "other"
#: Each reason in one word, for a label.
REASON_WORDS = dict(
    zip(
        REASONS.values(),
        (
            "absent",
            "no_address",
            "not_understood",
            "backends",
            "changed",
            "tie",
            "not_oriented",
            "hidden",
            "which_node",
            "no_name",
            "no_backends",
            "icmp_plugin",
            "host_plugin",
            "replicas",
        ),
        strict=True,
    )
)
_ByVerdict = Counter[tuple[str, str]]
_ByPolicy = Counter[tuple[str, str, str]]


@dataclass(slots=True)
class AuditMeters:
    """Counters since the start, touched from the event loop only. ``most_policies`` have series of their own."""

    most_policies: int = 500
    flows: _ByVerdict = field(default_factory=Counter)  # set, verdict
    connections: _ByVerdict = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)  # new denials by set
    unknown: _ByVerdict = field(default_factory=Counter)  # set, reason
    policy_flows: _ByPolicy = field(default_factory=Counter)  # set, policy, verdict
    policy_connections: _ByPolicy = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)  # flows of offenders without room, by set
    facts: int = 0
    batches: int = 0
    missed_batches: int = 0
    failures: int = 0
    stream_dropped: int = 0
    waiting: int = 0  # facts
    turn: Duration = field(default_factory=Duration)
    compiled: int = 0
    _named: dict[tuple[str, str], None] = field(default_factory=dict)

    def sets(self, policies: Mapping[str, Iterable[str]]) -> None:
        """The audited sets and their policies are these: every series begins with 0, those of others end."""
        for counter in (self.flows, self.connections, self.denied, self.unknown, self.policy_flows):
            _keep(counter, policies)
        for counter in (self.policy_connections, self.left_out):
            _keep(counter, policies)
        self._named = {key: None for key in self._named if key[0] in policies}
        for name, titles in policies.items():
            for counter in (self.denied, self.left_out):
                counter[name] += 0
            for verdict in VERDICTS:
                self.flows[name, verdict] += 0
                self.connections[name, verdict] += 0
            for title in titles:
                self._touch(name, title)

    def _touch(self, name: str, title: str) -> None:
        label = self._label(name, title)
        for verdict in VERDICTS:
            self.policy_flows[name, label, verdict] += 0
            self.policy_connections[name, label, verdict] += 0

    def _label(self, name: str, title: str) -> str:
        """The policy's name as a label, while there is room."""
        if (name, title) not in self._named:
            if len(self._named) >= self.most_policies:
                return _OTHER
            self._named[name, title] = None
        return title

    def found(self, name: str, findings: Findings) -> None:
        """Count what was found of one set."""
        for count in findings.counts:
            if not count.policy:
                self.flows[name, count.verdict] += count.flows
                self.connections[name, count.verdict] += count.connections
                self.denied[name] += count.flows if count.new and count.verdict != "unknown" else 0
            else:
                label = self._label(name, count.policy)
                self.policy_flows[name, label, count.verdict] += count.flows
                self.policy_connections[name, label, count.verdict] += count.connections
        for reason in findings.reasons:
            if not reason.policy:
                self.unknown[name, REASON_WORDS.get(reason.reason, _OTHER)] += reason.flows

    def looked(self, totals: AuditTotals, seconds: float) -> None:
        """Count one turn over batches."""
        self.batches += totals.batches
        self.facts += totals.facts
        self.missed_batches += totals.missed_batches
        self.turn.add(seconds)


def _keep(counter: Counter[str] | _ByVerdict | _ByPolicy, names: Iterable[str]) -> None:
    kept = set(names)
    for key in list(counter):
        if (key if isinstance(key, str) else key[0]) not in kept:
            del counter[key]


def render(meters: AuditMeters) -> str:
    """All metrics as text."""
    page = Page("fathom_policy_audit_")
    _put_sets(page, meters)
    _put_policies(page, meters)
    page.one("facts_total", "Facts that were judged.", meters.facts)
    page.one("batches_total", "Batches that were judged.", meters.batches)
    page.one(
        "missed_batches_total", "Batches that were not judged: too many waited, or a defect.", meters.missed_batches
    )
    page.one("failures_total", "Turns of the audit, or sets in them, that failed.", meters.failures)
    page.one("stream_events_dropped_total", "Live denials that readers were told they missed.", meters.stream_dropped)
    page.one("compilations_total", "Policy sets compiled for an inventory.", meters.compiled)
    page.one("waiting_facts", "Facts that wait to be judged.", meters.waiting)
    page.durations("turn_duration_seconds", "Time to judge the batches of one turn.", {"": meters.turn})
    return page.text


def _put_sets(page: Page, meters: AuditMeters) -> None:
    for name, text, by in (
        ("flows_total", "Flows by the verdict of the set with what is enforced.", meters.flows),
        ("connections_total", "Connections (packets, where there are none) of those.", meters.connections),
    ):
        page.many(name, text, [(labels(audit=a, verdict=v), n) for (a, v), n in sorted(by.items())])
    denied = [(labels(audit=a), n) for a, n in sorted(meters.denied.items())]
    page.many("denied_flows_total", "Flows that pass today and would be denied.", denied)
    unknown = [(labels(audit=a, reason=r), n) for (a, r), n in sorted(meters.unknown.items())]
    page.many("unknown_flows_total", "Flows whose verdict is unknown, by reason.", unknown)
    left_out = [(labels(audit=a), n) for a, n in sorted(meters.left_out.items())]
    page.many("offenders_omitted_flows_total", "Flows of offenders that the evidence has no room for.", left_out)


def _put_policies(page: Page, meters: AuditMeters) -> None:
    for name, text, by in (
        ("policy_flows_total", "Flows that one policy concerns, by its verdict alone.", meters.policy_flows),
        ("policy_connections_total", "Connections (or packets) of those.", meters.policy_connections),
    ):
        rows = [(labels(audit=a, policy=p, verdict=v), n) for (a, p, v), n in sorted(by.items())]
        page.many(name, text, rows)
