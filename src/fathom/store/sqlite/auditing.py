"""The audit's part of a store on SQLite: sets and results in the meta file, batches that wait in their days' files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fathom.events.batches import Batch
from fathom.policy.findings import Offender
from fathom.store.audits import (
    AuditResult,
    AuditSet,
    AuditSets,
    AuditState,
    Waiting,
    waiting,
)
from fathom.store.parts import Matrix
from fathom.store.sqlite.audits import AuditTables, by_day
from fathom.store.sqlite.dayfile import DayFile
from fathom.store.sqlite.reader import View

T = TypeVar("T")


class _Asking(Protocol):
    def __call__(self, ask: Callable[[View], T], /) -> T: ...


class _Changing(Protocol):
    def __call__(self, change: Callable[[], T], /) -> T: ...


@dataclass(frozen=True)
class Reach:
    """What the store lends: ``asking`` with a view of its own, ``changing`` in the writer's turn, the ``tables`` of its
    meta file, an open ``day_file``, the ``days`` whose files are there, and the clock (epoch seconds)."""

    asking: _Asking
    changing: _Changing
    tables: Callable[[], AuditTables]
    day_file: Callable[[int], DayFile]
    days: Callable[[], list[int]]
    now_s: Callable[[], int]


class SqliteAudits:
    """See ``fathom.store.audits.AuditStore``. ``hold``, ``held`` and ``forget`` are for the store, in its turn."""

    def __init__(self, reach: Reach, most_waiting: int) -> None:
        self._reach, self._most = reach, most_waiting
        self._waiting: dict[int, int] | None = None  # facts that wait by day; None: not counted yet

    # What the store does

    def hold(self, batch: Batch, day: int, facts: Matrix) -> Waiting | None:
        """How a part of a batch waits; None if no set is audited, or there is nothing to judge."""
        revision = self._reach.tables().revision
        if not revision or not len(facts):
            return None
        return waiting(batch, day, revision, facts, room=self._most - sum(self._queue().values()))

    def held(self, item: Waiting) -> None:
        """The part is in its day's file."""
        self._queue()[item.day] = self._queue().get(item.day, 0) + max(len(item.rows), 1)

    def forget(self) -> None:
        """Files of days have gone: count again."""
        self._waiting = None

    def _queue(self) -> dict[int, int]:
        """Facts that wait, by day."""
        if self._waiting is None:
            counted = {day: self._reach.day_file(day).waiting() for day in self._reach.days()}
            self._waiting = {day: count for day, count in counted.items() if count}
        return self._waiting

    # What everybody may ask

    def sets(self) -> AuditSets:
        """See ``AuditStore.sets``."""
        return self._reach.asking(View.audits)

    def put(self, name: str, documents: str, *, enforced: bool) -> AuditSet:
        """See ``AuditStore.put``."""
        return self._reach.changing(lambda: self._reach.tables().put(name, documents, enforced, self._reach.now_s()))

    def drop(self, name: str) -> bool:
        """See ``AuditStore.drop``."""
        return self._reach.changing(lambda: self._reach.tables().drop(name, self._reach.now_s()))

    def work(self, most_facts: int) -> list[Waiting]:
        """See ``AuditStore.work``."""
        waits = sorted(self._reach.changing(self._queue))
        there = set(self._reach.days())
        return self._reach.asking(lambda view: view.audit_work([day for day in waits if day in there], most_facts))

    def backlog(self) -> int:
        """See ``AuditStore.backlog``."""
        return self._reach.changing(lambda: sum(self._queue().values()))

    def keep(self, done: Sequence[Waiting], results: Sequence[AuditResult]) -> None:
        """See ``AuditStore.keep``."""
        self._reach.changing(lambda: self._keep(done, results))

    def _keep(self, done: Sequence[Waiting], results: Sequence[AuditResult]) -> None:
        tables = self._reach.tables()
        tables.keep(done, results)
        queue, there = self._queue(), set(self._reach.days())
        for day, batches in by_day(tables.unsettled).items():
            queue.pop(day, None)
            if day in there:
                self._reach.day_file(day).forget_waiting(batches)
                if count := self._reach.day_file(day).waiting():
                    queue[day] = count
        tables.settle()

    def state(self, name: str) -> AuditState | None:
        """See ``AuditStore.state``."""
        return self._reach.asking(lambda view: view.audit_state(name))

    def offenders(self, name: str) -> list[Offender]:
        """See ``AuditStore.offenders``."""
        return self._reach.asking(lambda view: view.audit_offenders(name))
