"""What speaks against enforcing an audited set, and its documents as they would be applied."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from fathom.policy.findings import Count
from fathom.policy.promote import Need, Tried, objections, promoted

WEB = "NetworkPolicy shop/web"
SEEN = Count(WEB, "allowed", False, 1, 1)
PROVED = Tried(
    seconds=86_400,
    time=0.99,
    facts=1_000,
    missed=0,
    lost=0,
    policies=(WEB,),
    counts=(Count("", "allowed", False, 900, 900), Count(WEB, "allowed", False, 10, 10)),
)


def test_nothing_speaks_against_what_was_proved() -> None:
    assert objections(PROVED) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"counts": (Count("", "denied-ingress", True, 2, 7), Count("", "denied-both", True, 1, 1), SEEN)},
            "3 flows (8 connections) that pass today would be denied",
        ),
        (
            {"counts": (Count("", "unknown", True, 4, 7), SEEN)},
            "4 flows that pass today could not be judged",
        ),
        ({"seconds": 3_600}, "it was audited for 1.0 h, less than 24.0 h"),
        ({"time": 0.5}, "50.0% of the nodes' time was seen, less than 95.0%"),
        ({"missed": 7}, "7 facts were not judged, against 1000 that were"),
        ({"lost": 11}, "11 events, flows or facts were lost on the way, against 1000 that were judged"),
        ({"policies": (WEB, "NetworkPolicy shop/db")}, "no traffic concerned 1 of 2 policies: NetworkPolicy shop/db"),
    ],
)  # fmt: skip
def test_what_was_not_proved_is_said(change: dict[str, Any], sentence: str) -> None:
    assert objections(msgspec.structs.replace(PROVED, **change)) == [sentence]


@pytest.mark.parametrize(
    "counts",
    [
        (Count("", "denied-ingress", False, 9, 9), Count(WEB, "allowed", False, 1, 1)),  # by what is enforced already
        (Count("", "unknown", False, 9, 9), Count(WEB, "allowed", False, 1, 1)),
        (Count(WEB, "denied-ingress", True, 9, 9),),  # by this policy alone: another allows it
    ],
)
def test_what_the_set_does_not_change_does_not_speak_against_it(counts: tuple[Count, ...]) -> None:
    assert objections(msgspec.structs.replace(PROVED, counts=counts)) == []


def test_what_is_enough_can_be_chosen_and_long_lists_are_cut() -> None:
    titles = tuple(f"NetworkPolicy a/p{n}" for n in range(8))
    little = msgspec.structs.replace(PROVED, seconds=3_600, time=0.5, lost=11, policies=titles)
    assert objections(little, Need(3_600, 0.5, 0.02)) == [
        "no traffic concerned 8 of 8 policies: NetworkPolicy a/p0, NetworkPolicy a/p1, NetworkPolicy a/p2, "
        "NetworkPolicy a/p3, NetworkPolicy a/p4 and 3 more"
    ]


TEXT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  annotations: {fathom.dev/audit: "true", fathom.dev/audit-denied: "9", fathom.dev/digest: abc, team: x}
spec: {podSelector: {}}
---
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "c"}, "spec": {}},
  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": {"fathom.dev/audit": "on"}}}]}
---
kind: [
"""


def test_documents_are_as_they_would_be_applied_with_the_evidence() -> None:
    documents, problems = promoted(TEXT, {"since": "s", "flows": "9"}, "web")
    assert [str(problem).partition(":")[0] for problem in problems] == ["web, document 2"]
    assert [item["metadata"] for item in documents] == [
        {
            "name": "web",
            "annotations": {
                "fathom.dev/digest": "abc",
                "team": "x",
                "fathom.dev/audit-flows": "9",
                "fathom.dev/audit-since": "s",
            },
        },
        {"name": "c", "annotations": {"fathom.dev/audit-flows": "9", "fathom.dev/audit-since": "s"}},
        {"name": "n"},
    ]
    assert documents[0]["spec"] == {"podSelector": {}}


def test_promoting_what_was_promoted_changes_only_the_evidence() -> None:
    once, _ = promoted(TEXT.partition("---\nkind")[0], {"flows": "1"})
    twice, problems = promoted("---\n".join(yaml.safe_dump(item) for item in once), {"flows": "2"})
    assert problems == []
    assert twice[0]["metadata"]["annotations"] == {
        "fathom.dev/digest": "abc",
        "team": "x",
        "fathom.dev/audit-flows": "2",
    }
    assert promoted("kind: NetworkPolicy\nmetadata: 5\n", {"a": "b"})[0] == [{"kind": "NetworkPolicy", "metadata": 5}]
