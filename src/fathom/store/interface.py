"""What a store promises, as plain types: every engine answers these questions with these rows, and nothing else leaks.

The types hold numbers only in base units (ns, bytes, counts, epoch seconds). No SQL, no engine and no web type appears
here. A fact lies in a window if its interval *starts* in it: ``since_s <= bucket < until_s``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.events.batches import Batch
from fathom.events.edges import Edge, EdgeColumns, Workload
from fathom.policy.inventory import Records
from fathom.policy.seccomp import SyscallSet
from fathom.store.audits import AuditStore
from fathom.store.making import PLAIN, Making

T = TypeVar("T")
Order = Literal["id", "traffic"]

#: Rows that one page holds at most.
MAX_LIMIT = 10_000
#: Edges of which one question gives the identity at most.
MAX_IDENTITIES = 100_000
#: Spans that one question adds up at most.
MAX_SPANS = 8_000_000
#: Points that one series holds at most.
MAX_POINTS = 100_000
SECONDS_PER_HOUR = 3_600
SECONDS_PER_DAY = 86_400


class Window(msgspec.Struct, frozen=True):
    """A half-open stretch of time ``[since_s, until_s)`` in epoch seconds."""

    since_s: int
    until_s: int


class EdgeQuery(msgspec.Struct, frozen=True):
    """Which edges are asked for; an empty text means "any".

    ``workload`` is ``name``, ``kind/name`` or ``namespace/kind/name``; ``peer`` is a peer's name, an address or a
    network in CIDR form. In names ``*`` stands for any text; upper and lower case differ. ``order`` ``traffic`` gives
    the busiest first (bytes sent and received, then id), ``id`` the order of ids. ``id`` is one edge's.
    ``limit`` is 1 to ``MAX_LIMIT``. ``cursor`` is a page's ``next_cursor``: it also holds the window of the first page,
    which replaces ``window``.
    """

    window: Window
    workload: str = ""
    peer: str = ""
    protocol: str = ""
    port: int | None = None
    direction: str = ""
    verdict: str = ""
    node: str = ""
    id: int | None = None
    limit: int = 100
    cursor: str = ""
    order: Order = "id"


class Latency(msgspec.Struct, frozen=True):
    """Handshake latencies: how many, their sum, least and greatest in ns (0 when ``count`` is 0), and how many fell in
    each bucket of ``fathom.events.latency`` (``BUCKETS`` counts)."""

    count: int
    sum_ns: int
    min_ns: int
    max_ns: int
    histogram: tuple[int, ...]


class Sums(msgspec.Struct, frozen=True):
    """What was counted, summed: counts, bytes and packets as seen by the workload, and latencies."""

    connections: int
    failures: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    retransmits: int
    latency: Latency


class EdgeRow(msgspec.Struct, frozen=True):
    """An edge with what was counted on it inside the window.

    ``first_seen`` and ``last_seen`` are the starts of the first and the last interval inside the window in which
    something was counted, epoch seconds.
    """

    id: int
    edge: Edge
    sums: Sums
    first_seen: int
    last_seen: int


class WorkloadRow(msgspec.Struct, frozen=True):
    """A workload with what was counted on all its edges inside the window.

    Pods and containers of a workload are one row, and so are the nodes of a namespaced workload; ``node`` is kept
    where there is no namespace, because ``unit/ssh.service`` on two machines is two workloads. ``peers`` counts
    distinct peers, ``edges`` distinct edges. ``id`` names the workload in this answer's order.
    """

    workload: Workload
    sums: Sums
    peers: int
    edges: int
    first_seen: int
    last_seen: int


class SeriesPoint(msgspec.Struct, frozen=True):
    """What was counted on one edge in one step, which starts at ``time_s`` (a multiple of the step, epoch seconds)."""

    time_s: int
    sums: Sums


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some rows, the window that they are of, and the cursor of the next page (``""`` after the last)."""

    items: tuple[T, ...]
    window: Window
    next_cursor: str = ""


class Gap(msgspec.Struct, frozen=True):
    """A stretch in which a known node was not observed: whole epoch seconds that hold it, half open."""

    node: str
    start_s: int
    end_s: int


class Coverage(msgspec.Struct, frozen=True):
    """How much of a window was observed.

    ``share`` is ``observed_seconds / node_seconds``; 0.0 when no node is known. A node counts from its first
    observation on. Holes shorter than one second are taken as observed.
    """

    share: float
    node_seconds: float
    observed_seconds: float
    gaps: tuple[Gap, ...]


class LossRow(msgspec.Struct, frozen=True):
    """What was not counted where it belongs, by hop, probe, reason and node; see ``fathom.events.batches.Loss``.

    The store's own reasons have hop ``server``: ``too_old`` (older than the retention), ``clock_ahead`` (more than a
    day in the future), ``edges_full`` (bound on edges reached), ``edge_unknown`` (kept, but who it was was lost with a
    damaged file and was not told again yet; no node); ``count`` is in facts there.
    """

    hop: str
    probe: str
    reason: str
    node: str
    count: int
    packets: int
    bytes_sent: int
    bytes_received: int


class NodeRow(msgspec.Struct, frozen=True):
    """A node that reported: its latest boot, when it was first and last observed (epoch seconds), and how many batches
    are held of it within the retention."""

    node: str
    boot: str
    first_seen: int
    last_seen: int
    batches: int


class StoreHealth(msgspec.Struct, frozen=True):
    """How the store is. ``notes`` are sentences for a person: what was damaged, kept aside or refused since opening.

    ``bytes`` is what its files hold on disk; ``days`` are the days (``YYYY-MM-DD``, UTC) whose facts are there.
    """

    writable: bool
    engine: str
    edges: int
    days: tuple[str, ...]
    bytes: int
    notes: tuple[str, ...]


