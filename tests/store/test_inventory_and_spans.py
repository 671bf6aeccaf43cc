"""What every engine promises about the inventory, system calls, and spans: one sentence a test."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fathom.errors import UsageError
from fathom.events.edges import EdgeColumns, workload_of
from fathom.policy.inventory import (
    FOREVER,
    Answer,
    Backend,
    ContainerPort,
    Namespace,
    Node,
    Pod,
    Records,
    Service,
    ServicePort,
    Slice,
    Workload,
)
from fathom.policy.manifests import read_texts
from fathom.policy.seccomp import SyscallSet
from fathom.store.interface import MAX_IDENTITIES, EdgeQuery, Window

DAY = 1_700_006_400
HOUR = DAY + 10 * 3_600
ALL = Window(0, 1 << 40)


def everything() -> Records:
    """A record of each kind, with each field set."""
    ports = (ContainerPort("http", "TCP", 8080, 80, "192.168.0.1"), ContainerPort("dns", "UDP", 53))
    return Records(
        namespaces=[Namespace("shop", {"team": "a"}, 5, 9), Namespace("shop", None, 9)],
        pods=[
            Pod("shop", "web-1", {"app": "web"}, ("10.0.0.1", "fd00::1"), "n1", True, ports, "sa", ("Job", "j"), 7, 8),
            Pod("shop", "web", {"app": "web"}, workload=("Deployment", "web"), virtual=True),
            Pod("shop", "web"),
        ],
        workloads=[
            Workload("shop", "Deployment", "web", {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""})
        ],
        services=[
            Service(
                "shop",
                "web",
                {"app": "web"},
                ("10.96.0.1",),
                ("1.2.3.4",),
                (ServicePort("http", "TCP", 80, "http", 30_000), ServicePort("x", "UDP", 1, 2)),
                {"l": "m"},
                True,
                1,
                2,
            ),
            Service("shop", "db"),
        ],
        slices=[
            Slice("shop", "web", (Backend(("10.0.0.1",), "web-1", False),), (("http", "TCP", 8080),), 3, name="web-a"),
            Slice("shop", "web", name="web-b"),
        ],
        nodes=[Node("n1", {"zone": "é"}, ("192.168.0.1",), ("10.0.0.0/24",), 2)],
        answers=[Answer("x.example", "1.1.1.1", 4, 5), Answer("x.example", "1.1.1.2", 4, 6)],
    )


def sorted_lists(records: Records) -> dict[str, list[str]]:
    return {
        name: sorted(msgspec.json.encode(item).decode() for item in getattr(records, name))
        for name in Records.__struct_fields__
    }


def test_an_inventory_is_read_as_it_was_kept(store):
    store.keep_inventory(everything(), cluster="blue")
    found = store.inventory(ALL)
    assert set(found) == {"blue"}
    assert sorted_lists(found["blue"]) == sorted_lists(everything())


def test_an_inventory_survives_its_process(open_engine, world):
    del world
    store = open_engine()
    store.keep_inventory(everything())
    if store.health().engine == "memory":
        return
    store.close()
    again = open_engine()
    assert sorted_lists(again.inventory(ALL)[""]) == sorted_lists(everything())
    again.close()


def test_a_version_is_replaced_by_the_same_object_of_the_same_time(store):
    pod = Pod("a", "p", {"v": "1"}, ("10.0.0.1",), since=HOUR)
    store.keep_inventory(Records(pods=[pod]))
    closed = msgspec.structs.replace(pod, until=HOUR + 60)
    fresh = msgspec.structs.replace(pod, since=HOUR + 60, labels={"v": "2"})
    store.keep_inventory(Records(pods=[closed, fresh]))
    assert store.inventory(ALL)[""].pods == [closed, fresh]


def test_versions_are_those_that_held_inside_the_window(store):
    versions = [Pod("a", "p", {"v": str(n)}, since=HOUR + n, until=HOUR + n + 1) for n in range(4)]
    store.keep_inventory(Records(pods=versions))
    assert store.inventory(Window(HOUR + 1, HOUR + 3))[""].pods == versions[1:3]
    assert store.inventory(Window(HOUR + 4, HOUR + 9)) == {}


def test_clusters_are_told_apart(store):
    for cluster in ("blue", "green"):
        store.keep_inventory(Records(namespaces=[Namespace("a", {"cluster": cluster})]), cluster=cluster)
    assert {name: found.namespaces[0].labels for name, found in store.inventory(ALL).items()} == {
        "blue": {"cluster": "blue"},
        "green": {"cluster": "green"},
    }


def test_two_records_of_one_name_are_both_kept(store):
    twice = [Pod("a", "p", {"v": "1"}), Pod("a", "p", {"v": "2"}), Pod("a", "p", {"v": "1"}), Pod("a", "p", {"v": "3"})]
    store.keep_inventory(Records(pods=twice))
    store.keep_inventory(Records(pods=twice))
    assert sorted(pod.labels["v"] for pod in store.inventory(ALL)[""].pods) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "pod",
    [Pod("a", "p", {"v": "\ud800"}), Pod("a", "p", since=5, until=4), Pod("a", "p", until=1 << 63)],
    ids=["no text", "ends before it begins", "no time"],
)
def test_a_record_that_cannot_be_kept_is_refused_and_nothing_is_kept(store, pod):
    with pytest.raises(UsageError, match="Pod"):
        store.keep_inventory(Records(pods=[Pod("a", "q"), pod]))
    assert store.inventory(ALL) == {}


def test_what_ended_before_the_retention_is_forgotten(store):
    old, new = (Pod("a", name, until=until) for name, until in (("old", DAY - 86_400), ("new", FOREVER)))
    store.keep_inventory(Records(pods=[old, new]))
    calls = [
        SyscallSet(executable=name, calls=("read",), last_seen=at) for name, at in (("o", DAY - 86_401), ("n", DAY))
    ]
    store.keep_syscalls(calls)
    store.drop_before(DAY - 86_400)
    assert store.inventory(ALL)[""].pods == [new]
    assert [item.executable for item in store.syscalls(ALL)] == ["n"]


MANIFESTS = """
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}
---
apiVersion: v1
kind: Pod
metadata:
  {name: web-5d-1, namespace: shop, labels: {app: web, pod-template-hash: 5d},
  creationTimestamp: "2023-11-15T00:00:00Z", ownerReferences: [{kind: ReplicaSet, name: web-5d, controller: true}]}
