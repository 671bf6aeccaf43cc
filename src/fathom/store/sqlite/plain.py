"""What comes from plain files into a recording in the making: flows, objects, system calls.

A flow is kept as a sum: nothing is known of when, between its first and its last second, it was seen. Nobody observed
it, so there are no nodes, and coverage and loss stay unknown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from fathom.errors import UsageError
from fathom.policy.columns import MOST_COUNT
from fathom.policy.flows import Seen
from fathom.policy.inventory import FOREVER, Records
from fathom.policy.seccomp import SyscallSet
from fathom.store import inventories, syscalls
from fathom.store.columns import COUNTERS
from fathom.store.interface import SECONDS_PER_DAY, SECONDS_PER_HOUR
from fathom.store.inventories import AddressRow, EndpointRow
from fathom.store.sqlite.foreign import LATEST_S
from fathom.store.sqlite.metafile import edge_row
from fathom.store.syscalls import SyscallRow


@dataclass(frozen=True)
class Plain:
    """What was read of plain files. ``flows`` as ``fathom.policy.imported.to_edges`` makes them."""

    flows: Sequence[Seen] = ()
    records: Records | None = None
    syscalls: Sequence[SyscallSet] = ()

    def __bool__(self) -> bool:
        return bool(self.flows or self.records or self.syscalls)

    @property
    def window(self) -> tuple[int, int]:
        """The whole hours and the seconds that hold all of it."""
        begins = [item.first // SECONDS_PER_HOUR * SECONDS_PER_HOUR for item in self.flows]
        ends = [item.last for item in self.flows]
        for item in self.syscalls:
            begins.append(item.first_seen)
            ends.append(item.last_seen)
        if self.records:
            for name in set(Records.__struct_fields__) - {"problems"}:
                ends += [held.since for held in getattr(self.records, name)]
                begins += [held.until for held in getattr(self.records, name) if held.until < FOREVER]
        last = LATEST_S - 1
        return max(min(begins, default=0), 0), min(max(ends, default=0) + 1, last)


def put(connection: sqlite3.Connection, plain: Plain) -> list[str]:
    """Add all of it; of objects those of which no version is there. Returns those that stay out and say something else
    than the last version that is there, as text. Raises UsageError if it cannot be kept."""
    _put_flows(connection, plain.flows)
    left_out = _put_objects(connection, inventories.to_rows(plain.records)) if plain.records else []
    calls = syscalls.to_rows(plain.syscalls)
    marks = ", ".join("?" * len(SyscallRow._fields))
    connection.executemany(
        f"INSERT INTO main.syscalls VALUES({marks}) ON CONFLICT DO UPDATE SET count = MAX(count, excluded.count),"
        " first_seen = MIN(first_seen, excluded.first_seen), last_seen = MAX(last_seen, excluded.last_seen)",
        calls,
    )
    return left_out


def _put_flows(connection: sqlite3.Connection, flows: Iterable[Seen]) -> None:
    sums: dict[tuple[int, int], tuple[int, int, int]] = {}
    edges: dict[int, tuple[str | int, ...]] = {}
    for item in flows:
        edges.setdefault(item.id, edge_row(item.id, item.edge, item.last // SECONDS_PER_DAY))
        key = (item.first // SECONDS_PER_HOUR, item.id)
        count, first, last = sums.get(key, (0, item.first, item.last))
        sums[key] = count + item.count, min(first, item.first), max(last, item.last)
        if sums[key][0] > MOST_COUNT:
            raise UsageError(
                f"the counts of {item.edge.workload} > {item.edge.peer} add up to more than {MOST_COUNT}",
                do="give smaller counts",
            )
    if not edges:
        return
    marks = ", ".join("?" * len(next(iter(edges.values()))))
    connection.executemany(f"INSERT INTO main.edges VALUES({marks})", (edges[key] for key in sorted(edges)))
    rest = ", ".join("0" * (len(COUNTERS) - 1))
    assert COUNTERS[0] == "connections"
    connection.executemany(
        f"INSERT INTO main.hourly VALUES(?, 1, ?, ?, {rest}, ?, ?)",
        ((hour, edge, *sums[hour, edge]) for hour, edge in sorted(sums)),
    )
    connection.execute("INSERT OR IGNORE INTO main.rolled SELECT DISTINCT hour, 1, 0 FROM main.hourly")


def _put_objects(connection: sqlite3.Connection, rows: Iterable[tuple[EndpointRow, list[AddressRow]]]) -> list[str]:
    found = connection.execute("SELECT cluster, kind, namespace, name FROM main.endpoints ORDER BY valid_from")
    known = {(kind, namespace, name): cluster for cluster, kind, namespace, name in found}
    fresh, left_out = [], []
    for row, held in rows:
        if (cluster := known.get(row.key[1:4])) is None:
            fresh.append((row, held))
        elif not _says(row.document).items() <= _says(_last(connection, row._replace(cluster=cluster))).items():
            left_out.append(f"{row.kind} {row.namespace}/{row.name}" if row.namespace else f"{row.kind} {row.name}")
    marks = ", ".join("?" * len(EndpointRow._fields))
    connection.executemany(f"INSERT INTO main.endpoints VALUES({marks})", [row for row, _ in fresh])
    marks = ", ".join("?" * len(AddressRow._fields))
    connection.executemany(
        f"INSERT INTO main.endpoint_addresses({', '.join(AddressRow._fields)}) VALUES({marks})",
        [address for _, held in fresh for address in held],
    )
    return left_out


def _last(connection: sqlite3.Connection, row: EndpointRow) -> str:
    """The document of the last version of an object."""
    text = (
        "SELECT document FROM main.endpoints WHERE (cluster, kind, namespace, name) = (?, ?, ?, ?)"
        " ORDER BY valid_from DESC LIMIT 1"
    )
    return str(connection.execute(text, row.key[:4]).fetchone()[0])


def _says(document: str) -> dict[str, bytes]:
    """What a record says, without its times and what it does not know: the fields as JSON."""
    found = msgspec.json.decode(document, type=dict[str, object])
    return {
        name: msgspec.json.encode(value, order="deterministic")
        for name, value in found.items()
        if value is not None and name not in ("since", "until")
    }
