"""A recording: made whole or not at all, the same material as its store, refused when it is not what was made."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st

from fathom.errors import StoreBusy, StoreDamaged, StoreError, StoreNewer, UsageError
from fathom.policy.inventory import FOREVER, Namespace, Pod, Records
from fathom.policy.seccomp import SyscallSet
from fathom.store import schema
from fathom.store.interface import EdgeQuery, Window
from fathom.store.making import Making, Stopped
from fathom.store.material import material
from fathom.store.memory import MemoryStore
from fathom.store.opening import open_recording, open_store
from fathom.store.sqlite import foreign
from fathom.store.sqlite.newfile import NewRecording

DAY = 1_700_006_400
HOUR = DAY + 10 * 3_600
WEEK = EdgeQuery(Window(DAY - 86_400, DAY + 86_400))


@pytest.fixture
def filled(open_sqlite, world):
    """A store with something of each kind."""
    store = open_sqlite()
    edges = [world.edge(f"w{n}", kind="Deployment", namespace="ns", pod=f"p{n}") for n in range(5)]
    for begin in (DAY - 7_200, HOUR, HOUR + 3_600):
        rows = [(edge, begin + 10 * n, {"connections": 1, "bytes_sent": n}) for n in range(4) for edge in edges]
        store.write(world.batch(*rows, observed=((begin, begin + 80),)))
    store.keep_inventory(Records(namespaces=[Namespace("ns")], pods=[Pod("ns", "p0", {"a": "b"}, ("10.0.0.1",))]))
    store.keep_syscalls([SyscallSet(workload="ns/Deployment/w0", calls=("read",), first_seen=HOUR, last_seen=HOUR)])
    yield store
    store.close()


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def seen(store, window=WEEK.window):
    """All of a material that can be compared."""
    found = material(store, window)
    flows = [found.flows.to_dict(number) for number in range(len(found.flows))]
    rest = (found.window, found.nodes, found.gaps, found.losses, found.inventory.records)
    return flows, found.flows.rows["edge"].tolist(), rest, store.syscalls(window)


def test_a_node_that_began_anew_and_had_nothing_to_tell_is_told_as_in_its_store(filled, world, tmp_path):
    filled.write(world.batch(boot="later", wall_s=DAY + 86_399))
    filled.record(WEEK, tmp_path / "r", Making())
    recording = open_recording(tmp_path / "r")
    rows = [[(row.boot, row.last_seen) for row in source.nodes()] for source in (filled, recording)]
    assert rows[0] == rows[1] == [("later", DAY + 86_399)]
    recording.close()


@pytest.mark.parametrize("detail", ["hour", "interval"])
def test_a_recording_is_the_same_material_as_its_store(filled, tmp_path, detail):
    path = tmp_path / "week.fathom"
    digest = filled.record(WEEK, path, Making(detail=detail))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert listed(tmp_path) == ["store", "week.fathom"]
    recording = open_recording(path)
    assert seen(recording) == seen(filled)
    assert recording.extent() == WEEK.window
    told = recording.told()
    assert (told["digest"], told["source"], told["detail"]) == (digest, filled.store_id, detail)
    assert recording.store_id != filled.store_id
    with pytest.raises(StoreError, match="reading only"):
        recording.keep_inventory(Records())
    recording.close()
    assert listed(tmp_path) == ["store", "week.fathom"]


def test_a_store_in_memory_makes_the_same_recording(world, tmp_path):
    store = MemoryStore(clock=world.clock)
    edge = world.edge("w", kind="Deployment", namespace="ns")
    store.write(world.batch((edge, HOUR, {"connections": 1}), observed=((HOUR, HOUR + 10),)))
    store.keep_inventory(Records(pods=[Pod("ns", "p0", {"a": "b"}, ("10.0.0.1",))]))
    store.record(WEEK, tmp_path / "r")
    recording = open_recording(tmp_path / "r")
    assert seen(recording) == seen(store)
    recording.close()


def test_only_what_was_asked_for_is_in_it(filled, tmp_path):
    path = tmp_path / "one.fathom"
    filled.record(EdgeQuery(Window(HOUR + 10, HOUR + 30), workload="ns/Deployment/w1"), path)
    recording = open_recording(path)
    (row,) = recording.edges(EdgeQuery(Window(0, 1 << 32))).items
    assert (row.edge.workload.name, row.sums.connections, row.first_seen, row.last_seen) == (
        "w1",
        2,
        HOUR + 10,
        HOUR + 20,
    )
    assert recording.told()["asked"] == '{"workload":"ns/Deployment/w1"}'
    recording.close()


def test_a_recording_can_be_recorded(filled, tmp_path):
    first, second = tmp_path / "1.fathom", tmp_path / "2.fathom"
    filled.record(WEEK, first)
    recording = open_recording(first)
    recording.record(WEEK, second)
    again = open_recording(second)
    assert seen(again) == seen(filled)
    recording.close()
    again.close()


# The same from any history: rolled up or not, dropped or not, windows at any second, ends that change.
versions = st.lists(st.integers(-7_200, 10_000), max_size=3, unique=True).map(sorted)
facts = st.lists(st.tuples(st.integers(0, 3), st.integers(-700, 900), st.integers(0, 3)), min_size=1, max_size=25)
EDGES = [("one", "10.0.0.2"), ("two", "10.0.0.1"), ("one", "1.1.1.1"), ("two", "10.0.0.9")]


def pods(name, address, times):
    bounds = [0, *(HOUR + time for time in times), FOREVER]
    return [Pod("ns", name, {"v": str(n)}, (address,), since=a, until=b) for n, (a, b) in enumerate(pairwise(bounds))]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(facts, versions, versions, st.integers(0, 3), st.tuples(st.integers(-7_300, 0), st.integers(1, 9_100)))
@example([(2, 10, 1), (2, 240, 1)], [1_800], [], 3, (0, 900))  # a sum that lasts beyond the window, and a change there
def test_any_recording_is_the_same_material_as_its_store(world, facts, first, second, rolled, bounds):
    edges = [world.edge(name, kind="Deployment", namespace="ns", pod=name, peer=peer) for name, peer in EDGES]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        world.now = DAY + 43_200
        store = open_store(f"sqlite://{folder}/store", clock=world.clock)
        for number, (which, tenth, count) in enumerate(facts):
            batch = world.batch((edges[which], HOUR + 10 * tenth, {"connections": count}), sequence=number + 1)
            store.write(batch)
        store.keep_inventory(Records(pods=[*pods("one", "10.0.0.1", first), *pods("two", "10.0.0.2", second)]))
        for hour in store.due(DAY + 86_400) if rolled else ():
            store.roll(hour)
        if rolled == 3:
            world.now = DAY + 3 * 86_400
            store.drop_before(DAY + 86_400, hours_before_s=DAY)
        window = Window(HOUR + bounds[0], HOUR + bounds[1])
        expected = seen(store, window)
        store.record(EdgeQuery(window), Path(folder) / "r")
        recording = open_recording(Path(folder) / "r")
        assert seen(recording, window) == expected
        event(f"flows per edge: {len(expected[0]) // max(1, len(set(expected[1])))}")
        recording.close()
        store.close()


# Whole or not at all.


def test_a_file_that_is_there_is_kept_unless_it_is_said(filled, tmp_path):
    path = tmp_path / "week.fathom"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"is there already[\s\S]*--force"):
        filled.record(WEEK, path)
    assert path.read_text() == "mine"
    filled.record(WEEK, path, Making(force=True))
    open_recording(path).close()
    assert listed(tmp_path) == ["store", "week.fathom"]


def test_a_link_that_leads_nowhere_is_not_followed(filled, tmp_path):
    path = tmp_path / "week.fathom"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is there already"):
        filled.record(WEEK, path)
    filled.record(WEEK, path, Making(force=True))
    assert not path.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "r"
    with NewRecording(path, now_s=DAY) as new:
        path.write_text("mine")
        with pytest.raises(UsageError, match="is there already"):
            new.finish({})
    assert path.read_text() == "mine"
    assert listed(tmp_path) == ["r"]


def test_a_recording_too_large_is_refused_and_leaves_nothing(open_sqlite, world, tmp_path):
    store = open_sqlite()
    edges = [world.edge(f"w{n}") for n in range(3_000)]
    store.write(world.batch(*((edge, HOUR, {"connections": 1}) for edge in edges)))
    with pytest.raises(UsageError, match="larger than 300000 bytes"):
        store.record(WEEK, tmp_path / "r", Making(most_bytes=300_000))
    assert listed(tmp_path) == ["store"]
    store.close()


def test_a_recording_that_nobody_waits_for_is_given_up(open_sqlite, world, tmp_path):
    store = open_sqlite()
    edges = [world.edge(f"w{n}") for n in range(3_000)]
    store.write(world.batch(*((edge, HOUR, {"connections": 1}) for edge in edges)))
    asked = []
    with pytest.raises(Stopped):
        store.record(WEEK, tmp_path / "r", Making(stopped=lambda: asked.append(1) or True))
    assert asked
    assert listed(tmp_path) == ["store"]
    store.close()


def test_where_nothing_can_be_written_it_is_told(filled, tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        filled.record(WEEK, tmp_path / "no" / "r")
    with pytest.raises(StoreError, match="cannot write"):
        filled.record(WEEK, tmp_path / "store" / "lock" / "r")


def test_progress_is_told(filled, tmp_path):
    shares = []
    filled.record(WEEK, tmp_path / "r", Making(progress=shares.append))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# Refused.


@pytest.fixture
def recording(filled, tmp_path):
    path = tmp_path / "week.fathom"
    filled.record(WEEK, path)
    return path


def refused(path, words):
    """Opening ``path`` is refused, and leaves it and its folder as they were."""
    before, names = path.read_bytes(), listed(path.parent)
    with pytest.raises(StoreDamaged, match=words) as info:
        open_recording(path)
    assert info.value.do
    assert str(path) in str(info.value)
    assert (path.read_bytes(), listed(path.parent)) == (before, names)


def test_one_changed_bit_anywhere_is_noticed(recording):
    good = recording.read_bytes()
    for place in range(101, len(good), 997):
        changed = bytearray(good)
        changed[place] ^= 1
        recording.write_bytes(changed)
        with pytest.raises((StoreDamaged, StoreNewer)):
            open_recording(recording)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda data: data[:0], "it is empty"),
        (lambda data: data[:0] + b"hello", "it is something else"),
        (lambda data: b"\xa5" * 100 + data[100:], "it is something else"),
        (lambda data: data[:-1], "bytes of"),
        (lambda data: data[: len(data) // 2], "bytes of"),
        (lambda data: data + b"more", "bytes of"),
        (lambda data: data[:60] + bytes(4) + data[64:], "no schema"),
        (lambda data: data[:68] + b"NOPE" + data[72:], "not one of Fathom's"),
    ],
)
def test_what_is_no_whole_recording_is_refused(recording, what, words):
    recording.write_bytes(what(recording.read_bytes()))
    refused(recording, words)


def test_a_newer_recording_is_refused_and_left_alone(recording):
    data = recording.read_bytes()
    newer = data[:60] + (schema.VERSION + 1).to_bytes(4, "big") + data[64:]
    recording.write_bytes(newer)
    with pytest.raises(StoreNewer, match=f"schema is version {schema.VERSION + 1}") as info:
        open_recording(recording)
    assert "newer Fathom" in info.value.do
    assert recording.read_bytes() == newer


@pytest.mark.parametrize("what", ["folder", "pipe", "nothing"])
def test_what_is_no_file_is_refused(tmp_path, what):
    path = tmp_path / "r"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    with pytest.raises(StoreError, match="not a file" if what != "nothing" else "no store or recording"):
        open_recording(path)


def unsealed(path, *statements):
    """Change a recording by ``statements`` and take its seal off."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    for statement in ("DELETE FROM identity WHERE name = 'digest'", *statements):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW facts2 AS SELECT * FROM facts",
        "CREATE TRIGGER t AFTER DELETE ON nodes BEGIN DELETE FROM edges; END",
        "CREATE TABLE more(x)",
        "CREATE INDEX i ON edges(abs(port))",
        "ALTER TABLE nodes ADD COLUMN x AS (randomblob(1000000000))",
        "DROP INDEX edges_name",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
        "UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '') WHERE name = 'nodes'",
        "UPDATE sqlite_master SET sql = 'CREATE VIEW facts AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL"
        " SELECT x+1 FROM c) SELECT x FROM c', type = 'view', rootpage = 0 WHERE name = 'facts'",
    ],
)
def test_other_tables_than_the_schemas_are_refused(recording, statement):
    unsealed(recording, statement)
    refused(recording, "tables are not those|no recording that can be read")


