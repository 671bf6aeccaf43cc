"""A store in memory, as plain as can be: the double for tests of others, and the meaning to which engines are held.

It keeps every fact and adds up when asked. It refuses to be quick, to be shared between processes, or to survive.
"""

from __future__ import annotations

import math
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.errors import EdgeMissing, UsageError
from fathom.events.batches import Batch, BatchId, Loss
from fathom.events.edges import Edge, EdgeColumns, Workload
from fathom.policy.inventory import Records
from fathom.policy.seccomp import SyscallSet
from fathom.store import filters, inventories, parts, syscalls
from fathom.store.audits import (
    MOST_OFFENDERS,
    MOST_WAITING,
)
from fathom.store.columns import COUNTERS, add, to_sums
from fathom.store.cursors import Key, seal, unseal
from fathom.store.interface import (
    MAX_IDENTITIES,
    MAX_POINTS,
    SECONDS_PER_DAY,
    SECONDS_PER_HOUR,
    Coverage,
    EdgeQuery,
    EdgeRow,
    LossRow,
    NodeRow,
    Page,
    SeriesPoint,
    StoreHealth,
    Window,
    WorkloadRow,
)
from fathom.store.making import PLAIN, Making
from fathom.store.memory_audits import MemoryAudits
from fathom.store.spans import CUT_SPAN, Cuts, Spans, merged, spans
from fathom.store.stretches import coverage

_NS = 1_000_000_000
_NOTHING = [0] * len(COUNTERS)


@dataclass(slots=True)
class _Report:
    """That a batch was heard about a day; ``counts`` on its first day."""

    name: BatchId
    day: int
    last_seen: int
    counts: bool
    gone: bool = False


@dataclass(slots=True)
class _Fact:
    """``gone``: only the hour is left of it."""

    edge: int
    bucket: int
    counters: list[int]
    gone: bool = False


@dataclass(slots=True)
class _Lost:
    """``refused``: by the store itself, which keeps its time."""

    node: str
    loss: Loss
    refused: bool
    gone: bool = False


@dataclass(slots=True)
class _Seen:
    """A stretch within one hour."""

    node: str
    start_ns: int
    end_ns: int
    gone: bool = False

    @property
    def hour(self) -> int:
        return self.start_ns // (SECONDS_PER_HOUR * _NS)


class _Total:
    """Counters of one thing inside a window."""

    def __init__(self) -> None:
        self.counters, self.buckets = list(_NOTHING), set[int]()

    def add(self, bucket: int, counters: list[int]) -> None:
        self.counters = add(self.counters, counters)
        self.buckets.add(bucket)

    @property
    def traffic(self) -> int:
        sums = to_sums(self.counters)
        return sums.bytes_sent + sums.bytes_received


