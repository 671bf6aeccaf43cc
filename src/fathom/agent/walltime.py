"""Wall time as the agent tells it: monotonic time plus an offset, and the stretches of it that were observed.

Events carry monotonic time, so a step of the wall clock moves no event past another. What a step back repeats is
observed once; what a step forward leaps over was never there and is not claimed.
"""

from __future__ import annotations

from fathom.events.batches import Clock, Observed

#: A change of the offset beyond this is a step; below it is the clock being disciplined.
STEP_NS = 500_000_000


class WallTime:
    """Follows the offset between wall and monotonic clock from ``start`` on."""

    def __init__(self, start: Clock) -> None:
        self.offset_ns = start.wall_ns - start.monotonic_ns
        self.steps = 0
        self._begin_ns = start.wall_ns
        self._told_ns = start.wall_ns
        self._stretches: list[Observed] = []

    def turn(self, now: Clock) -> int:
        """Take the offset of ``now``; the wall time now, epoch ns."""
        offset = now.wall_ns - now.monotonic_ns
        if abs(offset - self.offset_ns) > STEP_NS:
            self.steps += 1
            self._end(now.monotonic_ns + self.offset_ns)
            self._begin_ns = max(now.wall_ns, self._told_ns)
        self.offset_ns = offset
        return now.wall_ns

    def take(self, until_ns: int) -> tuple[Observed, ...]:
        """The stretches observed since the last call, the last one ending at ``until_ns`` (wall)."""
        self._end(until_ns)
        stretches, self._stretches = tuple(self._stretches), []
        return stretches

    def _end(self, end_ns: int) -> None:
        if end_ns > self._begin_ns:
            self._stretches.append(Observed(self._begin_ns, end_ns))
            self._begin_ns = end_ns
        self._told_ns = max(self._told_ns, self._begin_ns)