def test_an_unsealed_recording_is_read_if_it_is_whole(recording, filled):
    unsealed(recording)
    store = open_recording(recording)
    assert seen(store) == seen(filled)
    store.close()
    size = recording.stat().st_size
    data = bytearray(recording.read_bytes())
    data[size // 2 : size // 2 + 4_096] = os.urandom(4_096)
    recording.write_bytes(data)
    refused(recording, "no recording that can be read")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("INSERT INTO hours VALUES(999999999999, 1)", "an hour that is no time"),
        ("INSERT INTO hours VALUES(-5, 1)", "an hour that is no time"),
        ("DELETE FROM identity", "which store it is"),
    ],
)
def test_rows_that_make_no_sense_are_refused_at_once(recording, statement, words):
    unsealed(recording, statement)
    refused(recording, words)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE edges SET port = 99999999999",
        "UPDATE edges SET verdict = 'maybe'",
        "UPDATE edges SET direction = 'up'",
        "UPDATE edges SET name = CAST(x'ff' AS TEXT)",
        "UPDATE edges SET pod = '', name = CAST(x'ff' AS TEXT)",
        "UPDATE endpoints SET document = '{'",
        "UPDATE endpoints SET document = '{\"name\": 5}'",
        "UPDATE endpoints SET kind = 'Surprise'",
    ],
)
def test_rows_that_make_no_sense_are_told_when_they_are_read(recording, statement):
    unsealed(recording, statement)
    store = open_recording(recording)
    with pytest.raises(StoreError):
        material(store)
    store.close()


