"""Writing one day: facts, losses and observed time of a batch in one commit with the ledger row that counts it once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fathom.events.batches import BatchId, Loss, Observed
from fathom.store import schema
from fathom.store.audits import WIDTH, Waiting
from fathom.store.columns import COUNTERS, MERGED_LIST
from fathom.store.interface import SECONDS_PER_HOUR
from fathom.store.parts import Matrix, Part
from fathom.store.sqlite.files import connect, make, transaction, translated
from fathom.store.stretches import TOLERANCE_NS, merge

_NS = 1_000_000_000
_ADD_FACT = (
    f"INSERT INTO facts VALUES({', '.join('?' * (3 + len(COUNTERS)))})"
    f" ON CONFLICT(hour, bucket, edge) DO UPDATE SET {MERGED_LIST}"
)
_ADD_LOSS = (
    "INSERT INTO {table} VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(hour, bucket, node, hop, probe, reason)"
    " DO UPDATE SET count = count + excluded.count, packets = packets + excluded.packets,"
    " bytes_sent = bytes_sent + excluded.bytes_sent, bytes_received = bytes_received + excluded.bytes_received"
)
_ADD_REPORT = (
    "INSERT INTO reports VALUES(?, ?, ?, ?, ?) ON CONFLICT(node, boot) DO UPDATE SET"
    " batches = batches + excluded.batches, first_seen = MIN(first_seen, excluded.first_seen),"
    " last_seen = MAX(last_seen, excluded.last_seen)"
)


def add_losses(connection: sqlite3.Connection, table: str, node: str, losses: Iterable[Loss]) -> None:
    """Add ``losses`` of ``node`` to ``losses`` or ``refused_losses``."""
    rows = [
        (
            *(m.bucket // SECONDS_PER_HOUR, m.bucket, node, m.hop, m.probe, m.reason),
            *(m.count, m.packets, m.bytes_sent, m.bytes_received),
        )
        for m in losses
    ]
    connection.executemany(_ADD_LOSS.format(table=table), rows)


class DayFile:
    """The file of one day, open for writing by one at a time."""

    def __init__(self, path: Path, now_s: int, synchronous: str) -> None:
        self.path = path
        with translated(path):
            if not path.exists():
                make(path, ("day",), now_s)
            self._connection = connect(path, "rw", synchronous=synchronous)
            try:
                schema.migrate(self._connection, ("day",), now_s)
            except BaseException:
                self._connection.close()
                raise

    def write(
        self, name: BatchId, part: Part, seen: tuple[int, int], *, first: bool, waiting: Waiting | None = None
    ) -> bool:
        """Keep the part of batch ``name``; False if it is there already.

        ``seen``: first and last second of the batch; ``first``: this is its first day, which counts the batch;
        ``waiting``: how it waits for the audit of policies.

        Raises StoreBusy if it could not be written now, DamagedFile if the file is damaged.
        """
        with translated(self.path):
            connection = self._connection
            key = (name.node, name.boot, name.sequence)
            if connection.execute("SELECT 1 FROM batches WHERE (node, boot, sequence) = (?, ?, ?)", key).fetchone():
                return False
            with transaction(connection):
                connection.execute("INSERT INTO batches VALUES(?, ?, ?)", key)
                self._add_facts(part.facts)
                add_losses(connection, "losses", name.node, part.losses)
                for stretch in part.observed:
                    self._observe(name.node, stretch)
                connection.execute(_ADD_REPORT, (name.node, name.boot, *(part.seen() or seen), int(first)))
                if waiting:
                    told = (waiting.revision, waiting.until_s, waiting.facts, waiting.rows.astype("<i8").tobytes())
                    connection.execute("INSERT INTO audit_waiting VALUES(?, ?, ?, ?, ?, ?, ?)", (*key, *told))
                connection.executemany(
                    "INSERT INTO hours VALUES(?, 1) ON CONFLICT(hour) DO UPDATE SET revision = revision + 1",
                    [(hour,) for hour in part.hours()],
                )
        return True

    def _add_facts(self, facts: Matrix) -> None:
        """Add facts (columns of ``FACT``) in the order of the table's key, so that they are appended."""
        if not len(facts):
            return
        facts = facts[np.lexsort((facts[:, 0], facts[:, 1]))]
        hours = facts[:, 1:2] // SECONDS_PER_HOUR
        rows = np.hstack((hours, facts[:, 1:2], facts[:, 0:1], facts[:, 2:]))
        self._connection.executemany(_ADD_FACT, rows.tolist())
        buckets = np.unique(rows[:, :2], axis=0)
        self._connection.executemany("INSERT OR IGNORE INTO buckets VALUES(?, ?)", buckets.tolist())

    def _observe(self, node: str, stretch: Observed) -> None:
        touching = [(stretch.start_ns, stretch.end_ns)]
        for start, end in self._connection.execute(
            "SELECT start_ns, end_ns FROM observed WHERE node = ? AND start_ns < ? ORDER BY start_ns DESC",
            (node, stretch.end_ns + TOLERANCE_NS),
        ):
            if end <= stretch.start_ns - TOLERANCE_NS:
                break  # stretches are disjoint and in order: no earlier one touches
            touching.append((start, end))
        self._connection.executemany(
            "DELETE FROM observed WHERE node = ? AND start_ns = ?", [(node, start) for start, _ in touching]
        )
        self._connection.executemany(
            "INSERT INTO observed VALUES(?, ?, ?)", [(node, start, end) for start, end in merge(touching)]
        )

    def waiting(self) -> int:
        """How many facts wait for the audit; a batch without any counts as one."""
        with translated(self.path):
            batches, size = self._connection.execute(
                "SELECT COUNT(*), COALESCE(SUM(LENGTH(rows)), 0) FROM audit_waiting"
            ).fetchone()
            return max(int(size) // (8 * WIDTH), int(batches))

    def forget_waiting(self, batches: Iterable[tuple[str, str, int]]) -> None:
        """Let batches (node, boot, sequence) wait no more; absent is fine."""
        with translated(self.path), transaction(self._connection):
            self._connection.executemany(
                "DELETE FROM audit_waiting WHERE (node, boot, sequence) = (?, ?, ?)", list(batches)
            )

    def revisions(self) -> dict[int, int]:
        """How often each hour was written to."""
        with translated(self.path):
            return dict(self._connection.execute("SELECT hour, revision FROM hours"))

    def close(self) -> None:
        """Let go of the file; its log is written back if nobody else reads it."""
        with translated(self.path):
            self._connection.close()
