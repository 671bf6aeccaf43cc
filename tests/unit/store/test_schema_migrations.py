"""A store made by an earlier version opens, says the same, and is of the newest version then."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from pathlib import Path

import pytest

from fathom.errors import StoreDamaged, StoreNewer
from fathom.store import schema
from fathom.store.interface import EdgeQuery, Gap, Window
from fathom.store.opening import open_recording, open_store

VERSION_1 = Path(__file__).with_name("version-1")
DAY = 1_700_006_400
STEPS = (
    {"meta": ("ALTER TABLE nodes ADD COLUMN zone TEXT NOT NULL DEFAULT ''",), "day": ()},
    {
        "meta": ("UPDATE nodes SET zone = 'unknown'",),
        "day": ("ALTER TABLE facts ADD COLUMN resets INTEGER NOT NULL DEFAULT 0",),
    },
)


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def columns(connection, table):
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def test_a_new_file_is_of_the_newest_version(database):
    schema.make(database, ("meta", "day"), 5)
    assert schema.check(database) == schema.VERSION == len(schema.MIGRATIONS) + 1
    assert database.execute("SELECT * FROM schema").fetchall() == [(v, 5) for v in range(1, schema.VERSION + 1)]


def test_steps_are_taken_in_order_from_any_version(database):
    schema.make(database, ("meta", "day"), 1, migrations=())
    database.execute("INSERT INTO nodes VALUES('n1', 'b', 1, 2)")
    schema.migrate(database, ("meta", "day"), 2, migrations=STEPS[:1])
    assert columns(database, "nodes")[-1] == "zone"
    assert "resets" not in columns(database, "facts")
    schema.migrate(database, ("meta", "day"), 3, migrations=STEPS)
    assert columns(database, "facts")[-1] == "resets"
    assert database.execute("SELECT zone FROM nodes").fetchall() == [("unknown",)]
    assert database.execute("SELECT * FROM schema").fetchall() == [(1, 1), (2, 2), (3, 3)]
    schema.migrate(database, ("meta", "day"), 4, migrations=STEPS)
    assert database.execute("SELECT COUNT(*) FROM schema").fetchone() == (3,)


def test_each_file_takes_the_steps_of_its_kind(database):
    schema.make(database, ("day",), 1, migrations=())
    schema.migrate(database, ("day",), 2, migrations=STEPS)
    assert columns(database, "facts")[-1] == "resets"
    assert columns(database, "nodes") == []


def test_a_new_file_and_a_migrated_one_are_the_same(database):
    schema.make(database, ("meta", "day"), 1, migrations=())
    schema.migrate(database, ("meta", "day"), 2, migrations=STEPS)
    other = sqlite3.connect(":memory:", isolation_level=None)
    schema.make(other, ("meta", "day"), 1, migrations=STEPS)
    text = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    assert database.execute(text).fetchall() == other.execute(text).fetchall()
    other.close()


def test_version_2_adds_the_tables_of_the_audit(database):
    schema.make(database, ("meta", "day"), 1, migrations=())
    text = "SELECT name FROM sqlite_master WHERE type = 'table'"
    before = {row[0] for row in database.execute(text)}
    schema.migrate(database, ("meta", "day"), 2, migrations=schema.MIGRATIONS[:1])
    added = {row[0] for row in database.execute(text)} - before
    assert added == {
        "audits", "audit_totals", "audit_counts", "audit_reasons", "audit_offenders", "audited", "audit_waiting",
    }  # fmt: skip


def _addresses(connection):
    text = "SELECT address_key, valid_from, valid_to, cluster, kind, namespace, name FROM endpoint_addresses"
    return connection.execute(text).fetchall()


ADDRESS = ("0" * 32, 5, 9, "c", "Pod", "ns", "p")
INSERT = (
    "INSERT INTO endpoint_addresses(address_key, valid_from, valid_to, cluster, kind, namespace, name)"
    " VALUES(?, ?, ?, ?, ?, ?, ?)"
)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["first", "later"])
def test_version_3_settles_the_columns_of_addresses_whichever_order_they_had(database, version, order):
    schema.make(database, ("meta", "day"), 1, migrations=schema.MIGRATIONS[: version - 1])
    if order == "later":
        database.execute("DROP TABLE endpoint_addresses")
        database.execute(schema.EITHER["endpoint_addresses"])
    database.execute(INSERT, ADDRESS)
    schema.migrate(database, ("meta", "day"), 2)
    assert columns(database, "endpoint_addresses")[-1] == "valid_to"
    assert _addresses(database) == [ADDRESS]
    other = sqlite3.connect(":memory:", isolation_level=None)
    schema.make(other, ("meta", "day"), 1)
    text = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    assert database.execute(text).fetchall() == other.execute(text).fetchall()
    other.close()


def test_a_step_that_fails_changes_nothing(database):
    schema.make(database, ("meta", "day"), 1, migrations=())
    before = database.execute("SELECT name, sql FROM sqlite_master").fetchall()
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(database, ("meta",), 2, migrations=(*STEPS, {"meta": ("DROP TABLE not_there",)}))
    assert database.execute("SELECT name, sql FROM sqlite_master").fetchall() == before
    assert schema.check(database) == 1


def test_newer_empty_and_foreign_files_are_told_apart(database):
    with pytest.raises(StoreDamaged, match="empty"):
        schema.check(database)
    database.execute("PRAGMA user_version = 1")
    with pytest.raises(StoreDamaged, match="not one of Fathom's"):
        schema.check(database)
    database.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    with pytest.raises(StoreDamaged, match="no tables"):
        schema.check(database)
    database.execute("CREATE TABLE x(y)")
    assert schema.check(database) == 1
    database.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(StoreNewer, match=f"version {schema.VERSION + 1}"):
        schema.check(database)


def test_every_column_is_strict_and_not_null(database):
    schema.make(database, ("meta", "day"), 1)
    tables = database.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'").fetchall()
    names = [name for name, _ in tables if not name.startswith("sqlite_")]
    assert {"edges", "facts", "hourly", "endpoints", "syscalls", "batches"} <= set(names)
    assert all(strict for name, strict in tables if name in names)
    for name in names:
        for _, column, kind, not_null, default, key in database.execute(f"PRAGMA table_info({name})"):
            plain = (name, column) != ("audit_waiting", "rows")
            assert kind in (("INTEGER", "TEXT") if plain else ("BLOB",)), (name, column)
            assert not_null or key, (name, column)
            assert default is None


@pytest.fixture
def version_1(tmp_path):
    """The store that version 1 wrote, made again from its dump."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    for dump in sorted(VERSION_1.glob("*.sql")):
        path = folder / f"{dump.stem}.db"
        with sqlite3.connect(path) as connection:
            connection.executescript(dump.read_text())
        connection.close()
        path.chmod(0o600)
    return folder