class MemoryStore:
    """See ``fathom.store.interface.Store``."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        most_edges: int = 1_000_000,
        store_id: str = "memory",
        most_waiting: int = MOST_WAITING,
        most_offenders: int = MOST_OFFENDERS,
    ) -> None:
        self.store_id = store_id
        self._clock, self._most_edges = clock, most_edges
        self._lock = threading.RLock()
        self._edges: dict[int, Edge] = {}
        self._facts: list[_Fact] = []
        self._losses: list[_Lost] = []
        self._observed: list[_Seen] = []
        self._ledger: set[tuple[int, BatchId]] = set()  # what of which day is here; goes with its day
        self._refused: set[BatchId] = set()
        self._reports: list[_Report] = []
        self._rolled: set[int] = set()
        self._first_seen: dict[str, int] = {}
        self._floor_day = 0
        self._homeless: set[int] = set()
        self.audit = MemoryAudits(self._lock, lambda: int(clock()), most_waiting, most_offenders)
        self._inventory_revision = 0
        self._endpoints: dict[inventories.Key, inventories.EndpointRow] = {}
        self._syscalls: dict[tuple[str | int, ...], syscalls.SyscallRow] = {}

    def write(self, batch: Batch) -> bool:
        """See ``Store.write``."""
        table = parts.check(batch)
        with self._lock:
            newest = max((day for day, _ in self._ledger), default=0)
            now = int(self._clock())
            end_s = max(now, (newest + 1) * SECONDS_PER_DAY) + SECONDS_PER_DAY
            self._floor_day = min(self._floor_day, now // SECONDS_PER_DAY)
            limits = parts.Limits(self._floor_day, end_s, now)
            facts, refused = parts.timely(table, limits)
            self._admit(batch, {int(e) for e in facts[:, 0]})
            absent = facts[[int(e) not in self._edges for e in facts[:, 0]], 0]
            split, late = parts.split(batch, facts, limits, absent)
            wall_s = min(max(batch.clock.wall_ns // _NS, limits.floor_day * SECONDS_PER_DAY), end_s - 1)
            self._see(batch.id, split, wall_s)
            new = bool(refused + late) and batch.id not in self._refused
            if new:
                self._refused.add(batch.id)
                self._losses += [_Lost(batch.id.node, loss, refused=True) for loss in refused + late]
            for day in split.keys() - {day for day, name in self._ledger if name == batch.id}:
                self._keep(batch.id, day, split[day])
                self.audit.hold(batch, day, split[day].facts)
                new = True
        return new

    def _admit(self, batch: Batch, used: set[int]) -> None:
        new = {edge.id: edge for edge in batch.edges if edge.id not in self._edges}
        room = max(0, self._most_edges - len(self._edges))
        if room:
            self._homeless.clear()
        if used - self._edges.keys() - new.keys() - self._homeless:
            raise EdgeMissing(f"batch {batch.id} holds facts of edges that this store was never told")
        self._edges.update(list(new.items())[:room])
        self._homeless |= new.keys() - self._edges.keys()

    def _see(self, name: BatchId, split: dict[int, parts.Part], wall_s: int) -> None:
        seen = [s for s in (part.seen() for part in split.values()) if s] or [(wall_s, wall_s)]
        first, last = min(s[0] for s in seen), max(s[1] for s in seen)
        self._first_seen[name.node] = min(self._first_seen.get(name.node, first), first)
        for day in split.keys() - {day for day, known in self._ledger if known == name}:
            self._reports.append(_Report(name, day, (split[day].seen() or (first, last))[1], day == min(split)))

    def _keep(self, name: BatchId, day: int, part: parts.Part) -> None:
        self._ledger.add((day, name))
        self._losses += [_Lost(name.node, loss, refused=False) for loss in part.losses]
        hour_ns = SECONDS_PER_HOUR * _NS
        for o in part.observed:
            for hour in range(o.start_ns // hour_ns, -(-o.end_ns // hour_ns)):
                start, end = max(o.start_ns, hour * hour_ns), min(o.end_ns, (hour + 1) * hour_ns)
                self._observed.append(_Seen(name.node, start, end))
        for edge, bucket, *counters in part.facts.tolist():
            self._facts.append(_Fact(edge, bucket, counters))
        self._rolled.difference_update(part.hours())

    def _inside(self, window: Window) -> Iterable[tuple[int, int, list[int]]]:
        """Facts inside the window: edge, bucket, counters."""
        for fact in self._facts:
            if window.since_s <= _time(fact.bucket, fact.gone) < window.until_s:
                yield fact.edge, fact.bucket, fact.counters

    def _totals(self, query: EdgeQuery) -> dict[int, _Total]:
        totals: dict[int, _Total] = defaultdict(_Total)
        for edge, bucket, counters in self._inside(query.window):
            if edge in self._edges and _selects(query, self._edges[edge]):
                totals[edge].add(bucket, counters)
        return totals

    def edges(self, query: EdgeQuery) -> Page[EdgeRow]:
        """See ``Store.edges``."""
        query, key = self._begin("edges", query)
        with self._lock:
            totals = self._totals(query)
            order = {(-t.traffic if query.order == "traffic" else 0, e): e for e, t in totals.items()}
            after = (-int(key[0]) if query.order == "traffic" else 0, key[1]) if key else None
            chosen = [order[k] for k in sorted(order) if after is None or k > after]
            rows = tuple(
                EdgeRow(e, self._edges[e], to_sums(totals[e].counters), min(totals[e].buckets), max(totals[e].buckets))
                for e in chosen[: query.limit]
            )
        end = (totals[rows[-1].id].traffic, rows[-1].id) if len(chosen) > query.limit else None
        return Page(rows, query.window, seal(self.store_id, "edges", query, end) if end else "")

    def workloads(self, query: EdgeQuery) -> Page[WorkloadRow]:
        """See ``Store.workloads``."""
        query, key = self._begin("workloads", query)
        with self._lock:
            totals: dict[Workload, _Total] = defaultdict(_Total)
            members: dict[Workload, set[int]] = defaultdict(set)
            for edge, bucket, counters in self._inside(query.window):
                if edge in self._edges and _selects(query, self._edges[edge]):
                    who = _whole(self._edges[edge].workload)
                    totals[who].add(bucket, counters)
                    members[who].add(edge)
            busiest = query.order == "traffic"
            order = {(-t.traffic if busiest else 0, *_names(w)): w for w, t in totals.items()}
            after = (-int(key[0]) if busiest else 0, *key[1:]) if key else None
            chosen = [order[k] for k in sorted(order) if after is None or k > after]
            rows = tuple(
                WorkloadRow(
                    w,
                    to_sums(totals[w].counters),
                    len({self._edges[e].peer for e in members[w]}),
                    len(members[w]),
                    min(totals[w].buckets),
                    max(totals[w].buckets),
                )
                for w in chosen[: query.limit]
            )
        end = (totals[rows[-1].workload].traffic, *_names(rows[-1].workload)) if len(chosen) > query.limit else None
        return Page(rows, query.window, seal(self.store_id, "workloads", query, end) if end else "")

    def _begin(self, question: str, query: EdgeQuery) -> tuple[EdgeQuery, Key | None]:
        filters.check(query)
        if not query.cursor:
            return query, None
        window, key = unseal(self.store_id, question, query)
        return msgspec.structs.replace(query, window=window), key

    def edge(self, edge_id: int) -> Edge | None:
        """See ``Store.edge``."""
        return self._edges.get(edge_id)

    def series(self, edge_id: int, window: Window, step_s: int) -> list[SeriesPoint]:
        """See ``Store.series``."""
        if step_s < 1 or (window.until_s - window.since_s) // step_s > MAX_POINTS:
            raise UsageError(f"a step of {step_s} s gives no series, or one of more than {MAX_POINTS} points")
        points: dict[int, _Total] = defaultdict(_Total)
        with self._lock:
            for fact in self._facts:
                time = _time(fact.bucket, fact.gone)
                if fact.edge == edge_id and window.since_s <= time < window.until_s:
                    points[time - time % step_s].add(fact.bucket, fact.counters)
        return [SeriesPoint(time, to_sums(points[time].counters)) for time in sorted(points)]

    def coverage(self, window: Window, *, grace_s: int = 0) -> Coverage:
        """See ``Store.coverage``."""
        with self._lock:
            observed: dict[str, list[tuple[int, int]]] = defaultdict(list)
            for seen in self._observed:
                if not seen.gone or seen.hour * SECONDS_PER_HOUR >= window.since_s:
                    observed[seen.node].append((seen.start_ns, seen.end_ns))
            return coverage(window, self._first_seen, observed, grace_s)

    def losses(self, window: Window) -> list[LossRow]:
        """See ``Store.losses``."""
        totals: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        with self._lock:
            for lost in self._losses:
                loss = lost.loss
                if window.since_s <= _time(loss.bucket, lost.gone) < window.until_s:
                    key = (loss.hop, loss.probe, loss.reason, lost.node)
                    counts = (loss.count, loss.packets, loss.bytes_sent, loss.bytes_received)
                    totals[key] = [a + b for a, b in zip(totals[key], counts, strict=True)]
        return [LossRow(*key, *totals[key]) for key in sorted(totals)]

    def nodes(self) -> list[NodeRow]:
        """See ``Store.nodes``."""
        rows = []
        for node in sorted(self._first_seen):
            mine = [report for report in self._reports if report.name.node == node]
            last, boot = max((report.last_seen, report.name.boot) for report in mine)
            held = sum(report.counts for report in mine if not report.gone)
            rows.append(NodeRow(node, boot, self._first_seen[node], last, held))
        return rows

    def extent(self) -> Window | None:
        """See ``Store.extent``."""
        with self._lock:
            hours = {fact.bucket // SECONDS_PER_HOUR for fact in self._facts}
            hours |= {lost.loss.bucket // SECONDS_PER_HOUR for lost in self._losses if not lost.refused}
            hours |= {seen.hour for seen in self._observed}
        if not hours:
            return None
        return Window(min(hours) * SECONDS_PER_HOUR, (max(hours) + 1) * SECONDS_PER_HOUR)

    def interval_s(self, window: Window) -> int:
        """See ``Store.interval_s``."""
        with self._lock:
            inside = (f.bucket for f in self._facts if not f.gone and window.since_s <= f.bucket < window.until_s)
            return math.gcd(*inside)

    def told_interval_s(self) -> int:
        """See ``Store.told_interval_s``."""
        return 0

    def spans(self, query: EdgeQuery, cuts: Cuts | None = None) -> Spans:
        """See ``Store.spans``."""
        filters.check(query)
        times: dict[int, list[int]] = defaultdict(list)
        for edge, time in [] if cuts is None else cuts.tolist():
            times[edge].append(time)

        def after(edge: int, bucket: int) -> int:
            return max((time for time in times.get(edge, ()) if time <= bucket), default=0)

        with self._lock:
            rows = [
                (edge, after(edge, first), after(edge, last), *counts, first, last)
                for edge, first, last, counts in self._moments(query)
                if cuts is None or edge in times
            ]
        return spans(merged([np.array(rows, CUT_SPAN)]))

    def _moments(self, query: EdgeQuery) -> Iterable[tuple[int, int, int, tuple[int, int, int]]]:
        """Edge, first and last bucket, opened, packets sent and received: a fact each, or an hour of gone facts."""
        found: dict[tuple[int, int, bool], list[list[int]]] = defaultdict(list)
        for fact in self._facts:
            time = _time(fact.bucket, fact.gone)
            if not query.window.since_s <= time < query.window.until_s:
                continue
            if fact.edge in self._edges and _selects(query, self._edges[fact.edge]):
                found[fact.edge, time, fact.gone].append([fact.bucket, *fact.counters])
        for (edge, _, _), facts in found.items():
            if min(fact[0] for fact in facts) >= query.window.until_s:
                continue
            sums = [to_sums(counters) for _, *counters in facts]
            opened = sum(one.connections + one.failures for one in sums)
            packets = sum(one.packets_sent for one in sums), sum(one.packets_received for one in sums)
            yield edge, min(fact[0] for fact in facts), max(fact[0] for fact in facts), (opened, *packets)

    def identities(self, ids: npt.NDArray[np.int64]) -> EdgeColumns:
        """See ``Store.identities``."""
        if len(ids) > MAX_IDENTITIES:
            raise UsageError(f"{len(ids)} identities are asked for at once, more than {MAX_IDENTITIES}")
        with self._lock:
            return EdgeColumns.of((number, self._edges[number]) for number in ids.tolist() if number in self._edges)

    def keep_inventory(self, records: Records, *, cluster: str = "") -> None:
        """See ``Store.keep_inventory``."""
        rows = {row.key: row for row, _ in inventories.to_rows(records, cluster)}
        with self._lock:
            self._endpoints.update(rows)
            self._inventory_revision += 1

    def inventory(self, window: Window) -> dict[str, Records]:
        """See ``Store.inventory``."""
        with self._lock:
            held = [row for _, row in sorted(self._endpoints.items()) if inventories.overlaps(row, window)]
        return inventories.to_records((row.cluster, row.kind, row.document) for row in held)

    def inventory_revision(self) -> int:
        """See ``Store.inventory_revision``."""
        return self._inventory_revision

    def keep_syscalls(self, sets: Iterable[SyscallSet]) -> None:
        """See ``Store.keep_syscalls``."""
        rows = syscalls.to_rows(sets)
        with self._lock:
            for row in rows:
                there = self._syscalls.get(row.key)
                self._syscalls[row.key] = syscalls.merged(there, row) if there else row

    def syscalls(self, window: Window) -> list[SyscallSet]:
        """See ``Store.syscalls``."""
        with self._lock:
            rows = [row for _, row in sorted(self._syscalls.items())]
        return syscalls.to_sets(
            row for row in rows if row.first_seen < window.until_s and row.last_seen >= window.since_s
        )

    def record(self, query: EdgeQuery, path: Path, making: Making = PLAIN) -> str:
        """See ``Store.record``."""
        from fathom.store.memory_recordings import Held, write

        filters.check(query)
        window = query.window
        nodes = self.nodes()

        def inside(bucket: int, gone: bool) -> bool:
            return window.since_s <= _time(bucket, gone) < window.until_s

        with self._lock:
            chosen = {number: edge for number, edge in self._edges.items() if _selects(query, edge)}
            facts = [f for f in self._facts if f.edge in chosen and inside(f.bucket, f.gone)]
            used = {fact.edge for fact in facts}
            lasting = Window(window.since_s, -(-window.until_s // SECONDS_PER_HOUR) * SECONDS_PER_HOUR)
            rows = [row for row in self._endpoints.values() if inventories.overlaps(row, lasting)]
            calls = self._syscalls.values()
            held = Held(
                {number: edge for number, edge in chosen.items() if number in used},
                [(fact.edge, fact.bucket, fact.gone, fact.counters) for fact in facts],
                [(m.node, m.gone, m.refused, m.loss) for m in self._losses if inside(m.loss.bucket, m.gone)],
                [(s.node, s.gone, s.start_ns, s.end_ns) for s in self._observed if self._overlaps(s, window)],
                [row for row in nodes if row.first_seen < window.until_s],
                rows,
                [address for row in rows for address in inventories.addresses(row)],
                [c for c in calls if c.first_seen < window.until_s and c.last_seen >= window.since_s],
            )
        return write(held, window, path, making, int(self._clock()))

    @staticmethod
    def _overlaps(seen: _Seen, window: Window) -> bool:
        if seen.gone:
            return window.since_s <= seen.hour * SECONDS_PER_HOUR < window.until_s
        return seen.start_ns < window.until_s * _NS and seen.end_ns > window.since_s * _NS

    def due(self, now_s: int) -> list[int]:
        """See ``Store.due``."""
        hours = {fact.bucket // SECONDS_PER_HOUR for fact in self._facts if not fact.gone}
        return sorted(h for h in hours - self._rolled if (h + 1) * SECONDS_PER_HOUR <= now_s)

    def roll(self, hour: int) -> None:
        """See ``Store.roll``: nothing needs to be made here."""
        self._rolled.add(hour)

    def drop_before(self, epoch_s: int, *, hours_before_s: int | None = None) -> None:
        """See ``Store.drop_before``."""
        with self._lock:
            day = max(self._floor_day, min(epoch_s, int(self._clock())) // SECONDS_PER_DAY)
            first_s = min(epoch_s if hours_before_s is None else hours_before_s, day * SECONDS_PER_DAY)
            hour, self._floor_day = first_s // SECONDS_PER_HOUR, day
            for fact in self._facts:
                fact.gone |= fact.bucket < day * SECONDS_PER_DAY
            for lost in self._losses:
                lost.gone |= not lost.refused and lost.loss.bucket < day * SECONDS_PER_DAY
            for report in self._reports:
                report.gone |= report.day < day
            for seen in self._observed:
                seen.gone |= seen.hour * SECONDS_PER_HOUR < day * SECONDS_PER_DAY
            self._facts = [fact for fact in self._facts if fact.bucket // SECONDS_PER_HOUR >= hour]
            self._losses = [lost for lost in self._losses if lost.loss.bucket // SECONDS_PER_HOUR >= hour]
            self._observed = [seen for seen in self._observed if seen.hour >= hour]
            self._ledger = {(day, name) for day, name in self._ledger if day >= self._floor_day}
            self.audit.forget_before(self._floor_day)
            end_s = hour * SECONDS_PER_HOUR
            self._endpoints = {key: row for key, row in self._endpoints.items() if row.valid_to > end_s}
            self._syscalls = {key: row for key, row in self._syscalls.items() if row.last_seen >= end_s}
            self._forget_nodes(min(hour // 24, int(self._clock()) // SECONDS_PER_DAY - 1))

    def _forget_nodes(self, first_day: int) -> None:
        for node in list(self._first_seen):
            mine = [report for report in self._reports if report.name.node == node]
            gone = all(report.gone for report in mine)
            if gone and max(report.last_seen for report in mine) < first_day * SECONDS_PER_DAY:
                del self._first_seen[node]
                self._reports = [report for report in self._reports if report.name.node != node]

    def health(self) -> StoreHealth:
        """See ``Store.health``."""
        return StoreHealth(True, "memory", len(self._edges), (), 0, ())

    def close(self) -> None:
        """Nothing to let go of."""


def _time(bucket: int, gone: bool) -> int:
    """When something counts: at its time, or where only the hour is left of it, at the hour's start."""
    return bucket - bucket % SECONDS_PER_HOUR if gone else bucket


