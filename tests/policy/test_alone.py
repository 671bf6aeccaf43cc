"""Each document by itself is what a set of that one document would be, and the audit counts what such sets say."""

from __future__ import annotations

from collections import Counter

import engine
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from strategies import Case, cases
from world import namespace, pod, policy

from fathom.policy.alone import alone
from fathom.policy.audit import OPTIONS, audit, together
from fathom.policy.compile import Compiled, compile_policies
from fathom.policy.evaluate import ALLOWED, UNDECIDED, VERDICTS, evaluate
from fathom.policy.findings import Count, Findings
from fathom.policy.flows import OBSERVED, Flows, from_dicts
from fathom.policy.model import PolicySet
from fathom.policy.options import REASONS
from fathom.policy.resolve import Resolved, resolve

CLUSTER = (
    namespace("a"),
    pod("a/web", "10.0.0.1"),
    pod("a/db", "10.0.0.2"),
    pod("a/ops", "10.0.0.3"),
)
WEB_TO_DB = policy(
    "a/web",
    "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], "
    "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
)
OPS_TO_DB = policy(
    "a/ops",
    "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], "
    "ingress: [{from: [{podSelector: {matchLabels: {app: ops}}}], ports: [{port: 5432}]}]}",
)


def prepared(case: Case) -> tuple[Compiled, Resolved, Flows]:
    who, chosen = engine.inventory(case.cluster), engine.options(case.settings)
    flows = engine.flows(case.flows)
    resolved = resolve(flows, who, chosen)
    return compile_policies(engine.accepted(engine.policy_set(case.policies)), who, chosen), resolved, flows


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
@given(cases(80))
def test_a_document_by_itself_is_a_set_of_one(case: Case) -> None:
    compiled, resolved, _ = prepared(case)
    found = alone(compiled, resolved, range(len(compiled.policies)))
    who = engine.inventory(case.cluster)
    again = resolve(engine.flows(case.flows), who, engine.options(case.settings))
    titles = [one.title for one in compiled.policies]
    assert set(found.policy.tolist()) <= {titles.index(title) for title in titles}
    for title in dict.fromkeys(titles):
        number, parts = titles.index(title), tuple(one for one in compiled.policies if one.title == title)
        wanted = evaluate(compile_policies(PolicySet(parts), who, engine.options(case.settings)), again)
        got = np.full(resolved.count, ALLOWED, np.uint8)
        reasons = np.zeros(resolved.count, np.uint32)
        mine = found.of(number)
        got[found.flow[mine]] = found.verdicts.verdict[mine]
        reasons[found.flow[mine]] = found.verdicts.reasons[mine]
        assert got.tolist() == wanted.verdict.tolist(), title
        assert (reasons > 0).tolist() == (wanted.reasons > 0).tolist(), title  # words of reasons are the set's


def test_only_flows_that_a_policy_concerns_are_told() -> None:
    who = engine.inventory([engine.Timed(item) for item in CLUSTER])
    flows = from_dicts([{"src": src, "dst": dst, "port": 80} for src, dst in (("a/web", "a/db"), ("a/web", "a/ops"))])
    resolved = resolve(flows, who, OPTIONS)
    compiled = compile_policies(engine.policy_set([WEB_TO_DB, OPS_TO_DB]), who, OPTIONS)
    found = alone(compiled, resolved, (0, 1))
    assert found.policy.tolist() == [0, 1]
    assert found.flow.tolist() == [0, 0]
    assert found.verdicts.verdict.tolist() == [ALLOWED, VERDICTS.index("denied-ingress")]
    assert alone(compiled, resolved, (1,)).policy.tolist() == [1]
    assert len(alone(compiled, resolved, ()).policy) == 0


def audited(enforced: list, mine: list, flows: list[dict], **more: object) -> Findings:
    who = engine.inventory([engine.Timed(item) for item in CLUSTER])
    table = from_dicts(flows)
    resolved = resolve(table, who, OPTIONS)
    base = engine.policy_set(enforced)
    union, own = together(base, engine.policy_set(mine))
    before = evaluate(compile_policies(base, who, OPTIONS), resolved)
    return audit(compile_policies(union, who, OPTIONS), own, table, resolved, before, **more)


def flow(src: str, dst: str, port: int = 80, count: int = 1, **more: object) -> dict:
    return {"src": src, "dst": dst, "port": port, "count": count, "first_seen": 100, "last_seen": 109, **more}


def test_two_policies_allow_together_what_each_alone_would_deny() -> None:
    found = audited([], [WEB_TO_DB, OPS_TO_DB], [flow("a/web", "a/db", count=3), flow("a/ops", "a/db", 5432, 2)])
    assert set(found.counts) == {
        Count("", "allowed", False, 2, 5),
        Count("NetworkPolicy a/web", "allowed", False, 1, 3),
        Count("NetworkPolicy a/web", "denied-ingress", True, 1, 2),
        Count("NetworkPolicy a/ops", "allowed", False, 1, 2),
        Count("NetworkPolicy a/ops", "denied-ingress", True, 1, 3),
    }
    assert {(o.policy, o.src, o.policies) for o in found.offenders} == {
        ("NetworkPolicy a/web", "a/Pod/ops", ("NetworkPolicy a/web",)),
        ("NetworkPolicy a/ops", "a/Pod/web", ("NetworkPolicy a/ops",)),
    }


