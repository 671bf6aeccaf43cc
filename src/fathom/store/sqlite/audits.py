"""The tables of the audit in the meta file: registered sets, their results, and which batches are done.

A batch waits in its day's file and its results are kept here, so two commits are needed: the results with a row of
``audited`` first, then the batch goes. What stopped in between is seen by that row, and not counted again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fathom.events.batches import BatchId
from fathom.policy.findings import Count, Offender, Reason
from fathom.store.audits import (
    WIDTH,
    AuditResult,
    AuditSet,
    AuditSets,
    AuditState,
    AuditTotals,
    Waiting,
)
from fathom.store.sqlite.files import transaction, translated

Ask = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
#: A day's part of a batch: day, node, boot, sequence.
Key = tuple[int, str, str, int]

_RESULTS = ("audit_totals", "audit_counts", "audit_reasons", "audit_offenders")
_REVISION = "SELECT value FROM identity WHERE name = 'audit_revision'"
_SETS = "SELECT name, documents, enforced, added, since, revision FROM audits"
_FOUND = "flows = flows + excluded.flows, connections = connections + excluded.connections"
_ADD_TOTALS = (
    "INSERT INTO audit_totals VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT(audit) DO UPDATE SET"
    " batches = batches + excluded.batches, facts = facts + excluded.facts,"
    " missed_batches = missed_batches + excluded.missed_batches, missed_facts = missed_facts + excluded.missed_facts,"
    " left_out = left_out + excluded.left_out, last_seen = MAX(last_seen, excluded.last_seen)"
)
_ADD_COUNT = f"INSERT INTO audit_counts VALUES(?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {_FOUND}"
_ADD_REASON = f"INSERT INTO audit_reasons VALUES(?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {_FOUND}"
_SEEN_AGAIN = (
    "UPDATE audit_offenders SET flows = flows + ?, connections = connections + ?, first_seen = MIN(first_seen, ?),"
    " last_seen = MAX(last_seen, ?) WHERE (audit, policy, src, dst, protocol, port, verdict) = (?, ?, ?, ?, ?, ?, ?)"
)
_ADD_OFFENDER = "INSERT INTO audit_offenders VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_KINDS = (
    "SELECT CASE WHEN policy <> '' THEN 'alone' WHEN verdict = 'unknown' THEN 'unknown' ELSE 'denied' END, COUNT(*)"
    " FROM audit_offenders WHERE audit = ? GROUP BY 1"
)


class AuditTables:
    """The tables, for one writer at a time. ``revision`` is that of all sets, 0 if no set is audited."""

    def __init__(self, connection: sqlite3.Connection, path: Path, most_offenders: int) -> None:
        """``connection`` is the meta file's, of the newest version; ``most_offenders`` rows of each kind for a set."""
        self._connection, self._path, self._most = connection, path, most_offenders
        self._settled: list[Key] = []
        self.unsettled: list[Key] = [*connection.execute("SELECT day, node, boot, sequence FROM audited")]
        self.revision = 0
        self._look()

    def _look(self) -> None:
        sets = read_sets(self._ask)
        self.revision = sets.revision if any(not item.enforced for item in sets.sets) else 0

    def _ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(text, values).fetchall()

    def put(self, name: str, documents: str, enforced: bool, now_s: int) -> AuditSet:
        """Register or replace a set; see ``AuditStore.put_audit``."""
        with translated(self._path):
            before = {item.name: item for item in read_sets(self._ask).sets}.get(name)
            if before and (before.documents, before.enforced) == (documents, enforced):
                return before
            with transaction(self._connection):
                revision = self._advance()
                self._begin_anew((name,), now_s, revision)
                row = (name, documents, int(enforced), now_s, now_s, revision)
                self._connection.execute("INSERT OR REPLACE INTO audits VALUES(?, ?, ?, ?, ?, ?)", row)
                if enforced or (before and before.enforced):
                    self._begin_anew(self._audited(), now_s, revision)
            self._look()
        return AuditSet(name, documents, enforced, now_s, now_s, revision)

    def drop(self, name: str, now_s: int) -> bool:
        """Forget a set; see ``AuditStore.drop_audit``."""
        with translated(self._path):
            before = {item.name: item for item in read_sets(self._ask).sets}.get(name)
            if before is None:
                return False
            with transaction(self._connection):
                revision = self._advance()
                self._begin_anew((name,), now_s, revision)
                self._connection.execute("DELETE FROM audits WHERE name = ?", (name,))
                if before.enforced:
                    self._begin_anew(self._audited(), now_s, revision)
            self._look()
        return True

    def adopt(self, rows: Iterable[Sequence[Any]], now_s: int) -> None:
        """Take over rows of ``audits`` that were saved from a damaged file; their counting begins anew."""
        rows = list(rows)
        if not rows:
            return
        revision = max(int(row[5]) for row in rows)
        with translated(self._path), transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO identity VALUES('audit_revision', ?)", (str(revision),))
            revision = self._advance()
            self._connection.executemany(
                "INSERT OR IGNORE INTO audits VALUES(?, ?, ?, ?, ?, ?)",
                [(*row[:4], now_s, revision) for row in rows],
            )
        self._look()

    def _advance(self) -> int:
        rows = self._ask(_REVISION)
        revision = int(rows[0][0]) + 1 if rows else 1
        self._connection.execute("INSERT OR REPLACE INTO identity VALUES('audit_revision', ?)", (str(revision),))
        return revision

    def _audited(self) -> list[str]:
        return [row[0] for row in self._ask("SELECT name FROM audits WHERE enforced = 0")]

    def _begin_anew(self, names: Iterable[str], now_s: int, revision: int) -> None:
        for name in names:
            for table in _RESULTS:
                self._connection.execute(f"DELETE FROM {table} WHERE audit = ?", (name,))
            self._connection.execute(
                "UPDATE audits SET since = ?, revision = ? WHERE name = ?", (now_s, revision, name)
            )

    def keep(self, done: Sequence[Waiting], results: Sequence[AuditResult]) -> None:
        """Add ``results`` together with the word that ``done`` are done; nothing if that was said before."""
        keys = [key_of(item) for item in done]
        if set(keys) & set(self.unsettled):
            return
        with translated(self._path), transaction(self._connection):
            write = self._connection.executemany
            write("DELETE FROM audited WHERE (day, node, boot, sequence) = (?, ?, ?, ?)", self._settled)
            write("INSERT INTO audited VALUES(?, ?, ?, ?)", keys)
            current = {item.name: item.revision for item in read_sets(self._ask).sets if not item.enforced}
            for result in results:
                if current.get(result.name) == result.revision:
                    self._add(result)
        self._settled = []
        self.unsettled += keys

    def settle(self) -> None:
        """What was done waits nowhere any more."""
        self._settled += self.unsettled
        self.unsettled = []

    def _add(self, result: AuditResult) -> None:
        name, write = result.name, self._connection.executemany
        write(_ADD_COUNT, [(name, c.policy, c.verdict, int(c.new), c.flows, c.connections) for c in result.counts])
        write(_ADD_REASON, [(name, r.policy, r.reason, r.flows, r.connections) for r in result.reasons])
        left_out = self._add_offenders(name, result.offenders)
        t = msgspec.structs.replace(result.totals, left_out=result.totals.left_out + left_out)
        self._connection.execute(_ADD_TOTALS, (name, *msgspec.structs.astuple(t)))

    def _add_offenders(self, name: str, offenders: Iterable[Offender]) -> int:
        """Flows of those for which there was no room."""
        held: dict[str, int] = dict(self._ask(_KINDS, (name,)))
        left_out = 0
        for o in offenders:
            counted = (o.flows, o.connections, o.first_seen, o.last_seen)
            if self._connection.execute(_SEEN_AGAIN, (*counted, name, *o.key)).rowcount:
                continue
            if held.get(o.kind, 0) >= self._most:
                left_out += o.flows
                continue
            held[o.kind] = held.get(o.kind, 0) + 1
            decided = msgspec.json.encode((o.policies, o.rules, o.reasons, o.assumptions)).decode()
            self._connection.execute(_ADD_OFFENDER, (name, *o.key, *counted, decided))
        return left_out


