"""The audit of policies in memory, as plain as can be: the meaning to which engines are held."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from fathom.events.batches import Batch, BatchId
from fathom.policy.findings import Count, Offender, Reason
from fathom.store.audits import (
    MOST_OFFENDERS,
    MOST_WAITING,
    AuditResult,
    AuditSet,
    AuditSets,
    AuditState,
    AuditTotals,
    Waiting,
    waiting,
)
from fathom.store.parts import Matrix

P = ParamSpec("P")
T = TypeVar("T")


def _locked(method: Callable[Concatenate[MemoryAudits, P], T]) -> Callable[Concatenate[MemoryAudits, P], T]:
    """``method`` with the lock held."""

    def held(self: MemoryAudits, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    held.__doc__ = method.__doc__
    return held


class _Results:
    """All that was found of one set."""

    def __init__(self) -> None:
        self.totals = AuditTotals()
        self.counts: dict[tuple[str, str, bool], list[int]] = {}
        self.reasons: dict[tuple[str, str], list[int]] = {}
        self.offenders: dict[tuple[str, str, str, str, int, str], Offender] = {}

    def add(self, result: AuditResult, most: int) -> None:
        """Add what one turn found."""
        for c in result.counts:
            _add(self.counts.setdefault((c.policy, c.verdict, c.new), [0, 0]), c.flows, c.connections)
        for r in result.reasons:
            _add(self.reasons.setdefault((r.policy, r.reason), [0, 0]), r.flows, r.connections)
        held = Counter(o.kind for o in self.offenders.values())
        left_out = 0
        for o in result.offenders:
            before = self.offenders.get(o.key)
            if before is None and held[o.kind] >= most:
                left_out += o.flows
                continue
            held[o.kind] += before is None
            self.offenders[o.key] = o if before is None else _merged(before, o)
        t, n = self.totals, result.totals
        self.totals = AuditTotals(
            t.batches + n.batches,
            t.facts + n.facts,
            t.missed_batches + n.missed_batches,
            t.missed_facts + n.missed_facts,
            t.left_out + n.left_out + left_out,
            max(t.last_seen, n.last_seen),
        )


class MemoryAudits:
    """See ``fathom.store.audits.AuditStore``; ``lock`` is its owner's, which holds it where it says so."""

    def __init__(
        self,
        lock: threading.RLock,
        now_s: Callable[[], int],
        most_waiting: int = MOST_WAITING,
        most_offenders: int = MOST_OFFENDERS,
    ) -> None:
        self.lock, self._now_s = lock, now_s
        self._most_waiting, self._most_offenders = most_waiting, most_offenders
        self._revision = 0
        self._sets: dict[str, AuditSet] = {}
        self._results: dict[str, _Results] = {}
        self._waiting: dict[tuple[int, BatchId], Waiting] = {}

    def hold(self, batch: Batch, day: int, facts: Matrix) -> None:
        """Let the part of a new batch wait, if any set is audited."""
        if len(facts) and any(not item.enforced for item in self._sets.values()):
            room = self._most_waiting - self.backlog()
            self._waiting[day, batch.id] = waiting(batch, day, self._revision, facts, room=room)

    @_locked
    def backlog(self) -> int:
        """See ``AuditStore.backlog``."""
        return sum(max(len(item.rows), 1) for item in self._waiting.values())

    def forget_before(self, day: int) -> None:
        """Days before ``day`` are gone."""
        self._waiting = {key: item for key, item in self._waiting.items() if key[0] >= day}

    @_locked
    def sets(self) -> AuditSets:
        """See ``AuditStore.sets``."""
        return AuditSets(self._revision, tuple(self._sets[name] for name in sorted(self._sets)))

    @_locked
    def put(self, name: str, documents: str, *, enforced: bool) -> AuditSet:
        """See ``AuditStore.put``."""
        before = self._sets.get(name)
        if before and (before.documents, before.enforced) == (documents, enforced):
            return before
        self._revision += 1
        now_s = self._now_s()
        self._sets[name] = AuditSet(name, documents, enforced, now_s, now_s, self._revision)
        self._results.pop(name, None)
        if enforced or (before and before.enforced):
            self._begin_anew(self._sets)
        return self._sets[name]

    @_locked
    def drop(self, name: str) -> bool:
        """See ``AuditStore.drop``."""
        before = self._sets.pop(name, None)
        if before is None:
            return False
        self._revision += 1
        self._results.pop(name, None)
        if before.enforced:
            self._begin_anew(self._sets)
        return True

    def _begin_anew(self, names: Iterable[str]) -> None:
        for name in list(names):
            if not self._sets[name].enforced:
                self._results[name] = _Results()
                self._sets[name] = msgspec.structs.replace(
                    self._sets[name], since=self._now_s(), revision=self._revision
                )

    @_locked
    def work(self, most_facts: int) -> list[Waiting]:
        """See ``AuditStore.work``."""
        items: list[Waiting] = []
        left = most_facts
        for _, item in sorted(self._waiting.items(), key=lambda held: held[0][0]):
            if left <= 0:
                break
            items.append(item)
            left -= len(item.rows)
        return items

    @_locked
    def keep(self, done: Sequence[Waiting], results: Sequence[AuditResult]) -> None:
        """See ``AuditStore.keep``."""
        if any((item.day, item.id) not in self._waiting for item in done):
            return
        for item in done:
            del self._waiting[item.day, item.id]
        for result in results:
            current = self._sets.get(result.name)
            if current and not current.enforced and current.revision == result.revision:
                self._results.setdefault(result.name, _Results()).add(result, self._most_offenders)

    @_locked
    def state(self, name: str) -> AuditState | None:
        """See ``AuditStore.state``."""
        if name not in self._sets:
            return None
        found = self._results.get(name) or _Results()
        counts = tuple(Count(*key, *found.counts[key]) for key in sorted(found.counts))
        reasons = tuple(Reason(*key, *found.reasons[key]) for key in sorted(found.reasons))
        return AuditState(self._sets[name], found.totals, counts, reasons)

    @_locked
    def offenders(self, name: str) -> list[Offender]:
        """See ``AuditStore.offenders``."""
        found = self._results.get(name) or _Results()
        return sorted(found.offenders.values(), key=lambda o: (o.policy != "", -o.flows, *o.key))


def _add(held: list[int], flows: int, connections: int) -> None:
    held[0] += flows
    held[1] += connections


def _merged(before: Offender, now: Offender) -> Offender:
    return msgspec.structs.replace(
        before,
        flows=before.flows + now.flows,
        connections=before.connections + now.connections,
        first_seen=min(before.first_seen, now.first_seen),
        last_seen=max(before.last_seen, now.last_seen),
    )
