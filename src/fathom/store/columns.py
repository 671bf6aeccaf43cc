"""The counters of a fact as SQL text and as rows: one place from which every engine's statements are put together.

Nothing here knows an engine: plain SELECT text that SQLite, PostgreSQL and ClickHouse all take.
"""

from __future__ import annotations

from collections.abc import Sequence

from fathom.events.edges import FACT
from fathom.store.interface import Latency, Sums

#: Counter columns of a fact, in the order of ``FACT``; every table that holds counters has them in this order.
COUNTERS: tuple[str, ...] = tuple(n for n in FACT.names or () if n not in ("edge", "bucket"))
_MINIMUM, _MAXIMUM = "latency_min", "latency_max"
_PLAIN = COUNTERS.index("latency_count")
_HISTOGRAM = COUNTERS.index("latency_b0")


def names(prefix: str = "") -> str:
    """All counters as a column list."""
    return ", ".join(prefix + name for name in COUNTERS)


def _summed(name: str) -> str:
    if name == _MINIMUM:
        return "COALESCE(MIN(CASE WHEN latency_count > 0 THEN latency_min END), 0) AS latency_min"
    if name == _MAXIMUM:
        return "MAX(latency_max) AS latency_max"
    return f"SUM({name}) AS {name}"


#: Select list that adds the counters up over a group.
SUMMED_LIST = ", ".join(_summed(name) for name in COUNTERS)


def _merged(name: str) -> str:
    if name == _MINIMUM:
        return (
            "latency_min = CASE WHEN latency_count = 0 THEN excluded.latency_min WHEN excluded.latency_count = 0"
            " THEN latency_min ELSE MIN(latency_min, excluded.latency_min) END"
        )
    if name == _MAXIMUM:
        return "latency_max = MAX(latency_max, excluded.latency_max)"
    return f"{name} = {name} + excluded.{name}"


#: Assignments that add a row in conflict to the row that is there (SQLite's two-argument MIN and MAX).
MERGED_LIST = ", ".join(_merged(name) for name in COUNTERS)
#: The same for rows that also say when the first and the last fact were.
MERGED_ROW = (
    f"{MERGED_LIST}, first_bucket = MIN(first_bucket, excluded.first_bucket),"
    " last_bucket = MAX(last_bucket, excluded.last_bucket)"
)


def to_sums(row: Sequence[int]) -> Sums:
    """The counters of one row, given in the order of ``COUNTERS``."""
    connections, failures, sent, received, packets_sent, packets_received, retransmits = row[:_PLAIN]
    latency = Latency(row[_PLAIN], row[_PLAIN + 1], row[_PLAIN + 2], row[_PLAIN + 3], tuple(row[_HISTOGRAM:]))
    return Sums(connections, failures, sent, received, packets_sent, packets_received, retransmits, latency)


def add(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Two rows of counters added up, as the SQL does it."""
    count = COUNTERS.index("latency_count")
    result = [a + b for a, b in zip(left, right, strict=True)]
    low, high = COUNTERS.index(_MINIMUM), COUNTERS.index(_MAXIMUM)
    result[low] = min([row[low] for row in (left, right) if row[count]], default=0)
    result[high] = max(left[high], right[high])
    return result