def test_the_specs_of_one_document_are_judged_together() -> None:
    """What one of them allows the other need not."""
    specs = [
        {
            "endpointSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"app": app}}]}],
        }
        for app in ("web", "ops")
    ]
    document = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "both", "namespace": "a"},
        "specs": specs,
    }
    found = audited([], [document], [flow("a/web", "a/db", count=7)])
    title = "CiliumNetworkPolicy a/both"
    assert found.counts == (Count("", "allowed", False, 1, 7), Count(title, "allowed", False, 1, 7))
    assert found.offenders == ()
    again = audited([], [document], [flow("a/db", "a/db"), flow("a/web", "a/ops")])
    assert {count.verdict for count in again.counts} == {"allowed"}


def test_a_denial_is_told_with_its_evidence() -> None:
    found = audited([], [WEB_TO_DB], [flow("a/ops", "a/db", 5432, 2), flow("a/ops", "a/db", 5432, 1, first_seen=50)])
    (whole, _) = found.offenders
    assert (whole.key, whole.kind) == (("", "a/Pod/ops", "a/Pod/db", "TCP", 5432, "denied-ingress"), "denied")
    assert (whole.flows, whole.connections, whole.first_seen, whole.last_seen) == (2, 3, 50, 109)
    assert (whole.policies, whole.rules) == (("NetworkPolicy a/web",), ())


def test_what_is_enforced_is_not_held_against_the_set() -> None:
    """OPS_TO_DB is in force and denies a/web already; the set allows it, and is not blamed for a/ops on port 80."""
    both = [flow("a/web", "a/db"), flow("a/ops", "a/db")]
    found = audited([OPS_TO_DB], [WEB_TO_DB], both)
    union = [count for count in found.counts if not count.policy]
    assert union == [Count("", "allowed", False, 1, 1), Count("", "denied-ingress", False, 1, 1)]
    assert [o for o in found.offenders if not o.policy] == []


def test_a_changed_version_stands_in_the_place_of_the_enforced_one() -> None:
    changed = policy("a/ops", "{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingress: []}")
    found = audited([OPS_TO_DB], [changed], [flow("a/ops", "a/db", 5432)])
    assert [o.key for o in found.offenders if not o.policy] == [
        ("", "a/Pod/ops", "a/Pod/db", "TCP", 5432, "denied-ingress")
    ]


def test_traffic_that_did_not_get_through_is_counted_and_not_held_against_the_set() -> None:
    seen = [flow("a/ops", "a/db", verdict=word) for word in OBSERVED]
    found = audited([], [WEB_TO_DB], seen)
    assert [count for count in found.counts if not count.policy] == [
        Count("", "denied-ingress", False, 2, 2),
        Count("", "denied-ingress", True, 2, 2),
    ]


def test_an_open_connection_is_judged_as_if_it_were_opened_now() -> None:
    found = audited([], [WEB_TO_DB], [flow("a/ops", "a/db", count=0)])
    assert found.counts[0] == Count("", "denied-ingress", True, 1, 0)


def test_what_is_unknown_is_counted_with_its_reason_and_never_as_allowed() -> None:
    found = audited([], [WEB_TO_DB], [flow("a/gone", "a/db", count=4)])
    assert [c for c in found.counts if not c.policy] == [Count("", "unknown", True, 1, 4)]
    assert [(r.policy, r.reason, r.flows, r.connections) for r in found.reasons] == [
        (policy, REASONS[1], 1, 4) for policy in ("", "NetworkPolicy a/web")
    ]
    (only,) = found.offenders
    assert (only.kind, only.reasons) == ("unknown", (REASONS[1],))


def test_explanations_are_for_what_is_new_and_as_many_as_there_is_room_for() -> None:
    flows = [flow("a/ops", "a/db", port) for port in (1, 2, 3)]
    first = audited([], [WEB_TO_DB], flows, room={"denied": 2})
    assert [len(o.policies) for o in first.offenders if not o.policy] == [1, 1, 0]
    again = audited([], [WEB_TO_DB], flows, known={o.key for o in first.offenders if o.port == 1})
    assert [(o.port, len(o.policies)) for o in again.offenders if not o.policy] == [(2, 1), (3, 1), (1, 0)]


@settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
@given(cases(80))
def test_counts_are_those_of_the_verdicts_on_made_up_sets(case: Case) -> None:
    who = engine.inventory(case.cluster)
    flows = engine.flows(case.flows)
    flows.rows["observed"] = np.arange(len(flows)) % 4
    resolved = resolve(flows, who, OPTIONS)
    base = engine.accepted(engine.policy_set(case.other))
    union, own = together(base, engine.accepted(engine.policy_set(case.policies)))
    titles = [p.title for p in union.policies]
    assert {titles[number] for number in own}.isdisjoint(titles[: len(titles) - len(own)])
    before = evaluate(compile_policies(base, who, OPTIONS), resolved)
    compiled = compile_policies(union, who, OPTIONS)
    found = audit(compiled, own, flows, resolved, before)
    after = evaluate(compiled, resolved)
    passed = flows.rows["observed"] % 3 == 0
    denied = [(v.verdict != ALLOWED) & (v.verdict != UNDECIDED) for v in (before, after)]
    new = passed & ((denied[1] & ~denied[0]) | ((after.verdict == UNDECIDED) & (before.verdict == ALLOWED)))
    wanted = Counter((VERDICTS[int(v)], bool(n)) for v, n in zip(after.verdict, new, strict=True))
    assert {(c.verdict, c.new): c.flows for c in found.counts if not c.policy} == wanted
    assert sum(o.flows for o in found.offenders if not o.policy) == int(new.sum())
    assert all(o.policies or o.kind == "unknown" for o in found.offenders)
