"""Judging: batches that wait become flows, every audited set says what it would do to them, and the results are kept.

All of it runs in one thread beside the writer, in turns of a bounded number of facts. A set is compiled once for an
inventory. A set that cannot be judged is told and counted as missed; it holds up neither the others nor the queue.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.errors import UsageError
from fathom.policy.audit import OPTIONS, Key, audit, together
from fathom.policy.compile import Compiled, compile_policies
from fathom.policy.evaluate import Verdicts, evaluate
from fathom.policy.findings import KINDS, Count, Findings, Offender, Reason
from fathom.policy.flows import Flows
from fathom.policy.inventory import Inventory
from fathom.policy.model import PolicySet
from fathom.policy.resolve import Resolved, resolve
from fathom.server.inventories import Inventories
from fathom.server.policytexts import in_force, parsed
from fathom.server.waitingflows import Came, UnknownEdges, flows_by_cluster
from fathom.store.audits import MOST_OFFENDERS, AuditResult, AuditSet, AuditSets, AuditTotals, Waiting
from fathom.store.interface import Store

#: Facts of one turn, about; a single batch may hold more.
FACTS_A_TURN = 200_000
#: Addresses that flows may add to an inventory's index before it is made anew.
MOST_ADDRESSES = 50_000
#: Why a flow of an edge that was lost with a damaged file cannot be judged.
WHO_IS_LOST = "who it was is not known: it was lost with a damaged file"
_LOG = logging.getLogger(__name__)
_Evidence = dict[Key, Offender]


@dataclass(slots=True)
class Turn:
    """What one turn did. ``found`` by set; ``told``: new denials and unknown verdicts with who decided, by set.
    ``policies`` of each audited set, where that has changed; ``failed`` are sets that could not be judged;
    ``loading_s`` seconds went into new inventories."""

    totals: AuditTotals
    seconds: float
    found: dict[str, Findings] = field(default_factory=dict)
    told: dict[str, list[Offender]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    failed: set[str] = field(default_factory=set)
    compiled: int = 0
    loading_s: float = 0.0
    policies: dict[str, tuple[str, ...]] | None = None


class _Sets:
    """The registered sets, read once."""

    def __init__(self) -> None:
        self.revision = -1
        self.audited: tuple[AuditSet, ...] = ()
        self.enforced = PolicySet()
        self._read: dict[str, tuple[str, PolicySet]] = {}

    def renew(self, sets: AuditSets) -> bool:
        """Whether anything changed."""
        if sets.revision == self.revision:
            return False
        self.revision = sets.revision
        self.audited = tuple(item for item in sets.sets if not item.enforced)
        self._read = {item.name: self._parse(item) for item in sets.sets}
        self.enforced = PolicySet(in_force(sets).policies)
        return True

    def _parse(self, item: AuditSet) -> tuple[str, PolicySet]:
        before = self._read.get(item.name)
        if before and before[0] == item.documents:
            return before
        return item.documents, parsed(item.name, item.documents)

    def check(self, name: str) -> None:
        """Raises UsageError if a document of the set, or of what is enforced, is refused: earlier ones were not."""
        for held, (_, policies) in self._read.items():
            if policies.refused and (held == name or held not in {item.name for item in self.audited}):
                raise UsageError(f"policies {held}: {policies.refused[0]}", do="register it anew")

    def of(self, name: str) -> PolicySet:
        """The policies of one set."""
        return self._read[name][1]


class _World:
    """One inventory with everything that was compiled for it."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.compiled: dict[tuple[str, int], tuple[Compiled, tuple[int, ...]]] = {}
        self.began_with = len(inventory.index.addresses.values)

    @property
    def grown(self) -> bool:
        """Whether flows have added so many addresses that every look costs more than it should."""
        return len(self.inventory.index.addresses.values) - self.began_with > MOST_ADDRESSES


