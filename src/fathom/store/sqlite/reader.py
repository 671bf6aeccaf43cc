"""Answering questions: each gets its own read-only connection, so that readers wait for nobody and see whole commits.

Days are attached one after the other and added up in a temporary table; a question over a month opens one file at a
time. This module decides nothing about what an answer means: ``fathom.store.planning`` and ``queries`` do.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.errors import StoreDamaged, UsageError
from fathom.events.edges import Edge, EdgeColumns, Workload
from fathom.policy.findings import Offender
from fathom.policy.inventory import Records
from fathom.policy.seccomp import SyscallSet
from fathom.store import inventories, queries, schema, syscalls
from fathom.store.audits import AuditSets, AuditState, Waiting
from fathom.store.columns import COUNTERS, add, to_sums
from fathom.store.cursors import Key
from fathom.store.filters import conditions
from fathom.store.interface import (
    MAX_IDENTITIES,
    MAX_POINTS,
    MAX_SPANS,
    SECONDS_PER_HOUR,
    Coverage,
    EdgeQuery,
    EdgeRow,
    LossRow,
    NodeRow,
    SeriesPoint,
    Window,
    WorkloadRow,
)
from fathom.store.planning import HOURS_PER_DAY, Plan, days_of, hours_of, plan
from fathom.store.spans import CUT_SPAN, SPAN, Cuts, Spans, hours_within, merged, spans, uncut
from fathom.store.sqlite import audits
from fathom.store.sqlite.files import Layout, Vanished, connect, there, translated, uri
from fathom.store.sqlite.metafile import HourRows, to_edge
from fathom.store.stretches import Stretch, coverage
from fathom.store.tallies import CLUSTERS, QUESTIONS, Tally

_NS = 1_000_000_000
_EDGE = len(queries.EDGE)
_COUNTERS = len(COUNTERS)
_GROUP = 5
#: Steps (picked edges times buckets) up to which edges are looked up one by one.
_FEW_STEPS = 50_000
#: The edges of a list of ids, in its order, column by column as JSON: a tenth of the time that rows of objects take.
IDENTITIES = (
    f"SELECT json_group_array(edges.id), json_group_array(json_array({', '.join(queries.WORKLOAD)}) || ''),"
    + ", ".join(f"json_group_array({name})" for name in ("direction", "peer", "peer_address", "protocol", "port"))
    + ", json_group_array(verdict) FROM json_each(?) AS wanted CROSS JOIN edges ON edges.id = wanted.value"
)
#: Edges that are read together, so that a column is no longer than a recording may hold.
_TOGETHER = 10_000
#: Spans that are read before they are added up.
_SPANS_TOGETHER = 1 << 20
_RETIRED = "SELECT value FROM identity WHERE name = 'retired'"


def glob(column: str, pattern: str) -> tuple[str, str]:
    """SQLite's condition for a pattern in which only ``*`` is special."""
    return f"{column} GLOB ?", pattern.replace("[", "[[]").replace("?", "[?]")


