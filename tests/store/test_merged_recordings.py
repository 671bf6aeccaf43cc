"""Parts of a store's time, recorded by themselves and made one, are the same material as the store."""

from __future__ import annotations

import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st

from fathom.errors import StoreDamaged, UsageError
from fathom.events.batches import Loss
from fathom.policy.flows import read_lines
from fathom.policy.imported import to_edges
from fathom.policy.inventory import FOREVER, Namespace, Pod, Records
from fathom.policy.seccomp import SyscallSet
from fathom.store.interface import EdgeQuery, Window
from fathom.store.making import Making
from fathom.store.material import material
from fathom.store.opening import open_recording, open_store
from fathom.store.sqlite.merger import merge
from fathom.store.sqlite.newfile import NewRecording
from fathom.store.sqlite.plain import Plain

DAY = 1_700_006_400
HOUR = DAY + 10 * 3_600
EDGES = [("one", "10.0.0.2"), ("two", "10.0.0.1"), ("one", "1.1.1.1"), ("two", "10.0.0.9")]
versions = st.lists(st.integers(-720, 1_000).map(lambda t: 10 * t), max_size=2, unique=True).map(sorted)
facts = st.lists(st.tuples(st.integers(0, 3), st.integers(-700, 900), st.integers(0, 3)), min_size=1, max_size=25)
cuts = st.lists(
    st.tuples(st.integers(-7, 9).map(lambda n: 1_000 * n), st.sampled_from([0, 0, 700, 3_600])), max_size=3, unique=True
).map(sorted)


def pods(name, address, times):
    bounds = [0, *(HOUR + time for time in times), FOREVER]
    return [Pod("ns", name, {"v": str(n)}, (address,), since=a, until=b) for n, (a, b) in enumerate(pairwise(bounds))]


def seen(store, window):
    found = material(store, window)
    flows = [found.flows.to_dict(number) for number in range(len(found.flows))]
    return flows, found.window, found.nodes, found.gaps, found.losses, found.inventory.records, store.syscalls(window)


NOTHING = Plain()


def merged(folder, names, name="merged", more=NOTHING):
    stores = [open_recording(folder / each) for each in names]
    merge(stores, more, folder / name, Making(), DAY)
    for store in stores:
        store.close()
    return open_recording(folder / name)


