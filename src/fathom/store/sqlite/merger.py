"""Several recordings, and what plain files add, as one recording: copied inside SQLite, table by table.

Recordings of one store go from the last taken to the first: what is in several is taken of the last. Recordings of
several stores are added up, and refused where they tell of the same node and time, or differ about an object.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fathom import __version__
from fathom.errors import StoreDamaged, UsageError
from fathom.store.columns import MERGED_LIST, MERGED_ROW
from fathom.store.interface import Window
from fathom.store.making import Making
from fathom.store.material import bounded_s
from fathom.store.merging import Input, Slices, Span, refuse_observed_twice, slices
from fathom.store.queries import EDGE
from fathom.store.sqlite import foreign, plain
from fathom.store.sqlite.files import translated, uri
from fathom.store.sqlite.foreign import LATEST_S
from fathom.store.sqlite.newfile import NewRecording
from fathom.store.sqlite.plain import Plain
from fathom.store.sqlite.recording import RecordingStore
from fathom.store.stretches import Stretch

_NS = 1_000_000_000
#: Between the stores of which a recording was made.
_AND = ","
#: Windows that one recording may be of.
_MOST_WINDOWS = 10_000
_LOSS_SUMS = ", ".join(
    f"{name} = {name} + excluded.{name}" for name in ("count", "packets", "bytes_sent", "bytes_received")
)
_IN_SLICE = "JOIN temp.slice AS s ON s.hour = f.hour AND f.bucket >= s.since AND f.bucket < s.until"
_IN_HOUR = "WHERE hour IN (SELECT hour FROM temp.slice)"
#: What is added up of one recording, once ``temp.slice`` says which time is taken of it.
_COUNTED = (
    f"INSERT INTO main.facts SELECT f.* FROM source.facts AS f {_IN_SLICE} WHERE true"
    f" ON CONFLICT DO UPDATE SET {MERGED_LIST}",
    f"INSERT INTO main.hourly SELECT * FROM source.hourly {_IN_HOUR} ON CONFLICT DO UPDATE SET {MERGED_ROW}",
    *(
        f"INSERT INTO main.{table} SELECT f.* FROM source.{table} AS f {_IN_SLICE} WHERE true"
        f" ON CONFLICT DO UPDATE SET {_LOSS_SUMS}"
        for table in ("losses", "refused_losses")
    ),
    f"INSERT INTO main.hourly_losses SELECT * FROM source.hourly_losses {_IN_HOUR}"
    f" ON CONFLICT DO UPDATE SET {_LOSS_SUMS}",
    f"INSERT OR IGNORE INTO main.hours SELECT hour, 1 FROM source.hours {_IN_HOUR}",
    f"INSERT OR IGNORE INTO main.rolled SELECT hour, 1, 0 FROM source.rolled {_IN_HOUR}",
    "INSERT OR IGNORE INTO temp.used SELECT DISTINCT edge FROM main.facts",
    "INSERT OR IGNORE INTO temp.used SELECT DISTINCT edge FROM main.hourly",
    "INSERT INTO main.edges SELECT * FROM source.edges WHERE id IN (SELECT edge FROM temp.used)"
    " ON CONFLICT DO UPDATE SET last_day = MAX(last_day, excluded.last_day)",
    "INSERT OR IGNORE INTO main.orphans SELECT * FROM source.orphans WHERE edge IN (SELECT edge FROM temp.used)",
    "DELETE FROM main.orphans WHERE edge IN (SELECT id FROM main.edges)",
    "INSERT INTO main.nodes SELECT * FROM source.nodes WHERE true ON CONFLICT DO UPDATE SET"
    " boot = CASE WHEN excluded.last_seen > last_seen THEN excluded.boot ELSE boot END,"
    " first_seen = MIN(first_seen, excluded.first_seen), last_seen = MAX(last_seen, excluded.last_seen)",
    "INSERT INTO main.reports SELECT * FROM source.reports WHERE true ON CONFLICT DO UPDATE SET"
    " batches = CASE WHEN :again THEN MAX(batches, excluded.batches) ELSE batches + excluded.batches END,"
    " first_seen = MIN(first_seen, excluded.first_seen), last_seen = MAX(last_seen, excluded.last_seen)",
    "INSERT INTO main.syscalls SELECT * FROM source.syscalls WHERE true ON CONFLICT DO UPDATE SET"
    " count = CASE WHEN :again THEN MAX(count, excluded.count) ELSE count + excluded.count END,"
    " first_seen = MIN(first_seen, excluded.first_seen), last_seen = MAX(last_seen, excluded.last_seen)",
)
_CLIPPED = "MAX(start_ns, :since_ns) AS start_ns, MIN(end_ns, :until_ns) AS end_ns"
_CLIP = "WHERE start_ns < :until_ns AND end_ns > :since_ns"
_OBSERVED = (
    f"INSERT INTO main.observed SELECT node, {_CLIPPED} FROM source.observed {_CLIP}"
    " ON CONFLICT DO UPDATE SET end_ns = MAX(end_ns, excluded.end_ns)",
    f"INSERT INTO main.hourly_observed SELECT hour, 1, node, {_CLIPPED} FROM source.hourly_observed {_CLIP}"
    " ON CONFLICT DO UPDATE SET end_ns = MAX(end_ns, excluded.end_ns)",
)
_OBJECT = "cluster, kind, namespace, name"
#: An object that a later recording of the same store does not hold any more had ended when that one's window began.
_ENDED = (
    "MIN(valid_to, COALESCE("
    "(SELECT MIN(since) FROM temp.later WHERE until > valid_from AND since < valid_to), valid_to))"
)
_OBJECTS = (
    "DELETE FROM temp.fresh",
    f"INSERT INTO temp.fresh SELECT {_OBJECT}, valid_from, {_ENDED} FROM source.endpoints"
    f" WHERE ({_OBJECT}, valid_from) NOT IN (SELECT {_OBJECT}, valid_from FROM main.endpoints)"
    f" AND {_ENDED} > valid_from",
    f"INSERT INTO main.endpoints SELECT {_OBJECT}, valid_from, f.until, uid, owner_kind, owner_name, node,"
    " host_network, labels,"
    " CASE WHEN f.until = e.valid_to THEN document ELSE json_set(document, '$.until', f.until) END"
    f" FROM source.endpoints AS e JOIN temp.fresh AS f USING ({_OBJECT}, valid_from)",
    f"INSERT INTO main.endpoint_addresses SELECT address_key, valid_from, {_OBJECT}, f.until"
    f" FROM source.endpoint_addresses JOIN temp.fresh AS f USING ({_OBJECT}, valid_from)",
)
_OTHER_OBJECT = (
    f"SELECT s.kind, s.namespace, s.name FROM source.endpoints AS s JOIN temp.others USING ({_OBJECT}) WHERE NOT EXISTS"
    " (SELECT 1 FROM main.endpoints AS m WHERE (m.cluster, m.kind, m.namespace, m.name, m.valid_from, m.document)"
    " = (s.cluster, s.kind, s.namespace, s.name, s.valid_from, s.document)) LIMIT 1"
)
_WHO = ", ".join(EDGE)
_OTHER_EDGE = (
    f"SELECT id FROM (SELECT id, {_WHO} FROM source.edges EXCEPT SELECT id, {_WHO} FROM main.edges)"
    " WHERE id IN (SELECT id FROM main.edges) LIMIT 1"
)
_TEMPORARY = (
    "CREATE TEMP TABLE slice(hour INTEGER, since INTEGER, until INTEGER, PRIMARY KEY(hour, since)) WITHOUT ROWID",
    "CREATE TEMP TABLE used(edge INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE later(since INTEGER, until INTEGER)",
    f"CREATE TEMP TABLE fresh({_OBJECT}, valid_from, until, PRIMARY KEY({_OBJECT}, valid_from)) WITHOUT ROWID",
    f"CREATE TEMP TABLE others({_OBJECT}, PRIMARY KEY({_OBJECT})) WITHOUT ROWID",
)


@dataclass(frozen=True)
class _Held:
    """An opened recording, and what it says of itself."""

    store: RecordingStore
    input: Input
    told: dict[str, str]
    edges: int
    nodes: frozenset[str]


def merge(stores: Sequence[RecordingStore], more: Plain, path: Path, making: Making, now_s: int) -> list[str]:
    """Make the recording ``path`` of ``stores`` and of ``more``; returns the objects of ``more`` that stay out of it,
    since ``stores`` say something else of them.

    Raises UsageError if they cannot be one, and as ``NewRecording`` does.
    """
    if not stores and not more:
        raise UsageError("there is nothing in what was named", affects="no recording was made", do="name other files")
    held = [_held(store) for store in stores]
    asked = _check(held, more)
    sources: dict[str, list[_Held]] = defaultdict(list)
    for item in sorted(held, key=lambda item: -item.input.taken_s):
        sources[item.input.source].append(item)
    with NewRecording(path, now_s=now_s, making=making) as new:
        copy = _Copy(new)
        done = 0
        for group in sources.values():
            copy.next_source()
            for item, wanted in zip(group, slices([item.input for item in group]), strict=True):
                copy.add(item, wanted)
                item.store.told()  # which notices if the file was changed meanwhile
                done += 1
                making.progress(0.9 * done / len(held))
        with new.writing() as connection:
            left_out = plain.put(connection, more)
        making.progress(1.0)
        new.finish(_identity(held, more, asked, now_s))
        return left_out


def _held(store: RecordingStore) -> _Held:
    told, tally = store.told(), store.tally()
    if not (told.get("digest") and told.get("source") and told.get("detail")):
        raise UsageError(f"{store.path} was not made by `fathom record`", do="take the recording again")
    try:
        taken = int(told["taken"])
        rows = msgspec.json.decode(told.get("windows", "[]"), type=list[tuple[int, int]])
        windows = rows or [(int(told["since"]), int(told["until"]))]
    except (KeyError, ValueError) as error:
        raise StoreDamaged(f"{store.path} does not say of which time it is: {error}") from error
    if len(windows) > _MOST_WINDOWS or any(not 0 <= since <= until < LATEST_S for since, until in windows):
        raise StoreDamaged(f"{store.path} says that it is of times that are none, or of more than {_MOST_WINDOWS}")
    spans = tuple(Span(since, until, taken) for since, until in windows)
    held, summed = (frozenset(hours) for hours in (store.hours(), store.summed_hours()))
    nodes = frozenset(row.node for row in store.nodes())
    return _Held(store, Input(str(store.path), told["source"], spans, held, summed), told, tally.edges, nodes)


def _check(held: Sequence[_Held], more: Plain) -> str:
    """What all were asked for. Raises UsageError if they cannot be made one."""
    asked = {item.told.get("asked", "{}"): item.input.name for item in held}
    if len(asked) > 1:
        told = ", ".join(f"{name}: {text}" for text, name in asked.items())
        raise UsageError(f"the recordings were not asked for the same edges ({told})", do="take them again in one way")
    if more.flows and held:
        raise UsageError(
            "flows from a file do not say whether the recordings hold them too",
            affects="nothing was made: what is in both would be counted twice",
            do="make a recording of the flows by themselves",
        )
    for number, one in enumerate(held):
        for other in held[number + 1 :]:
            _check_parts(one.input, other.input)
            if one.input.source != other.input.source:
                _check_pair(one, other)
    return next(iter(asked), "{}")


def _check_parts(one: Input, other: Input) -> None:
    """Two recordings of one store are told apart by their time; one that was made of several stores by nothing."""
    parts = [set(item.source.split(_AND)) for item in (one, other)]
    common = sorted(parts[0] & parts[1])
    if common and (len(parts[0]) > 1 or len(parts[1]) > 1) and _overlap(one, other):
        raise UsageError(
            f"{one.name} and {other.name} are of the same time, and both were made of what was recorded of {common[0]}",
            affects="nothing was made: what is in both would be counted twice, or what is in one left out",
            do="merge the recordings that they were made of",
        )


def _check_pair(one: _Held, other: _Held) -> None:
    if one.edges and other.edges and not (one.nodes and other.nodes) and _overlap(one.input, other.input):
        raise UsageError(
            f"{one.input.name} and {other.input.name} are of the same time, and one of them does not say who saw it",
            affects="nothing was made: what is in both would be counted twice",
            do="merge recordings of a server, or flows of windows that do not overlap",
        )
    common = one.nodes & other.nodes
    if common and _overlap(one.input, other.input):
        both = [(item.input.name, _observed(item, common)) for item in (one, other)]
        refuse_observed_twice(both[0], both[1])


def _overlap(one: Input, other: Input) -> bool:
    return any(a.since_s < b.until_s and b.since_s < a.until_s for a in one.spans for b in other.spans)


def _observed(item: _Held, nodes: frozenset[str]) -> dict[str, list[Stretch]]:
    """When the nodes were observed, inside the windows."""
    found: dict[str, list[Stretch]] = {node: [] for node in nodes}
    for node, begin, end in item.store.observed():
        for span in item.input.spans if node in found else ():
            part = (max(begin, span.since_s * _NS), min(end, span.until_s * _NS))
            if part[0] < part[1]:
                found[node].append(part)
    return found


class _Copy:
    """Statements on one connection: ``main`` is the new file, ``source`` one recording after the other."""

    def __init__(self, new: NewRecording) -> None:
        self._new = new
        foreign.restrain(new.connection)
        for text in _TEMPORARY:
            new.connection.execute(text)

    def next_source(self) -> None:
        """What follows is of another store than what was added so far."""
        ask = self._new.connection.execute
        ask("DELETE FROM temp.later")
        ask(f"INSERT OR IGNORE INTO temp.others SELECT DISTINCT {_OBJECT} FROM main.endpoints")

    def add(self, item: _Held, wanted: Slices) -> None:
        """Add the time ``wanted`` of a recording."""
        rows = [(hour, *part) for hour, parts in wanted.items() for part in parts]
        with self._attached(item.store), self._new.writing() as connection:
            ask = connection.execute
            ask("DELETE FROM temp.slice")
            connection.executemany("INSERT INTO temp.slice VALUES(?, ?, ?)", rows)
            self._check(connection, item)
            again = bool(connection.execute("SELECT 1 FROM temp.later").fetchone())
            for text in _COUNTED:
                ask(text, {"again": again})
            for span in item.input.spans:
                for text in _OBSERVED:
                    ask(text, {"since_ns": span.since_s * _NS, "until_ns": span.until_s * _NS})
            for text in _OBJECTS:
                ask(text)
            later = [(span.since_s, span.until_s) for span in item.input.spans]
            connection.executemany("INSERT INTO temp.later VALUES(?, ?)", later)

    def _check(self, connection: sqlite3.Connection, item: _Held) -> None:
        if row := connection.execute(_OTHER_EDGE).fetchone():
            raise StoreDamaged(f"{item.store.path} holds another edge under the id {row[0]}")
        if row := connection.execute(_OTHER_OBJECT).fetchone():
            kind, namespace, name = row
            raise UsageError(
                f"{item.store.path} and a recording of another store differ about {kind} {namespace}/{name}",
                affects="nothing was made",
                do="merge recordings of one store, or give clusters names; objects from files go by --manifests",
            )

    @contextlib.contextmanager
    def _attached(self, store: RecordingStore) -> Iterator[None]:
        connection = self._new.connection
        with translated(store.file):
            connection.execute("ATTACH DATABASE ? AS source", (uri(store.file, "recording"),))
        yield  # after an error the new file is of no use, so nothing is detached
        connection.execute("DETACH DATABASE source")


def _identity(held: Sequence[_Held], more: Plain, asked: str, now_s: int) -> dict[str, str]:
    """What the new recording says of itself."""
    windows = sorted({(span.since_s, span.until_s) for item in held for span in item.input.spans})
    if more and not held:
        windows = [more.window]
    whole = Window(windows[0][0], max(until for _, until in windows))
    details = {item.told["detail"] for item in held} or {"hour"}
    sources = sorted({item.input.source for item in held})
    taken = max((item.input.taken_s for item in held), default=now_s)
    return {
        "source": _AND.join(sources) or f"files-{secrets.token_hex(8)}",
        "since": str(whole.since_s),
        "until": str(whole.until_s),
        "windows": msgspec.json.encode(windows).decode(),
        "taken": str(taken),
        "version": __version__,
        "detail": "interval" if details == {"interval"} else "hour",
        "interval_s": str(_interval_s(held, whole)),
        "asked": asked,
    }


def _interval_s(held: Sequence[_Held], whole: Window) -> int:
    """What divides all starts of intervals of one store; of several stores the longest interval, so that no fact of any
    is taken for shorter than it is. What holds no traffic has no part in it."""
    by_source: dict[str, int] = defaultdict(int)
    for item in held:
        if item.edges:
            told = item.store.told_interval_s() or item.store.interval_s(whole)
            by_source[item.input.source] = math.gcd(by_source[item.input.source], told)
    if len(by_source) < 2:
        return next(iter(by_source.values()), 0 if held else 1)
    return max(map(bounded_s, by_source.values()))
