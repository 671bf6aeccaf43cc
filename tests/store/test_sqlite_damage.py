"""Damaged files: kept aside as they were, told, and the store goes on with everything else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from fathom.errors import EdgeMissing, StoreDamaged
from fathom.store.interface import EdgeQuery, LossRow, Window
from fathom.store.opening import open_store

DAY = 1_700_006_400
TODAY, YESTERDAY = Window(DAY, DAY + 86_400), Window(DAY - 86_400, DAY)
DAY_FILE = "facts-2023-11-15.db"
EDGES = 400


def scribble(path, offset, length):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * length)


def truncate(path, size):
    with path.open("r+b") as file:
        file.truncate(size)


def foreign(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE facts(x)")
    connection.close()


DAMAGES = {
    "header": lambda path: scribble(path, 0, 100),
    "first page": lambda path: scribble(path, 100, 3_900),
    "middle": lambda path: scribble(path, path.stat().st_size // 3, 20_000),
    "all but the first page": lambda path: scribble(path, 4_096, path.stat().st_size - 4_096),
    "cut": lambda path: truncate(path, path.stat().st_size // 2),
    "cut inside a page": lambda path: truncate(path, path.stat().st_size - 5_000),
    "one page left": lambda path: truncate(path, 4_096),
    "emptied": lambda path: truncate(path, 0),
    "text": lambda path: path.write_text("nothing of a database here\n" * 1_000),
    "foreign": foreign,
}


@pytest.fixture
def filled(open_sqlite, world, folder):
    """Closed store: yesterday and today with the same edges, one batch each; returns the edges."""
    edges = [world.edge(f"w{i}") for i in range(EDGES)]
    store = open_sqlite()
    for begin in (TODAY, YESTERDAY):
        store.write(
            world.batch(
                *((edge, begin.since_s + 60 * m, {"connections": 1}) for edge in edges for m in range(5)),
                observed=((begin.since_s, begin.since_s + 300),),
            )
        )
    store.close()
    assert sorted(p.name for p in folder.iterdir()) == ["facts-2023-11-14.db", DAY_FILE, "lock", "meta.db"]
    return edges


def connections(store, window):
    rows, cursor = [], ""
    while True:
        page = store.edges(EdgeQuery(window, limit=1_000, cursor=cursor))
        rows += page.items
        if not (cursor := page.next_cursor):
            return sum(row.sums.connections for row in rows)


def aside(folder, name):
    (kept,) = [
        p for p in folder.iterdir() if p.name.startswith(f"{name}.damaged-") and p.name[-4:] not in ("-wal", "-shm")
    ]
    return kept


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_day_is_kept_aside_and_the_store_goes_on(open_sqlite, world, folder, filled, how):
    path = folder / DAY_FILE
    DAMAGES[how](path)
    found = path.read_bytes()
    store = open_sqlite()
    assert connections(store, YESTERDAY) == EDGES * 5
    assert connections(store, TODAY) == 0
    assert store.write(world.batch((filled[0], DAY, {"connections": 7}), edges=()))
    assert connections(store, TODAY) == 7
    assert aside(folder, DAY_FILE).read_bytes() == found
    assert any("2023-11-15" in note and "kept aside" in note for note in store.health().notes)
    assert store.health().writable
    store.close()
    again = open_sqlite()
    assert any("kept aside" in note for note in again.health().notes)
    assert connections(again, TODAY) == 7
    again.close()


@pytest.mark.parametrize("how", ["first page", "middle", "cut"])
@pytest.mark.usefixtures("filled")
def test_damage_under_an_open_store_is_noticed_by_whoever_meets_it(open_sqlite, folder, how):
    store = open_sqlite()
    assert connections(store, TODAY) == EDGES * 5
    DAMAGES[how](folder / DAY_FILE)
    answers = []
    readers = [threading.Thread(target=lambda: answers.append(connections(store, TODAY))) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert answers == [0] * 4
    aside(folder, DAY_FILE)
    assert connections(store, YESTERDAY) == EDGES * 5
    store.close()


@pytest.mark.usefixtures("filled")
def test_a_day_whose_file_is_gone_is_told(open_sqlite, folder):
    (folder / DAY_FILE).unlink()
    store = open_sqlite()
    assert any("2023-11-15 are gone" in note for note in store.health().notes)
    assert connections(store, Window(0, 2 * DAY)) == EDGES * 5
    store.close()


def test_roll_ups_answer_for_a_damaged_day(open_sqlite, world, folder, filled):
    store = open_sqlite()
    for hour in store.due(DAY + 86_400):
        store.roll(hour)
    store.close()
    DAMAGES["text"](folder / DAY_FILE)
    store = open_sqlite()
    assert connections(store, TODAY) == EDGES * 5
    assert store.coverage(Window(DAY, DAY + 300)).share == 1.0
    # Later facts of that hour are of another file: neither they nor the roll-up may hide the other.
    for times in (1, 2):
        assert store.write(world.batch((filled[0], DAY + times, {"connections": 7}), edges=()))
        assert connections(store, TODAY) == EDGES * 5 + 7 * times
        store.roll(DAY // 3_600)
        assert connections(store, TODAY) == EDGES * 5 + 7 * times
    store.close()
    DAMAGES["cut"](folder / DAY_FILE)
    store = open_sqlite()
    assert connections(store, TODAY) == EDGES * 5 + 14
    assert store.due(DAY + 86_400) == []
    store.close()


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "middle"])
def test_damaged_meta_is_kept_aside_and_agents_are_asked_for_their_edges(open_sqlite, world, folder, filled, how):
    store = open_sqlite()
    before = store.store_id
    store.close()
    DAMAGES[how](folder / "meta.db")
    found = (folder / "meta.db").read_bytes()
    store = open_sqlite()
    assert store.store_id != before
    assert aside(folder, "meta.db").read_bytes() == found
    (note,) = (note for note in store.health().notes if "was damaged" in note)
    assert "meta.db" in note
    assert "kept aside" in note
    assert "its inventory and its system calls are lost" in note
    known = [edge for edge in filled if store.edge(edge.id)]
    assert connections(store, TODAY) == len(known) * 5
    lost = [row for row in store.losses(TODAY) if row.reason == "edge_unknown"]
    unknown = EDGES - len(known)
    assert lost == ([LossRow("server", "", "edge_unknown", "", unknown * 5, 0, 0, 0)] if unknown else [])
    if unknown:
        with pytest.raises(EdgeMissing):
            store.write(world.batch(*((edge, DAY, {}) for edge in filled), edges=(), sequence=50))
    assert store.write(world.batch(*((edge, DAY, {}) for edge in filled), sequence=50))
    assert connections(store, Window(YESTERDAY.since_s, TODAY.until_s)) == EDGES * 10
    assert [row for row in store.losses(TODAY) if row.reason == "edge_unknown"] == []
    assert not store.write(world.batch(*((edge, DAY, {}) for edge in filled), sequence=50))
    store.close()


def test_edges_before_the_damage_are_saved(open_sqlite, folder, filled):
    with sqlite3.connect(folder / "meta.db") as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'edges'").fetchone()[0]
        leaves = (
            [
                row[0]
                for row in connection.execute("SELECT pageno FROM dbstat WHERE name = 'edges' AND pagetype = 'leaf'")
            ]
            if _has_dbstat(connection)
            else []
        )
    connection.close()
    page = leaves[len(leaves) // 2] if leaves else root
    scribble(folder / "meta.db", (page - 1) * 4_096, 4_096)
    store = open_sqlite()
    # The damaged page is met when all edges are read at the start.
    saved = sum(store.edge(edge.id) is not None for edge in filled)
    assert aside(folder, "meta.db")
    assert saved > 0 if leaves else saved == 0
    assert saved < EDGES
    store.close()


def _has_dbstat(connection):
    try:
        connection.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.OperationalError:
        return False
    return True


def test_a_damaged_index_of_meta_is_noticed_when_it_is_used(open_sqlite, folder, filled):
    with sqlite3.connect(folder / "meta.db") as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'edges_name'").fetchone()[0]
    connection.close()
    scribble(folder / "meta.db", (root - 1) * 4_096, 4_096)
    store = open_sqlite()
    before = store.store_id
    query = EdgeQuery(TODAY, workload=filled[0].workload.name)
    assert [row.edge for row in store.edges(query).items] == [filled[0]]
    assert store.store_id != before
    assert aside(folder, "meta.db")
    assert connections(store, TODAY) == EDGES * 5
    store.close()


def test_damaged_meta_under_an_open_store_changes_the_store_id(open_sqlite, world, folder, filled):
    store = open_sqlite()
    before = store.store_id
    DAMAGES["first page"](folder / "meta.db")
    assert connections(store, TODAY) <= EDGES * 5
    assert store.store_id != before
    assert store.write(world.batch(*((edge, DAY, {}) for edge in filled)))
    assert connections(store, TODAY) == EDGES * 5
    store.close()


@pytest.mark.usefixtures("filled")
def test_a_reader_in_another_process_is_told_and_touches_nothing(folder):
    DAMAGES["text"](folder / DAY_FILE)
    reader = open_store(f"sqlite://{folder}?mode=ro")
    with pytest.raises(StoreDamaged, match=DAY_FILE):
        connections(reader, TODAY)
    assert connections(reader, YESTERDAY) == EDGES * 5
    reader.close()
    assert not [p for p in folder.iterdir() if ".damaged-" in p.name]


def test_what_a_kill_left_behind_half_way_through_keeping_aside_is_no_trap(open_sqlite, world, folder, filled):
    """The log is renamed before its file: what is left must not be read into a new file."""
    code = (
        "import os, sys; from fathom.store.opening import open_store; from fathom.store.sqlite import files;"
        "s = open_store(f'sqlite://{sys.argv[1]}', clock=lambda: 1700049600.0);"
        "real = files.Path.rename;"
        "files.Path.rename = lambda self, to: (real(self, to), os.kill(os.getpid(), 9));"
        "open(f'{sys.argv[1]}/facts-2023-11-15.db', 'r+b').write(b'x' * 4096);"
        "from fathom.store.interface import *; s.edges(EdgeQuery(Window(1700006400, 1700092800)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, check=False
    )
    assert done.returncode == -9
    store = open_sqlite()
    assert connections(store, TODAY) == 0
    assert store.write(world.batch((filled[0], DAY, {"connections": 7}), edges=()))
    assert connections(store, TODAY) == 7
    store.close()
