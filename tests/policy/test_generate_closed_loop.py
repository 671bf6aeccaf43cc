"""Generated policies, evaluated on the history that they were made of: a closed loop, over random clusters."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import pytest
from generated_clusters import OUTSIDE, SPACES, START, TCP, Made, make
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.policy.compile import compile_policies
from fathom.policy.documents import Document
from fathom.policy.evaluate import UNDECIDED, VERDICTS, evaluate
from fathom.policy.flows import Builder, Flows
from fathom.policy.generate import Choices, Evidence, Generated, generate
from fathom.policy.options import DNAT
from fathom.policy.policysets import read
from fathom.policy.problems import Place
from fathom.policy.resolve import resolve

FORMS = ("networkpolicy", "cilium")
EXAMPLES = int(os.environ.get("FATHOM_EXAMPLES", "8"))
seeds = st.integers(0, 1 << 32)


def verdicts(documents: Any, made: Made, flows: Flows) -> np.ndarray[Any, Any]:
    found = read(Document(Place("generated", number), doc) for number, doc in enumerate(documents))
    assert not [p for p in found.problems if p.severity != "warning"], found.problems
    compiled = compile_policies(found, made.inventory)
    return evaluate(compiled, resolve(flows, made.inventory)).verdict


def without(documents: Any, rule: Evidence) -> list[dict[str, Any]]:
    """The documents less one rule."""
    changed = copy.deepcopy(list(documents))
    for doc in changed:
        if f"{doc['metadata']['namespace']}/{doc['metadata']['name']}" == rule.policy:
            del doc["spec"][rule.direction][rule.rule]
            if doc["kind"] == "CiliumNetworkPolicy" and not doc["spec"][rule.direction]:
                doc["spec"][rule.direction] = [{}]
    return changed


def told(verdict: np.ndarray[Any, Any], made: Made, wrong: Any) -> list[Any]:
    return [(made.flows.to_dict(int(n)), VERDICTS[int(verdict[n])]) for n in wrong]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans(), st.sampled_from((0, 2)), st.sampled_from((1, 4)))
def test_what_was_seen_is_allowed(form: Any, seed: int, widen: bool, merge: int, spread: int) -> None:
    check_history_is_allowed(seed, Choices(form, widen=widen, merge_ports=merge, spread=spread))


def check_history_is_allowed(seed: int, choices: Choices) -> None:
    made = make(seed)
    found = generate(made.flows, made.inventory, choices)
    verdict = verdicts(found.documents, made, made.flows)
    wrong = np.flatnonzero(found.used & (verdict != 0))
    assert not len(wrong), (seed, told(verdict, made, wrong))
    assert found.used.any()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans())
def test_a_rule_that_goes_takes_its_evidence_with_it_and_nothing_else(form: Any, seed: int, widen: bool) -> None:
    check_each_rule(form, seed, widen=widen)


def check_each_rule(form: Any, seed: int, *, widen: bool) -> None:
    made = make(seed, 40)
    found = generate(made.flows, made.inventory, Choices(form, widen=widen))
    inferred = through_services(made)
    for rule in found.evidence:
        if form == "cilium" and rule.companion and names_in(found, rule):
            continue  # the names of other rules are learned through it
        verdict = verdicts(without(found.documents, rule), made, made.flows)
        denied = set(np.flatnonzero((verdict != 0) & found.used).tolist())
        assert denied == set(rule.flows), (seed, rule, denied)
        unsure = set(np.flatnonzero(verdict == UNDECIDED).tolist()) & found_used(found)
        assert unsure <= inferred, (seed, rule, unsure)


def found_used(found: Generated) -> set[int]:
    return set(np.flatnonzero(found.used).tolist())


def through_services(made: Made) -> set[int]:
    """Flows whose backend is inferred: where backends differ, the verdict is unknown."""
    rows = resolve(made.flows, made.inventory).rows
    return set(rows["flow"][rows["assumed"] & DNAT > 0].tolist())


def names_in(found: Generated, rule: Evidence) -> bool:
    policies = {f"{d['metadata']['namespace']}/{d['metadata']['name']}": d for d in found.documents}
    return any("toFQDNs" in item for item in policies[rule.policy]["spec"].get("egress", ()))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds)
def test_a_flow_outside_of_every_peer_protocol_and_port_is_denied(form: Any, seed: int) -> None:
    made = make(seed)
    found = generate(made.flows, made.inventory, Choices(form))
    subjects = {name for doc in found.documents for name in subject_pods(made, doc)}
    builder = Builder()
    for name in sorted(subjects):
        builder.add(name, OUTSIDE[0], TCP, 1)  # a port that nothing used
        builder.add("203.0.113.7", name, TCP, 8080)  # an address that nothing used
        builder.add(name, "shop/stranger", TCP, 2)
        builder.add(name, OUTSIDE[0], 132, 443)  # a protocol that this port was not used with
    probes = builder.flows()
    verdict = verdicts(found.documents, made, probes)
    words = [VERDICTS[int(v)] for v in verdict]
    assert words, seed
    assert all(word.startswith("denied") for word in words), (
        seed,
        [probes.to_dict(n) for n in np.flatnonzero(verdict == 0)],
    )


def subject_pods(made: Made, doc: Any) -> list[str]:
    workloads = doc["metadata"]["annotations"]["fathom.dev/workloads"].split()
    return sorted(
        {
            f"{pod.namespace}/{pod.name}"
            for pod in made.inventory.records.pods
            if f"{pod.namespace}/{pod.workload[0]}/{pod.workload[1]}" in workloads and not pod.host_network
        }
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds)
def test_both_forms_say_the_same_on_the_history(seed: int) -> None:
    made = make(seed)
    first, second = (generate(made.flows, made.inventory, Choices(form)) for form in FORMS)
    assert np.array_equal(first.reasons, second.reasons)
    one, other = (verdicts(found.documents, made, made.flows) for found in (first, second))
    assert np.array_equal(one[first.used], other[first.used])


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans())
def test_what_is_allowed_between_pods_beyond_the_history_is_what_was_counted(seed: int, widen: bool) -> None:
    made = make(seed, 40)
    found = generate(made.flows, made.inventory, Choices("networkpolicy", ("egress",), widen=widen))
    pods = sorted({f"{p.namespace}/{p.name}" for p in made.inventory.records.pods if not p.host_network})
    seen = pairs_seen(made, found)
    rules = [
        rule for rule in found.evidence if "/" in rule.peer and not rule.peer[0].isdigit() and ":" not in rule.peer
    ]
    rules = [rule for rule in rules if rule.peer.split("/")[0] in SPACES]
    ports = sorted({port for rule in rules for port in rule.ports})
    builder = Builder()
    for src in pods:
        for dst in pods:
            for port in ports:
                word, number = port.split("/")
                builder.add(
                    src,
                    dst,
                    {"TCP": 6, "UDP": 17, "SCTP": 132}[word],
                    int(number),
                )
    probes = builder.flows()
    named = {name for doc in found.documents for name in subject_pods(made, doc)}
    verdict = verdicts(found.documents, made, probes) if len(probes) else np.zeros(0)
    allowed = 0
    for number in np.flatnonzero(verdict == 0).tolist():
        flow = probes.to_dict(number)
        key = (flow["src"], flow["dst"], flow["protocol"], flow["port"])
        allowed += flow["src"] in named and key not in seen and flow["src"] != flow["dst"]
    counted = sum(rule.beyond for rule in rules)
    own = sum(1 for key in self_pairs(rules, made, found))
    assert counted == allowed + own, seed


def pairs_seen(made: Made, found: Generated) -> set[tuple[str, str, str, int]]:
    resolved = resolve(made.flows, made.inventory)
    pods, rows = made.inventory.records.pods, resolved.rows
    words = {6: "TCP", 17: "UDP", 132: "SCTP"}
    seen = set()
    for n in range(len(rows)):
        src, dst = int(rows["src_pod"][n]), int(rows["dst_pod"][n])
        if found.used[rows["flow"][n]] and src >= 0 and dst >= 0 and not pods[src].host_network:
            ends = [f"{pods[p].namespace}/{pods[p].name}" for p in (src, dst)]
            seen.add((*ends, words[int(rows["protocol"][n])], int(rows["port"][n])))
    return seen


def self_pairs(rules: Any, made: Made, found: Generated) -> list[Any]:
    """(pod, port) of rules that hold the subject itself: counted, though a pod may always reach itself."""
    pairs = []
    policies = {f"{d['metadata']['namespace']}/{d['metadata']['name']}": d for d in found.documents}
    for rule in rules:
        for name in subject_pods(made, policies[rule.policy]):
            space = name.split("/")[0]
            workloads = policies[rule.policy]["metadata"]["annotations"]["fathom.dev/workloads"].split()
            if rule.peer == f"{space}/*" or rule.peer.split() == workloads:
                pairs += [(name, port) for port in rule.ports]
    return pairs


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.sampled_from((1, 2, 4, 16)))
def test_blocks_stay_within_their_bound(seed: int, spread: int) -> None:
    made = make(seed)
    found = generate(made.flows, made.inventory, Choices(spread=spread))
    for rule in found.evidence:
        if rule.peer.split("/")[0].replace(".", "").isdigit() and not rule.companion:
            seen = {
                (row[key], row["port"])
                for row in (made.flows.to_dict(n) for n in rule.flows)
                for key in (("dst",) if rule.direction == "egress" else ("src",))
            }
            assert rule.beyond <= (spread - 1) * len(seen), (seed, rule)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("form", FORMS)
def test_many_clusters(form: Any, part: int) -> None:
    for seed in range(100 * part, 100 * part + 100):
        check_history_is_allowed(seed, Choices(form, widen=seed % 3 == 0, merge_ports=seed % 4))
        check_each_rule(form, seed, widen=seed % 5 == 0)


def test_the_clusters_hold_what_the_properties_are_about() -> None:
    """Companion rules, names, entities, exclusions and every usual reason occur, so that nothing passes by absence."""
    peers, reasons, companions, exclusions = set(), set(), 0, 0
    for seed in range(60):
        made = make(seed)
        found = generate(made.flows, made.inventory, Choices("cilium"))
        reasons |= set(found.reasons.tolist())
        for doc in found.documents:
            exclusions += "matchExpressions" in doc["spec"]["endpointSelector"]
            for direction in ("ingress", "egress"):
                peers |= {key for rule in doc["spec"][direction] for key in rule}
        companions += sum(bool(rule.companion) for rule in found.evidence)
        assert START > 0
    assert {"toEndpoints", "fromEndpoints", "toCIDR", "fromCIDR", "toFQDNs", "toEntities", "fromEntities"} <= peers
    assert companions > 50
    assert exclusions
    assert {0, 1, 9, 10, 12, 13, 14} <= reasons
