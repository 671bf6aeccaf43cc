"""What a recording holds, for a person and for a program; it reads the whole file, so that a damaged one is refused."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fathom.cli.output import printable
from fathom.cli.traffic import trust
from fathom.cli.units import duration, size
from fathom.errors import StoreDamaged
from fathom.server.answers import Coverage, Gap, Loss
from fathom.server.times import text_s
from fathom.store.interface import Window
from fathom.store.material import bounded_s
from fathom.store.tallies import Tally

if TYPE_CHECKING:
    from fathom.store.sqlite.recording import RecordingStore

#: Losses and gaps that a table names.
_MOST = 10
#: Gaps that a document names; the longest come first to be kept.
_MOST_GAPS = 1_000


class NodeSeen(msgspec.Struct, frozen=True):
    """A node, and when it was first and last observed (RFC 3339)."""

    node: str
    first_seen: str
    last_seen: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A recording. Times are RFC 3339 in UTC; ``size`` is in bytes.

    ``schema`` is the version of its schema, ``version`` that of the Fathom that made it, ``source`` names the store (or
    stores) that it was taken of, ``asked`` is what was chosen of that. ``coverage`` is None where no node is known, as
    in what was imported from plain files. ``digest`` is "" where the file is not sealed.
    """

    file: str
    size: int
    digest: str
    schema: int
    version: str
    source: str
    taken: str
    since: str
    until: str
    detail: str
    interval_s: int
    asked: dict[str, str | int]
    edges: int
    facts: int
    sums: int
    workloads: int
    endpoints: int
    nodes: list[NodeSeen]
    clusters: list[str]
    syscall_sets: int
    coverage: Coverage | None
    loss: list[Loss]

    @property
    def window_s(self) -> Window:
        """The window in epoch seconds."""
        from datetime import datetime

        since, until = (int(datetime.fromisoformat(text).timestamp()) for text in (self.since, self.until))
        return Window(since, until)

    @property
    def empty(self) -> bool:
        """Whether nothing was observed."""
        return not (self.nodes or self.edges or self.endpoints or self.syscall_sets)


def summary(file: Path) -> Summary:
    """What ``file`` holds. Raises StoreError if it is no recording, damaged, or of a newer Fathom."""
    from fathom.store.opening import open_recording

    with contextlib.closing(open_recording(file)) as store:
        return _summary(store, file)


def _summary(store: RecordingStore, file: Path) -> Summary:
    told, tally, window = store.told(), store.tally(), store.extent() or Window(0, 0)
    nodes = store.nodes()
    try:
        return Summary(
            file=os.fsencode(file).decode(errors="replace"),
            size=file.stat().st_size,
            digest=told.get("digest", ""),
            schema=store.version,
            version=told.get("version", ""),
            source=told.get("source", ""),
            taken=text_s(int(told["taken"])) if told.get("taken") else "",
            since=text_s(window.since_s),
            until=text_s(window.until_s),
            detail=told.get("detail", ""),
            interval_s=bounded_s(store.told_interval_s() or store.interval_s(window)),
            asked=msgspec.json.decode(told.get("asked", "{}"), type=dict[str, str | int]),
            nodes=[NodeSeen(row.node, text_s(row.first_seen), text_s(row.last_seen)) for row in nodes],
            clusters=store.clusters(),
            coverage=_coverage(store, window) if nodes else None,
            loss=_losses(store, window),
            **_counts(tally),
        )
    except (ValueError, OverflowError, OSError) as error:
        raise StoreDamaged(f"{file} says of itself what makes no sense: {error}") from error


def _counts(tally: Tally) -> dict[str, int]:
    names = ("edges", "facts", "sums", "workloads", "endpoints", "syscall_sets")
    return {name: getattr(tally, name) for name in names}


def _coverage(store: RecordingStore, window: Window) -> Coverage:
    found = store.coverage(window)
    longest = sorted(found.gaps, key=lambda gap: gap.start_s - gap.end_s)[:_MOST_GAPS]
    gaps = [Gap(gap.node, text_s(gap.start_s), text_s(gap.end_s)) for gap in sorted(longest, key=lambda g: g.start_s)]
    omitted = len(found.gaps) - len(gaps)
    return Coverage(found.share, found.node_seconds, found.observed_seconds, gaps, omitted)


def _losses(store: RecordingStore, window: Window) -> list[Loss]:
    rows = sorted(store.losses(window), key=lambda row: (row.hop, row.probe, row.reason, row.node))
    return [
        Loss(row.hop, row.probe, row.reason, row.node, row.count, row.packets, row.bytes_sent, row.bytes_received)
        for row in rows
    ]


def lines(found: Summary) -> list[str]:
    """The summary as text: a name and a value in each line, then how far it can be trusted."""
    window = found.window_s
    span = window.until_s - window.since_s
    asked = ", ".join(f"{name}={value}" for name, value in found.asked.items())
    rows = (
        ("file", f"{found.file} ({size(found.size)})"),
        ("window", f"{found.since} to {found.until} ({duration(span)})"),
        ("only", asked),
        ("edges", f"{found.edges:,} of {found.workloads:,} workloads"),
        ("facts", f"{found.facts:,}, and {found.sums:,} sums of an hour"),
        ("inventory", f"{found.endpoints:,} versions of objects" + _of(found.clusters)),
        ("nodes", f"{len(found.nodes):,}"),
        ("syscalls", f"{found.syscall_sets:,} sets"),
        ("taken", f"{found.taken or '?'} by Fathom {found.version or '?'}, schema {found.schema}"),
        ("digest", found.digest or "none: the file is not sealed"),
    )
    text = [f"{name:<10} {printable(value)}" for name, value in rows if value]
    lost = sum(row.count for row in found.loss)
    known = found.coverage.share if found.coverage else None
    text += ["", trust(span, known, lost if found.coverage else None)]
    gaps = found.coverage.gaps if found.coverage else []
    text += [f"  gap: {printable(gap.node)} from {gap.since} to {gap.until}" for gap in gaps[:_MOST]]
    if (more := len(gaps) - _MOST + (found.coverage.gaps_omitted if found.coverage else 0)) > 0:
        text.append(f"  and {more} more gaps")
    for row in found.loss[:_MOST]:
        where = " ".join(word for word in (row.hop, row.probe, row.reason, row.node and f"on {row.node}") if word)
        text.append(f"  lost {row.count} at {printable(where)}")
    if len(found.loss) > _MOST:
        text.append(f"  and {len(found.loss) - _MOST} more losses: -o yaml")
    return text


def _of(clusters: list[str]) -> str:
    return f" of {', '.join(clusters[:5])}{' …' if len(clusters) > 5 else ''}" if clusters else ""
