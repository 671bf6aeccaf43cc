"""What a store keeps for the audit of policies: the registered sets, the batches that wait for it, and its results.

A batch waits from the commit that keeps it until the commit that keeps what the audit found in it, so that it is
judged exactly once, also through a kill of the server. The store judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.events.batches import Batch, BatchId
from fathom.events.edges import FACT
from fathom.policy.findings import Count, Offender, Reason

Matrix = npt.NDArray[np.int64]

#: Facts that may wait for the audit; batches beyond are kept in the store, but not judged, and counted as missed.
MOST_WAITING = 2_000_000
#: Rows of one kind that are kept as evidence for one set.
MOST_OFFENDERS = 1_000
#: The longest that an interval is taken to last, seconds.
_LONGEST_S = 3_600
_NS = 1_000_000_000
_NAMES = FACT.names or ()
_COLUMNS = [_NAMES.index(n) for n in ("edge", "bucket", "connections", "packets_sent", "packets_received", "failures")]
#: Columns of ``Waiting.rows``.
WIDTH = 5


class AuditSet(msgspec.Struct, frozen=True):
    """A registered set of policy documents (YAML or JSON text).

    ``enforced``: it is in force already, and the others are judged together with it. ``added`` and ``since`` are epoch
    seconds: when these documents came, and from when on batches are counted (a change of what is enforced begins the
    counting anew). ``revision`` is the revision of all sets at ``since``: a batch that came before is not judged.
    """

    name: str
    documents: str
    enforced: bool
    added: int
    since: int
    revision: int


class AuditSets(msgspec.Struct, frozen=True):
    """All sets by name, and a number that grows with each change of any."""

    revision: int
    sets: tuple[AuditSet, ...] = ()


class Waiting(msgspec.Struct, frozen=True):
    """One day's part of a batch that waits. ``revision``: of the sets when it came. ``until_s``: end of its last
    interval. ``facts`` of them; ``rows`` is int64 (n, 5): edge, bucket, connections and failed attempts, packets sent
    and received; it is empty where the batch fell off the bound."""

    id: BatchId
    day: int
    revision: int
    until_s: int
    facts: int
    rows: Matrix

    @property
    def missed(self) -> bool:
        """Whether it fell off the bound."""
        return len(self.rows) < self.facts


class AuditTotals(msgspec.Struct, frozen=True):
    """How much was judged: batches, facts, and those that were not (``missed``: fell off the bound, or a defect).

    ``left_out`` are flows of offenders for which there was no room. ``last_seen``: the end of the latest interval.
    """

    batches: int = 0
    facts: int = 0
    missed_batches: int = 0
    missed_facts: int = 0
    left_out: int = 0
    last_seen: int = 0


class AuditResult(msgspec.Struct, frozen=True):
    """What to add to the results of the set ``name``, if it still has ``revision``."""

    name: str
    revision: int
    totals: AuditTotals
    counts: tuple[Count, ...] = ()
    reasons: tuple[Reason, ...] = ()
    offenders: tuple[Offender, ...] = ()


class AuditState(msgspec.Struct, frozen=True):
    """A set with all that was found since ``set.since``."""

    set: AuditSet
    totals: AuditTotals
    counts: tuple[Count, ...]
    reasons: tuple[Reason, ...]


class AuditStore(Protocol):
    """The part of a store that serves the audit; raises as ``fathom.store.interface.Store`` does."""

    def sets(self) -> AuditSets:
        """All sets, as every replica sees them."""
        ...

    def put(self, name: str, documents: str, *, enforced: bool) -> AuditSet:
        """Register a set, or replace the one of that name. The same again changes nothing.

        A set that is replaced begins anew; a change of what is enforced lets every audited set begin anew.
        """
        ...

    def drop(self, name: str) -> bool:
        """Forget a set with its results; False if there is none."""
        ...

    def work(self, most_facts: int) -> list[Waiting]:
        """Batches that wait, oldest first: at least one if any does, then up to ``most_facts``. One asks at a time."""
        ...

    def backlog(self) -> int:
        """Facts that wait, about."""
        ...

    def keep(self, done: Sequence[Waiting], results: Sequence[AuditResult]) -> None:
        """Add ``results``, and let ``done`` wait no more: both or neither. Results of another revision are dropped."""
        ...

    def state(self, name: str) -> AuditState | None:
        """The set of that name with its counts, or None."""
        ...

    def offenders(self, name: str) -> list[Offender]:
        """The evidence of a set: most flows first within the set as a whole, then of each policy by itself."""
        ...


def waiting(batch: Batch, day: int, revision: int, facts: Matrix, *, room: int) -> Waiting:
    """The part of ``batch`` with ``facts`` (columns of ``FACT``), as it waits; without rows if ``room`` is too small.

    The last interval ends where the node's observed time does; else at its clock.
    """
    rows = np.ascontiguousarray(facts[:, _COLUMNS[:WIDTH]])
    rows[:, 2] += facts[:, _COLUMNS[WIDTH]]
    newest = int(rows[:, 1].max())
    told = max((-(-item.end_ns // _NS) for item in batch.observed), default=batch.clock.wall_ns // _NS)
    until_s = min(max(told, newest + 1), newest + _LONGEST_S)
    kept = rows if len(rows) <= room else np.zeros((0, WIDTH), np.int64)
    return Waiting(batch.id, day, revision, until_s, len(rows), kept)


def ends_of(item: Waiting) -> npt.NDArray[np.int64]:
    """The last second of the interval of each row: intervals of one batch end where the next begins."""
    buckets = item.rows[:, 1]
    starts = np.unique(buckets)
    ends = np.append(starts[1:], max(item.until_s, int(starts[-1]) + 1))
    found: npt.NDArray[np.int64] = np.minimum(ends, starts + _LONGEST_S)[np.searchsorted(starts, buckets)] - 1
    return found