class Store(Protocol):
    """A store of facts. Thread-safe: one writes at a time, any number read; no method needs an event loop.

    Every method raises StoreBusy if trying again may help, and StoreError if it will not.
    """

    @property
    def store_id(self) -> str:
        """Names this set of edges. When it changes, agents must send all edges again. It may change at run time."""
        ...

    @property
    def audit(self) -> AuditStore:
        """The part that serves the audit of policies."""
        ...

    def write(self, batch: Batch) -> bool:
        """Keep ``batch``; returns after the commit, ``False`` if all of it was there before.

        Raises WireError if the batch makes no sense (it never will: do not send it again), EdgeMissing if a fact's edge
        was never told (send the same batch with all its edges), and StoreBusy if it could not be written now (send the
        same batch again: what was written of it will not be counted twice).
        """
        ...

    def edges(self, query: EdgeQuery) -> Page[EdgeRow]:
        """Edges on which something was counted inside the window. Raises UsageError if the query makes no sense."""
        ...

    def edge(self, edge_id: int) -> Edge | None:
        """The edge of an id, or None."""
        ...

    def series(self, edge_id: int, window: Window, step_s: int) -> list[SeriesPoint]:
        """Points of one edge in time order; steps in which nothing was counted are left out.

        Raises UsageError if ``step_s`` is not positive or the window holds more than ``MAX_POINTS`` steps.
        """
        ...

    def workloads(self, query: EdgeQuery) -> Page[WorkloadRow]:
        """Workloads of the edges that ``query`` selects. Raises UsageError if the query makes no sense."""
        ...

    def coverage(self, window: Window, *, grace_s: int = 0) -> Coverage:
        """How much of the window was observed.

        ``grace_s``: a hole of at most this length at the window's end is not held against a node whose report of it
        may still be on its way; those seconds are left out of both sides of the share.
        """
        ...

    def losses(self, window: Window) -> list[LossRow]:
        """What was lost inside the window, where and why, summed."""
        ...

    def nodes(self) -> list[NodeRow]:
        """All nodes known, by name."""
        ...

    def extent(self) -> Window | None:
        """The whole hours in which something was counted or observed, from the first to the last; None if none."""
        ...

    def interval_s(self, window: Window) -> int:
        """The greatest length, in seconds, of which the starts of all facts' intervals inside the window are multiples:
        agents align intervals, so that it is their length. 0 if no fact is there."""
        ...

    def told_interval_s(self) -> int:
        """The same, of all that a recording was taken from; 0 where that is not told, and of any other store."""
        ...

    def spans(self, query: EdgeQuery, cuts: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.void]:
        """When, and how much, something was counted on the edges that ``query`` selects: rows of
        ``fathom.store.spans.SPAN``, sorted by edge, then by time. Limit, cursor and order do not count here.

        Without ``cuts`` an edge is one row. ``cuts`` are (edge, epoch second) pairs, sorted, each once: only those
        edges are told then, a row for each stretch between two cuts in which something was counted. Where the facts
        are gone and a cut lies within an hour, what is left of that hour may be a row of its own.
        Raises UsageError if the query makes no sense, or there are more than ``MAX_SPANS``.
        """
        ...

    def identities(self, ids: npt.NDArray[np.int64]) -> EdgeColumns:
        """Those of at most ``MAX_IDENTITIES`` ids (sorted, each once) that are known, in the same order."""
        ...

    def keep_inventory(self, records: Records, *, cluster: str = "") -> None:
        """Keep versions of objects of ``cluster``, all or none; a version that is there (same object, same ``since``)
        is replaced. Raises UsageError if a record cannot be kept."""
        ...

    def inventory(self, window: Window) -> dict[str, Records]:
        """By cluster, the versions of objects that held at some time inside the window."""
        ...

    def inventory_revision(self) -> int:
        """A number that grows with each change of the inventory."""
        ...

    def keep_syscalls(self, sets: Iterable[SyscallSet]) -> None:
        """Add system calls to those that are kept, all or none. Raises UsageError if a set cannot be kept."""
        ...

    def syscalls(self, window: Window) -> list[SyscallSet]:
        """System calls that were seen inside the window, by workload, container, image, executable, architecture."""
        ...

    def due(self, now_s: int) -> list[int]:
        """Hours (epoch seconds // 3600) that ended before ``now_s`` and whose roll-up is absent or out of date."""
        ...

    def roll(self, hour: int) -> None:
        """Make the roll-up of ``hour`` again from its facts; doing it twice changes nothing."""
        ...

    def record(self, query: EdgeQuery, path: Path, making: Making = PLAIN) -> str:
        """Make a recording of the window and edges that ``query`` selects, in the file ``path``, which appears whole
        or not at all; returns its digest. Limit, cursor and order do not count here.

        Raises UsageError if the query makes no sense, the file is there already, or it would be too large.
        """
        ...

    def drop_before(self, epoch_s: int, *, hours_before_s: int | None = None) -> None:
        """Forget whole days of facts that end at or before ``epoch_s``, roll-ups before ``hours_before_s`` (the same if
        None), edges and nodes that nothing refers to any more, and versions of the inventory and system calls that are
        as old as the roll-ups that go. Facts of those days are refused from then on."""
        ...

    def health(self) -> StoreHealth:
        """How the store is; never raises."""
        ...

    def close(self) -> None:
        """Finish writing and let go of all files; calling it twice is harmless."""
        ...
