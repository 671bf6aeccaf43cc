"""Too little history: each workload's own, by one rule for the annotation of a policy and for coverage."""

from __future__ import annotations

from typing import Any

import pytest

from fathom.policy.flows import Flows, from_dicts
from fathom.policy.generate import PREFIX, Choices, Window, generate
from fathom.policy.inventory import Inventory, Namespace, Pod, Records
from fathom.policy.material import Material
from fathom.policy.questions import coverage
from fathom.policy.thin import DAY, Need, Seen, too_little

START = 1_767_225_600


def cluster() -> Inventory:
    records = Records(namespaces=[Namespace("a", {})])
    for app in ("old", "new", "idle"):
        records.pods.append(Pod("a", app, {"app": app}, workload=("Deployment", app), virtual=True))
    return Inventory(records)


def flow(app: str, dst: str, count: int, first: int, last: int) -> dict[str, Any]:
    seen = {"first_seen": START + first, "last_seen": START + last}
    return {"src": f"a/Deployment/{app}", "dst": dst, "port": 443, "count": count, **seen}


def history() -> Flows:
    """One flow of many connections over a week; twelve flows within ten seconds of it."""
    new = [flow("new", f"9.9.{n}.9", 1, 6 * DAY, 6 * DAY + 10) for n in range(12)]
    return from_dicts([flow("old", "8.8.8.8", 500_000, 0, 7 * DAY), *new])


def annotated(flows: Flows, **window: Any) -> dict[str, str]:
    """What each policy says of its data."""
    made = generate(flows, cluster(), Choices(), Window(START, START + 7 * DAY, **window))
    found = {item["metadata"]["name"]: item["metadata"]["annotations"] for item in made.documents}
    return {name: said.get(PREFIX + "thin-data", "") for name, said in found.items()}


def test_a_policy_says_so_by_what_is_behind_it_not_by_how_long_others_were_recorded() -> None:
    short = "10 s between first and last seen, less than 86400 s"
    assert annotated(history()) == {"deployment-old": "", "deployment-new": short}


def test_coverage_says_the_same_of_each_workload() -> None:
    found = coverage(Material(cluster(), history()))
    assert {item.workload: "; ".join(item.thin) for item in found.workloads} == {
        "a/Deployment/idle": "0 connections, fewer than 10; when it was seen is not known",
        "a/Deployment/new": annotated(history())["deployment-new"],
        "a/Deployment/old": annotated(history())["deployment-old"],
    }
    assert [(item.flows, item.connections) for item in found.workloads] == [(0, 0), (12, 12), (1, 500_000)]


def test_few_are_few_connections_however_many_flows_they_are() -> None:
    few = from_dicts([flow("old", f"9.9.{n}.9", 1, n * DAY, 7 * DAY) for n in range(7)])
    assert annotated(few) == {"deployment-old": "7 connections, fewer than 10"}


def test_a_flow_that_is_evidence_of_several_rules_counts_once() -> None:
    own = from_dicts([flow("old", "a/Deployment/old", 9, 0, 7 * DAY)])
    assert annotated(own) == {"deployment-old": "9 connections, fewer than 10"}
    (one,) = (item for item in coverage(Material(cluster(), own)).workloads if item.flows)
    assert (one.flows, one.connections, one.thin) == (1, 9, ("9 connections, fewer than 10",))


def test_the_share_of_time_that_was_observed_counts_for_both() -> None:
    assert annotated(history(), coverage=0.94)["deployment-old"] == "94% of the time was seen, less than 95%"
    assert annotated(history(), coverage=0.95)["deployment-old"] == ""


@pytest.mark.parametrize(
    ("only", "told"),
    [((), "1 of 3 pods were seen"), (("a/Deployment/web",), "1 of 3 pods were seen"), (("a/web-0",), "")],
    ids=["every workload", "the workload", "one pod"],
)
def test_the_share_of_pods_that_were_seen_counts(only: tuple[str, ...], told: str) -> None:
    """But for the policy of one pod, of which it is not asked how the others behave."""
    records = Records(namespaces=[Namespace("a", {})])
    for number in range(4):  # the last one lived later
        since = START + 30 * DAY * (number == 3)
        address = f"10.0.0.{number + 1}"
        records.pods.append(
            Pod("a", f"web-{number}", {"app": "web"}, addresses=(address,), workload=("Deployment", "web"), since=since)
        )
    flows = from_dicts([{**flow("web", "8.8.8.8", 50, 0, 7 * DAY), "src": "a/web-0"}])
    made = generate(flows, Inventory(records), Choices(only=only), Window(START, START + 7 * DAY))
    assert [item["metadata"]["annotations"].get(PREFIX + "thin-data", "") for item in made.documents] == [told]
    (one,) = coverage(Material(Inventory(records), flows, window=(START, START + 7 * DAY))).workloads
    assert one.thin == ("1 of 3 pods were seen",)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Seen(10, 0, DAY), ()),
        (Seen(9, 0, DAY), ("9 connections, fewer than 10",)),
        (Seen(10, 1, DAY), ("86399 s between first and last seen, less than 86400 s",)),
        (Seen(10, 0, 0), ("when it was seen is not known",)),
        (Seen(10, 0, DAY, pods=(1, 2)), ()),
        (Seen(10, 0, DAY, pods=(1, 3)), ("1 of 3 pods were seen",)),
        (Seen(10, 0, DAY, pods=(0, 0)), ()),
    ],
)
def test_thresholds(seen: Seen, told: tuple[str, ...]) -> None:
    assert too_little(seen, Need()) == told
