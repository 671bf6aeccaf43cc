"""Writing the meta file: who the edges are, which nodes there are, what was refused, and the hourly roll-ups.

Its commits are synchronous (``FULL``), unlike a day's: a fact must never outlive the edge that says whose it is, not
even through a power failure. They are rare: an edge is written when it is new, and once a day while it lives.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fathom.errors import EdgeMissing
from fathom.events.batches import Batch, BatchId, Loss
from fathom.events.edges import Edge, Workload
from fathom.store import schema
from fathom.store.audits import MOST_OFFENDERS
from fathom.store.columns import MERGED_ROW, names
from fathom.store.filters import address_key
from fathom.store.interface import SECONDS_PER_DAY, SECONDS_PER_HOUR
from fathom.store.inventories import AddressRow, EndpointRow
from fathom.store.known import Ids, KnownEdges
from fathom.store.parts import Matrix
from fathom.store.planning import HOURS_PER_DAY
from fathom.store.sqlite.audits import AuditTables
from fathom.store.sqlite.dayfile import add_losses
from fathom.store.sqlite.files import connect, make, transaction, translated, uri
from fathom.store.syscalls import SyscallRow

_NS = 1_000_000_000
_ADVANCE_INVENTORY = (
    "INSERT INTO identity VALUES('inventory_revision', '1') ON CONFLICT(name) DO UPDATE SET value = value + 1"
)
_EDGE_COLUMNS = 17
_ADD_EDGE = f"INSERT OR IGNORE INTO edges VALUES({', '.join('?' * _EDGE_COLUMNS)})"


def _bury(table: str, columns: str, merge: str) -> tuple[str, str]:
    """Make a roll-up of facts that are there one of facts that are gone, adding it to what is there of those."""
    inside = "hour >= ? AND hour < ? AND gone = 0"
    return (
        f"INSERT INTO {table} SELECT hour, 1, {columns} FROM {table} WHERE {inside} ON CONFLICT DO UPDATE SET {merge}",
        f"DELETE FROM {table} WHERE {inside}",
    )


_LOSS_COUNTS = ("count", "packets", "bytes_sent", "bytes_received")
_BURY = (
    *_bury("rolled", "revision", "revision = 0"),
    *_bury("hourly", f"edge, {names()}, first_bucket, last_bucket", MERGED_ROW),
    *_bury(
        "hourly_losses",
        f"node, hop, probe, reason, {', '.join(_LOSS_COUNTS)}",
        ", ".join(f"{name} = {name} + excluded.{name}" for name in _LOSS_COUNTS),
    ),
    *_bury("hourly_observed", "node, start_ns, end_ns", "end_ns = MAX(end_ns, excluded.end_ns)"),
)


def edge_row(edge_id: int, edge: Edge, day: int) -> tuple[str | int, ...]:
    """The row of table ``edges`` for an edge last seen on ``day``."""
    w = edge.workload
    who = (w.cluster, w.node, w.namespace, w.kind, w.name, w.pod, w.container)
    peer = (edge.direction, edge.peer, edge.peer_address, address_key(edge.peer_address))
    return (edge_id, *who, *peer, edge.protocol, edge.port, edge.verdict, edge.reason, day)


def to_edge(row: Sequence[str | int]) -> Edge:
    """The edge of a row of ``fathom.store.queries.EDGE``."""
    return Edge(Workload(*row[:7]), *row[7:])  # type: ignore[arg-type]  # the schema is strict: texts, and port an integer


@dataclass(frozen=True, slots=True)
class HourRows:
    """What the roll-up of an hour is made of, all of one moment: rows of the three hourly tables."""

    revision: int
    facts: Iterable[Sequence[int]]
    losses: Iterable[Sequence[str | int]]
    observed: Iterable[Sequence[str | int]]


def _marks(row: type[EndpointRow | AddressRow | SyscallRow]) -> str:
    return ", ".join("?" * len(row._fields))


_FORGET_ADDRESSES = (
    "DELETE FROM endpoint_addresses WHERE (cluster, kind, namespace, name, valid_from) = (?, ?, ?, ?, ?)"
)
_PUT_ADDRESS = (
    f"INSERT OR REPLACE INTO endpoint_addresses({', '.join(AddressRow._fields)}) VALUES({_marks(AddressRow)})"
)
_ADD_SYSCALL = (
    f"INSERT INTO syscalls VALUES({_marks(SyscallRow)}) ON CONFLICT DO UPDATE SET count = count + excluded.count,"
    " first_seen = MIN(first_seen, excluded.first_seen), last_seen = MAX(last_seen, excluded.last_seen)"
)


class MetaFile:
    """The meta file, open for writing by one at a time; keeps the ids of all edges in memory.

    ``audits`` are the tables of the audit of policies.
    """

    def __init__(self, path: Path, now_s: int, most_edges: int, most_offenders: int = MOST_OFFENDERS) -> None:
        self.path = path
        self._most_edges = most_edges
        with translated(path):
            if not path.exists():
                make(path, ("meta",), now_s)
            self._connection = connect(path, "rw", synchronous="FULL")
            try:
                schema.migrate(self._connection, ("meta",), now_s)
                self._load()
                self.audits = AuditTables(self._connection, path, most_offenders)
            except BaseException:
                self._connection.close()
                raise

    def _load(self) -> None:
        ask = self._connection.execute
        ask(
            "INSERT OR IGNORE INTO identity VALUES('store_id', ?), ('floor_day', '0'), ('retired', '0')",
            (secrets.token_hex(8),),
        )
        identity = dict(ask("SELECT name, value FROM identity"))
        self.store_id: str = identity["store_id"]
        self.floor_day = int(identity["floor_day"])
        pairs = np.fromiter(ask("SELECT id, last_day FROM edges"), np.dtype([("id", "<i8"), ("day", "<i8")]))
        self._known = KnownEdges(pairs["id"].copy(), pairs["day"].astype(np.int32))
        self._homeless: set[int] = set()  # edges for which there was no room: their facts are known to be lost
        self._first_seen: dict[str, int] = dict(ask("SELECT node, first_seen FROM nodes"))
        self.registered: set[int] = {row[0] for row in ask("SELECT day FROM days")}

    @property
    def edges(self) -> int:
        """How many edges are known."""
        return len(self._known)

    def admit(self, batch: Batch, facts: Matrix, fallback_day: int) -> Ids:
        """Make the edges of a batch known; the ids of ``facts`` for which there is no room, sorted.

        Edges without facts are dated ``fallback_day``. Raises EdgeMissing if a fact's edge was never told.
        """
        days = _by_day(facts)
        absent = set(self._known.unknown(facts[:, 0]).tolist())
        new = self._new_edges(batch.edges)
        room = max(0, self._most_edges - len(self._known))
        if room:
            self._homeless.clear()
        if missing := absent - new.keys() - self._homeless:
            raise EdgeMissing(f"batch {batch.id} holds facts of {len(missing)} edges that this store was never told")
        admitted = dict(list(new.items())[:room])
        day_of = dict.fromkeys(admitted, fallback_day)
        if admitted:
            day_of.update((e, day) for day in sorted(days) for e in days[day].tolist() if e in admitted)
        stale = {day: self._known.stale(ids, day) for day, ids in days.items()}
        self._commit([edge_row(e, edge, day_of[e]) for e, edge in admitted.items()], stale)
        for day in set(day_of.values()):
            self._known.add(np.array([e for e in admitted if day_of[e] == day], dtype=np.int64), day)
        for day, ids in stale.items():
            self._known.touch(ids, day)
        if len(self._homeless) < self._most_edges:
            self._homeless.update(new.keys() - admitted.keys())
        return np.array(sorted(absent - admitted.keys()), dtype=np.int64)

    def _new_edges(self, edges: Iterable[Edge]) -> dict[int, Edge]:
        by_id = {edge.id: edge for edge in edges}
        absent = set(self._known.unknown(np.fromiter(by_id, np.int64)).tolist())
        return {e: edge for e, edge in by_id.items() if e in absent}

    def _commit(self, edges: list[tuple[str | int, ...]], stale: Mapping[int, Ids]) -> None:
        touched = [(day, e) for day in sorted(stale) for e in stale[day].tolist()]
        if not (edges or touched):
            return
        with translated(self.path), transaction(self._connection):
            write = self._connection.executemany
            write(_ADD_EDGE, edges)
            write("DELETE FROM orphans WHERE edge = ?", [(row[0],) for row in edges])
            write("UPDATE edges SET last_day = MAX(last_day, ?) WHERE id = ?", touched)

    def saw(self, name: BatchId, seen: tuple[int, int]) -> None:
        """A node reported, about the seconds ``seen``."""
        if self._first_seen.get(name.node, seen[0] + 1) <= seen[0]:
            return
        with translated(self.path), transaction(self._connection):
            self._connection.execute(
                "INSERT INTO nodes VALUES(?, ?, ?, ?)"
                " ON CONFLICT(node) DO UPDATE SET first_seen = MIN(first_seen, excluded.first_seen)",
                (name.node, name.boot, *seen),
            )
        self._first_seen[name.node] = seen[0]

    def refuse(self, name: BatchId, losses: list[Loss], now_s: int) -> bool:
        """Count what was refused of a batch, once; False if that was done before."""
        with translated(self.path), transaction(self._connection):
            row = (name.node, name.boot, name.sequence, now_s)
            added = self._connection.execute("INSERT OR IGNORE INTO refused VALUES(?, ?, ?, ?)", row).rowcount > 0
            if added:
                add_losses(self._connection, "refused_losses", name.node, losses)
        return added

    def keep_inventory(self, rows: Iterable[tuple[EndpointRow, list[AddressRow]]]) -> None:
        """Keep versions of objects; the addresses of a version that was there go with it."""
        rows = list(rows)
        with translated(self.path), transaction(self._connection):
            write = self._connection.executemany
            write(_FORGET_ADDRESSES, [row.key for row, _ in rows])
            write(f"INSERT OR REPLACE INTO endpoints VALUES({_marks(EndpointRow)})", [row for row, _ in rows])
            held = [address for _, addresses in rows for address in addresses]
            write(_PUT_ADDRESS, held)
            self._connection.execute(_ADVANCE_INVENTORY)

    def keep_syscalls(self, rows: Iterable[SyscallRow]) -> None:
        """Add system calls."""
        with translated(self.path), transaction(self._connection):
            self._connection.executemany(_ADD_SYSCALL, rows)

    def register(self, day: int) -> None:
        """The file of ``day`` exists from now on."""
        with translated(self.path), transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO days VALUES(?)", (day,))
        self.registered.add(day)

    def retire(self, days: Iterable[int]) -> None:
        """The files of ``days`` are gone: their roll-ups are all that is left of them."""
        days = list(days)
        if not days:
            return
        with translated(self.path), transaction(self._connection):
            for day in days:
                bounds = (day * HOURS_PER_DAY, (day + 1) * HOURS_PER_DAY)
                for statement in _BURY:
                    self._connection.execute(statement, bounds)
                self._connection.execute("DELETE FROM days WHERE day = ?", (day,))
            self._connection.execute("UPDATE identity SET value = value + 1 WHERE name = 'retired'")
        self.registered.difference_update(days)

    def rolled(self) -> dict[int, int]:
        """The revision of the facts from which each hour's roll-up was made."""
        with translated(self.path):
            return dict(self._connection.execute("SELECT hour, revision FROM rolled WHERE gone = 0"))

    def roll(self, hour: int, made: HourRows) -> None:
        """Replace the roll-up of ``hour``."""
        with translated(self.path), transaction(self._connection):
            for table in ("hourly", "hourly_losses", "hourly_observed", "rolled"):
                self._connection.execute(f"DELETE FROM {table} WHERE hour = ? AND gone = 0", (hour,))
            self._connection.execute("INSERT INTO rolled VALUES(?, 0, ?)", (hour, made.revision))
            for table, rows in (
                ("hourly", made.facts),
                ("hourly_losses", made.losses),
                ("hourly_observed", made.observed),
            ):
                width = len(self._connection.execute(f"PRAGMA table_info({table})").fetchall())
                self._connection.executemany(f"INSERT INTO {table} VALUES({', '.join('?' * width)})", rows)

    def set_floor(self, day: int) -> None:
        """Refuse days before ``day`` from now on."""
        with translated(self.path), transaction(self._connection):
            self._connection.execute("UPDATE identity SET value = ? WHERE name = 'floor_day'", (str(day),))
        self.floor_day = day

    def last_seen(self, day_path: Path) -> None:
        """Take over from a day's file, which is about to go, when its nodes were last seen."""
        with translated(day_path):
            self._connection.execute("ATTACH DATABASE ? AS day", (uri(day_path, "ro"),))
        try:
            with translated(day_path), transaction(self._connection):
                rows = self._connection.execute(
                    "SELECT node, boot, last_seen FROM day.reports ORDER BY last_seen"
                ).fetchall()
                self._connection.executemany(
                    "UPDATE nodes SET boot = ?2, last_seen = ?3 WHERE node = ?1 AND (last_seen, boot) < (?3, ?2)", rows
                )
        finally:
            self._connection.execute("DETACH DATABASE day")

    def prune(self, first_hour: int, first_day: int) -> None:
        """Forget roll-ups before ``first_hour``, and edges and nodes last seen before ``first_day``."""
        with translated(self.path):
            with transaction(self._connection):
                ask = self._connection.execute
                for table in ("hourly", "hourly_losses", "hourly_observed", "rolled", "refused_losses"):
                    ask(f"DELETE FROM {table} WHERE hour < ?", (first_hour,))
                ask("DELETE FROM refused WHERE at < ?", (first_hour * SECONDS_PER_HOUR,))
                for table in ("endpoints", "endpoint_addresses"):
                    ask(f"DELETE FROM {table} WHERE valid_to <= ?", (first_hour * SECONDS_PER_HOUR,))
                ask("DELETE FROM syscalls WHERE last_seen < ?", (first_hour * SECONDS_PER_HOUR,))
                ask("DELETE FROM edges WHERE last_day < ?", (first_day,))
                ask("DELETE FROM orphans WHERE last_day < ?", (first_day,))
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            self._load()

    def nodes_before(self, epoch_s: int) -> set[str]:
        """Nodes that were last seen before ``epoch_s``, as far as this file knows."""
        with translated(self.path):
            rows = self._connection.execute("SELECT node FROM nodes WHERE last_seen < ?", (epoch_s,))
            return {row[0] for row in rows}

    def forget_nodes(self, silent: set[str]) -> None:
        """Forget nodes of which nothing is left."""
        with translated(self.path), transaction(self._connection):
            self._connection.executemany("DELETE FROM nodes WHERE node = ?", [(node,) for node in silent])
        for node in silent:
            self._first_seen.pop(node, None)

    def adopt(self, edges: Iterable[Sequence[str | int]], nodes: Iterable[Sequence[str | int]], floor_day: int) -> None:
        """Take over rows of ``edges`` and ``nodes`` that were saved from a damaged file."""
        with translated(self.path):
            with transaction(self._connection):
                self._connection.executemany(_ADD_EDGE, edges)
                self._connection.executemany("INSERT OR IGNORE INTO nodes VALUES(?, ?, ?, ?)", nodes)
                self._connection.execute("UPDATE identity SET value = ? WHERE name = 'floor_day'", (str(floor_day),))
            self._load()

    def orphan(self, ids: Ids, day: int) -> None:
        """Note edges that have facts on ``day``, but whose identity is not known (any more)."""
        rows = [(e, day) for e in self._known.unknown(ids).tolist()]
        with translated(self.path), transaction(self._connection):
            self._connection.executemany(
                "INSERT INTO orphans VALUES(?, ?) ON CONFLICT(edge) DO UPDATE SET"
                " last_day = MAX(last_day, excluded.last_day)",
                rows,
            )

    def close(self) -> None:
        """Let go of the file."""
        with translated(self.path):
            self._connection.close()


def _by_day(facts: Matrix) -> dict[int, Ids]:
    """The edges of ``facts`` by the day on which they have some."""
    days = facts[:, 1] // SECONDS_PER_DAY
    return {int(day): facts[days == day, 0] for day in np.unique(days)}