def key_of(item: Waiting) -> Key:
    """What names a day's part of a batch."""
    return item.day, item.id.node, item.id.boot, item.id.sequence


def read_sets(ask: Ask) -> AuditSets:
    """All sets."""
    revision = ask(_REVISION, ())
    return AuditSets(int(revision[0][0]) if revision else 0, tuple(map(_set, ask(f"{_SETS} ORDER BY name", ()))))


def _set(row: Sequence[Any]) -> AuditSet:
    return AuditSet(row[0], row[1], bool(row[2]), *row[3:])


def read_state(ask: Ask, name: str) -> AuditState | None:
    """A set with its counts."""
    rows = ask(f"{_SETS} WHERE name = ?", (name,))
    if not rows:
        return None
    totals = ask("SELECT * FROM audit_totals WHERE audit = ?", (name,))
    counts = ask("SELECT * FROM audit_counts WHERE audit = ? ORDER BY policy, verdict, new", (name,))
    reasons = ask("SELECT * FROM audit_reasons WHERE audit = ? ORDER BY policy, reason", (name,))
    return AuditState(
        _set(rows[0]),
        AuditTotals(*totals[0][1:]) if totals else AuditTotals(),
        tuple(Count(policy, verdict, bool(new), *counted) for _, policy, verdict, new, *counted in counts),
        tuple(Reason(*row[1:]) for row in reasons),
    )


def read_offenders(ask: Ask, name: str) -> list[Offender]:
    """The evidence of a set."""
    rows = ask(
        "SELECT * FROM audit_offenders WHERE audit = ?"
        " ORDER BY policy <> '', flows DESC, policy, src, dst, protocol, port, verdict",
        (name,),
    )
    decided = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    return [Offender(*row[1:-1], *msgspec.json.decode(row[-1], type=decided)) for row in rows]


def read_waiting(connection: sqlite3.Connection, day: int, done: frozenset[Key], most_facts: int) -> list[Waiting]:
    """Batches of the attached ``day`` that wait, oldest first; one at least, if any does."""
    found: list[Waiting] = []
    for node, boot, sequence, revision, until_s, facts, rows in connection.execute(
        "SELECT node, boot, sequence, revision, until, facts, rows FROM audit_waiting ORDER BY rowid"
    ):
        if (day, node, boot, sequence) in done:
            continue
        table = np.frombuffer(rows, "<i8").reshape(-1, WIDTH)
        found.append(Waiting(BatchId(node, boot, sequence), day, revision, until_s, facts, table))
        most_facts -= len(table)
        if most_facts <= 0:
            break
    return found


def read_done(ask: Ask) -> frozenset[Key]:
    """Batches whose results are kept."""
    return frozenset(ask("SELECT day, node, boot, sequence FROM audited", ()))


def by_day(keys: Iterable[Key]) -> Mapping[int, list[tuple[str, str, int]]]:
    """The keys of each day's file."""
    found: dict[int, list[tuple[str, str, int]]] = {}
    for day, node, boot, sequence in keys:
        found.setdefault(day, []).append((node, boot, sequence))
    return found