class View:
    """One question's view of a store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        with translated(layout.meta):
            self._connection = connect(layout.meta, layout.mode)
        self._retired = self._ask(_RETIRED)

    def identity(self) -> dict[str, str]:
        """What the store says about itself."""
        return dict(self._ask("SELECT name, value FROM identity LIMIT 1000"))

    def tally(self) -> Tally:
        """How much is there, in one file."""
        return Tally(*(int(self._ask(text)[0][0]) for text in QUESTIONS))

    def clusters(self) -> list[str]:
        """The names of the clusters of which something is there."""
        return [str(row[0]) for row in self._ask(CLUSTERS)]

    def hours(self) -> list[int]:
        """The hours of which something is there, in one file."""
        text = "SELECT hour FROM hours UNION SELECT hour FROM rolled UNION SELECT hour FROM refused_losses"
        return [int(row[0]) for row in self._ask(text)]

    def summed_hours(self) -> list[int]:
        """The hours of which roll-ups are there."""
        return [int(row[0]) for row in self._ask("SELECT DISTINCT hour FROM rolled")]

    def observed(self) -> list[tuple[str, int, int]]:
        """All stretches in which nodes were observed, of one file."""
        found = self._ask(
            "SELECT node, start_ns, end_ns FROM observed UNION ALL SELECT node, start_ns, end_ns FROM hourly_observed"
        )
        return [(str(node), int(begin), int(end)) for node, begin, end in found]

    def check_unmoved(self) -> None:
        """Raises Vanished if a day was dropped or kept aside since the view was made: then part of the answer may be
        missing, or there twice."""
        if self._ask(_RETIRED) != self._retired:
            raise Vanished("a day went while it was read")

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()

    def _ask(self, text: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with translated(self._layout.meta):
            return self._connection.execute(text, values).fetchall()

    @contextlib.contextmanager
    def _day(self, day: int) -> Iterator[sqlite3.Connection]:
        """The connection, with the tables of ``day`` in reach."""
        path = self._layout.day(day)
        with translated(path):
            if not self._layout.single:
                with there(path):
                    self._connection.execute("ATTACH DATABASE ? AS day", (uri(path, "ro"),))
                schema.check(self._connection, name="day")
            yield self._connection  # after an error the view is of no use, so nothing is detached
            if not self._layout.single:
                self._connection.execute("DETACH DATABASE day")

    def _days(self, window: Window) -> list[int]:
        inside = days_of(window)
        return [day for day in self._layout.days() if day in inside]

    def _files(self) -> list[int]:
        """One day for each file with facts."""
        return self._layout.days()[: 1 if self._layout.single else None]

    def plan_of(self, window: Window, *, exact_times: bool = False, exact: Collection[int] = ()) -> Plan:
        hours = hours_of(window)
        written: dict[int, int] = {}
        for day in self._days(window):
            with self._day(day) as connection:
                rows = connection.execute(
                    "SELECT hour, revision FROM hours WHERE hour >= ? AND hour < ?",
                    (max(hours.start, day * HOURS_PER_DAY), min(hours.stop, (day + 1) * HOURS_PER_DAY)),
                )
                written.update(rows.fetchall())
        rolled = self._ask(
            "SELECT hour, gone, revision FROM rolled WHERE hour >= ? AND hour < ?", (hours.start, hours.stop)
        )
        there = {hour: revision for hour, gone, revision in rolled if not gone}
        return plan(
            window, written, there, {hour for hour, gone, _ in rolled if gone}, exact_times=exact_times, exact=exact
        )

    def _pick(self, query: EdgeQuery) -> int | None:
        """Fill ``picked`` with the edges that ``query`` selects, and say how many; None if it selects all."""
        self._ask(queries.MAKE_PICKED)
        wanted = conditions(query, glob)
        if not wanted:
            return None
        values = [value for _, parameters in wanted for value in parameters]
        self._ask(queries.pick(text for text, _ in wanted), values)
        return int(self._ask("SELECT COUNT(*) FROM picked")[0][0])

    def _add_up(self, question: queries.Question, window: Window, plan: Plan, picked: int | None) -> None:
        """Add up what was counted inside the window on the edges in ``picked`` (on all if None)."""
        bounds = {"since": window.since_s, "until": window.until_s}
        if picked == 0:
            return
        for day, hours in plan.facts.items():
            with self._day(day) as connection:
                buckets = connection.execute(queries.count_buckets(hours), bounds).fetchone()[0]
                if picked is not None and picked * buckets <= _FEW_STEPS:
                    connection.execute(question.picked_facts(hours), bounds)
                else:
                    connection.execute(question.facts(hours, picked=picked is not None), bounds)
        for gone, hours in plan.hourly.items():
            self._ask(question.hourly(hours, picked=picked is not None), {"gone": gone})

    def edges(self, query: EdgeQuery, key: Key | None) -> tuple[list[EdgeRow], Key | None]:
        """At most ``limit`` edges after ``key``, and where the page ended if there are more."""
        plan = self.plan_of(query.window)
        self._ask(queries.MAKE_RANKS)
        self._add_up(queries.RANK, query.window, plan, self._pick(query))
        busiest = query.order == "traffic"
        traffic, edge = key if key is not None else (2**63 - 1, 0)
        page = self._ask(
            queries.PAGE_BY_TRAFFIC if busiest else queries.PAGE_BY_ID,
            {"traffic": traffic, "edge": edge, "limit": query.limit + 1},
        )
        more, page = len(page) > query.limit, page[: query.limit]
        self._ask(queries.FORGET_PICKED)
        with translated(self._layout.meta):
            self._connection.executemany(queries.PICK_ONE, [(row[0],) for row in page])
        self._ask(queries.MAKE_SUMS)
        self._add_up(queries.SUM, query.window, plan, len(page))
        rows = [
            EdgeRow(row[0], to_edge(row[1 : 1 + _EDGE]), to_sums(row[1 + _EDGE : 1 + _EDGE + _COUNTERS]), *row[-2:])
            for row in self._ask(queries.EDGES)
        ]
        rows.sort(key=_busiest_first if busiest else _by_id)
        return rows, (page[-1][1], page[-1][0]) if more else None

    def workloads(self, query: EdgeQuery, key: Key | None) -> tuple[list[WorkloadRow], Key | None]:
        """At most ``limit`` workloads after ``key``, and where the page ended if there are more."""
        self._ask(queries.MAKE_SUMS)
        self._add_up(queries.SUM, query.window, self.plan_of(query.window), self._pick(query))
        traffic, *who = key or (0, "", "", "", "", "")
        values = dict(zip(("cluster", "host", "namespace", "kind", "name"), who, strict=True))
        text = queries.WORKLOADS_BY_TRAFFIC if query.order == "traffic" else queries.WORKLOADS_BY_ID
        page = {"traffic": traffic, "first": int(key is None), "limit": query.limit + 1}
        found = self._ask(text, {**values, **page})
        rows = [
            WorkloadRow(Workload(*row[:_GROUP]), to_sums(row[_GROUP : _GROUP + _COUNTERS]), *row[_GROUP + _COUNTERS :])
            for row in found[: query.limit]
        ]
        return rows, _workload_key(rows[-1]) if len(found) > query.limit else None

    def spans(self, query: EdgeQuery, cuts: Cuts | None) -> Spans:
        """What was counted on edges, cut at ``cuts`` if there are any."""
        hours_cut = set() if cuts is None else hours_within(cuts[:, 1].tolist())
        plan = self.plan_of(query.window, exact=hours_cut)
        picked = self._pick(query)
        if picked == 0:
            return np.zeros(0, SPAN)
        if cuts is not None:
            self._ask(queries.MAKE_CUTS)
            with translated(self._layout.meta):
                self._connection.executemany(queries.CUT, cuts.tolist())
        how = {"picked": picked is not None, "cut": cuts is not None}
        bounds = {"since": query.window.since_s, "until": query.window.until_s}
        found = np.zeros(0, CUT_SPAN)
        for day, hours in plan.facts.items():
            with self._day(day) as connection:
                rows = connection.execute(queries.spans_of_facts(hours, **how), bounds)
                found = _together(found, rows, cut=cuts is not None)
        sums = {**plan.hourly, 1: self._reaching(query.window)} if self._layout.single else plan.hourly
        for gone, hours in sums.items():
            with translated(self._layout.meta):
                rows = self._connection.execute(queries.spans_of_hourly(hours, **how), {**bounds, "gone": gone})
                found = _together(found, rows, cut=cuts is not None)
        return spans(found)

    def _reaching(self, window: Window) -> tuple[int, ...]:
        """The hours of which a recording holds sums that may reach into the window: none of them can be divided."""
        hours = hours_of(window)
        bounds = {"since": window.since_s, "first_hour": hours.start, "end_hour": hours.stop}
        found = self._ask(queries.SUMS_TOUCHED, bounds)
        if self._ask(queries.FROM_FILES):
            found += self._ask(queries.SUMS_BEFORE, bounds)
        return tuple(sorted(int(hour) for (hour,) in found))

    def identities(self, ids: npt.NDArray[np.int64]) -> EdgeColumns:
        """Those of ``ids`` that are known."""
        if len(ids) > MAX_IDENTITIES:
            raise UsageError(f"{len(ids)} identities are asked for at once, more than {MAX_IDENTITIES}")
        found = [EdgeColumns()]
        for first in range(0, len(ids), _TOGETHER):
            wanted = msgspec.json.encode(ids[first : first + _TOGETHER].tolist()).decode()
            found.append(EdgeColumns(*(_column(text) for text in self._ask(IDENTITIES, (wanted,))[0])))
        return EdgeColumns(*(list(itertools.chain(*parts)) for parts in zip(*found, strict=True)))

    def interval_s(self, window: Window) -> int:
        """The greatest common divisor of the buckets inside the window."""
        found = 0
        for day, hours in self.plan_of(window, exact_times=True).facts.items():
            with self._day(day) as connection:
                bounds = {"since": window.since_s, "until": window.until_s}
                found = math.gcd(found, *(row[0] for row in connection.execute(queries.buckets(hours), bounds)))
        return found

    def extent(self) -> Window | None:
        """The hours of which something is there."""
        rows = [(hour, hour) for (hour,) in self._ask("SELECT hour FROM rolled")]
        for day in self._files():
            with self._day(day) as connection:
                rows += connection.execute("SELECT MIN(hour), MAX(hour) FROM hours HAVING COUNT(*) > 0")
        if not rows:
            return None
        first, last = min(row[0] for row in rows), max(row[1] for row in rows)
        return Window(first * SECONDS_PER_HOUR, (last + 1) * SECONDS_PER_HOUR)

    def inventory(self, window: Window) -> dict[str, Records]:
        """Versions of objects that held inside the window."""
        bounds = {"since": window.since_s, "until": window.until_s, "limit": inventories.MOST_RECORDS + 1}
        with translated(self._layout.meta):
            return inventories.to_records(self._connection.execute(queries.INVENTORY, bounds))

    def syscalls(self, window: Window) -> list[SyscallSet]:
        """System calls seen inside the window."""
        bounds = {"since": window.since_s, "until": window.until_s, "limit": syscalls.MOST_ROWS + 1}
        with translated(self._layout.meta):
            rows = self._connection.execute(queries.SYSCALLS, bounds).fetchall()
            if len(rows) > syscalls.MOST_ROWS:
                raise StoreDamaged(f"more than {syscalls.MOST_ROWS} system calls are kept")
        return syscalls.to_sets(syscalls.SyscallRow(*row) for row in rows)

    def edge(self, edge_id: int) -> Edge | None:
        """The edge of an id."""
        rows = self._ask(f"SELECT {', '.join(queries.EDGE)} FROM edges WHERE id = ?", (edge_id,))
        return to_edge(rows[0]) if rows else None

    def series(self, edge_id: int, window: Window, step_s: int) -> list[SeriesPoint]:
        """Points of one edge in time order."""
        if step_s < 1 or (window.until_s - window.since_s) // step_s > MAX_POINTS:
            raise UsageError(
                f"a step of {step_s} s gives no series, or one of more than {MAX_POINTS} points",
                do="give a longer step or a shorter window",
            )
        values = {"edge": edge_id, "step": step_s, "since": window.since_s, "until": window.until_s}
        plan = self.plan_of(window, exact_times=step_s % SECONDS_PER_HOUR != 0)
        points: dict[int, Sequence[int]] = {}
        for day, hours in plan.facts.items():
            with self._day(day) as connection:
                _add_points(points, connection.execute(queries.series_facts(hours), values).fetchall())
        for gone, hours in plan.hourly.items():
            _add_points(points, self._ask(queries.series_hourly(hours), {**values, "gone": gone}))
        return [SeriesPoint(time, to_sums(points[time])) for time in sorted(points)]

    def losses(self, window: Window) -> list[LossRow]:
        """What was lost inside the window."""
        values = {"since": window.since_s, "until": window.until_s}
        hours = hours_of(window)
        bounds = {**values, "first_hour": hours.start, "end_hour": hours.stop}
        plan = self.plan_of(window, exact_times=True)
        orphans = bool(self._ask("SELECT EXISTS(SELECT 1 FROM orphans)")[0][0])
        rows = self._ask(queries.REFUSED_LOSSES, bounds)
        for day, hours_there in plan.facts.items():
            with self._day(day) as connection:
                rows += connection.execute(queries.losses(hours_there), values)
                if orphans:
                    rows += connection.execute(queries.orphaned(hours_there), values)
        for gone, hours_left in plan.hourly.items():
            rows += self._ask(queries.hourly_losses(hours_left), {"gone": gone})
            if orphans:
                rows += self._ask(queries.hourly_orphaned(hours_left), {"gone": gone})
        totals: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for row in rows:
            totals[row[:4]] = [a + b for a, b in zip(totals[row[:4]], row[4:], strict=True)]
        return [LossRow(*key, *totals[key]) for key in sorted(totals)]

    def coverage(self, window: Window, grace_s: int) -> Coverage:
        """How much of the window was observed."""
        bounds = {"since_ns": window.since_s * _NS, "until_ns": window.until_s * _NS}
        rows: list[tuple[Any, ...]] = []
        for day in self._days(window):
            with self._day(day) as connection:
                rows += connection.execute(queries.OBSERVED, bounds)
        plan = self.plan_of(window, exact_times=True)
        for gone, hours in plan.hourly.items():
            rows += self._ask(queries.hourly_observed(hours), {"gone": gone})
        observed: dict[str, list[Stretch]] = defaultdict(list)
        for node, start, end in rows:
            observed[node].append((start, end))
        known = dict(self._ask("SELECT node, first_seen FROM nodes"))
        return coverage(window, known, observed, grace_s)

    def inventory_revision(self) -> int:
        """How often the inventory was changed."""
        rows = self._ask("SELECT value FROM identity WHERE name = 'inventory_revision'")
        return int(rows[0][0]) if rows else 0

    def audits(self) -> AuditSets:
        """All audited sets of policies."""
        return audits.read_sets(self._ask)

    def audit_state(self, name: str) -> AuditState | None:
        """One of them with what was found."""
        return audits.read_state(self._ask, name)

    def audit_offenders(self, name: str) -> list[Offender]:
        """The evidence of one."""
        return audits.read_offenders(self._ask, name)

    def audit_work(self, days: Sequence[int], most_facts: int) -> list[Waiting]:
        """Batches of ``days`` that wait for the audit."""
        done = audits.read_done(self._ask)
        found: list[Waiting] = []
        left = most_facts
        for day in days:
            if left > 0:
                with self._day(day) as connection:
                    here = audits.read_waiting(connection, day, done, left)
                found += here
                left -= sum(len(item.rows) for item in here)
        return found

    @contextlib.contextmanager
    def hour(self, hour: int) -> Iterator[HourRows | None]:
        """What the roll-up of an hour is made of, or None if nothing is there. The facts are added up on entry."""
        start_s = hour * SECONDS_PER_HOUR
        values = {"hour": hour, "since_ns": start_s * _NS, "until_ns": (start_s + SECONDS_PER_HOUR) * _NS}
        with self._day(hour // HOURS_PER_DAY) as connection:
            connection.execute("BEGIN")
            try:
                revision = connection.execute("SELECT revision FROM hours WHERE hour = ?", (hour,)).fetchone()
                if revision is None:
                    yield None
                    return
                losses = connection.execute(queries.HOUR_LOSSES, values).fetchall()
                observed = connection.execute(queries.HOUR_OBSERVED, values).fetchall()
                facts = connection.execute(queries.HOUR_FACTS, values)
                first = facts.fetchmany(1)
                yield HourRows(revision[0], itertools.chain(first, facts), losses, observed)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def reporting(self) -> set[str]:
        """Nodes of which some day's file holds a report."""
        found: set[str] = set()
        for day in self._files():
            with self._day(day) as connection:
                found.update(row[0] for row in connection.execute("SELECT DISTINCT node FROM reports"))
        return found

    def nodes(self) -> list[NodeRow]:
        """All nodes known, by name."""
        first = {node: (boot, since, last) for node, boot, since, last in self._ask("SELECT * FROM nodes")}
        latest = {node: (last, boot) for node, (boot, _, last) in first.items()}
        batches: dict[str, int] = defaultdict(int)
        for day in self._files():
            with self._day(day) as connection:
                for node, boot, last, count in connection.execute("SELECT node, boot, last_seen, batches FROM reports"):
                    latest[node] = max(latest.get(node, (last, boot)), (last, boot))
                    batches[node] += count
        return [
            NodeRow(node, latest[node][1], first[node][1], latest[node][0], batches[node]) for node in sorted(first)
        ]