def test_more_rows_than_may_be_are_refused(recording, monkeypatch):
    unsealed(recording)
    monkeypatch.setattr(foreign, "MOST_ROWS", {"edges": 4})
    refused(recording, "its table edges has more than 4 rows")


def test_a_value_larger_than_may_be_is_refused(recording):
    unsealed(recording, "UPDATE endpoints SET document = printf('%.*c', 70000000, 'x')")
    store = open_recording(recording)
    with pytest.raises((StoreError, StoreBusy), match="too big"):
        material(store)
    store.close()


def test_a_recording_that_changes_while_it_is_open_is_noticed(recording, filled, tmp_path):
    store = open_recording(recording)
    filled.record(WEEK, tmp_path / "other")
    (tmp_path / "other").replace(recording)
    with pytest.raises(StoreError, match="was changed while it was read"):
        store.nodes()
    store.close()


@pytest.mark.parametrize("order", ["first", "later"])
@pytest.mark.parametrize("version", [1, 2])
def test_an_earlier_recording_is_read_as_a_copy(tmp_path, version, order):
    path = tmp_path / "old.fathom"
    connection = sqlite3.connect(path, isolation_level=None)
    schema.make(connection, ("meta", "day"), 0, migrations=schema.MIGRATIONS[: version - 1])
    if order == "later":
        connection.execute("DROP TABLE endpoint_addresses")
        connection.execute(schema.EITHER["endpoint_addresses"])
    connection.execute("INSERT INTO identity VALUES('store_id', 'x'), ('retired', '0'), ('floor_day', '0')")
    connection.execute("INSERT INTO nodes VALUES('n1', 'b', ?, ?)", (HOUR, HOUR + 5))
    connection.close()
    before = path.read_bytes()
    store = open_recording(path)
    assert [row.node for row in store.nodes()] == ["n1"]
    assert version < schema.VERSION
    store.close()
    assert path.read_bytes() == before
    assert listed(tmp_path) == ["old.fathom"]