class Judge:
    """See the module. ``turn`` is called from one thread at a time."""

    def __init__(self, store: Store, inventories: Inventories, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._inventories, self._clock = store, inventories, clock
        self._sets = _Sets()
        self._worlds: dict[str, _World] = {}
        self._evidence: dict[tuple[str, int], _Evidence] = {}

    def turn(self) -> Turn | None:
        """Judge what waits, one turn's worth; None if nothing does. Raises what the store raises: it still waits."""
        begin = self._clock()
        work = self._store.audit.work(FACTS_A_TURN)
        changed = self._sets.renew(self._store.audit.sets())  # after the work: none of it came later than these sets
        if not work and not changed:
            return None
        done = Turn(_totals(work), 0.0)
        if changed:
            done.policies = {s.name: tuple(p.title for p in self._sets.of(s.name).policies) for s in self._sets.audited}
            self._forget()
        if work:
            self._judge(work, done)
        done.waiting = self._store.audit.backlog()
        done.seconds = self._clock() - begin
        return done

    def _judge(self, work: Sequence[Waiting], done: Turn) -> None:
        totals = self._todo(work)
        done.found = {name: Findings() for name in totals}
        parts, lost = flows_by_cluster(work, self._store)
        for part in parts:
            self._cluster(part, done)
        self._lost(lost, done)
        results = []
        for item in self._sets.audited:
            mine, found = totals[item.name], done.found[item.name]
            if item.name in done.failed:
                mine, found = _missed(mine), Findings()
                done.found[item.name] = found
            if mine.batches or mine.missed_batches:
                parts_of = found.counts, found.reasons, found.offenders
                results.append(AuditResult(item.name, item.revision, mine, *parts_of))
        self._store.audit.keep(work, results)
        self._remember(results, done)

    # -- sets and worlds

    def _forget(self) -> None:
        """Drop what belongs to sets that are not registered any more, or were replaced."""
        current = {(item.name, item.revision) for item in self._sets.audited}
        self._evidence = {key: held for key, held in self._evidence.items() if key in current}
        for world in self._worlds.values():
            world.compiled = {key: made for key, made in world.compiled.items() if key in current}

    def _todo(self, items: Sequence[Waiting]) -> dict[str, AuditTotals]:
        """How much of ``items`` each set has to judge: what came after it was registered."""
        return {
            item.name: _totals([one for one in items if one.revision >= item.revision]) for item in self._sets.audited
        }

    def _world(self, cluster: str, since_s: int, done: Turn) -> _World:
        world = self._worlds.get(cluster)
        if world and world.grown:
            self._inventories.renew()
        begin = self._clock()
        inventory = self._inventories.at(cluster, since_s)
        if world is None or world.inventory is not inventory:
            world = self._worlds[cluster] = _World(inventory)
            done.loading_s += self._clock() - begin
        return world

    def _compiled(self, world: _World, name: str, revision: int, done: Turn) -> tuple[Compiled, tuple[int, ...]]:
        """A set together with what is enforced (``""``: that alone), compiled once for an inventory."""
        held = world.compiled.get((name, revision))
        if held is None:
            audited = self._sets.of(name) if name else PolicySet()
            policies, own = together(self._sets.enforced, audited)
            held = compile_policies(policies, world.inventory, OPTIONS), own
        elif (current := held[0].current()) is not held[0]:
            held = current, held[1]
        else:
            return held
        done.compiled += 1
        world.compiled[name, revision] = held
        return held

    # -- judging

    def _cluster(self, part: Came, done: Turn) -> None:
        flows, revisions = part.flows, part.revisions
        world = self._world(part.cluster, int(flows.rows["first"].min()), done)
        resolved = resolve(flows, world.inventory, OPTIONS)
        before = evaluate(self._compiled(world, "", self._sets.revision, done)[0], resolved)
        for item in self._sets.audited:
            mine = revisions >= item.revision
            if item.name in done.failed or not mine.any():
                continue
            try:
                self._sets.check(item.name)
                at = (flows, resolved, before) if mine.all() else _part(flows, world, mine, before)
                found = self._look(item, self._compiled(world, item.name, item.revision, done), at)
            except Exception:  # whatever it is, the others are judged, and this is told
                _LOG.exception("policies %s could not be judged: its facts of this turn count as missed", item.name)
                done.failed.add(item.name)
            else:
                done.found[item.name] = _joined(done.found[item.name], found)

    def _look(
        self, item: AuditSet, made: tuple[Compiled, tuple[int, ...]], at: tuple[Flows, Resolved, Verdicts]
    ) -> Findings:
        evidence = self._evidence_of(item)
        held = Counter(one.kind for one in evidence.values())
        room = {kind: MOST_OFFENDERS - held[kind] for kind in KINDS}
        return audit(made[0], made[1], *at, known=evidence, room=room)

    def _evidence_of(self, item: AuditSet) -> _Evidence:
        key = (item.name, item.revision)
        if key not in self._evidence:
            self._evidence[key] = {one.key: one for one in self._store.audit.offenders(item.name)}
        return self._evidence[key]

    def _lost(self, lost: UnknownEdges, done: Turn) -> None:
        """Flows of edges whose identity is not there: nobody can judge them."""
        for item in self._sets.audited:
            mine = lost.revisions >= item.revision
            if not mine.any():
                continue
            flows, count = int(mine.sum()), int(lost.counts[mine].sum())
            found = Findings((Count("", "unknown", True, flows, count),), (Reason("", WHO_IS_LOST, flows, count),))
            done.found[item.name] = _joined(done.found[item.name], found)

    def _remember(self, results: Iterable[AuditResult], done: Turn) -> None:
        """Keep what was explained, so that it is not explained again; and say what is to be told."""
        for result in results:
            evidence = self._evidence.get((result.name, result.revision), {})
            held = Counter(one.kind for one in evidence.values())
            for one in result.offenders:
                if one.key not in evidence:
                    if held[one.kind] >= MOST_OFFENDERS:
                        done.left_out[result.name] += one.flows
                    else:
                        held[one.kind] += 1
                        evidence[one.key] = one
                done.told.setdefault(result.name, []).append(_explained(one, evidence))


def _explained(now: Offender, evidence: _Evidence) -> Offender:
    """What was seen now, with what is known about it."""
    known = evidence.get(now.key)
    if known is None or known is now:
        return now
    return msgspec.structs.replace(
        now, policies=known.policies, rules=known.rules, reasons=known.reasons, assumptions=known.assumptions
    )


def _part(
    flows: Flows, world: _World, mine: npt.NDArray[np.bool_], before: Verdicts
) -> tuple[Flows, Resolved, Verdicts]:
    """Only the flows that came after the set was registered."""
    part = flows.select(mine)
    verdicts = Verdicts(*(getattr(before, name)[mine] for name in _VERDICT_FIELDS))
    return part, resolve(part, world.inventory, OPTIONS), verdicts


_VERDICT_FIELDS = ("verdict", "egress", "ingress", "reasons", "assumptions")


def _totals(items: Sequence[Waiting]) -> AuditTotals:
    """How much ``items`` are; a batch over midnight counts once if both of its days are there."""
    judged = [item for item in items if not item.missed]
    missed = [item for item in items if item.missed]
    return AuditTotals(
        len({item.id for item in judged}),
        sum(item.facts for item in judged),
        len({item.id for item in missed}),
        sum(item.facts for item in missed),
        0,
        max((item.until_s for item in judged), default=0),
    )


def _missed(totals: AuditTotals) -> AuditTotals:
    """The same work, not done."""
    return AuditTotals(0, 0, totals.batches + totals.missed_batches, totals.facts + totals.missed_facts, 0, 0)


def _joined(a: Findings, b: Findings) -> Findings:
    return Findings(a.counts + b.counts, a.reasons + b.reasons, a.offenders + b.offenders)
