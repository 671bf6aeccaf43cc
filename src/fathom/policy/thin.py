"""What is too little history to build a policy on: one rule, and its thresholds, for all that speak of it.

Counted are connections (of other protocols than TCP, packets), not distinct flows: a workload with one peer is known
well from half a million connections over a week. They are its own, and so are first and last seen: a workload that
began an hour ago is not known better because others were recorded for a week.
"""

from __future__ import annotations

import msgspec

DAY = 86_400


class Need(msgspec.Struct, frozen=True):
    """What counts as enough history: seconds between first and last seen, connections, and the share of time and of
    pods (0 to 1)."""

    seconds: int = DAY
    connections: int = 10
    time: float = 0.95
    pods: float = 0.5


class Seen(msgspec.Struct, frozen=True):
    """The history of one workload: ``connections``; ``first`` and ``last`` seen, epoch seconds (0: not known).

    ``time``: the share of the window that was observed; ``pods``: how many of its pods were seen, and how many there
    were. None where that is not known, or not asked.
    """

    connections: int
    first: int
    last: int
    time: float | None = None
    pods: tuple[int, int] | None = None


def too_little(seen: Seen, need: Need) -> tuple[str, ...]:
    """Why the history is too little, in words; empty: it is enough."""
    found: list[str] = []
    if seen.connections < need.connections:
        word = "connection" if seen.connections == 1 else "connections"
        found.append(f"{seen.connections:,} {word}, fewer than {need.connections:,}")
    if not seen.last and need.seconds:
        found.append("when it was seen is not known")
    elif seen.last - seen.first < need.seconds:
        found.append(f"{seen.last - seen.first} s between first and last seen, less than {need.seconds} s")
    if seen.time is not None and seen.time < need.time:
        found.append(f"{seen.time:.0%} of the time was seen, less than {need.time:.0%}")
    if seen.pods is not None and seen.pods[1] and seen.pods[0] / seen.pods[1] < need.pods:
        found.append(f"{seen.pods[0]} of {seen.pods[1]} pods were seen")
    return tuple(found)
