"""Which hours of a window are read from facts and which from roll-ups, so that an answer is exact and still quick.

A roll-up answers for an hour only if the window holds the whole hour and nothing came in after it was made; where the
facts are gone, an hour counts if it starts inside the window.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fathom.store.interface import SECONDS_PER_DAY, SECONDS_PER_HOUR, Window

HOURS_PER_DAY = SECONDS_PER_DAY // SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Plan:
    """``facts``: hours to read from each day's facts; ``hourly``: hours to read from the roll-ups of facts that are
    there (0) and of facts that are gone (1), only those with any."""

    facts: Mapping[int, tuple[int, ...]]
    hourly: Mapping[int, tuple[int, ...]]


def hours_of(window: Window) -> range:
    """The hours that a window touches."""
    return range(window.since_s // SECONDS_PER_HOUR, -(-window.until_s // SECONDS_PER_HOUR))


def days_of(window: Window) -> range:
    """The days that a window touches."""
    return range(window.since_s // SECONDS_PER_DAY, -(-window.until_s // SECONDS_PER_DAY))


def plan(
    window: Window,
    written: Mapping[int, int],
    rolled: Mapping[int, int],
    gone: Collection[int],
    *,
    exact_times: bool = False,
    exact: Collection[int] = (),
) -> Plan:
    """How to read ``window``: ``written`` and ``rolled`` map hours to the revision of their facts and their roll-up,
    ``gone`` are hours with a roll-up of facts that are gone.

    ``exact_times``: roll-ups only where the facts are gone; the same for the hours in ``exact`` alone.
    """
    facts: dict[int, list[int]] = {}
    hourly: dict[int, list[int]] = {}
    wanted = hours_of(window)
    for hour in sorted(h for h in written.keys() | rolled.keys() | set(gone) if h in wanted):
        start = hour * SECONDS_PER_HOUR
        begins = window.since_s <= start
        whole = begins and start + SECONDS_PER_HOUR <= window.until_s
        if hour in gone and begins:
            hourly.setdefault(1, []).append(hour)
        if hour in written:
            rolled_up = rolled.get(hour) == written[hour]
            if whole and rolled_up and not exact_times and hour not in exact:
                hourly.setdefault(0, []).append(hour)
            else:
                facts.setdefault(hour // HOURS_PER_DAY, []).append(hour)
        elif hour in rolled and begins:
            hourly.setdefault(0, []).append(hour)
    return Plan(_tuples(facts), _tuples(hourly))


def _tuples(lists: Mapping[int, list[int]]) -> dict[int, tuple[int, ...]]:
    return {key: tuple(values) for key, values in lists.items()}
