"""A store as the material of policy questions: counts, and what the ends of a flow were at the time of the flow."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fathom.errors import UsageError
from fathom.events.batches import Loss
from fathom.policy import questions
from fathom.policy.compile import compile_policies
from fathom.policy.coverage import Gap
from fathom.policy.coverage import Loss as Lost
from fathom.policy.documents import Document
from fathom.policy.evaluate import VERDICTS, evaluate
from fathom.policy.flows import Seen, from_edges
from fathom.policy.inventory import FOREVER, Inventory, Namespace, Pod, Records, Service, ServicePort
from fathom.policy.policysets import read
from fathom.policy.problems import Place
from fathom.policy.resolve import resolve
from fathom.store.interface import Window
from fathom.store.material import material
from fathom.store.memory import MemoryStore

DAY = 1_700_006_400
HOUR = DAY + 10 * 3_600
#: Only pods labelled app=a may reach pods labelled app=b.
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "b", "namespace": "ns"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "b"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}],
    },
}
POLICIES = read([Document(Place("policy.yaml"), POLICY)])


def pod(name: str, app: str, address: str, since: int = 0, until: int = FOREVER, namespace: str = "ns") -> Pod:
    return Pod(namespace, name, {"app": app}, (address,), since=since, until=until)


def edge(world, peer="10.0.0.2", **more):
    return world.edge("a", kind="Deployment", namespace="ns", pod="one", peer=peer, **more)


def at(world, one, *times):
    """A batch with one connection on the edge ``one`` at each of ``times`` (seconds after HOUR)."""
    return world.batch(*((one, HOUR + time, {"connections": 1}) for time in times))


def verdicts(found, inventory=None):
    """(verdict, first, last, count) of each flow, times relative to HOUR."""
    inventory = inventory or found.inventory
    resolved = resolve(found.flows, inventory)
    numbers = evaluate(compile_policies(POLICIES, inventory), resolved).verdict.tolist()
    rows = found.flows.rows
    return [
        (VERDICTS[n], first - HOUR, last - HOUR, count)
        for n, first, last, count in zip(
            numbers, rows["first"].tolist(), rows["last"].tolist(), rows["count"].tolist(), strict=True
        )
    ]


def test_a_flow_lasts_until_the_end_of_its_last_interval_and_counts_connections(store, world):
    store.write(at(world, edge(world), 0, 10, 30))
    store.keep_inventory(Records(pods=[pod("one", "a", "10.0.0.1"), pod("two", "b", "10.0.0.2")]))
    found = material(store, Window(HOUR, HOUR + 60))
    assert found.window == (HOUR, HOUR + 60)
    assert verdicts(found) == [("allowed", 0, 39, 3)]
    assert found.flows.to_dict(0)["src"] == "ns/one"
    assert found.flows.rows["edge"].tolist() == [edge(world).id]


@pytest.mark.parametrize(
    ("how", "counters", "count"),
    [
        ({}, {"connections": 2, "packets_sent": 9}, 2),
        ({"verdict": "failed", "reason": "refused"}, {"failures": 3}, 3),
        ({}, {"packets_sent": 5, "bytes_sent": 1}, 0),
        ({"protocol": "UDP"}, {"packets_sent": 5, "packets_received": 7}, 5),
        ({"protocol": "UDP", "direction": "ingress"}, {"packets_sent": 5, "packets_received": 7}, 7),
        ({"protocol": "UDP", "direction": "unknown"}, {"packets_sent": 5, "packets_received": 7}, 12),
        ({"verdict": "dropped"}, {"packets_sent": 4}, 4),
    ],
)
def test_what_is_counted(store, world, how, counters, count):
    store.write(world.batch((edge(world, **how), HOUR, counters)))
    assert material(store).flows.rows["count"].tolist() == [count]


CHANGES = {
    "the source was labelled anew": lambda t: [
        pod("one", "a", "10.0.0.1", 0, t),
        pod("one", "x", "10.0.0.1", t),
        pod("two", "b", "10.0.0.2"),
    ],
    "the destination was labelled anew": lambda t: [
        pod("one", "x", "10.0.0.1"),
        pod("two", "c", "10.0.0.2", 0, t),
        pod("two", "b", "10.0.0.2", t),
    ],
    "the destination's address was used again": lambda t: [
        pod("one", "x", "10.0.0.1"),
        pod("old", "c", "10.0.0.2", 0, t),
        pod("new", "b", "10.0.0.2", t),
    ],
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("rolled", [False, True])
def test_a_flow_is_judged_by_what_its_ends_were_then(store, world, what, rolled):
    store.write(at(world, edge(world), *range(0, 100, 10)))
    for hour in store.due(HOUR + 86_400) if rolled else ():
        store.roll(hour)
    store.keep_inventory(Records(pods=CHANGES[what](HOUR + 50)))
    found = material(store, Window(HOUR, HOUR + 3_600))
    assert verdicts(found) == [("allowed", 0, 49, 5), ("denied-ingress", 50, 99, 5)]


def test_the_interval_of_a_change_is_a_flow_of_its_own(store, world):
    store.write(at(world, edge(world), *range(0, 100, 10)))
    store.keep_inventory(Records(pods=CHANGES["the source was labelled anew"](HOUR + 55)))
    assert verdicts(material(store)) == [
        ("allowed", 0, 49, 5),
        ("unknown", 50, 59, 1),
        ("denied-ingress", 60, 99, 4),
    ]


def test_where_only_hours_are_left_the_hour_of_a_change_is_a_flow_of_its_own(store, world):
    store.write(at(world, edge(world), 0, 3_590, 3_600, 7_190, 7_200))
    store.write(at(world, edge(world, peer="10.0.0.3"), 10))
    store.keep_inventory(Records(pods=CHANGES["the source was labelled anew"](HOUR + 5_000)))
    world.now = DAY + 5 * 86_400
    store.drop_before(DAY + 86_400, hours_before_s=DAY)
    assert [item for item in verdicts(material(store)) if item[1] != 10] == [
        ("allowed", 0, 3_599, 2),
        ("unknown", 3_600, 7_199, 2),
        ("denied-ingress", 7_200, 7_209, 1),
    ]


def test_an_interval_that_cannot_be_told_is_taken_for_the_longest(store, world):
    store.write(at(world, edge(world), 0))
    assert verdicts(material(store)) == [("allowed", 0, 59, 1)]


def test_a_pod_that_came_within_an_interval_is_known_in_it(store, world):
    store.write(at(world, edge(world), 0, 10))
    pods = [pod("one", "a", "10.0.0.1", HOUR + 7), pod("two", "b", "10.0.0.2")]
    store.keep_inventory(Records(pods=pods))
    assert verdicts(material(store)) == [("allowed", 0, 19, 2)]


def test_a_namespace_that_was_labelled_anew_cuts_the_flows_of_its_pods(store, world):
    store.write(at(world, edge(world), 0, 10, 20, 30))
    spaces = [Namespace("ns", {"v": "1"}, 0, HOUR + 20), Namespace("ns", {"v": "2"}, HOUR + 20)]
    store.keep_inventory(Records(namespaces=spaces, pods=[pod("one", "a", "10.0.0.1"), pod("two", "b", "10.0.0.2")]))
    assert verdicts(material(store)) == [("allowed", 0, 19, 2), ("allowed", 20, 39, 2)]


def test_the_backends_of_a_service_are_those_of_the_time(store, world):
    store.write(at(world, edge(world, peer="10.96.0.1"), 0, 10, 20, 30))
    ports = (ServicePort("", "TCP", 443, 443),)
    service = Service("ns", "svc", {"app": "b"}, ("10.96.0.1",), ports=ports, since=0)
    pods = [pod("one", "x", "10.0.0.1"), pod("two", "b", "10.0.0.2", 0, HOUR + 20)]
    freed = Pod("ns", "two", {"app": "c"}, ("10.0.0.2",), since=HOUR + 20)
    other = Service("ns", "svc", {"app": "c"}, ("10.96.0.1",), ports=ports, since=HOUR + 20)
    first = Service("ns", "svc", service.selector, service.cluster_ips, ports=ports, since=0, until=HOUR + 20)
    store.keep_inventory(Records(pods=[*pods, freed], services=[first, other]))
    assert verdicts(material(store)) == [("denied-ingress", 0, 19, 2), ("allowed", 20, 39, 2)]


def test_edges_that_did_not_change_are_not_divided(store, world):
    store.write(at(world, edge(world, peer="10.0.0.3"), *range(0, 100, 10)))
    store.keep_inventory(
        Records(pods=[*CHANGES["the destination was labelled anew"](HOUR + 50), pod("q", "c", "10.0.0.3")])
    )
    assert verdicts(material(store)) == [("allowed", 0, 99, 10)]


def test_gaps_losses_and_nodes_are_told(store, world):
    store.write(world.batch((edge(world), HOUR, {}), observed=((HOUR, HOUR + 100),)))
    store.write(
        world.batch(losses=(Loss(HOUR, "kernel", "tcp", "ring_full", 3, 4),), observed=((HOUR + 200, HOUR + 300),))
    )
    found = material(store, Window(HOUR, HOUR + 300))
    assert found.nodes == ("n1",)
    assert found.gaps == (Gap("n1", HOUR + 100, HOUR + 200),)
    assert found.losses == (Lost("kernel", "tcp", "ring_full", "n1", 3, 4),)


def test_time_before_anybody_watched_counts_for_nothing(store, world):
    """A window of a week over a minute of observation is not seven days seen but for a minute."""
    store.keep_inventory(Records(pods=[pod("one", "a", "10.0.0.1"), pod("two", "b", "10.0.0.2")]))
    for time in (0, 40):
        seen = ((HOUR + time, HOUR + time + 20),)
        store.write(world.batch((edge(world), HOUR + time, {"connections": 1}), observed=seen))
    found = material(store, Window(HOUR - 7 * 86_400, HOUR + 60))
    assert found.window == (HOUR, HOUR + 60)
    asked = store.coverage(Window(HOUR - 7 * 86_400, HOUR + 60)).share
    assert asked == pytest.approx(40 / 60)
    assert questions.basis(found, POLICIES).coverage == asked
    assert questions.coverage(found).basis.coverage == asked
    made = questions.generate(found).documents[0]["metadata"]["annotations"]
    assert made["fathom.dev/coverage"] == f"{asked:.4f}"
    assert "less than 86400 s" in made["fathom.dev/thin-data"]


def test_without_a_window_it_is_all_that_was_told(store, world):
    assert material(store).window == (0, 0)
    assert len(material(store).flows) == 0
    store.write(world.batch((edge(world), HOUR + 5, {}), observed=((HOUR, HOUR + 65),)))
    assert material(store).window == (HOUR, HOUR + 66)
    with pytest.raises(UsageError, match="empty"):
        material(store, Window(HOUR, HOUR))


def test_a_node_can_be_chosen(store, world):
    other = world.edge("b", kind="Deployment", namespace="ns", pod="p", node="n2")
    store.write(world.batch((edge(world), HOUR, {}), (other, HOUR, {})))
    assert material(store, node="n1").flows.rows["edge"].tolist() == [edge(world).id]


def test_clusters_are_not_mixed(store, world):
    blue, green = edge(world, cluster="blue"), edge(world, cluster="green")
    store.write(world.batch((blue, HOUR, {}), (green, HOUR, {}), (edge(world), HOUR, {})))
    for cluster in ("blue", "green"):
        store.keep_inventory(Records(pods=[pod("one", cluster, "10.0.0.1")]), cluster=cluster)
    with pytest.raises(UsageError, match="2 clusters are recorded: blue, green"):
        material(store)
    with pytest.raises(UsageError, match="nothing is recorded of cluster 'red'"):
        material(store, cluster="red")
    found = material(store, cluster="green")
    assert sorted(found.flows.rows["edge"].tolist()) == sorted((green.id, edge(world).id))
    assert [item.labels for item in found.inventory.records.pods] == [{"app": "green"}]


def test_manifests_add_what_the_store_does_not_know(store, world):
    store.write(at(world, edge(world), 0))
    store.keep_inventory(Records(pods=[pod("one", "a", "10.0.0.1")]))
    manifests = Records(pods=[pod("one", "other", "10.9.9.9"), pod("two", "b", "10.0.0.2")])
    assert sorted(p.labels["app"] for p in material(store, manifests=manifests).inventory.records.pods) == ["a", "b"]


# Each fact is a flow of its own; the material's flows must say the same of the same connections.
apps = st.sampled_from(["a", "b", "c"])
moments = st.integers(0, 40).map(lambda n: n * 90)


@st.composite
def versions(draw, name, address):
    """A pod's life: labelled anew now and then, sometimes away."""
    times = sorted(set(draw(st.lists(st.one_of(moments, st.integers(0, 3_600)), max_size=3))))
    bounds = [0, *(HOUR + time for time in times), FOREVER]
    held = [pod(name, draw(apps), address, *pair) for pair in pairwise(bounds) if pair[0] < pair[1]]
    return [item for item in held if draw(st.integers(0, 5)) or len(held) == 1]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    versions("one", "10.0.0.1"),
    versions("two", "10.0.0.2"),
    st.lists(st.tuples(st.booleans(), st.integers(0, 359), st.integers(1, 5)), min_size=1, max_size=30),
)
def test_connections_get_the_verdicts_of_their_own_time(world, first, second, facts):
    store = MemoryStore(clock=world.clock)
    edges = [edge(world), world.edge("b", kind="Deployment", namespace="ns", pod="two", peer="10.0.0.1")]
    told = [(edges[which], HOUR + 10 * tenth, {"connections": count}) for which, tenth, count in facts]
    anchor = world.edge("anchor", peer="1.1.1.1")  # so that the interval is seen to be 10 s
    store.write(world.batch(*told, (anchor, HOUR, {}), (anchor, HOUR + 10, {})))
    store.keep_inventory(Records(pods=[*first, *second]))
    found = material(store, Window(HOUR, HOUR + 3_600))
    one_by_one = from_edges(Seen(e, counted["connections"], bucket, bucket + 9) for e, bucket, counted in told)
    inventory = Inventory(Records(pods=[*first, *second]))
    assert counted(found.flows, inventory) == counted(one_by_one, inventory)


def counted(flows, inventory):
    numbers = evaluate(compile_policies(POLICIES, inventory), resolve(flows, inventory)).verdict.tolist()
    sums = Counter()
    for number, row in zip(numbers, flows.rows, strict=True):
        if row["count"]:
            sums[int(row["edge"]), VERDICTS[number]] += int(row["count"])
            event(VERDICTS[number])
    return sums