@settings(
    max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(facts, versions, cuts, st.integers(0, 2), st.permutations(range(4)))
# Parts whose own facts say less about the length of an interval than those of all.
@example([(1, 496, 2), (0, -164, 2), (0, -164, 2), (0, 0, 0)], [], [(0, 700), (4_000, 3_600)], 0, [3, 0, 1, 2])
def test_any_parts_made_one_are_the_same_material_as_the_store(world, facts, first, cuts, rolled, order):
    edges = [world.edge(name, kind="Deployment", namespace="ns", pod=name, peer=peer) for name, peer in EDGES]
    window = Window(HOUR - 7_200, HOUR + 10_800)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        folder = Path(place)
        world.now = DAY + 43_200
        store = open_store(f"sqlite://{place}/store", clock=world.clock)
        for number, (which, tenth, count) in enumerate(facts):
            at = HOUR + 10 * tenth
            loss = Loss(at, "kernel", "tcp", "ring_full", 1)
            batch = world.batch(
                (edges[which], at, {"connections": count}),
                sequence=number + 1,
                losses=(loss,),
                observed=((at, at + 10),),
            )
            store.write(batch)
        store.keep_inventory(Records(pods=[*pods("one", "10.0.0.1", first), *pods("two", "10.0.0.2", ())]))
        store.keep_syscalls(
            [SyscallSet(workload="ns/Deployment/one", calls=("read",), first_seen=HOUR, last_seen=HOUR)]
        )
        for hour in store.due(DAY + 86_400) if rolled else ():
            store.roll(hour)
        expected = seen(store, window)
        bounds = [window.since_s, *(HOUR + at for at, _ in cuts), window.until_s]
        names = []
        for number, (since, until) in enumerate(pairwise(bounds)):
            more = cuts[number][1] if number < len(cuts) else 0  # how far it reaches into the next
            store.record(EdgeQuery(Window(since, min(until + more, window.until_s))), folder / str(number))
            names.append(str(number))
        names = [names[place] for place in order if place < len(names)]
        found = merged(folder, names)
        assert seen(found, window) == expected
        whole = [material(one).flows.rows["count"].sum() for one in (store, found)]
        assert whole[0] == whole[1] == sum(count for _, _, count in facts), "without a window nothing is left out"
        event(f"{len(names)} parts, {'some' if any(more for _, more in cuts) else 'no'} overlap")
        found.close()
        store.close()


def test_what_ended_between_two_recordings_had_ended(world, tmp_path):
    """The older one still holds it as if it went on."""
    store = open_store(f"sqlite://{tmp_path}/store", clock=world.clock)
    edge = world.edge("w", kind="Deployment", namespace="ns")
    store.write(world.batch((edge, HOUR, {"connections": 1}), observed=((HOUR, HOUR + 7_200),)))
    store.keep_inventory(Records(namespaces=[Namespace("ns")], pods=[Pod("ns", "old", {}, ("10.0.0.1",), since=DAY)]))
    world.now = HOUR + 3_600
    store.record(EdgeQuery(Window(HOUR, HOUR + 3_600)), tmp_path / "a")
    ended, new = HOUR + 3_700, Pod("ns", "new", {}, ("10.0.0.1",), since=HOUR + 3_800)
    store.keep_inventory(Records(pods=[Pod("ns", "old", {}, ("10.0.0.1",), since=DAY, until=ended), new]))
    store.write(world.batch((edge, HOUR + 7_210, {"connections": 1}), observed=((HOUR + 7_200, HOUR + 9_000),)))
    world.now = HOUR + 9_000
    store.record(EdgeQuery(Window(HOUR + 7_200, HOUR + 9_000)), tmp_path / "b")
    store.close()
    for names in (("a", "b"), ("b", "a")):
        found = merged(tmp_path, names, f"{names[0]}{names[1]}")
        (records,) = found.inventory(Window(HOUR, HOUR + 9_000)).values()
        ends = {pod.name: pod.until for pod in records.pods}
        assert ends == {"old": HOUR + 7_200, "new": FOREVER}  # at the latest when the later one began
        found.close()


def test_two_servers_are_added_up(world, tmp_path):
    for name, node in (("east", "e1"), ("west", "w1")):
        store = open_store(f"sqlite://{tmp_path}/{name}", clock=world.clock)
        edge = world.edge("w", node=node, kind="Deployment", namespace="ns", cluster=name)
        loss = Loss(HOUR, "kernel", "tcp", "ring_full", 2)
        batch = world.batch((edge, HOUR, {"connections": 1}), node=node, losses=(loss,), observed=((HOUR, HOUR + 10),))
        store.write(batch)
        store.keep_inventory(Records(namespaces=[Namespace("ns", {"in": name})]), cluster=name)
        store.record(EdgeQuery(Window(HOUR, HOUR + 3_600)), tmp_path / f"{name}.fathom")
        store.close()
    found = merged(tmp_path, ("east.fathom", "west.fathom"))
    window = Window(HOUR, HOUR + 3_600)
    assert [row.edge.workload.cluster for row in found.edges(EdgeQuery(window, order="id")).items]
    assert found.clusters() == ["east", "west"]
    assert sum(row.sums.connections for row in found.edges(EdgeQuery(window)).items) == 2
    assert sorted((row.node, row.count) for row in found.losses(window)) == [("e1", 2), ("w1", 2)]
    assert [row.node for row in found.nodes()] == ["e1", "w1"]
    assert {name: records.namespaces for name, records in found.inventory(window).items()} == {
        name: [Namespace("ns", {"in": name})] for name in ("east", "west")
    }
    found.close()


def recorded(world, folder, name, hours, step=10):
    """A recording of store ``name`` for each of ``hours``: a connection at its beginning, and one ``step`` later."""
    store = open_store(f"sqlite://{folder}/{name}", clock=world.clock)
    edge = world.edge("w", node=name, kind="Deployment", namespace="ns", pod="w", cluster=name)
    for hour in hours:
        begin = HOUR + 3_600 * hour
        rows = [(edge, at, {"connections": 1}) for at in (begin, begin + step)]
        store.write(world.batch(*rows, node=name, observed=((begin, begin + 2 * step),)))
    for hour in hours:
        begin = HOUR + 3_600 * hour
        store.record(EdgeQuery(Window(begin, begin + 3_600)), folder / f"{name}{hour}")
    store.close()


def connections(recording):
    return sum(row.sums.connections for row in recording.edges(EdgeQuery(Window(DAY, DAY + 86_400))).items)


def test_what_was_made_of_several_stores_is_not_taken_for_one_store(world, tmp_path):
    recorded(world, tmp_path, "a", [0])
    recorded(world, tmp_path, "b", [0, 2])
    merged(tmp_path, ("a0", "b0"), "one").close()
    merged(tmp_path, ("a0", "b2"), "two").close()
    for names in (("one", "two"), ("a0", "one"), ("two", "b2")):
        with pytest.raises(UsageError, match="both were made of what was recorded of"):
            merged(tmp_path, names, "three")
    with closing(merged(tmp_path, ("a0", "b0", "b2"), "all")) as found:
        assert connections(found) == 6
    with closing(merged(tmp_path, ("one", "b2"), "later")) as found:
        assert connections(found) == 6


def test_objects_from_files_do_not_make_an_interval_shorter(world, tmp_path):
    recorded(world, tmp_path, "a", [0])
    merged(tmp_path, (), "files", Plain(records=Records(namespaces=[Namespace("other")]))).close()
    with closing(open_recording(tmp_path / "a0")) as alone, closing(merged(tmp_path, ("a0", "files"))) as found:
        assert alone.told_interval_s() == found.told_interval_s() == 10
        assert [material(item).flows.to_dict(0)["last_seen"] for item in (alone, found)] == [HOUR + 19] * 2


def test_of_two_stores_no_fact_is_taken_for_shorter_than_it_is(world, tmp_path):
    recorded(world, tmp_path, "a", [0], step=10)
    recorded(world, tmp_path, "b", [0], step=60)
    with closing(merged(tmp_path, ("a0", "b0"))) as found:
        flows = material(found, cluster="b").flows
        last = {flow["node"]: flow["last_seen"] for flow in map(flows.to_dict, range(len(flows)))}
    assert last == {"b": HOUR + 119}


def test_nothing_is_not_made_a_recording(tmp_path):
    with pytest.raises(UsageError, match="nothing in what was named"):
        merged(tmp_path, ())
    assert not (tmp_path / "merged").exists()


def test_two_stores_that_differ_about_an_object_are_refused(world, tmp_path):
    for name in ("east", "west"):
        store = open_store(f"sqlite://{tmp_path}/{name}", clock=world.clock)
        store.write(world.batch((world.edge("w", node=name), HOUR, {"connections": 1}), node=name))
        store.keep_inventory(Records(namespaces=[Namespace("ns", {"in": name})]))
        store.record(EdgeQuery(Window(HOUR, HOUR + 3_600)), tmp_path / f"{name}.fathom")
        store.close()
    with pytest.raises(UsageError, match="differ about Namespace /ns"):
        merged(tmp_path, ("east.fathom", "west.fathom"))
    assert not (tmp_path / "merged").exists()


def test_recordings_of_different_edges_are_refused(world, tmp_path):
    store = open_store(f"sqlite://{tmp_path}/store", clock=world.clock)
    store.write(world.batch((world.edge("w"), HOUR, {"connections": 1})))
    store.record(EdgeQuery(Window(HOUR, HOUR + 3_600)), tmp_path / "all")
    store.record(EdgeQuery(Window(HOUR, HOUR + 3_600), workload="w"), tmp_path / "some")
    store.close()
    with pytest.raises(UsageError, match="were not asked for the same edges"):
        merged(tmp_path, ("all", "some"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "-1"),
        ("until", str(1 << 40)),
        ("windows", "[[0, 99999999999999]]"),
        ("windows", "[0]"),
        ("taken", "x"),
    ],
)
def test_a_recording_that_says_it_is_of_no_time_is_refused(tmp_path, name, value):
    said = {"source": "x", "since": "0", "until": "10", "taken": "1", "detail": "hour"}
    said[name] = value
    with NewRecording(tmp_path / "r", now_s=DAY) as new:
        new.finish(said)
    with pytest.raises(StoreDamaged, match=r"of which time|times that are none|time that is none"):
        merged(tmp_path, ("r",))


def test_counts_of_one_flow_that_add_up_to_too_much_are_refused(tmp_path):
    line = '{"src":"a/x","dst":"a/y","port":80,"first_seen":100,"last_seen":200,"count":9007199254740992}'
    seen, problems = to_edges(read_lines(line + "\n" + line)[0])
    assert not problems
    with pytest.raises(UsageError, match="add up to more than 9007199254740992"):
        merged(tmp_path, (), "files", Plain(flows=seen))
    merged(tmp_path, (), "files", Plain(flows=seen[:1])).close()
    with closing(open_recording(tmp_path / "files")) as found:
        assert material(found).flows.rows["count"].tolist() == [9007199254740992]
