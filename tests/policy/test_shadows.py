"""A rule that is told as a candidate to remove can be removed: no verdict of what was recorded changes."""

from __future__ import annotations

import engine
import msgspec
from hypothesis import HealthCheck, given, settings
from strategies import Case, cases
from world import World, namespace, pod, policy

from fathom.policy.explain import RuleUse, rule_use
from fathom.policy.flows import from_dicts
from fathom.policy.model import Policy, PolicySet, Rule


def without(found: PolicySet, use: RuleUse) -> PolicySet:
    """The set as it is when the rule is taken out of its document: with its last rule, what isolates by rules goes."""
    kept = []
    for item in found.policies:
        rules = tuple(rule for rule in item.rules if not told(item, rule, use))
        left = {rule.direction for rule in rules}
        isolates = tuple(d for d in item.isolates if d in left or d not in item.by_rules)
        kept.append(msgspec.structs.replace(item, rules=rules, isolates=isolates))
    return PolicySet(tuple(kept), found.problems)


def told(item: Policy, rule: Rule, use: RuleUse) -> bool:
    return (item.title, rule.place, rule.direction) == (use.policy, use.place, use.direction)


@settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases(120))
def test_without_a_candidate_to_remove_every_verdict_is_the_same(case: Case) -> None:
    who, options = engine.inventory(case.cluster), engine.options(case.settings)
    # Whose opener is not known is unknown wherever a policy selects an end, whatever its rules.
    known = [flow for flow in case.flows if flow.get("oriented", True)]
    found, flows = engine.accepted(engine.policy_set(case.policies)), engine.flows(known)
    resolved = engine.resolve(flows, who, options)
    compiled = engine.compile_policies(found, who, options)
    before = engine.evaluate(compiled, resolved)
    for use in rule_use(compiled, flows, resolved):
        assert bool(use.because) >= use.unused, use
        if use.unused:
            after = engine.evaluate(engine.compile_policies(without(found, use), who, options), resolved)
            assert after.egress.tolist() == before.egress.tolist(), use
            assert after.ingress.tolist() == before.ingress.tolist(), use


WORLD = World(namespace("a"), pod("a/web", "10.0.0.1"), pod("a/db", "10.0.0.2"))


def used(policies: list[engine.Doc], **more: str) -> list[tuple[str, int, int, str]]:
    """(path, flows matched, flows decided, why none) of each rule, for one flow."""
    who = engine.inventory(WORLD.cluster)
    flows = from_dicts([{"src": "a/web", "dst": "a/db", "port": 80, **more}])
    compiled = engine.compile_policies(engine.policy_set(policies), who)
    uses = rule_use(compiled, flows, engine.resolve(flows, who))
    return [(use.place.path, use.flows, use.decided, use.because) for use in uses]


EVERY = "{subject: {namespaces: {}}, tier: Admin, priority: 1, ingress: [%s]}"
RULE = "{action: %s, from: [{namespaces: {}}]}"


def test_the_first_rule_of_an_ordered_policy_shadows_the_next() -> None:
    rules = ", ".join(RULE % word for word in ("Pass", "Accept"))
    admin = policy("p", EVERY % rules, "ClusterNetworkPolicy")
    allow = policy("a/n", "{podSelector: {}, ingress: [{}]}")
    assert used([admin, allow]) == [
        ("spec.ingress[0]", 1, 1, ""),
        ("spec.ingress[1]", 1, 0, "shadowed by ClusterNetworkPolicy p spec.ingress[0] (pass)"),
        ("spec.ingress[0]", 1, 1, ""),
    ]


def test_a_tier_that_decides_shadows_those_below_it() -> None:
    admin = policy("p", EVERY % (RULE % "Deny"), "ClusterNetworkPolicy")
    allow = policy("a/n", "{podSelector: {}, ingress: [{}]}")
    assert used([admin, allow])[1] == (
        "spec.ingress[0]",
        1,
        0,
        "shadowed by ClusterNetworkPolicy p spec.ingress[0] (deny)",
    )
    base = policy("b", (EVERY % (RULE % "Deny")).replace("Admin", "Baseline"), "ClusterNetworkPolicy")
    shut = policy("a/n", "{podSelector: {}, ingress: []}")
    assert used([base, shut]) == [("spec.ingress[0]", 1, 0, "shadowed by NetworkPolicy a/n (isolates)")]


def test_what_was_not_let_through_needed_no_rule_that_allows_it() -> None:
    allow = policy("a/n", "{podSelector: {}, ingress: [{}]}")
    assert used([allow], verdict="dropped") == [("spec.ingress[0]", 1, 0, "what matched it was not let through")]
    deny = policy("p", EVERY % (RULE % "Deny"), "ClusterNetworkPolicy")
    assert used([deny], verdict="dropped") == [("spec.ingress[0]", 1, 1, "")]


def test_rules_that_alone_make_a_policy_isolate_are_no_candidates() -> None:
    """Cilium's default deny is one empty rule; a NetworkPolicy without policyTypes isolates egress by its rules."""
    empty = policy("a/c", "{endpointSelector: {}, ingress: [{}]}", "CiliumNetworkPolicy")
    by_rules = policy("a/n", "{podSelector: {}, egress: [{ports: [{port: 9}]}]}")
    named = policy("a/n", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 9}]}]}")
    who = engine.inventory(WORLD.cluster)
    flows = from_dicts([{"src": "a/web", "dst": "a/db", "port": 80}])
    for doc, candidate in ((empty, False), (by_rules, False), (named, True)):
        compiled = engine.compile_policies(engine.policy_set([doc]), who)
        (use,) = rule_use(compiled, flows, engine.resolve(flows, who))
        assert (use.decided, use.unused) == (0, candidate), doc
        assert ("alone make the policy isolate" in use.because) != candidate
