"""What every engine promises, one sentence a test."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest

from fathom.errors import EdgeMissing, UsageError, WireError
from fathom.events.batches import Loss
from fathom.events.edges import FACT
from fathom.store.interface import EdgeQuery, Gap, LossRow, Window

DAY = 1_700_006_400
HOUR = DAY + 10 * 3_600
MINUTES = Window(HOUR, HOUR + 300)
ALL_DAY = Window(DAY, DAY + 86_400)


def pages(ask, query):
    """All pages of a question."""
    found = [ask(query)]
    while found[-1].next_cursor:
        found.append(ask(EdgeQuery(**{**as_dict(query), "cursor": found[-1].next_cursor})))
    return found


def as_dict(query):
    return {name: getattr(query, name) for name in query.__struct_fields__}


def test_a_batch_is_counted_once_however_often_it_comes(store, world):
    batch = world.batch(
        (world.edge(), HOUR, {"connections": 2, "bytes_sent": 10}),
        losses=(Loss(HOUR, "kernel", "tcp", "ring_full", 3, 4, 5, 6),),
        observed=((HOUR, HOUR + 10),),
    )
    assert [store.write(batch) for _ in range(3)] == [True, False, False]
    (row,) = store.edges(EdgeQuery(MINUTES)).items
    assert (row.edge, row.sums.connections, row.sums.bytes_sent) == (world.edge(), 2, 10)
    assert store.losses(MINUTES) == [LossRow("kernel", "tcp", "ring_full", "n1", 3, 4, 5, 6)]
    assert store.nodes()[0].batches == 1


def test_batches_differ_by_node_boot_and_sequence(store, world):
    for node, boot, sequence in (("n1", "a", 1), ("n1", "a", 2), ("n1", "b", 1), ("n2", "a", 1)):
        edge = world.edge()
        assert store.write(world.batch((edge, HOUR, {"failures": 1}), node=node, boot=boot, sequence=sequence))
    assert store.edges(EdgeQuery(MINUTES)).items[0].sums.failures == 4


def test_facts_of_one_edge_and_interval_add_up_and_extremes_stay(store, world):
    edge = world.edge()
    one = {"latency_count": 2, "latency_sum": 70, "latency_min": 30, "latency_max": 40, "latency_b0": 2}
    two = {"latency_count": 1, "latency_sum": 90, "latency_min": 90, "latency_max": 90, "latency_b16": 1}
    store.write(world.batch((edge, HOUR, {"retransmits": 1})))
    store.write(world.batch((edge, HOUR, one), (edge, HOUR, {"packets_sent": 4})))
    store.write(world.batch((edge, HOUR, two), (edge, HOUR + 10, {"packets_received": 9})))
    (row,) = store.edges(EdgeQuery(MINUTES)).items
    latency = row.sums.latency
    assert (latency.count, latency.sum_ns, latency.min_ns, latency.max_ns) == (3, 160, 30, 90)
    assert latency.histogram == (2, *(0,) * 15, 1)
    assert (row.sums.packets_sent, row.sums.packets_received, row.sums.retransmits) == (4, 9, 1)
    assert (row.first_seen, row.last_seen) == (HOUR, HOUR + 10)


def test_a_window_holds_intervals_that_start_in_it(store, world):
    edge = world.edge()
    for bucket in (HOUR - 1, HOUR, HOUR + 299, HOUR + 300):
        store.write(world.batch((edge, bucket, {"connections": 1})))
    (row,) = store.edges(EdgeQuery(MINUTES)).items
    assert (row.sums.connections, row.first_seen, row.last_seen) == (2, HOUR, HOUR + 299)
    assert not store.edges(EdgeQuery(Window(HOUR, HOUR))).items


def test_a_batch_over_midnight_is_kept_whole(store, world):
    edge, midnight = world.edge(), DAY + 86_400
    world.now = float(midnight + 60)
    batch = world.batch(
        (edge, midnight - 10, {"connections": 1}),
        (edge, midnight, {"connections": 2}),
        losses=(Loss(midnight - 1, "agent", "", "full", 1), Loss(midnight, "agent", "", "full", 2)),
        observed=((midnight - 10, midnight + 10),),
    )
    assert [store.write(batch), store.write(batch)] == [True, False]
    window = Window(midnight - 10, midnight + 10)
    assert store.edges(EdgeQuery(window)).items[0].sums.connections == 3
    assert store.losses(window)[0].count == 3
    assert store.coverage(window).share == 1.0
    assert store.edges(EdgeQuery(Window(midnight, midnight + 10))).items[0].sums.connections == 2


def test_facts_of_an_edge_that_was_never_told_are_asked_for_again(store, world):
    edge = world.edge()
    untold = world.batch((edge, HOUR, {"connections": 1}), edges=(), sequence=1)
    with pytest.raises(EdgeMissing):
        store.write(untold)
    assert store.write(world.batch((edge, HOUR, {"connections": 1}), sequence=1))
    assert store.write(world.batch((edge, HOUR, {"connections": 1}), edges=(), sequence=2))
    assert store.edges(EdgeQuery(MINUTES)).items[0].sums.connections == 2


def test_an_edge_is_found_by_its_id(store, world):
    edge = world.edge(peer="db.example", peer_address="fd00::1", verdict="failed", reason="refused")
    store.write(world.batch((edge, HOUR, {})))
    assert store.edge(edge.id) == edge
    assert store.edge(edge.id ^ 1) is None


FILTERS = {
    "workload=web": "a",
    "workload=unit/web": "a",
    "workload=shop/Deployment/cart": "b",
    "workload=Deployment/cart": "b",
    "workload=shop/*/*": "b",
    "workload=c*t": "b",
    "workload=*": "abcde",
    "workload=WEB": "",
    "workload=unit/cart": "",
    "workload=w?b": "",
    "workload=[w]eb": "",
    "workload=we%": "",
    "workload=/bin/sh": "c",
    "workload=process//bin/*": "c",
    "peer=10.1.2.3": "ad",
    "peer=10.1.0.0/16": "ad",
    "peer=10.1.9.9/16": "ad",
    "peer=::ffff:10.1.2.3": "ad",
    "peer=fd00:0:0::0001": "b",
    "peer=fd00::/8": "b",
    "peer=0.0.0.0/0": "ad",
    "peer=::/0": "abd",
    "peer=db.example": "b",
    "peer=*.example": "b",
    "peer=10.1.*": "ad",
    "peer=a/b": "e",
    "protocol=udp": "d",
    "protocol=TCP": "abc",
    "protocol=icmpv6": "e",
    "protocol=132": "",
    "port=53": "d",
    "port=0": "e",
    "direction=ingress": "b",
    "direction=unknown": "d",
    "verdict=failed": "c",
    "node=n2": "d",
}


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_selects_exactly(store, world, text):
    edges = {
        "a": world.edge("web", peer="10.1.2.3"),
        "b": world.edge(
            "cart",
            namespace="shop",
            kind="Deployment",
            peer="db.example",
            peer_address="fd00::1",
            direction="ingress",
        ),
        "c": world.edge("/bin/sh", kind="process", peer="", peer_address="", verdict="failed", reason="refused"),
        "d": world.edge("dns", node="n2", peer="10.1.2.3", protocol="UDP", port=53, direction="unknown"),
        "e": world.edge("ping", peer="a/b", peer_address="", protocol="ICMPv6", port=0),
    }
    store.write(world.batch(*((edge, HOUR, {"bytes_sent": 1}) for edge in edges.values())))
    name, _, value = text.partition("=")
    query = EdgeQuery(MINUTES, **{name: int(value) if name == "port" else value})
    found = {row.edge for row in store.edges(query).items}
    assert found == {edges[letter] for letter in FILTERS[text]}
    assert sum(row.edges for row in store.workloads(query).items) == len(FILTERS[text])


def test_a_filter_by_id_selects_one(store, world):
    edges = [world.edge(f"w{i}") for i in range(3)]
    store.write(world.batch(*((edge, HOUR, {}) for edge in edges)))
    assert [row.edge for row in store.edges(EdgeQuery(MINUTES, id=edges[1].id)).items] == [edges[1]]


@pytest.mark.parametrize("order", ["id", "traffic"])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_pages_hold_every_edge_once_in_order(store, world, order, limit):
    edges = [world.edge(f"w{i}") for i in range(20)]
    store.write(world.batch(*((e, HOUR, {"bytes_sent": i // 4, "bytes_received": 5}) for i, e in enumerate(edges))))
    found = pages(store.edges, EdgeQuery(MINUTES, order=order, limit=limit))
    rows = [row for page in found for row in page.items]
    keys = [(-row.sums.bytes_sent if order == "traffic" else 0, row.id) for row in rows]
    assert keys == sorted(keys)
    assert {row.edge for row in rows} == set(edges)
    assert len(rows) == 20
    assert all(len(page.items) == limit for page in found[:-1])


@pytest.mark.parametrize("order", ["id", "traffic"])
def test_pages_of_workloads_hold_every_workload_once_in_order(store, world, order):
    rows = [(world.edge(f"w{i % 9}", peer=f"10.0.0.{i}"), HOUR, {"bytes_sent": i % 3}) for i in range(27)]
    store.write(world.batch(*rows))
    found = pages(store.workloads, EdgeQuery(MINUTES, order=order, limit=2))
    workloads = [row for page in found for row in page.items]
    assert sorted(row.workload.name for row in workloads) == [f"w{i}" for i in range(9)]
    assert {(row.edges, row.peers) for row in workloads} == {(3, 3)}
    if order == "traffic":
        assert all(a.sums.bytes_sent >= b.sums.bytes_sent for a, b in pairwise(workloads))
    else:
        assert [row.workload.name for row in workloads] == sorted(row.workload.name for row in workloads)


def test_a_cursor_keeps_the_window_of_its_first_page(store, world):
    edges = [world.edge(f"w{i}") for i in range(4)]
    store.write(world.batch(*((e, HOUR, {}) for e in edges)))
    first = store.edges(EdgeQuery(MINUTES, limit=2))
    later = store.edges(EdgeQuery(Window(HOUR + 200, HOUR + 500), limit=2, cursor=first.next_cursor))
    assert later.window == MINUTES
    assert {row.edge for row in first.items + later.items} == set(edges)


def test_a_cursor_that_was_changed_or_taken_elsewhere_is_refused(store, world):
    store.write(world.batch(*((world.edge(f"w{i}"), HOUR, {}) for i in range(4))))
    query = EdgeQuery(MINUTES, limit=2)
    cursor = store.edges(query).next_cursor
    changed = [cursor[:i] + ("A" if c != "A" else "B") + cursor[i + 1 :] for i, c in enumerate(cursor[:-1])]
    for wrong in (*changed, cursor[:-4], "x", "é", "=", "A" * 100_000, "' OR 1=1"):
        with pytest.raises(UsageError):
            store.edges(EdgeQuery(MINUTES, limit=2, cursor=wrong))
    for other in (EdgeQuery(MINUTES, port=1, cursor=cursor), EdgeQuery(MINUTES, order="traffic", cursor=cursor)):
        with pytest.raises(UsageError, match="another query"):
            store.edges(other)
    with pytest.raises(UsageError, match="another query"):
        store.workloads(EdgeQuery(MINUTES, limit=2, cursor=cursor))


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 10_001},
        {"port": -1},
        {"port": 65_536},
        {"direction": "up"},
        {"verdict": "maybe"},
        {"order": "size"},
        {"workload": "\ud800"},
        {"peer": "x" * 5_000},
        {"id": -1},
        {"window": Window(1, 0)},
    ],
    ids=str,
)
def test_a_question_that_makes_no_sense_is_refused(store, wrong):
    with pytest.raises(UsageError):
        store.edges(EdgeQuery(**{"window": MINUTES, **wrong}))


def test_workloads_merge_pods_and_nodes_only_where_there_is_a_namespace(store, world):
    def pod(node, number):
        return world.edge("api", namespace="shop", kind="Deployment", node=node, pod=f"api-{number}", container="c")

    store.write(
        world.batch(
            (pod("n1", 1), HOUR, {"failures": 1}),
            (pod("n2", 2), HOUR + 10, {"failures": 2}),
            (world.edge("ssh", node="n1"), HOUR, {"failures": 3}),
            (world.edge("ssh", node="n2", peer="10.0.0.9"), HOUR, {"failures": 4}),
        )
    )
    rows = {(str(r.workload), r.workload.node): r for r in store.workloads(EdgeQuery(MINUTES)).items}
    assert set(rows) == {("shop/Deployment/api", ""), ("unit/ssh", "n1"), ("unit/ssh", "n2")}
    api = rows["shop/Deployment/api", ""]
    assert (api.sums.failures, api.edges, api.peers, api.workload.pod) == (3, 2, 1, "")
    assert (api.first_seen, api.last_seen) == (HOUR, HOUR + 10)


def test_a_series_adds_up_steps_and_leaves_silence_out(store, world):
    edge = world.edge()
    for offset, count in ((0, 1), (59, 2), (60, 4), (3_600, 8)):
        store.write(world.batch((edge, HOUR + offset, {"connections": count})))
    points = store.series(edge.id, Window(HOUR, HOUR + 3_700), 60)
    assert [(p.time_s, p.sums.connections) for p in points] == [(HOUR, 3), (HOUR + 60, 4), (HOUR + 3_600, 8)]
    hours = store.series(edge.id, ALL_DAY, 3_600)
    assert [(p.time_s, p.sums.connections) for p in hours] == [(HOUR, 7), (HOUR + 3_600, 8)]
    assert store.series(edge.id ^ 1, ALL_DAY, 60) == []
    for step in (0, -5):
        with pytest.raises(UsageError):
            store.series(edge.id, ALL_DAY, step)
    with pytest.raises(UsageError):
        store.series(edge.id, Window(0, 200_000), 1)


def test_roll_ups_change_no_answer_and_can_be_made_again(store, world):
    edges = [world.edge(f"w{i}") for i in range(3)]
    for minute in range(0, 180, 7):
        store.write(world.batch(*((e, HOUR + minute * 60, {"bytes_sent": minute, "latency_count": 1}) for e in edges)))
    windows = [ALL_DAY, Window(HOUR + 60, HOUR + 7_300), Window(HOUR, HOUR + 3_600)]

    def answers():
        return [
            (store.edges(EdgeQuery(w)).items, store.workloads(EdgeQuery(w)).items, store.series(edges[0].id, w, 3_600))
            for w in windows
        ]

    before = answers()
    assert store.due(HOUR + 3 * 3_600) == [HOUR // 3_600 + i for i in range(3)]
    assert store.due(HOUR + 3_600) == [HOUR // 3_600]
    for _ in range(2):
        for hour in range(HOUR // 3_600, HOUR // 3_600 + 3):
            store.roll(hour)
        assert answers() == before
    assert store.due(HOUR + 3 * 3_600) == []
    store.write(world.batch((edges[0], HOUR + 5, {"bytes_sent": 1_000})))
    assert store.due(HOUR + 3 * 3_600) == [HOUR // 3_600]
    late = store.edges(EdgeQuery(ALL_DAY, id=edges[0].id)).items[0].sums.bytes_sent
    assert late == sum(range(0, 180, 7)) + 1_000
    store.roll(HOUR // 3_600)
    assert store.edges(EdgeQuery(ALL_DAY, id=edges[0].id)).items[0].sums.bytes_sent == late


def test_rolling_an_hour_without_facts_is_harmless(store):
    store.roll(HOUR // 3_600)
    store.roll(1)
    assert not store.edges(EdgeQuery(ALL_DAY)).items


def test_dropped_days_are_gone_and_their_roll_ups_stay_as_long_as_asked(store, world):
    old, new = world.edge("old"), world.edge("new")
    loss = Loss(HOUR, "kernel", "flow", "map_full", 7)
    store.write(world.batch((old, HOUR, {"connections": 3}), losses=(loss,), observed=((HOUR, HOUR + 3_600),)))
    world.now = DAY + 10 * 86_400
    store.write(world.batch((new, int(world.now), {"connections": 5})))
    store.drop_before(DAY + 86_400, hours_before_s=DAY)
    assert {r.edge for r in store.edges(EdgeQuery(Window(DAY, int(world.now) + 60))).items} == {old, new}
    assert not store.edges(EdgeQuery(Window(HOUR + 1, HOUR + 3_600))).items
    assert store.losses(Window(HOUR, HOUR + 3_600))[0].count == 7
    assert store.coverage(Window(HOUR, HOUR + 3_600)).share == 1.0
    assert [(p.time_s, p.sums.connections) for p in store.series(old.id, ALL_DAY, 60)] == [(HOUR, 3)]
    store.drop_before(DAY + 86_400)
    assert {r.edge for r in store.edges(EdgeQuery(Window(DAY, int(world.now) + 60))).items} == {new}
    assert store.losses(ALL_DAY) == []


def test_facts_older_than_the_retention_are_counted_as_lost_once(store, world):
    edge = world.edge()
    world.now = DAY + 5 * 86_400
    store.drop_before(DAY + 2 * 86_400)
    counters = {"packets_sent": 1, "packets_received": 2, "bytes_sent": 3, "bytes_received": 4}
    batch = world.batch((edge, HOUR, counters), (edge, HOUR + 10, counters), (edge, int(world.now), {"connections": 1}))
    assert [store.write(batch), store.write(batch)] == [True, False]
    today = Window(int(world.now), int(world.now) + 1)
    assert store.losses(today) == [LossRow("server", "", "too_old", "n1", 2, 6, 6, 8)]
    assert store.edges(EdgeQuery(today)).items[0].sums.connections == 1
    assert not store.edges(EdgeQuery(ALL_DAY)).items


def test_facts_more_than_a_day_ahead_of_the_clock_are_counted_as_lost(store, world):
    edge = world.edge()
    batch = world.batch((edge, DAY + 3 * 86_400, {"connections": 1}), (edge, int(world.now) + 86_000, {"failures": 1}))
    assert [store.write(batch), store.write(batch)] == [True, False]
    assert store.losses(ALL_DAY) == [LossRow("server", "", "clock_ahead", "n1", 1, 0, 0, 0)]
    assert store.edges(EdgeQuery(Window(0, DAY + 9 * 86_400))).items[0].sums.failures == 1


def test_clocks_may_go_backwards(store, world):
    edge = world.edge()
    assert store.write(world.batch((edge, HOUR, {"connections": 1}), observed=((HOUR, HOUR + 10),)))
    world.now = float(DAY - 30 * 86_400)  # the server's
    assert store.write(world.batch((edge, HOUR + 10, {"connections": 2})))
    assert store.write(world.batch((edge, HOUR - 7_200, {"connections": 4}), wall_s=HOUR - 7_200))  # the node's
    assert store.edges(EdgeQuery(ALL_DAY)).items[0].sums.connections == 7
    assert store.losses(Window(0, DAY + 9 * 86_400)) == []


def test_a_clock_that_ran_far_ahead_for_a_while_does_not_shut_the_store(store, world):
    edge = world.edge()
    store.write(world.batch((edge, HOUR, {"connections": 1})))
    world.now = float(DAY + 20_000 * 86_400)
    store.drop_before(int(world.now) - 86_400, hours_before_s=DAY)
    world.now = float(HOUR + 60)
    assert store.write(world.batch((edge, HOUR + 60, {"connections": 2})))
    assert store.edges(EdgeQuery(ALL_DAY)).items[0].sums.connections == 3
    store.roll(HOUR // 3_600)
    assert store.edges(EdgeQuery(ALL_DAY)).items[0].sums.connections == 3
    assert store.losses(Window(0, 2**33)) == []


def test_coverage_names_the_gaps_of_each_node(store, world):
    store.write(world.batch(observed=((HOUR, HOUR + 60), (HOUR + 60.5, HOUR + 100)), node="n1"))
    store.write(world.batch(observed=((HOUR + 130, HOUR + 300),), node="n1"))
    store.write(world.batch(observed=((HOUR + 100, HOUR + 200),), node="n2"))
    coverage = store.coverage(MINUTES)
    assert coverage.gaps == (Gap("n1", HOUR + 100, HOUR + 130), Gap("n2", HOUR + 200, HOUR + 300))
    assert (coverage.node_seconds, coverage.observed_seconds) == (500.0, 370.0)
    assert coverage.share == pytest.approx(0.74)
    assert store.coverage(MINUTES, grace_s=100).gaps == (Gap("n1", HOUR + 100, HOUR + 130),)
    assert store.coverage(MINUTES, grace_s=99).gaps == coverage.gaps


def test_coverage_of_overlapping_reports_counts_time_once(store, world):
    for start, end in ((0, 100), (50, 150), (20, 30), (150, 300), (0, 300)):
        store.write(world.batch(observed=((HOUR + start, HOUR + end),)))
    assert store.coverage(MINUTES).observed_seconds == 300.0
    assert store.coverage(MINUTES).gaps == ()


def test_coverage_of_nothing_known_is_nothing(store):
    assert store.coverage(MINUTES).share == 0.0
    assert store.coverage(MINUTES).gaps == ()


def test_nodes_tell_boots_and_times(store, world):
    store.write(world.batch(observed=((HOUR, HOUR + 10),), boot="first"))
    store.write(world.batch(observed=((HOUR + 50, HOUR + 60),), boot="second"))
    store.write(world.batch(observed=((HOUR + 10, HOUR + 20),), boot="first"))
    store.write(world.batch(observed=((HOUR + 5, HOUR + 6),), node="n0", boot="x"))
    n0, n1 = store.nodes()
    assert (n0.node, n0.boot, n0.batches) == ("n0", "x", 1)
    assert (n1.node, n1.boot, n1.first_seen, n1.last_seen, n1.batches) == ("n1", "second", HOUR, HOUR + 60, 3)


def test_a_batch_that_says_nothing_is_remembered(store, world):
    batch = world.batch(wall_s=HOUR)
    assert [store.write(batch), store.write(batch)] == [True, False]
    assert store.nodes()[0].last_seen == HOUR


def test_losses_are_told_by_hop_probe_reason_and_node(store, world):
    def loss(reason, count, bucket=HOUR):
        return Loss(bucket, "kernel", "tcp", reason, count, 1, 2, 3)

    store.write(world.batch(losses=(loss("a", 1), loss("a", 2, HOUR + 10), loss("b", 4), loss("a", 8, HOUR + 300))))
    store.write(world.batch(losses=(loss("a", 16),), node="n2"))
    rows = {(row.reason, row.node): (row.count, row.packets) for row in store.losses(MINUTES)}
    assert rows == {("a", "n1"): (3, 2), ("b", "n1"): (4, 1), ("a", "n2"): (16, 1)}


NAMES = ["", "é", "日本", "a\x00b", "a\nb", "'; DROP TABLE edges; --", '"', "\\", "%", "a*b", "[x]", "🦑" * 50, "\x1f"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_text_is_kept_as_it_is(store, world, name):
    edge = world.edge(name, peer=name, peer_address="", pod=name, reason=name)
    other = world.edge("other")
    store.write(world.batch((edge, HOUR, {}), (other, HOUR, {}), losses=(Loss(HOUR, "agent", name, name, 1),)))
    assert store.edge(edge.id) == edge
    assert store.losses(MINUTES)[0].reason == name
    if name and "*" not in name:
        assert [row.edge for row in store.edges(EdgeQuery(MINUTES, workload=name)).items] == [edge]
        assert [row.edge for row in store.edges(EdgeQuery(MINUTES, peer=name)).items] == [edge]
    assert len(store.edges(EdgeQuery(MINUTES)).items) == 2


def _facts_with(column, value):
    def make(world):
        facts = world.facts((world.edge(), HOUR, {}))
        facts[column] = value
        return facts

    return make


WRONG_FACTS = {
    "negative": _facts_with("bytes_sent", -1),
    "huge": _facts_with("bytes_sent", 2**53),
    "before time": _facts_with("bucket", -1),
    "after time": _facts_with("bucket", 2**40),
    "no edge": _facts_with("edge", 0),
    "dtype": lambda _world: np.zeros(1, np.int64),
    "shape": lambda _world: np.zeros((1, 1), FACT),
}


@pytest.mark.parametrize("how", WRONG_FACTS)
def test_facts_that_make_no_sense_are_refused_whole(store, world, how):
    good = world.batch((world.edge(), HOUR, {"connections": 1}))
    batch = type(good)(good.id, good.clock, good.edges, WRONG_FACTS[how](world))
    with pytest.raises(WireError):
        store.write(batch)
    assert store.nodes() == []
    assert store.write(good)


def test_batches_that_make_no_sense_are_refused(store, world):
    wrong = [
        world.batch(node="", sequence=1),
        world.batch(node="\ud800", sequence=1),
        world.batch(sequence=2**63),
        world.batch(edges=(world.edge(port=65_536),)),
        world.batch(edges=(world.edge(direction="up"),)),
        world.batch(edges=(world.edge(verdict="maybe"),)),
        world.batch(edges=(world.edge("x" * 5_000),)),
        world.batch(losses=(Loss(HOUR, "kernel", "tcp", "x", -1),)),
        world.batch(losses=(Loss(-1, "kernel", "tcp", "x", 1),)),
        world.batch(losses=(Loss(HOUR, "kernel", "tcp", "\ud800", 1),)),
        world.batch(observed=((HOUR + 1, HOUR),)),
        world.batch(observed=((0, HOUR),)),
        world.batch(wall_s=-1),
        world.batch(*((world.edge(), DAY - day * 86_400, {}) for day in range(65))),
    ]
    for batch in wrong:
        with pytest.raises(WireError):
            store.write(batch)
    assert store.losses(Window(0, 2**33)) == []


def test_beyond_the_bound_on_edges_facts_are_counted_as_lost(open_engine, world):
    store = open_engine(most_edges=3)
    edges = [world.edge(f"w{i}") for i in range(5)]
    counters = {"bytes_sent": 10, "packets_sent": 1}
    batch = world.batch(*((edge, HOUR, counters) for edge in edges))
    assert [store.write(batch), store.write(batch)] == [True, False]
    again = world.batch(*((edge, HOUR + 10, counters) for edge in edges), edges=())
    assert store.write(again)
    rows = store.edges(EdgeQuery(MINUTES)).items
    assert (len(rows), sum(row.sums.bytes_sent for row in rows)) == (3, 60)
    assert store.losses(MINUTES) == [LossRow("server", "", "edges_full", "n1", 4, 4, 40, 0)]
    assert store.health().edges == 3
    store.close()


def test_many_may_read_while_one_writes(store, world):
    edge, done, failures = world.edge(), threading.Event(), []
    store.write(world.batch((edge, HOUR, {"connections": 1, "failures": 1})))

    def read():
        while not done.is_set():
            (row,) = store.edges(EdgeQuery(MINUTES)).items
            if row.sums.connections != row.sums.failures:
                failures.append(row.sums)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(100):
        store.write(world.batch((edge, HOUR + number, {"connections": number, "failures": number})))
    done.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert store.edges(EdgeQuery(MINUTES)).items[0].sums.connections == 1 + sum(range(100))


def test_health_never_fails(store, world):
    store.write(world.batch((world.edge(), HOUR, {})))
    health = store.health()
    assert (health.writable, health.edges, health.notes) == (True, 1, ())
    store.close()
    store.close()
    assert store.health().engine == health.engine