spec: {nodeName: n1, containers: [{ports: [{name: http, containerPort: 8080}, {containerPort: 50051}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec: {selector: {matchLabels: {app: api}}, template: {metadata: {labels: {app: api}}, spec: {hostNetwork: true}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-5d-1}}]
ports: [{name: "", protocol: TCP, port: 8080}]
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.0.0.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}
"""


def test_manifests_are_read_from_a_store_as_from_their_files(store):
    records = read_texts([("all.yaml", MANIFESTS)]).records
    assert not records.problems
    assert [len(getattr(records, name)) for name in ("pods", "slices", "nodes", "workloads")] == [2, 1, 1, 1]
    store.keep_inventory(records)
    assert sorted_lists(store.inventory(ALL)[""]) == sorted_lists(records)


def test_system_calls_are_read_as_they_were_kept_and_add_up(store):
    web = SyscallSet(
        workload="shop/Deployment/web",
        container="c",
        image="i",
        executable="/bin/web",
        architecture="aarch64",
        calls=("read", "write"),
        first_seen=10,
        last_seen=20,
    )
    others = [
        SyscallSet(workload=name, calls=("exit",), executable="x") for name in ("", "a", "b/c", "d/e/f/g", "/h", "i//j")
    ]
    store.keep_syscalls([web, *others])
    assert sorted(store.syscalls(ALL), key=lambda item: item.workload) == sorted(
        [web, *others], key=lambda i: i.workload
    )
    store.keep_syscalls([msgspec.structs.replace(web, calls=("read", "close"), first_seen=5, last_seen=15)])
    found = {item.workload: item for item in store.syscalls(ALL)}["shop/Deployment/web"]
    assert (found.calls, found.first_seen, found.last_seen) == (("close", "read", "write"), 5, 20)
    assert store.syscalls(Window(21, 30)) == []
    with pytest.raises(UsageError, match="end before"):
        store.keep_syscalls([SyscallSet(calls=("read",), first_seen=2, last_seen=1)])


def rows(store, cuts=None, **query):
    return store.spans(
        EdgeQuery(Window(HOUR, HOUR + 7_200), **query), None if cuts is None else np.array(cuts)
    ).tolist()


def test_a_span_holds_what_was_counted_inside_the_window(store, world):
    one, other = world.edge("one", node="n1"), world.edge("other", node="n2")
    counted = {"connections": 1, "failures": 2, "packets_sent": 3, "packets_received": 4}
    store.write(world.batch(*((one, HOUR + at, counted) for at in (-10, 0, 20, 7_200)), (other, HOUR + 3_600, {})))
    expected = sorted([(one.id, 6, 6, 8, HOUR, HOUR + 20), (other.id, 0, 0, 0, HOUR + 3_600, HOUR + 3_600)])
    assert rows(store) == expected
    assert rows(store, workload="one") == [row for row in expected if row[0] == one.id]
    assert rows(store, workload="none") == []
    for hour in store.due(HOUR + 86_400):
        store.roll(hour)
    assert rows(store) == expected


def test_cuts_divide_the_spans_of_their_edges_alone(store, world):
    one, other = world.edge("one"), world.edge("other")
    store.write(
        world.batch(*((edge, HOUR + at, {"connections": 1}) for edge in (one, other) for at in range(0, 60, 10)))
    )
    for hour in store.due(HOUR + 86_400):
        store.roll(hour)
    found = rows(store, [(one.id, HOUR + 20), (one.id, HOUR + 35), (one.id, HOUR + 39)])
    assert found == [
        (one.id, 2, 0, 0, HOUR, HOUR + 10),
        (one.id, 2, 0, 0, HOUR + 20, HOUR + 30),
        (one.id, 2, 0, 0, HOUR + 40, HOUR + 50),
    ]


def test_where_facts_are_gone_a_cut_hour_is_a_span_of_its_own(store, world):
    edge = world.edge()
    for at in (0, 1_800, 3_600, 5_400):
        store.write(world.batch((edge, HOUR + at, {"connections": 1})))
    world.now = DAY + 5 * 86_400
    store.drop_before(DAY + 86_400, hours_before_s=DAY)
    assert rows(store, [(edge.id, HOUR + 900), (edge.id, HOUR + 3_600)]) == [
        (edge.id, 2, 0, 0, HOUR, HOUR + 1_800),
        (edge.id, 2, 0, 0, HOUR + 3_600, HOUR + 5_400),
    ]


def test_identities_are_those_that_are_known_in_the_order_asked(store, world):
    edges = [world.edge(f"w{n}", namespace="ns", pod=f"p{n}", cluster="c", reason="r") for n in range(3)]
    store.write(world.batch(*((edge, HOUR, {}) for edge in edges)))
    ids = sorted(edge.id for edge in edges)
    found = store.identities(np.array([*ids, ids[-1] + 1]))
    assert list(found.ids) == ids
    by_id = {edge.id: edge for edge in edges}
    assert [workload_of(text) for text in found.workloads] == [by_id[n].workload for n in ids]
    assert list(found.peer_addresses) == ["10.0.0.1"] * 3
    assert (list(found.ports), list(found.verdicts)) == ([443] * 3, ["forwarded"] * 3)
    assert list(store.identities(np.zeros(0, np.int64)).ids) == []
    with pytest.raises(UsageError, match="identities"):
        store.identities(np.arange(MAX_IDENTITIES + 1))


@pytest.mark.parametrize("name", ["", "é", "a\x00b", "a\nb", '"', "\\", "🦑", "\x1f", "[1]"], ids=ascii)
def test_any_text_of_an_identity_is_read_as_it_is(store, world, name):
    edge = world.edge(name, namespace=name, pod=name, peer=name, peer_address=name, protocol=name)
    store.write(world.batch((edge, HOUR, {})))
    found, wanted = store.identities(np.array([edge.id])), EdgeColumns.of([(edge.id, edge)])
    assert [list(column) for column in found[:1] + found[2:]] == [list(column) for column in wanted[:1] + wanted[2:]]
    assert workload_of(found.workloads[0]) == edge.workload


def test_the_extent_is_the_hours_in_which_something_was_told(store, world):
    assert store.extent() is None
    store.write(world.batch((world.edge(), HOUR + 5, {}), observed=((HOUR + 3_600, HOUR + 3_601),)))
    assert store.extent() == Window(HOUR, HOUR + 7_200)


def test_each_change_of_the_inventory_has_a_revision_of_its_own(open_engine):
    store = open_engine()
    seen = [store.inventory_revision()]
    for name in ("x", "y"):
        store.keep_inventory(Records(pods=[Pod("a", name)]))
        seen.append(store.inventory_revision())
    assert store.inventory_revision() == seen[-1]
    assert seen == sorted(set(seen))
    store.close()
