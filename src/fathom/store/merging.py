"""Which recording is taken for which time when several are made one, so that nothing is counted twice. Pure.

Recordings of the same store share its facts, so each second of each hour is taken from one of them: a whole hour from
the recording that was taken last among those that hold all of it; an hour that none holds whole in parts, the last one
first. Sums of an hour cannot be parted: where that would be needed, the recordings are refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fathom.errors import UsageError
from fathom.store.interface import SECONDS_PER_HOUR
from fathom.store.stretches import Stretch, merge


@dataclass(frozen=True)
class Span:
    """A window (epoch seconds, half open) of which a recording was ``taken`` at that time."""

    since_s: int
    until_s: int
    taken_s: int


@dataclass(frozen=True)
class Input:
    """One recording: its ``name`` for a person, the ``source`` that it was taken of, its ``spans``; ``hours`` (epoch
    seconds // 3600) are those of which it holds something, ``summed`` those of which it holds sums."""

    name: str
    source: str
    spans: tuple[Span, ...]
    hours: frozenset[int]
    summed: frozenset[int]

    @property
    def taken_s(self) -> int:
        """When the last of it was taken."""
        return max((span.taken_s for span in self.spans), default=0)


#: For each hour the seconds that are taken of it, as stretches.
Slices = Mapping[int, Sequence[Stretch]]


def slices(inputs: Sequence[Input]) -> list[Slices]:
    """What is taken of each of ``inputs``, which are of one source, in their order.

    Raises UsageError if an overlap cannot be told apart.
    """
    found: list[dict[int, Sequence[Stretch]]] = [{} for _ in inputs]
    for hour, parts in sorted(_parts(inputs).items()):
        whole = (hour * SECONDS_PER_HOUR, (hour + 1) * SECONDS_PER_HOUR)
        complete = [number for number, held in parts.items() if whole in held]
        if complete or len(parts) == 1:
            best = max(complete or parts, key=lambda number: (inputs[number].taken_s, number))
            found[best][hour] = [whole] if complete else parts[best]
            continue
        _refuse_sums(hour, [inputs[number] for number in parts])
        taken: list[Stretch] = []
        for number in sorted(parts, key=lambda number: (-inputs[number].taken_s, number)):
            fresh = [rest for part in parts[number] for rest in _without(part, taken)]
            if fresh:
                found[number][hour] = fresh
                taken = merge([*taken, *fresh], 1)
    return list(found)


def _parts(inputs: Sequence[Input]) -> dict[int, dict[int, list[Stretch]]]:
    """For each hour, what each input holds of it, by the input's number."""
    found: dict[int, dict[int, list[Stretch]]] = defaultdict(dict)
    for number, item in enumerate(inputs):
        windows = merge(((span.since_s, span.until_s) for span in item.spans), 1)
        ends = [end for _, end in windows]
        for hour in item.hours:
            first, last = hour * SECONDS_PER_HOUR, (hour + 1) * SECONDS_PER_HOUR
            at = bisect_right(ends, first)
            while at < len(windows) and windows[at][0] < last:
                part = (max(windows[at][0], first), min(windows[at][1], last))
                found[hour].setdefault(number, []).append(part)
                at += 1
    return found


def _without(part: Stretch, taken: Iterable[Stretch]) -> list[Stretch]:
    """``part`` without what is ``taken``, which is sorted and apart."""
    found, at = [], part[0]
    for begin, end in taken:
        if begin < part[1] and end > at:
            if begin > at:
                found.append((at, begin))
            at = end
    if at < part[1]:
        found.append((at, part[1]))
    return found


def _refuse_sums(hour: int, inputs: Sequence[Input]) -> None:
    for item in inputs:
        if hour in item.summed:
            others = ", ".join(other.name for other in inputs if other is not item)
            raise UsageError(
                f"{item.name} holds only a sum of an hour of which {others} holds another part",
                affects="nothing was made: what is in both would be counted twice",
                do="take recordings again whose windows meet at whole hours",
            )


def refuse_observed_twice(
    one: tuple[str, Mapping[str, Sequence[Stretch]]], other: tuple[str, Mapping[str, Sequence[Stretch]]]
) -> None:
    """Raises UsageError if a node was observed at the same time by ``one`` and ``other``, recordings of two sources:
    (name, stretches of ns by node)."""
    (name, mine), (another, theirs) = one, other
    for node in sorted(mine.keys() & theirs.keys()):
        for begin, end in merge(mine[node]):
            if any(first < end and begin < last for first, last in _shortened(merge(theirs[node]))):
                raise UsageError(
                    f"{name} and {another} are of two stores, and node {node} was observed at the same time in both",
                    affects="nothing was made: what is in both would be counted twice",
                    do="take both from one store, or recordings of windows that do not overlap",
                )


def _shortened(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Agents' intervals meet within a second: that is no overlap."""
    return [(begin + 500_000_000, end - 500_000_000) for begin, end in stretches if end - begin > 1_000_000_000]
