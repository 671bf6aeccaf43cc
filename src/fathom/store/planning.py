"""Which hours of a window are read from facts and which from roll-ups, so that an answer is exact and still quick.

A roll-up answers for an hour only if the window holds the whole hour and nothing came in after it was made; where the
facts are gone, an hour counts if it starts inside the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fathom.store.interface import SECONDS_PER_DAY, SECONDS_PER_HOUR, Window

HOURS_PER_DAY = SECONDS_PER_DAY // SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Plan:
    """``facts``: hours to read from each day's facts; ``hourly``: hours to read from the roll-ups."""

    facts: Mapping[int, tuple[int, ...]]
    hourly: tuple[int, ...]


def hours_of(window: Window) -> range:
    """The hours that a window touches."""
    return range(window.since_s // SECONDS_PER_HOUR, -(-window.until_s // SECONDS_PER_HOUR))


def days_of(window: Window) -> range:
    """The days that a window touches."""
    return range(window.since_s // SECONDS_PER_DAY, -(-window.until_s // SECONDS_PER_DAY))


def plan(window: Window, written: Mapping[int, int], rolled: Mapping[int, int], *, exact_times: bool = False) -> Plan:
    """How to read ``window``: ``written`` and ``rolled`` map hours to the revision of their facts and their roll-up.

    ``exact_times``: roll-ups only where the facts are gone.
    """
    facts: dict[int, list[int]] = {}
    hourly: list[int] = []
    wanted = hours_of(window)
    for hour in sorted(h for h in written.keys() | rolled.keys() if h in wanted):
        start = hour * SECONDS_PER_HOUR
        whole = window.since_s <= start and start + SECONDS_PER_HOUR <= window.until_s
        if hour not in written:
            if window.since_s <= start:
                hourly.append(hour)
        elif whole and not exact_times and rolled.get(hour) == written[hour]:
            hourly.append(hour)
        else:
            facts.setdefault(hour // HOURS_PER_DAY, []).append(hour)
    return Plan({day: tuple(hours) for day, hours in facts.items()}, tuple(hourly))