def _whole(workload: Workload) -> Workload:
    node = "" if workload.namespace else workload.node
    return msgspec.structs.replace(workload, node=node, pod="", container="")


def _names(workload: Workload) -> tuple[str, str, str, str, str]:
    return workload.cluster, workload.node, workload.namespace, workload.kind, workload.name


def _selects(query: EdgeQuery, edge: Edge) -> bool:
    w = edge.workload
    if query.workload and not _is_workload(query.workload, w):
        return False
    if query.peer and not _is_peer(query.peer, edge):
        return False
    if query.protocol and query.protocol.lower() != edge.protocol.lower():
        return False
    return (
        (query.port is None or query.port == edge.port)
        and (not query.direction or query.direction == edge.direction)
        and (not query.verdict or query.verdict == edge.verdict)
        and (not query.node or query.node == w.node)
        and (query.id is None or query.id == edge.id)
    )


def _is_workload(wanted: str, workload: Workload) -> bool:
    for count in range(1, 4):
        patterns = wanted.split("/", count - 1)
        names = (workload.namespace, workload.kind, workload.name)[-count:]
        if len(patterns) == count and all(map(_like, patterns, names)):
            return True
    return False


def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def _address(text: str) -> IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _is_peer(wanted: str, edge: Edge) -> bool:
    address = _address(edge.peer_address)
    if (one := _address(wanted)) is not None:
        return address == one or edge.peer == wanted
    try:
        network = ip_network(wanted, strict=False)
    except ValueError:
        return _like(wanted, edge.peer) or _like(wanted, edge.peer_address)
    in_family = address.ipv4_mapped if address and network.version == 4 else address
    return in_family is not None and in_family in network
