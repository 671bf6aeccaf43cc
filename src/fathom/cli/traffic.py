"""What ``fathom up`` shows, as plain data and as lines of text: who talks to whom, and how far to trust it.

The same lines go to a terminal (``fathom.cli.screen``) and, in a bounded width, into a pipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fathom.cli.layout import DOT, Slot, cut, fit, flowed
from fathom.cli.output import printable
from fathom.cli.units import duration, latency, rate, share, size

_SLOTS = (
    Slot("WORKLOAD", 0, least=12),
    Slot("DIR", 3),
    Slot("PEER", 1, least=11),
    Slot("PROTO", 6),
    Slot("PORT", 2, number=True),
    Slot("CONNS", 7, number=True),
    Slot("OUT", 4, number=True),
    Slot("IN", 5, number=True),
    Slot("P50", 9, number=True),
    Slot("P99", 10, number=True),
    Slot("FAILED", 8, least=6),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One edge over the window. Bytes from the workload's view; latencies in seconds, None where none was measured."""

    workload: str
    direction: str
    peer: str
    protocol: str
    port: int
    connections: int
    bytes_sent: int
    bytes_received: int
    p50: float | None
    p99: float | None
    failures: int
    reason: str = ""

    @property
    def activity(self) -> tuple[int, int, str, str]:
        """Sort key, busiest first: bytes, then connections and failures, then names."""
        return (-(self.bytes_sent + self.bytes_received), -(self.connections + self.failures), self.workload, self.peer)


@dataclass(frozen=True, slots=True)
class View:
    """All that one look at the server and the agent gave. ``window`` in seconds; None where not known yet."""

    node: str
    uptime: float
    window: float
    rows: tuple[Row, ...] = ()
    events_total: int | None = None
    events_per_second: float | None = None
    coverage: float | None = None
    lost: int | None = None
    waiting: float | None = None  # seconds until the first interval is in, while there is none
    notes: tuple[str, ...] = ()


def headline(view: View, width: int) -> list[str]:
    """Node, uptime, events a second, coverage, loss: in one line if it fits, else in as many as it takes."""
    facts = [f"Fathom on {printable(view.node)}", f"up {duration(view.uptime)}"]
    if view.events_per_second is not None:
        facts.append(f"{rate(view.events_per_second)} events/s")
    facts += trust(view.window, view.coverage, view.lost).split(DOT)
    return flowed(facts, width)


def trust(window: float | None, coverage: float | None, lost: int | None) -> str:
    """How far the numbers beside it can be trusted: ``window 5m · coverage 100 % · lost 0``."""
    return DOT.join(
        (
            f"window {duration(window)}" if window is not None else "window ?",
            f"coverage {share(coverage)}" if coverage is not None else "coverage ?",
            f"lost {lost}" if lost is not None else "lost ?",
        )
    )


def trusted(coverage: float | None, lost: int | None) -> bool:
    """Whether nothing is known to be missing."""
    return coverage is not None and coverage >= 1 and lost == 0


def body(view: View, width: int, height: int) -> list[str]:
    """The table in at most ``width`` cells and ``height`` lines, busiest edges first; or what is waited for."""
    if not view.rows:
        return [cut(text, width) for text in waiting(view)][: max(height, 1)]
    rows = sorted(view.rows, key=lambda row: row.activity)
    room = max(height - 1, 1)
    shown = rows if len(rows) <= room else rows[: max(room - 1, 1)]
    lines = fit([_cells(row) for row in shown], _SLOTS, width)
    if len(shown) < len(rows):
        lines.append(cut(f"and {len(rows) - len(shown)} more: fathom query edges", width))
    return lines


def waiting(view: View) -> Sequence[str]:
    """What to say while there is no edge yet."""
    seen = f"{view.events_total} events seen so far" if view.events_total is not None else "no event seen yet"
    if view.waiting is None:
        return (f"No traffic in the last {duration(view.window)}; {seen}.",)
    when = f"{duration(view.waiting)} to go" if view.waiting >= 0.5 else "any moment now"
    return (f"Waiting for the first interval: {when}; {seen}.",)


def _cells(row: Row) -> list[str]:
    return [
        printable(row.workload),
        row.direction,
        printable(row.peer),
        row.protocol,
        str(row.port) if row.port else "-",
        str(row.connections),
        size(row.bytes_sent),
        size(row.bytes_received),
        latency(row.p50),
        latency(row.p99),
        f"{row.failures} {row.reason}".strip() if row.failures else "-",
    ]