def _together(found: Spans, rows: Iterable[tuple[int, ...]], *, cut: bool) -> Spans:
    """``found`` and more rows of CUT_SPAN. Raises UsageError if there are more than ``MAX_SPANS``."""
    rows = iter(rows)
    while True:
        part = itertools.islice(rows, _SPANS_TOGETHER)
        more = np.fromiter(part, CUT_SPAN) if cut else uncut(part)
        found = merged((found, more))
        if len(found) > MAX_SPANS:
            raise UsageError(f"more than {MAX_SPANS} spans are in this window", do="ask for a shorter window")
        if len(more) < _SPANS_TOGETHER:
            return found


def _column(text: str) -> list[Any]:
    try:
        found: list[Any] = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"its edges make no sense: {error}") from error
    return found


def _add_points(points: dict[int, Sequence[int]], rows: Sequence[Sequence[int]]) -> None:
    for row in rows:
        time, counters = row[0], row[1:]
        points[time] = add(points[time], counters) if time in points else counters


def _traffic(row: EdgeRow | WorkloadRow) -> int:
    return row.sums.bytes_sent + row.sums.bytes_received


def _busiest_first(row: EdgeRow) -> tuple[int, int]:
    return -_traffic(row), row.id


def _by_id(row: EdgeRow) -> tuple[int, int]:
    return row.id, 0


def _workload_key(row: WorkloadRow) -> Key:
    w = row.workload
    return (_traffic(row), w.cluster, w.node, w.namespace, w.kind, w.name)
