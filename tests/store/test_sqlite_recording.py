"""A recording: one file that holds all tables, answers as the store it was taken from, and is never written to."""

from __future__ import annotations

import sqlite3

import pytest

from fathom.errors import StoreDamaged, StoreError, StoreNewer
from fathom.store import schema
from fathom.store.interface import EdgeQuery, Window
from fathom.store.opening import open_store

DAY = 1_700_006_400
WINDOWS = [Window(DAY, DAY + 86_400), Window(DAY - 86_400, DAY + 3_700), Window(DAY + 60, DAY + 90)]


def answers(store, edges):
    return [
        (
            store.edges(EdgeQuery(window, order="traffic")).items,
            store.edges(EdgeQuery(window, workload="w1")).items,
            store.workloads(EdgeQuery(window)).items,
            store.losses(window),
            store.coverage(window),
            store.series(edges[0].id, window, 60),
            store.nodes(),
        )
        for window in WINDOWS
    ]


@pytest.fixture
def recording(open_sqlite, world, folder, tmp_path):
    """The file, what is in it, and the answers of the store from which it was copied table by table."""
    edges = [world.edge(f"w{i}") for i in range(5)]
    store = open_sqlite()
    for begin in (DAY - 86_400, DAY - 30, DAY + 3_600):
        rows = [(edge, begin + 20 * i, {"connections": 1, "bytes_sent": i}) for i in range(4) for edge in edges]
        store.write(world.batch(*rows, observed=((begin, begin + 80),)))
    for hour in store.due(DAY + 86_400):
        store.roll(hour)
    expected = answers(store, edges)
    store.close()
    path = tmp_path / "week.fathom"
    connection = sqlite3.connect(path, isolation_level=None)
    schema.make(connection, ("meta", "day"), 0)
    for source in sorted(folder.glob("*.db")):
        connection.execute("ATTACH DATABASE ? AS source", (str(source),))
        for (table,) in connection.execute("SELECT name FROM source.sqlite_master WHERE type = 'table'").fetchall():
            if table != "reports":
                connection.execute(f"INSERT OR IGNORE INTO main.{table} SELECT * FROM source.{table}")
            else:
                connection.execute(
                    "INSERT INTO reports SELECT * FROM source.reports WHERE true ON CONFLICT DO UPDATE SET"
                    " batches = batches + excluded.batches, last_seen = MAX(last_seen, excluded.last_seen)"
                )
        connection.execute("DETACH DATABASE source")
    connection.close()
    return path, edges, expected


def test_a_recording_answers_as_its_store_and_is_not_touched(recording):
    path, edges, expected = recording
    path.chmod(0o400)
    before = path.read_bytes()
    store = open_store(f"sqlite://{path}?mode=recording")
    assert answers(store, edges) == expected
    assert store.health().days == ("2023-11-14", "2023-11-15")
    assert store.store_id
    with pytest.raises(StoreError, match="reading only"):
        store.drop_before(DAY)
    store.close()
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["store", "week.fathom"]


def test_a_damaged_newer_or_foreign_recording_is_refused_and_left_alone(recording):
    path, *_ = recording
    good = path.read_bytes()
    newer = sqlite3.connect(path, isolation_level=None)
    newer.execute("PRAGMA user_version = 77")
    newer.close()
    with pytest.raises(StoreNewer):
        open_store(f"sqlite://{path}?mode=recording")
    for wrong in (b"", b"hello", good[:5_000], b"\xa5" * 100 + good[100:]):
        path.write_bytes(wrong)
        with pytest.raises(StoreDamaged):
            open_store(f"sqlite://{path}?mode=recording").nodes()
        assert path.read_bytes() == wrong
