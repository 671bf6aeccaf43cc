"""The store on SQLite: who writes what in which order, and what happens when a file turns out to be damaged.

Order of a write: edges first (synchronously), then each day of the batch in a commit of its own. Every step may be done
again, so a batch that failed half-way is simply sent again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.errors import FathomError, StoreBusy, StoreDamaged, StoreError
from fathom.events.batches import Batch
from fathom.events.edges import Edge, EdgeColumns
from fathom.policy.inventory import Records
from fathom.policy.seccomp import SyscallSet
from fathom.store import filters, inventories, parts, schema, syscalls
from fathom.store.audits import MOST_OFFENDERS, MOST_WAITING
from fathom.store.cursors import Key, seal, unseal
from fathom.store.interface import (
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
from fathom.store.material import divisions
from fathom.store.planning import HOURS_PER_DAY
from fathom.store.spans import Cuts, Spans
from fathom.store.sqlite import damage, files, recorder
from fathom.store.sqlite.auditing import Reach, SqliteAudits
from fathom.store.sqlite.dayfile import DayFile
from fathom.store.sqlite.metafile import MetaFile
from fathom.store.sqlite.reader import View

T = TypeVar("T")
Row = TypeVar("Row", EdgeRow, WorkloadRow)
Clock = Callable[[], float]

_log = logging.getLogger("fathom.store")
_OPEN_DAYS = 4
_AHEAD_S = SECONDS_PER_DAY
_NOTES = 100
_TRIES = 20
_NS = 1_000_000_000


class SqliteStore:
    """A store in a directory; see ``fathom.store.interface.Store``."""

    def __init__(
        self,
        layout: files.Layout,
        *,
        clock: Clock,
        most_edges: int,
        synchronous: str,
        most_waiting: int = MOST_WAITING,
        most_offenders: int = MOST_OFFENDERS,
    ) -> None:
        self._layout, self._clock = layout, clock
        self._most_edges, self._synchronous = most_edges, synchronous
        self._most_offenders = most_offenders
        self.audit = SqliteAudits(self._reach(), most_waiting)
        self._lock = threading.RLock()
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._days: OrderedDict[int, DayFile] = OrderedDict()
        self._meta: MetaFile | None = None
        self._lock_file = -1
        self._closed = False
        self._failing = False
        self._read_only_id = ""

    def _reach(self) -> Reach:
        """What the audit's part may do."""
        return Reach(
            lambda ask: self._asking(ask),
            self._changing,
            lambda: self._writer().audits,
            self._day,
            lambda: self._layout.days(),
            self._now,
        )

    # Opening and closing

    def open_writer(self) -> None:
        """Become the one process that writes.

        Raises StoreNewer, StoreError if the directory cannot be used or another process writes to it.
        """
        assert isinstance(self._layout, files.Directory)
        root = self._layout.root
        if root.is_dir():
            files.refuse_newer(self._layout)
        files.make_directory(root)
        self._lock_file = files.lock(root)
        try:
            self._open_meta()
            self._tidy()
        except BaseException:
            self.close()
            raise

    def open_reader(self) -> None:
        """Read only: any number of processes may, while one writes. Raises StoreError if there is no store."""
        if not self._layout.meta.exists():
            raise StoreError(f"there is no store at {self._layout.meta}", do="see whether the path is right")
        files.refuse_newer(self._layout)
        if any(0 < files.version_of(path) < schema.VERSION for path in self._layout.all()):
            raise StoreError(
                f"{self._layout.meta} was written by an earlier Fathom",
                do="start this Fathom's server on it once: that brings it to this version",
            )
        layout = self._layout
        with files.translated(layout.meta), contextlib.closing(files.connect(layout.meta, layout.mode)) as c:
            row = c.execute("SELECT value FROM identity WHERE name = 'store_id'").fetchone()
            if row is None:
                raise StoreDamaged("it does not say which store it is")
            self._read_only_id = str(row[0])

    def _open_meta(self) -> None:
        path = self._layout.meta
        try:
            self._meta = MetaFile(path, self._now(), self._most_edges, self._most_offenders)
        except files.DamagedFile as error:
            self._replace_meta(error.why)

    def _tidy(self) -> None:
        """Finish what was begun before the last end, and say what is missing."""
        meta = self._writer()
        assert isinstance(self._layout, files.Directory)
        for name in sorted(path.name for path in self._layout.root.iterdir()):
            if ".damaged-" in name and not name.endswith(("-wal", "-shm")):
                self._note(f"{name}: a damaged file that was kept aside")
        for day in self._layout.days():
            path = self._layout.day(day)
            if day < meta.floor_day:
                files.delete(path)
                continue
            if 0 < files.version_of(path) < schema.VERSION:
                DayFile(path, self._now(), self._synchronous).close()  # which brings it to this version
            if day not in meta.registered:
                meta.register(day)
        gone = meta.registered - set(self._layout.days())
        for day in sorted(d for d in gone if d >= meta.floor_day):
            self._note(f"the facts of {files.day_text(day)} are gone: {self._layout.day(day).name} is not there")
        meta.retire(gone)

    def close(self) -> None:
        """See ``Store.close``."""
        with self._lock:
            self._closed = True
            while self._days:
                self._days.popitem()[1].close()
            if self._meta:
                self._meta.close()
                self._meta = None
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1

    # Writing

    @property
    def store_id(self) -> str:
        """See ``Store.store_id``."""
        meta = self._meta
        return meta.store_id if meta else self._read_only_id

    def write(self, batch: Batch) -> bool:
        """See ``Store.write``."""
        table = parts.check(batch)
        with self._writing():
            return self._healing(lambda: self._write(batch, table))

    def _write(self, batch: Batch, table: parts.Matrix) -> bool:
        meta = self._writer()
        today = self._now() // SECONDS_PER_DAY
        if meta.floor_day > today:
            self._note(
                f"the clock says {files.day_text(today)}, but days before {files.day_text(meta.floor_day)} were dropped"
                " as too old: facts are taken again from today on"
            )
            meta.set_floor(today)
        limits = parts.Limits(meta.floor_day, self._horizon_s(), self._now())
        facts, refused = parts.timely(table, limits)
        wall_s = min(max(batch.clock.wall_ns // _NS, limits.floor_day * SECONDS_PER_DAY), limits.end_s - 1)
        homeless = meta.admit(batch, facts, wall_s // SECONDS_PER_DAY)
        split, late = parts.split(batch, facts, limits, homeless)
        seen = [s for s in (part.seen() for part in split.values()) if s] or [(wall_s, wall_s)]
        span = min(s[0] for s in seen), max(s[1] for s in seen)
        meta.saw(batch.id, span)
        new = False
        if refused or late:
            new = meta.refuse(batch.id, refused + late, limits.now_s)
            if new and refused:
                self._note(
                    f"facts of {batch.id.node} were refused and counted as lost: "
                    + ", ".join(f"{loss.count} {loss.reason}" for loss in refused)
                )
        days = sorted(split)
        for day in days:
            held = self.audit.hold(batch, day, split[day].facts)
            kept = self._day(day).write(batch.id, split[day], span, first=day == days[0], waiting=held)
            if kept and held:
                self.audit.held(held)
            new |= kept
        return new

    def _day(self, day: int) -> DayFile:
        """The open file of ``day``, made if it is absent."""
        if day in self._days:
            self._days.move_to_end(day)
            return self._days[day]
        while len(self._days) >= _OPEN_DAYS:
            self._days.popitem(last=False)[1].close()
        file = DayFile(self._layout.day(day), self._now(), self._synchronous)
        self._days[day] = file
        if day not in self._writer().registered:
            self._writer().register(day)
        return file

    def _horizon_s(self) -> int:
        """Time from which on facts are refused: a day ahead of the clock, or of what is there if that is later."""
        newest = max(self._writer().registered, default=0)
        return max(self._now(), (newest + 1) * SECONDS_PER_DAY) + _AHEAD_S

    def keep_inventory(self, records: Records, *, cluster: str = "") -> None:
        """See ``Store.keep_inventory``."""
        rows = inventories.to_rows(records, cluster)
        with self._writing():
            self._healing(lambda: self._writer().keep_inventory(rows))

    def keep_syscalls(self, sets: Iterable[SyscallSet]) -> None:
        """See ``Store.keep_syscalls``."""
        rows = syscalls.to_rows(sets)
        with self._writing():
            self._healing(lambda: self._writer().keep_syscalls(rows))

    # Roll-ups and retention

    def due(self, now_s: int) -> list[int]:
        """See ``Store.due``."""
        with self._writing():
            return self._healing(lambda: self._due(self._layout.days(), now_s))

    def _due(self, days: list[int], now_s: int) -> list[int]:
        rolled = self._writer().rolled()
        return [
            hour
            for day in days
            for hour, revision in sorted(self._day(day).revisions().items())
            if (hour + 1) * SECONDS_PER_HOUR <= now_s and rolled.get(hour) != revision
        ]

    def roll(self, hour: int) -> None:
        """See ``Store.roll``."""
        self._writer()
        self._healing(lambda: self._roll(hour))

    def _roll(self, hour: int) -> None:
        """Add up beside the writer, which waits only while the sums are put down."""
        if not self._layout.day(hour // HOURS_PER_DAY).exists():
            return
        with contextlib.closing(View(self._layout)) as view, view.hour(hour) as rows:
            if rows is not None:
                with self._writing():
                    self._writer().roll(hour, rows)

    def drop_before(self, epoch_s: int, *, hours_before_s: int | None = None) -> None:
        """See ``Store.drop_before``."""
        with self._writing():
            self._healing(lambda: self._drop_before(epoch_s, epoch_s if hours_before_s is None else hours_before_s))

    def _drop_before(self, epoch_s: int, hours_before_s: int) -> None:
        meta = self._writer()
        # A clock that ran ahead must not make every day from now on too old.
        floor_day = max(meta.floor_day, min(epoch_s, self._now()) // SECONDS_PER_DAY)
        first_hour = min(hours_before_s, floor_day * SECONDS_PER_DAY) // SECONDS_PER_HOUR
        going = [day for day in self._layout.days() if day < floor_day]
        for hour in self._due(going, floor_day * SECONDS_PER_DAY):
            if hour >= first_hour:
                self._roll(hour)
        meta.set_floor(floor_day)
        for day in going:
            meta.last_seen(self._layout.day(day))
            if day in self._days:
                self._days.pop(day).close()
            files.delete(self._layout.day(day))
        self.audit.forget()
        meta.retire(going)
        # An edge is known to its agent for a while after its last fact: keep it for two days at least.
        first_day = min(first_hour // HOURS_PER_DAY, self._now() // SECONDS_PER_DAY - 1)
        meta.prune(first_hour, first_day)
        meta.forget_nodes(meta.nodes_before(first_day * SECONDS_PER_DAY) - self._reporting())

    def _reporting(self) -> set[str]:
        with contextlib.closing(View(self._layout)) as view:
            return view.reporting()

    # Questions

    def edges(self, query: EdgeQuery) -> Page[EdgeRow]:
        """See ``Store.edges``."""
        return self._page("edges", query, View.edges)

    def workloads(self, query: EdgeQuery) -> Page[WorkloadRow]:
        """See ``Store.workloads``."""
        return self._page("workloads", query, View.workloads)

    def _page(
        self,
        question: str,
        query: EdgeQuery,
        answer: Callable[[View, EdgeQuery, Key | None], tuple[list[Row], Key | None]],
    ) -> Page[Row]:
        filters.check(query)
        key: Key | None = None
        if query.cursor:
            window, key = unseal(self.store_id, question, query)
            query = msgspec.structs.replace(query, window=window)
        rows, end = self._asking(lambda view: answer(view, query, key))
        cursor = seal(self.store_id, question, query, end) if end else ""
        return Page(tuple(rows), query.window, cursor)

    def edge(self, edge_id: int) -> Edge | None:
        """See ``Store.edge``."""
        return self._asking(lambda view: view.edge(edge_id))

    def series(self, edge_id: int, window: Window, step_s: int) -> list[SeriesPoint]:
        """See ``Store.series``."""
        return self._asking(lambda view: view.series(edge_id, window, step_s))

    def coverage(self, window: Window, *, grace_s: int = 0) -> Coverage:
        """See ``Store.coverage``."""
        return self._asking(lambda view: view.coverage(window, grace_s))

    def losses(self, window: Window) -> list[LossRow]:
        """See ``Store.losses``."""
        return self._asking(lambda view: view.losses(window))

    def nodes(self) -> list[NodeRow]:
        """See ``Store.nodes``."""
        return self._asking(View.nodes)

    def health(self) -> StoreHealth:
        """See ``Store.health``."""
        notes = list(self._notes)
        days: tuple[str, ...] = ()
        size = 0
        try:
            days = tuple(files.day_text(day) for day in self._layout.days())
            size = files.size(self._layout.meta if self._layout.single else self._layout.meta.parent)
        except (OSError, FathomError) as error:
            notes.append(f"the store cannot be read: {error}")
        meta = self._meta
        writable = meta is not None and not self._failing and files.writable(self._layout.meta.parent)
        return StoreHealth(writable, "sqlite", meta.edges if meta else 0, days, size, tuple(notes))

    def extent(self) -> Window | None:
        """See ``Store.extent``."""
        return self._asking(View.extent)

    def interval_s(self, window: Window) -> int:
        """See ``Store.interval_s``."""
        return self._asking(lambda view: view.interval_s(window))

    def told_interval_s(self) -> int:
        """See ``Store.told_interval_s``."""
        return 0

    def spans(self, query: EdgeQuery, cuts: Cuts | None = None) -> Spans:
        """See ``Store.spans``."""
        filters.check(query)
        return self._asking(lambda view: view.spans(query, cuts))

    def identities(self, ids: npt.NDArray[np.int64]) -> EdgeColumns:
        """See ``Store.identities``."""
        return self._asking(lambda view: view.identities(ids))

    def inventory(self, window: Window) -> dict[str, Records]:
        """See ``Store.inventory``."""
        return self._asking(lambda view: view.inventory(window))

    def inventory_revision(self) -> int:
        """See ``Store.inventory_revision``."""
        return self._asking(View.inventory_revision)

    def syscalls(self, window: Window) -> list[SyscallSet]:
        """See ``Store.syscalls``."""
        return self._asking(lambda view: view.syscalls(window))

    def record(self, query: EdgeQuery, path: Path, making: Making = PLAIN) -> str:
        """See ``Store.record``."""
        filters.check(query)
        how = recorder.How(query, *(divisions(self, query) if making.detail == "hour" else (None, 0)))
        return self._asking(lambda view: recorder.made(self._layout, view, how, path, making, self._now()))

    # Locks, failures, damage

    def _now(self) -> int:
        return int(self._clock())

    def _note(self, text: str) -> None:
        self._notes.append(text)
        _log.warning("%s", text)

    def _writer(self) -> MetaFile:
        if self._meta is None:
            raise StoreError("the store is closed" if self._closed else "the store was opened for reading only")
        return self._meta

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            self._writer()
            try:
                yield
                self._failing = False
            except StoreBusy:
                self._failing = True
                self._reopen_days()
                raise

    def _changing(self, change: Callable[[], T]) -> T:
        """What ``change`` gives, in the writer's turn."""
        with self._writing():
            return self._healing(change)

    def _reopen_days(self) -> None:
        """Let go of the days' files after a failure, so that nothing of it lives on in a connection."""
        while self._days:
            with contextlib.suppress(FathomError):
                self._days.popitem()[1].close()

    def _asking(self, ask: Callable[[View], T]) -> T:
        if self._closed:
            raise StoreError("the store is closed")

        def once() -> T:
            with contextlib.closing(View(self._layout)) as view:
                try:
                    answer = ask(view)
                except StoreBusy:
                    # A file that goes while it is read may fail as a disk does: then it is asked again.
                    with self._lock:  # whoever takes files away holds it
                        view.check_unmoved()
                    raise
                view.check_unmoved()
                return answer

        return self._healing(once)

    def _healing(self, do: Callable[[], T]) -> T:
        """``do`` it; after damage keep the damaged file aside and do it again, and also if a file vanished."""
        vanished = 0
        while True:
            try:
                return do()
            except files.Vanished:
                vanished += 1
                if vanished > _TRIES:
                    raise
                with self._lock:  # whoever takes files away holds it
                    continue
            except files.DamagedFile as error:
                if self._meta is None:
                    raise
                with self._lock:
                    if not self._heal(error):
                        raise

    def _heal(self, error: files.DamagedFile) -> bool:
        """Keep the file aside if it is damaged; False if none of those in question is."""
        self._reopen_days()
        for path in (error.path, self._layout.meta):
            if not path.exists():
                return True  # another thread did it meanwhile
            why = damage.examine(path)
            if why and path == self._layout.meta:
                self._writer().close()
                self._replace_meta(why)
                return True
            if why:
                day = next(d for d in self._layout.days() if self._layout.day(d) == path)
                self._keep_day_aside(day, why)
                return True
        return False

    def _keep_day_aside(self, day: int, why: str) -> None:
        kept = files.keep_aside(self._layout.day(day), self._now())
        self._note(
            f"the facts of {files.day_text(day)} were damaged ({why}); the file was kept aside as {kept.name},"
            " roll-ups made of it still answer"
        )
        self.audit.forget()
        self._writer().retire([day])

    def _replace_meta(self, why: str) -> None:
        """Keep the damaged meta file aside and begin a new one, with all that can be saved of the old."""
        self._meta = None
        kept = files.keep_aside(self._layout.meta, self._now())
        fresh = MetaFile(self._layout.meta, self._now(), self._most_edges, self._most_offenders)
        saved = damage.save(kept)
        fresh.adopt(saved.edges, saved.nodes, saved.floor_day)
        fresh.audits.adopt(saved.audits, self._now())
        self._meta = fresh
        for day in self._layout.days():
            if day >= fresh.floor_day:
                fresh.register(day)
                damage.find_orphans(self._layout.day(day), day, fresh)
        self._note(
            f"{self._layout.meta.name} was damaged ({why}); it was kept aside as {kept.name}, {len(saved.edges)} edges"
            " were saved from it, agents will send theirs again, and roll-ups will be made again; its inventory and its"
            " system calls are lost, so that flows from before are judged without labels"
            + (f"; {len(saved.audits)} audited policy sets begin anew" if saved.audits else "")
        )


def open_directory(root: Path, *, clock: Clock, most_edges: int, synchronous: str, **bounds: int) -> SqliteStore:
    """A store in directory ``root``, for writing; ``bounds`` are those of the audit."""
    store = SqliteStore(files.Directory(root), clock=clock, most_edges=most_edges, synchronous=synchronous, **bounds)
    store.open_writer()
    return store


def open_for_reading(layout: files.Layout, *, clock: Clock) -> SqliteStore:
    """A store for reading only."""
    store = SqliteStore(layout, clock=clock, most_edges=0, synchronous="NORMAL")
    store.open_reader()
    return store
