"""The one schema, its version, and how an older file becomes a newer one.

A store is a *meta* file (who: edges, nodes, roll-ups, inventory) and a *day* file for each UTC day (what: facts, and
the ledger that makes them count once). All names differ, so the same tables also live together in one file: that is a
recording. Integers are epoch seconds or counts, nothing is NULL, and what is filtered on is never JSON.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Literal

from fathom.errors import StoreDamaged, StoreNewer
from fathom.store.columns import COUNTERS

Kind = Literal["meta", "day"]

#: Version of the schema; raised by each change, together with a migration.
VERSION = 3
#: ``PRAGMA application_id`` of Fathom's files: "FTHM".
APPLICATION_ID = 0x4654484D

_COUNTERS = ", ".join(f"{name} INTEGER NOT NULL" for name in COUNTERS)
_LOSS = (
    "node TEXT NOT NULL, hop TEXT NOT NULL, probe TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,"
    " packets INTEGER NOT NULL, bytes_sent INTEGER NOT NULL, bytes_received INTEGER NOT NULL"
)
_WORKLOAD = (
    "cluster TEXT NOT NULL, node TEXT NOT NULL, namespace TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,"
    " pod TEXT NOT NULL, container TEXT NOT NULL"
)

#: When each version was reached; in every file.
_SCHEMA = "CREATE TABLE IF NOT EXISTS schema(version INTEGER PRIMARY KEY, reached INTEGER NOT NULL) STRICT"

_META = (
    "CREATE TABLE identity(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT",
    # peer_key: the peer's address as 32 hexadecimal digits (IPv4 as ::ffff:0:0/96), '' if it has none: so that a
    # network is a range of text in every engine. last_day: the last day since the epoch with facts.
    f"CREATE TABLE edges(id INTEGER PRIMARY KEY, {_WORKLOAD}, direction TEXT NOT NULL, peer TEXT NOT NULL,"
    " peer_address TEXT NOT NULL, peer_key TEXT NOT NULL, protocol TEXT NOT NULL, port INTEGER NOT NULL,"
    " verdict TEXT NOT NULL, reason TEXT NOT NULL, last_day INTEGER NOT NULL) STRICT",
    "CREATE INDEX edges_name ON edges(name, kind, namespace)",
    "CREATE INDEX edges_peer_key ON edges(peer_key)",
    # Edges that have facts, but whose identity was lost with a damaged file and has not come again yet.
    "CREATE TABLE orphans(edge INTEGER PRIMARY KEY, last_day INTEGER NOT NULL) STRICT",
    "CREATE TABLE nodes(node TEXT PRIMARY KEY, boot TEXT NOT NULL, first_seen INTEGER NOT NULL,"
    " last_seen INTEGER NOT NULL) WITHOUT ROWID, STRICT",
    # Days whose file must be there.
    "CREATE TABLE days(day INTEGER PRIMARY KEY) STRICT",
    # Roll-ups. gone = 0: made of facts that are there, as they were at that revision; replaced when made again.
    # gone = 1: all that is left of facts whose file was dropped or kept aside; added to whatever comes later.
    "CREATE TABLE rolled(hour INTEGER NOT NULL, gone INTEGER NOT NULL, revision INTEGER NOT NULL,"
    " PRIMARY KEY(hour, gone)) WITHOUT ROWID, STRICT",
    f"CREATE TABLE hourly(hour INTEGER NOT NULL, gone INTEGER NOT NULL, edge INTEGER NOT NULL, {_COUNTERS},"
    " first_bucket INTEGER NOT NULL, last_bucket INTEGER NOT NULL, PRIMARY KEY(hour, gone, edge))"
    " WITHOUT ROWID, STRICT",
    f"CREATE TABLE hourly_losses(hour INTEGER NOT NULL, gone INTEGER NOT NULL, {_LOSS},"
    " PRIMARY KEY(hour, gone, node, hop, probe, reason)) WITHOUT ROWID, STRICT",
    "CREATE TABLE hourly_observed(hour INTEGER NOT NULL, gone INTEGER NOT NULL, node TEXT NOT NULL,"
    " start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, PRIMARY KEY(hour, gone, node, start_ns))"
    " WITHOUT ROWID, STRICT",
    # Batches of which something was refused (too old, clock ahead), and what that was.
    "CREATE TABLE refused(node TEXT NOT NULL, boot TEXT NOT NULL, sequence INTEGER NOT NULL, at INTEGER NOT NULL,"
    " PRIMARY KEY(node, boot, sequence)) WITHOUT ROWID, STRICT",
    f"CREATE TABLE refused_losses(hour INTEGER NOT NULL, bucket INTEGER NOT NULL, {_LOSS},"
    " PRIMARY KEY(hour, bucket, node, hop, probe, reason)) WITHOUT ROWID, STRICT",
    # The inventory over time: each version of each object is valid in [valid_from, valid_to).
    "CREATE TABLE endpoints(cluster TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,"
    " valid_from INTEGER NOT NULL, valid_to INTEGER NOT NULL, uid TEXT NOT NULL, owner_kind TEXT NOT NULL,"
    " owner_name TEXT NOT NULL, node TEXT NOT NULL, host_network INTEGER NOT NULL, labels TEXT NOT NULL,"
    " document TEXT NOT NULL, PRIMARY KEY(cluster, kind, namespace, name, valid_from)) WITHOUT ROWID, STRICT",
    "CREATE TABLE endpoint_addresses(address_key TEXT NOT NULL, valid_from INTEGER NOT NULL, valid_to INTEGER NOT NULL,"
    " cluster TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,"
    " PRIMARY KEY(address_key, valid_from, cluster, kind, namespace, name)) WITHOUT ROWID, STRICT",
    f"CREATE TABLE syscalls({_WORKLOAD}, image TEXT NOT NULL, executable TEXT NOT NULL, architecture TEXT NOT NULL,"
    " syscall TEXT NOT NULL, count INTEGER NOT NULL, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL,"
    " PRIMARY KEY(cluster, node, namespace, kind, name, pod, container, image, executable, architecture, syscall))"
    " WITHOUT ROWID, STRICT",
)

_DAY = (
    # In time order, so that new facts are appended: a day of 3,000,000 facts costs no more to write than an empty one.
    f"CREATE TABLE facts(hour INTEGER NOT NULL, bucket INTEGER NOT NULL, edge INTEGER NOT NULL, {_COUNTERS},"
    " PRIMARY KEY(hour, bucket, edge)) WITHOUT ROWID, STRICT",
    # The buckets that exist: with them one edge is found by one step a bucket, and needs no index of its own.
    "CREATE TABLE buckets(hour INTEGER NOT NULL, bucket INTEGER NOT NULL, PRIMARY KEY(hour, bucket))"
    " WITHOUT ROWID, STRICT",
    "CREATE TABLE hours(hour INTEGER PRIMARY KEY, revision INTEGER NOT NULL) STRICT",
    # The ledger: a batch's part of this day is here if and only if its row is.
    "CREATE TABLE batches(node TEXT NOT NULL, boot TEXT NOT NULL, sequence INTEGER NOT NULL,"
    " PRIMARY KEY(node, boot, sequence)) WITHOUT ROWID, STRICT",
    f"CREATE TABLE losses(hour INTEGER NOT NULL, bucket INTEGER NOT NULL, {_LOSS},"
    " PRIMARY KEY(hour, bucket, node, hop, probe, reason)) WITHOUT ROWID, STRICT",
    "CREATE TABLE observed(node TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,"
    " PRIMARY KEY(node, start_ns)) WITHOUT ROWID, STRICT",
    "CREATE TABLE reports(node TEXT NOT NULL, boot TEXT NOT NULL, first_seen INTEGER NOT NULL,"
    " last_seen INTEGER NOT NULL, batches INTEGER NOT NULL, PRIMARY KEY(node, boot)) WITHOUT ROWID, STRICT",
)

_TABLES: Mapping[Kind, Sequence[str]] = {"meta": _META, "day": _DAY}

_KEY = "audit TEXT NOT NULL, policy TEXT NOT NULL"
_COUNTED = "flows INTEGER NOT NULL, connections INTEGER NOT NULL"
_BATCH = "node TEXT NOT NULL, boot TEXT NOT NULL, sequence INTEGER NOT NULL"

#: Version 2: policies that are audited. ``fathom.store.audits`` says what the columns mean.
_AUDITS: Mapping[Kind, Sequence[str]] = {
    "meta": (
        "CREATE TABLE audits(name TEXT PRIMARY KEY, documents TEXT NOT NULL, enforced INTEGER NOT NULL,"
        " added INTEGER NOT NULL, since INTEGER NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID, STRICT",
        "CREATE TABLE audit_totals(audit TEXT PRIMARY KEY, batches INTEGER NOT NULL, facts INTEGER NOT NULL,"
        " missed_batches INTEGER NOT NULL, missed_facts INTEGER NOT NULL, left_out INTEGER NOT NULL,"
        " last_seen INTEGER NOT NULL) WITHOUT ROWID, STRICT",
        f"CREATE TABLE audit_counts({_KEY}, verdict TEXT NOT NULL, new INTEGER NOT NULL, {_COUNTED},"
        " PRIMARY KEY(audit, policy, verdict, new)) WITHOUT ROWID, STRICT",
        f"CREATE TABLE audit_reasons({_KEY}, reason TEXT NOT NULL, {_COUNTED}, PRIMARY KEY(audit, policy, reason))"
        " WITHOUT ROWID, STRICT",
        f"CREATE TABLE audit_offenders({_KEY}, src TEXT NOT NULL, dst TEXT NOT NULL, protocol TEXT NOT NULL,"
        f" port INTEGER NOT NULL, verdict TEXT NOT NULL, {_COUNTED}, first_seen INTEGER NOT NULL,"
        " last_seen INTEGER NOT NULL, decided TEXT NOT NULL,"
        " PRIMARY KEY(audit, policy, src, dst, protocol, port, verdict)) WITHOUT ROWID, STRICT",
        # Batches whose results are kept, and that may still wait in their day's file.
        f"CREATE TABLE audited(day INTEGER NOT NULL, {_BATCH}, PRIMARY KEY(day, node, boot, sequence))"
        " WITHOUT ROWID, STRICT",
    ),
    "day": (
        # Batches that wait for the audit; rows: little-endian int64, as in ``Waiting.rows``.
        f"CREATE TABLE audit_waiting({_BATCH}, revision INTEGER NOT NULL, until INTEGER NOT NULL,"
        " facts INTEGER NOT NULL, rows BLOB NOT NULL, PRIMARY KEY(node, boot, sequence)) STRICT",
    ),
}

#: The key's columns first: SQLite 3.40's quick_check takes others that stand among them for NULL (WITHOUT ROWID).
_ADDRESSES_IN_ORDER = (
    "CREATE TABLE endpoint_addresses(address_key TEXT NOT NULL, valid_from INTEGER NOT NULL, cluster TEXT NOT NULL,"
    " kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, valid_to INTEGER NOT NULL,"
    " PRIMARY KEY(address_key, valid_from, cluster, kind, namespace, name)) WITHOUT ROWID, STRICT"
)
_ADDRESS_NAMES = "address_key, valid_from, cluster, kind, namespace, name, valid_to"

#: Version 3: the columns of endpoint_addresses in another order.
_ADDRESSES: Mapping[Kind, Sequence[str]] = {
    "meta": (
        "ALTER TABLE endpoint_addresses RENAME TO endpoint_addresses_before",
        _ADDRESSES_IN_ORDER,
        f"INSERT INTO endpoint_addresses({_ADDRESS_NAMES}) SELECT {_ADDRESS_NAMES} FROM endpoint_addresses_before",
        "DROP TABLE endpoint_addresses_before",
    ),
}
#: Files of version 1 and 2 were made with either order: table → the other text that it may have in them.
EITHER: Mapping[str, str] = {"endpoint_addresses": _ADDRESSES_IN_ORDER}
#: The first version whose files have one text for each table.
SETTLED = 3

#: Statements that lead to each version from the one before it; the first entry leads to version 2.
Migrations = Sequence[Mapping[Kind, Sequence[str]]]
MIGRATIONS: Migrations = (_AUDITS, _ADDRESSES)


def make(
    connection: sqlite3.Connection, kinds: Sequence[Kind], now_s: int, *, migrations: Migrations = MIGRATIONS
) -> None:
    """Make the tables of ``kinds`` in an empty database."""
    made = [statement for kind in kinds for statement in _TABLES[kind]]
    _bring(connection, [*made, *_steps(kinds, 1, migrations)], range(1, len(migrations) + 2), now_s)


def migrate(
    connection: sqlite3.Connection, kinds: Sequence[Kind], now_s: int, *, migrations: Migrations = MIGRATIONS
) -> None:
    """Bring a database to the newest version, all steps in one transaction.

    Raises StoreNewer, touching nothing, if the file was written by a newer Fathom; StoreDamaged if it is empty or a
    database of something else.
    """
    newest = len(migrations) + 1
    version = check(connection, newest=newest)
    if version < newest:
        _bring(connection, _steps(kinds, version, migrations), range(version + 1, newest + 1), now_s)


def _steps(kinds: Sequence[Kind], version: int, migrations: Migrations) -> list[str]:
    return [statement for step in migrations[version - 1 :] for kind in kinds for statement in step.get(kind, ())]


def _bring(connection: sqlite3.Connection, statements: Sequence[str], versions: range, now_s: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
        connection.execute(_SCHEMA)
        connection.executemany("INSERT INTO schema VALUES(?, ?)", [(version, now_s) for version in versions])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {versions[-1]}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check(connection: sqlite3.Connection, *, name: str = "main", newest: int = VERSION) -> int:
    """The schema version of the database attached as ``name``, from 1.

    Raises StoreNewer if it is newer than ``newest``, StoreDamaged if it is empty or a database of something else.
    """
    version, application = (
        int(connection.execute(f"PRAGMA {name}.{pragma}").fetchone()[0])
        for pragma in ("user_version", "application_id")
    )
    if application != APPLICATION_ID:
        raise StoreDamaged("it is a database, but not one of Fathom's" if application or version else "it is empty")
    if version > newest:
        path = next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == name)
        raise newer(path, version, newest)
    if version < 1 or not connection.execute(f"SELECT 1 FROM {name}.sqlite_master").fetchone():
        raise StoreDamaged("it holds no tables")
    return version


def newer(path: str, version: int, newest: int = VERSION) -> StoreNewer:
    """The error for a file of ``version``."""
    return StoreNewer(
        f"{path} was written by a newer Fathom (its schema is version {version}, this one knows up to {newest})",
        affects="the store is not opened, and nothing in it was changed",
        do="run that newer Fathom, or choose another data directory",
    )
