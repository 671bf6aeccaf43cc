"""Stretches of time put together, and what is missing between them. Pure arithmetic on integers of nanoseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fathom.store.interface import Coverage, Gap, Window

_NS = 1_000_000_000
#: Holes shorter than this are taken as observed: agents' intervals meet to the microsecond, not to the nanosecond.
TOLERANCE_NS = _NS

Stretch = tuple[int, int]


def merge(stretches: Iterable[Stretch], tolerance_ns: int = TOLERANCE_NS) -> list[Stretch]:
    """The same time as few stretches, in order; stretches closer than ``tolerance_ns`` become one, empty ones none."""
    merged: list[Stretch] = []
    for start, end in sorted(stretch for stretch in stretches if stretch[0] < stretch[1]):
        if merged and start - merged[-1][1] < tolerance_ns:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def coverage(
    window: Window,
    known_from_s: Mapping[str, int],
    observed: Mapping[str, Sequence[Stretch]],
    grace_s: int = 0,
) -> Coverage:
    """How much of ``window`` was observed, over nodes that are known from ``known_from_s`` on.

    ``observed`` holds each node's stretches, which may overlap and reach beyond the window.
    """
    gaps: list[Gap] = []
    wanted_ns = seen_ns = 0
    for node, since_s in sorted(known_from_s.items()):
        start, end = max(window.since_s, since_s) * _NS, window.until_s * _NS
        if start >= end:
            continue
        holes = _holes(start, end, observed.get(node, ()))
        if holes and holes[-1][1] == end and end - holes[-1][0] <= grace_s * _NS:
            end = holes.pop()[0]
        wanted_ns += end - start
        seen_ns += end - start - sum(hole_end - hole_start for hole_start, hole_end in holes)
        gaps += [Gap(node, hole_start // _NS, -(-hole_end // _NS)) for hole_start, hole_end in holes]
    return Coverage(seen_ns / wanted_ns if wanted_ns else 0.0, wanted_ns / _NS, seen_ns / _NS, tuple(gaps))


def _holes(start: int, end: int, stretches: Iterable[Stretch]) -> list[Stretch]:
    holes: list[Stretch] = []
    at = start
    for first, last in merge(stretches):
        if last <= at:
            continue
        if first >= end:
            break
        if first - at >= TOLERANCE_NS:
            holes.append((at, first))
        at = last
    if end - at >= TOLERANCE_NS:
        holes.append((at, end))
    return holes
