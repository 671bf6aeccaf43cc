"""Spans: when, and how much, something was counted on edges, as one array, for questions about many edges at once.

A *cut* divides an edge's time; what lies between two cuts is one span. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fathom.store.interface import SECONDS_PER_HOUR

#: One span of one edge: ``opened`` connections that were opened or failed, packets, and the starts of its ``first`` and
#: its ``last`` interval (epoch seconds).
SPAN = np.dtype(
    [
        ("edge", "<i8"),
        ("opened", "<i8"),
        ("packets_sent", "<i8"),
        ("packets_received", "<i8"),
        ("first", "<i8"),
        ("last", "<i8"),
    ]
)
#: A span with the cuts that its first and its last interval come after (0: none), which an engine groups by. They
#: differ where only an hour's sum is left, and a cut lies within that hour.
CUT_SPAN = np.dtype([("edge", "<i8"), ("after", "<i8"), ("end_after", "<i8"), *SPAN.descr[1:]])
#: (edge, time) pairs, sorted.
Cuts = npt.NDArray[np.int64]
Spans = npt.NDArray[np.void]


def merged(parts: Sequence[Spans]) -> Spans:
    """Rows of CUT_SPAN, those of the same edge and cuts added up, sorted by edge and time."""
    rows = np.concatenate(parts) if parts else np.zeros(0, CUT_SPAN)
    if len(rows) < 2 or np.all(rows["edge"][1:] > rows["edge"][:-1]):
        return rows
    rows = rows[np.lexsort((rows["end_after"], rows["after"], rows["edge"]))]
    keys = [rows[name] for name in ("edge", "after", "end_after")]
    starts = np.flatnonzero(np.concatenate(([True], np.logical_or.reduce([key[1:] != key[:-1] for key in keys]))))
    if len(starts) == len(rows):
        return rows
    found = rows[starts]
    for name in ("opened", "packets_sent", "packets_received"):
        found[name] = np.add.reduceat(rows[name], starts)
    found["first"] = np.minimum.reduceat(rows["first"], starts)
    found["last"] = np.maximum.reduceat(rows["last"], starts)
    return found


def uncut(rows: Iterable[tuple[int, ...]]) -> Spans:
    """Tuples of the columns of SPAN as rows of CUT_SPAN."""
    read = np.fromiter(rows, SPAN)
    found = np.zeros(len(read), CUT_SPAN)
    for name in SPAN.names or ():
        found[name] = read[name]
    return found


def spans(rows: Spans) -> Spans:
    """Rows of CUT_SPAN as rows of SPAN."""
    found = np.zeros(len(rows), SPAN)
    for name in SPAN.names or ():
        found[name] = rows[name]
    return found


def hours_within(times: Iterable[int]) -> set[int]:
    """The hours that cuts at ``times`` divide: their facts are needed, not their sums."""
    return {time // SECONDS_PER_HOUR for time in times if time % SECONDS_PER_HOUR}