def test_the_store_of_version_1_answers_as_it_did(version_1):
    store = open_store(f"sqlite://{version_1}", clock=lambda: DAY + 90_000.0)
    day = Window(DAY, DAY + 86_400)
    assert store.store_id == "0123456789abcdef"
    assert store.health().notes == ()
    rows = {str(row.edge.workload): row for row in store.edges(EdgeQuery(day)).items}
    assert set(rows) == {"unit/web.service", "shop/Deployment/cart"}
    web = rows["unit/web.service"]
    assert (web.sums.connections, web.sums.bytes_sent, web.first_seen, web.last_seen) == (3, 300, DAY, DAY + 3_600)
    assert (web.sums.latency.count, web.sums.latency.min_ns, web.sums.latency.max_ns) == (3, 40_000, 90_000)
    assert store.losses(day)[0].count == 7
    assert store.coverage(Window(DAY, DAY + 100)).gaps == (Gap("n1", DAY + 60, DAY + 70),)
    assert [(p.time_s, p.sums.connections) for p in store.series(web.id, day, 3_600)] == [(DAY, 2), (DAY + 3_600, 1)]
    assert store.due(DAY + 86_400) == [DAY // 3_600 + 1]
    assert store.nodes()[0].batches == 2
    assert store.audit.sets().sets == ()
    assert store.audit.put("web", "kind: x", enforced=False).since == DAY + 90_000
    assert store.audit.work(1) == []
    store.close()
    for path in version_1.glob("*.db"):
        with sqlite3.connect(path) as connection:
            assert schema.check(connection) == schema.VERSION
        connection.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_store_of_version_1_can_be_recorded_with_its_addresses(version_1, tmp_path):
    with sqlite3.connect(version_1 / "meta.db") as connection:
        connection.execute(INSERT, ADDRESS)
    connection.close()
    store = open_store(f"sqlite://{version_1}", clock=lambda: DAY + 90_000.0)
    store.record(EdgeQuery(Window(0, DAY + 86_400)), tmp_path / "r")
    store.close()
    open_recording(tmp_path / "r").close()
    with sqlite3.connect(tmp_path / "r") as connection:
        assert _addresses(connection) == [ADDRESS]
    connection.close()


def test_the_dump_of_version_1_is_never_changed():
    """A released schema is history: change the schema by a migration, and leave these files alone."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(VERSION_1.glob("*.sql")))).hexdigest()
    assert digest == "513b0a7148cd07e01591ac4202dd1e958b30dbd7f21f4a2092e0678f95e774a9"
