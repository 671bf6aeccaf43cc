"""Generated policies, evaluated on the history that they were made of: a closed loop, over random clusters."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from closed_loop import (
    FORMS,
    check_blocks_within_bound,
    check_both_forms_agree,
    check_coverage,
    check_each_rule,
    check_history_is_allowed,
    check_outside_is_denied,
    check_what_is_beyond,
    clusters,
)
from cores import shared
from generated_clusters import START, make
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.policy import history
from fathom.policy.generate import Choices, generate
from fathom.policy.model import DIRECTIONS, Direction

EXAMPLES = int(os.environ.get("FATHOM_EXAMPLES", "8"))
LONG = int(os.environ.get("FATHOM_POLICY_CLUSTERS", "300"))
seeds = st.integers(0, 1 << 32)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans(), st.sampled_from((0, 2)), st.sampled_from((1, 4)))
def test_what_was_seen_is_allowed(form: Any, seed: int, widen: bool, merge: int, spread: int) -> None:
    check_history_is_allowed(seed, Choices(form, widen=widen, merge_ports=merge, spread=spread))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans())
def test_a_rule_that_goes_takes_its_evidence_with_it_and_nothing_else(form: Any, seed: int, widen: bool) -> None:
    check_each_rule(form, seed, widen=widen)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds)
def test_a_flow_outside_of_every_peer_protocol_and_port_is_denied(form: Any, seed: int) -> None:
    check_outside_is_denied(form, seed)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans(), st.sampled_from((0, 2)), st.sampled_from((1, 4)))
def test_exactly_what_a_rule_covers_is_allowed(form: Any, seed: int, widen: bool, merge: int, spread: int) -> None:
    check_coverage(seed, Choices(form, widen=widen, merge_ports=merge, spread=spread))


def test_the_flows_that_are_tried_are_of_both_kinds() -> None:
    told = [check_coverage(seed, Choices(form)) for seed in range(20) for form in FORMS]
    assert min(sum(column) for column in zip(*told, strict=True)) > 1_000


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds)
def test_both_forms_say_the_same_on_the_history(seed: int) -> None:
    check_both_forms_agree(seed)


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.booleans())
def test_what_is_allowed_between_pods_beyond_the_history_is_what_was_counted(
    direction: Direction, seed: int, widen: bool
) -> None:
    check_what_is_beyond(seed, direction, widen=widen)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seeds, st.sampled_from((1, 2, 4, 16)))
def test_blocks_stay_within_their_bound(seed: int, spread: int) -> None:
    check_blocks_within_bound(seed, spread)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "seed",
    [
        10_016,  # the API server's node and another node asked for DNS over one protocol each
        20_022,  # an address went from a replica on the node that calls to one elsewhere, during the flow
    ],
)
def test_kept_clusters_that_the_properties_once_failed_on(form: Any, seed: int) -> None:
    check_each_rule(form, seed, widen=False)


@pytest.mark.slow
def test_many_clusters(tell: Callable[[str], None]) -> None:
    seen: Counter[str] = Counter()
    for part in shared(clusters, LONG, 20):
        seen += part
    tell(f"random clusters: {dict(seen)}")
    assert seen["clusters"] == LONG
    assert seen["rules removed"] > 10 * LONG
    assert seen["flows outside"] > 10 * LONG
    assert seen["flows tried"] > 500 * LONG


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
    usual = {history.USED, history.NO_POD, history.ABSENT, history.EPHEMERAL}
    assert usual | {history.NOT_ORIENTED, history.NOT_KNOWN, history.NOT_ALLOWED} <= reasons
