"""From a store's files to a recording: tables are copied inside SQLite, so that no row becomes an object.

Hours become sums, as they do when a store's facts grow old, but where that would lose what a question about policy
needs: hours of which only a part was asked for, and the hours in which an end of an edge changed. So a recording of a
week is small, and gives the same material as the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fathom import __version__
from fathom.store import queries
from fathom.store.columns import MERGED_ROW, SUMMED_LIST, names
from fathom.store.filters import conditions
from fathom.store.interface import SECONDS_PER_HOUR, EdgeQuery, NodeRow
from fathom.store.making import Making
from fathom.store.planning import Plan, hours_of
from fathom.store.spans import Cuts, hours_within
from fathom.store.sqlite.files import Layout, there, translated, uri
from fathom.store.sqlite.newfile import NewRecording
from fathom.store.sqlite.reader import View, glob

#: Told how much of the work is done, from 0 to 1.
Progress = Callable[[float], None]
#: Filters that a recording tells.
_ASKED = ("workload", "peer", "protocol", "port", "direction", "verdict", "node", "id")
_NS = 1_000_000_000
_INSIDE = "bucket >= :since AND bucket < :until"
_NODE = "(:node = '' OR node = :node)"
_TO_HOURLY = (
    f"INSERT INTO main.hourly(hour, gone, edge, {names()}, first_bucket, last_bucket) SELECT {{columns}}"
    f" ON CONFLICT(hour, gone, edge) DO UPDATE SET {MERGED_ROW}"
)
_EXACT = "(hour, edge) IN (SELECT hour, edge FROM temp.exact)"
_ADD_REPORTS = (
    "INSERT INTO main.reports SELECT node, boot, first_seen, last_seen, batches FROM {day}.reports WHERE "
    + _NODE
    + " ON CONFLICT(node, boot) DO UPDATE SET batches = batches + excluded.batches,"
    " first_seen = MIN(first_seen, excluded.first_seen), last_seen = MAX(last_seen, excluded.last_seen)"
)
#: What is copied of the tables of a meta file, beside the roll-ups; the inventory of the whole last hour, since a sum
#: lasts so long.
_META = (
    "INSERT INTO main.edges SELECT * FROM source.edges WHERE id IN (SELECT edge FROM temp.used) ORDER BY id",
    "INSERT INTO main.orphans SELECT * FROM source.orphans WHERE edge IN (SELECT edge FROM temp.used)",
    f"INSERT INTO main.nodes SELECT * FROM source.nodes WHERE first_seen < :until AND {_NODE}",
    f"INSERT INTO main.refused_losses SELECT * FROM source.refused_losses WHERE {_INSIDE} AND {_NODE}",
    "INSERT INTO main.endpoints SELECT * FROM source.endpoints WHERE valid_from < :end AND valid_to > :since",
    "INSERT INTO main.endpoint_addresses SELECT * FROM source.endpoint_addresses"
    " WHERE valid_from < :end AND valid_to > :since",
    "INSERT INTO main.syscalls SELECT * FROM source.syscalls WHERE first_seen < :until AND last_seen >= :since",
)


@dataclass(frozen=True)
class How:
    """What of a store is recorded: ``query``'s window and edges; ``cuts`` are (edge, time) pairs at which edges must
    stay divisible (None: keep every interval). ``interval_s`` is the length of the intervals (0: see the facts)."""

    query: EdgeQuery
    cuts: Cuts | None
    interval_s: int

    @property
    def bounds(self) -> dict[str, int | str]:
        """The parameters of the statements."""
        window = self.query.window
        hours = hours_of(window)
        return {
            "since": window.since_s,
            "until": window.until_s,
            "since_ns": window.since_s * _NS,
            "until_ns": window.until_s * _NS,
            "first_hour": hours.start,
            "end_hour": hours.stop,
            "end": hours.stop * SECONDS_PER_HOUR,
            "node": self.query.node,
        }


def made(layout: Layout, view: View, how: How, path: Path, making: Making, now_s: int) -> str:
    """Make the recording ``path``; returns its digest. Raises as ``NewRecording`` does."""
    query = how.query
    asked = {name: value for name in _ASKED if (value := getattr(query, name)) not in ("", None)}
    with NewRecording(path, now_s=now_s, making=making) as new:
        record(layout, view, how, new, making.progress)
        view.check_unmoved()
        return new.finish(
            {
                "source": view.identity()["store_id"],
                "since": str(query.window.since_s),
                "until": str(query.window.until_s),
                "taken": str(now_s),
                "version": __version__,
                "detail": making.detail,
                "interval_s": str(how.interval_s),
                "asked": msgspec.json.encode(asked).decode(),
            }
        )


def record(layout: Layout, view: View, how: How, new: NewRecording, progress: Progress) -> None:
    """Copy what ``how`` says from the files of ``layout``, which ``view`` looks at, into ``new``."""
    copy = _Copy(layout, how, new)
    nodes = view.nodes()
    hours_cut = set() if how.cuts is None else hours_within(how.cuts[:, 1].tolist())
    plan = view.plan_of(how.query.window, exact_times=how.cuts is None, exact=hours_cut)
    kept = view.plan_of(how.query.window, exact_times=True)
    with copy.source():
        copy.choose()
        days = sorted(plan.facts.keys() | kept.facts.keys())
        for done, day in enumerate(days):
            with copy.day(day) as name:
                copy.facts(name, plan.facts.get(day, ()))
                copy.losses(name, kept.facts.get(day, ()))
            progress(0.8 * (done + 1) / len(days))
        copy.rolled(plan, kept)
        copy.meta(nodes)
    progress(1.0)


class _Copy:
    """Statements on one connection: ``main`` is the new file, ``source`` the meta file, ``day`` the facts of a day."""

    def __init__(self, layout: Layout, how: How, new: NewRecording) -> None:
        self._layout, self._how, self._new = layout, how, new
        self._bounds = how.bounds

    @contextlib.contextmanager
    def source(self) -> Iterator[None]:
        """The meta file in reach."""
        with self._attached(self._layout.meta, "source"):
            yield

    @contextlib.contextmanager
    def day(self, day: int) -> Iterator[str]:
        """The name under which the tables of a day's facts are in reach."""
        if self._layout.single:
            yield "source"
            return
        path = self._layout.day(day)
        with there(path), self._attached(path, "day"):
            yield "day"

    @contextlib.contextmanager
    def _attached(self, path: Path, name: str) -> Iterator[None]:
        connection = self._new.connection
        with translated(self._layout.meta):
            connection.execute(f"ATTACH DATABASE ? AS {name}", (uri(path, self._layout.mode),))
        yield  # after an error the new file is of no use, so nothing is detached
        connection.execute(f"DETACH DATABASE {name}")

    def choose(self) -> None:
        """Note the edges that were asked for, and the hours in which an edge must keep its facts."""
        cuts = self._how.cuts
        pairs = [] if cuts is None else [(t // SECONDS_PER_HOUR, e) for e, t in cuts.tolist() if t % SECONDS_PER_HOUR]
        with self._new.writing() as connection:
            connection.execute("CREATE TEMP TABLE picked(id INTEGER PRIMARY KEY)")
            connection.execute("CREATE TEMP TABLE exact(hour, edge, PRIMARY KEY(hour, edge)) WITHOUT ROWID")
            connection.executemany("INSERT OR IGNORE INTO temp.exact VALUES(?, ?)", pairs)
            wanted = conditions(self._how.query, glob)
            self._picked = " AND edge IN (SELECT id FROM temp.picked)" if wanted else ""
            if wanted:
                text = " AND ".join(condition for condition, _ in wanted)
                values = [value for _, parameters in wanted for value in parameters]
                connection.execute(f"INSERT INTO temp.picked SELECT id FROM source.edges WHERE {text}", values)

    def facts(self, day: str, hours: tuple[int, ...]) -> None:
        """Keep the facts of ``hours``: as they are where the hour is not whole or must stay exact, else as sums."""
        since, until = self._how.query.window.since_s, self._how.query.window.until_s
        whole = [h for h in hours if since <= h * SECONDS_PER_HOUR and (h + 1) * SECONDS_PER_HOUR <= until]
        part = [h for h in hours if h not in set(whole)] if self._how.cuts is not None else list(hours)
        where = f"{_INSIDE}{self._picked}"
        with self._new.writing() as connection:
            if part:
                text = f"INSERT INTO main.facts SELECT * FROM {day}.facts WHERE hour IN {queries.hours_in(part)}"
                connection.execute(f"{text} AND {where}", self._bounds)
            if whole and self._how.cuts is not None:
                there = f"FROM {day}.facts WHERE hour IN {queries.hours_in(whole)} AND {where}"
                connection.execute(f"INSERT INTO main.facts SELECT * {there} AND {_EXACT}", self._bounds)
                sums = f"hour, 1, edge, {SUMMED_LIST}, MIN(bucket), MAX(bucket)"
                grouped = f"{sums} {there} AND NOT {_EXACT} GROUP BY hour, edge"
                connection.execute(_TO_HOURLY.format(columns=grouped), self._bounds)

    def losses(self, day: str, hours: tuple[int, ...]) -> None:
        """Keep what was lost, observed and reported on a day, which is little, as it is."""
        inside = f"hour IN {queries.hours_in(hours)}"
        bounds = self._bounds
        with self._new.writing() as connection:
            connection.execute(
                f"INSERT INTO main.losses SELECT * FROM {day}.losses WHERE {inside} AND {_INSIDE} AND {_NODE}", bounds
            )
            connection.execute(
                f"INSERT INTO main.observed SELECT * FROM {day}.observed WHERE start_ns < :until_ns AND"
                f" end_ns > :since_ns AND {_NODE} ON CONFLICT(node, start_ns) DO UPDATE SET end_ns ="
                " MAX(end_ns, excluded.end_ns)",
                bounds,
            )
            if not (self._layout.single and connection.execute("SELECT 1 FROM main.reports").fetchone()):
                connection.execute(_ADD_REPORTS.format(day=day), bounds)
            connection.executemany("INSERT OR IGNORE INTO main.hours VALUES(?, 1)", [(hour,) for hour in hours])

    def rolled(self, plan: Plan, kept: Plan) -> None:
        """Keep the roll-ups of edges that ``plan`` reads, and of losses and observed time that ``kept`` reads."""
        with self._new.writing() as connection:
            for gone, hours in plan.hourly.items():
                rows = f"hour, 1, edge, {names()}, first_bucket, last_bucket FROM source.hourly"
                where = f"hour IN {queries.hours_in(hours)} AND gone = {gone}{self._picked}"
                connection.execute(_TO_HOURLY.format(columns=f"{rows} WHERE {where}"))
            for table, merge in (("hourly_losses", _ADD_LOSSES), ("hourly_observed", _ADD_OBSERVED)):
                columns = _COLUMNS[table]
                for gone, hours in kept.hourly.items():
                    connection.execute(
                        f"INSERT INTO main.{table} SELECT hour, 1, {columns} FROM source.{table}"
                        f" WHERE hour IN {queries.hours_in(hours)} AND gone = {gone} AND {_NODE} {merge}",
                        self._bounds,
                    )
            used = sorted({hour for read in (plan, kept) for hours in read.hourly.values() for hour in hours})
            connection.executemany("INSERT OR IGNORE INTO main.rolled VALUES(?, 1, 0)", [(hour,) for hour in used])
            connection.execute("INSERT OR IGNORE INTO main.rolled SELECT DISTINCT hour, 1, 0 FROM main.hourly")

    def meta(self, nodes: list[NodeRow]) -> None:
        """Keep who the edges are, the nodes (with what the files of days know of them), the inventory and the system
        calls."""
        with self._new.writing() as connection:
            connection.execute("CREATE TEMP TABLE used(edge INTEGER PRIMARY KEY)")
            for table in ("facts", "hourly"):
                connection.execute(f"INSERT OR IGNORE INTO temp.used SELECT DISTINCT edge FROM main.{table}")
            for text in _META:
                connection.execute(text, self._bounds)
            reported = [(row.boot, row.last_seen, row.node) for row in nodes]
            connection.executemany("UPDATE main.nodes SET boot = ?, last_seen = ? WHERE node = ?", reported)


_COLUMNS = {
    "hourly_losses": "node, hop, probe, reason, count, packets, bytes_sent, bytes_received",
    "hourly_observed": "node, start_ns, end_ns",
}
_ADD_LOSSES = "ON CONFLICT DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in ("count", "packets", "bytes_sent", "bytes_received")
)
_ADD_OBSERVED = "ON CONFLICT DO UPDATE SET end_ns = MAX(end_ns, excluded.end_ns)"
