"""Suggestions added to any set of policies, over random clusters: nothing that was allowed is denied by them, and what
they were suggested for is allowed."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
from generated_clusters import SPACES, Made, make
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.policy.compile import compile_policies
from fathom.policy.documents import Document
from fathom.policy.evaluate import ALLOWED, UNDECIDED, evaluate
from fathom.policy.generate import generate
from fathom.policy.model import PolicySet
from fathom.policy.options import ABSENT
from fathom.policy.policysets import read
from fathom.policy.problems import Place
from fathom.policy.replay import members, replay
from fathom.policy.resolve import resolve
from fathom.policy.suggest import absent

EXAMPLES = int(os.environ.get("FATHOM_EXAMPLES", "8"))


def documents_of(made: Made, seed: int) -> list[dict[str, Any]]:
    """Some generated policies less some of their rules, and some that isolate pods by any of their labels."""
    dice = random.Random(seed)
    found: list[dict[str, Any]] = []
    for document in generate(made.flows, made.inventory).documents:
        if dice.random() < 0.5:
            spec = dict(document["spec"])
            for direction in ("ingress", "egress"):
                spec[direction] = [rule for rule in spec.get(direction, ()) if dice.random() < 0.5]
            found.append({**document, "spec": spec})
    pods = [pod for pod in made.inventory.records.pods if pod.labels]
    for number in range(dice.randrange(4)):
        key, value = dice.choice(sorted((dice.choice(pods).labels or {}).items()))
        operator = dice.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        values = {"values": [value]} if operator in ("In", "NotIn") else {}
        spec = {
            "podSelector": {"matchExpressions": [{"key": key, "operator": operator, **values}]},
            "policyTypes": dice.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"])),
        }
        meta = {"name": f"isolating-{number}", "namespace": dice.choice(SPACES)}
        found.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    return found


def read_set(documents: list[dict[str, Any]]) -> PolicySet:
    found = read(Document(Place("set", number), item) for number, item in enumerate(documents))
    assert not found.problems, found.problems
    return found


def check(seed: int) -> tuple[int, int]:
    """How many flows suggestions were made for, and how many had none."""
    made = make(seed)
    documents = documents_of(made, seed)
    compiled, resolved = compile_policies(read_set(documents), made.inventory), resolve(made.flows, made.inventory)
    before = evaluate(compiled, resolved)
    told = replay(compiled, made.flows, resolved, before).groups
    groups, extra = absent(told, made.flows, resolved, before, compiled)
    verdicts = evaluate(compile_policies(read_set(documents + extra), made.inventory), resolved)
    after = verdicts.verdict
    # Of a pod that is not in the inventory, what one more policy selects is one more thing that is not known.
    unknown_pod = (after == UNDECIDED) & (verdicts.reasons == ABSENT)
    worse = np.flatnonzero((before.verdict == ALLOWED) & (after != ALLOWED) & ~unknown_pod)
    assert not len(worse), (seed, [made.flows.to_dict(int(n)) for n in worse])
    helped = np.array([bool(group.absent) for group in groups], bool)
    assert [not group.no_rule for group in groups] == helped.tolist()
    of = members(told, made.flows, resolved, before.verdict)
    wanted = np.flatnonzero(of >= 0)
    wanted = wanted[helped[of[wanted]]]
    left = wanted[after[wanted] != ALLOWED]
    assert not len(left), (seed, [made.flows.to_dict(int(n)) for n in left])
    return len(wanted), int(np.sum(of >= 0)) - len(wanted)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 1 << 32))
def test_suggestions_deny_nothing_and_allow_what_they_are_for(seed: int) -> None:
    check(seed)


def test_the_random_sets_have_flows_of_both_sorts() -> None:
    helped, unhelped = np.sum([check(seed) for seed in range(20)], axis=0).tolist()
    assert helped > 100
    assert unhelped > 0
