"""A recording of a store in memory: row by row, and every interval, since it refuses to be quick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fathom.events.batches import Loss
from fathom.events.edges import Edge
from fathom.store.columns import COUNTERS, MERGED_LIST, MERGED_ROW
from fathom.store.interface import SECONDS_PER_HOUR, NodeRow, Window
from fathom.store.inventories import AddressRow, EndpointRow
from fathom.store.making import Making
from fathom.store.sqlite.metafile import edge_row
from fathom.store.sqlite.newfile import NewRecording
from fathom.store.syscalls import SyscallRow


@dataclass
class Held:
    """What of a store is recorded. ``facts`` are (edge, bucket, gone, counters), ``losses`` (node, gone, refused,
    loss), ``observed`` (node, gone, start, end) in ns."""

    edges: dict[int, Edge]
    facts: list[tuple[int, int, bool, list[int]]]
    losses: list[tuple[str, bool, bool, Loss]]
    observed: list[tuple[str, bool, int, int]]
    nodes: list[NodeRow]
    endpoints: list[EndpointRow]
    addresses: list[AddressRow]
    syscalls: list[SyscallRow]


def _insert(table: str, width: int, more: str = "") -> str:
    return f"INSERT INTO {table} VALUES({', '.join('?' * width)}) {more}"


_ADD_LOSS = "ON CONFLICT DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in ("count", "packets", "bytes_sent", "bytes_received")
)
_ADD_OBSERVED = "ON CONFLICT DO UPDATE SET end_ns = MAX(end_ns, excluded.end_ns)"


def write(held: Held, window: Window, path: Path, making: Making, now_s: int) -> str:
    """Make the recording; returns its digest."""
    with NewRecording(path, now_s=now_s, making=making) as new:
        with new.writing() as connection:
            for text, rows in _statements(held):
                connection.executemany(text, rows)
            connection.execute("INSERT OR IGNORE INTO rolled SELECT DISTINCT hour, 1, 0 FROM hourly")
            connection.execute("INSERT OR IGNORE INTO rolled SELECT DISTINCT hour, 1, 0 FROM hourly_losses")
            connection.execute("INSERT OR IGNORE INTO rolled SELECT DISTINCT hour, 1, 0 FROM hourly_observed")
        making.progress(1.0)
        told = {"since": window.since_s, "until": window.until_s, "taken": now_s}
        return new.finish({"source": "memory", "detail": "interval", **{name: str(at) for name, at in told.items()}})


def _statements(held: Held) -> Iterable[tuple[str, Iterable[Sequence[str | int]]]]:
    counters, hour_ns = len(COUNTERS), SECONDS_PER_HOUR * 1_000_000_000
    there = [(e, bucket, counts) for e, bucket, gone, counts in held.facts if not gone]
    gone = [(e, bucket, counts) for e, bucket, gone, counts in held.facts if gone]
    yield _insert("edges", 17), [edge_row(e, edge, 0) for e, edge in held.edges.items()]
    yield (
        _insert("facts", 3 + counters, f"ON CONFLICT DO UPDATE SET {MERGED_LIST}"),
        [(bucket // SECONDS_PER_HOUR, bucket, e, *counts) for e, bucket, counts in there],
    )
    yield (
        _insert("hourly", 5 + counters, f"ON CONFLICT DO UPDATE SET {MERGED_ROW}"),
        [(bucket // SECONDS_PER_HOUR, 1, e, *counts, bucket, bucket) for e, bucket, counts in gone],
    )
    for table, wanted in (
        ("losses", (False, False)),
        ("refused_losses", (False, True)),
        ("hourly_losses", (True, False)),
    ):
        rows = [
            (
                *(m.bucket // SECONDS_PER_HOUR, 1 if wanted[0] else m.bucket, node, m.hop, m.probe, m.reason),
                *(m.count, m.packets, m.bytes_sent, m.bytes_received),
            )
            for node, is_gone, refused, m in held.losses
            if (is_gone, refused) == wanted
        ]
        yield _insert(table, 10, _ADD_LOSS), rows
    yield _insert("observed", 3, _ADD_OBSERVED), [(n, start, end) for n, g, start, end in held.observed if not g]
    hourly = [(start // hour_ns, 1, n, start, end) for n, g, start, end in held.observed if g]
    yield _insert("hourly_observed", 5, _ADD_OBSERVED), hourly
    yield _insert("nodes", 4), [(row.node, row.boot, row.first_seen, row.last_seen) for row in held.nodes]
    reports = [(row.node, row.boot, row.first_seen, row.last_seen, row.batches) for row in held.nodes]
    yield _insert("reports", 5), reports
    yield _insert("endpoints", len(EndpointRow._fields)), held.endpoints
    columns = f"endpoint_addresses({', '.join(AddressRow._fields)})"
    yield _insert(columns, len(AddressRow._fields)), held.addresses
    yield _insert("syscalls", len(SyscallRow._fields)), held.syscalls
    hours = {bucket // SECONDS_PER_HOUR for _, bucket, _ in there}
    hours |= {m.bucket // SECONDS_PER_HOUR for _, is_gone, refused, m in held.losses if not (is_gone or refused)}
    hours |= {start // hour_ns for _, is_gone, start, _ in held.observed if not is_gone}
    yield "INSERT INTO hours VALUES(?, 1)", [(hour,) for hour in sorted(hours)]
