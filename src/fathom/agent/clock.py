"""The node's clocks, behind one small interface, so that the loop can be tested in virtual time.

The monotonic clock is the truth; wall time is monotonic time plus an offset that is read anew each turn.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from fathom.agent.bell import Bell
from fathom.events.batches import Clock


class NodeClock(Protocol):
    """What the loop needs of time."""

    def now(self) -> Clock:
        """The three clocks, read at one moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def pause(self, seconds: float, bell: Bell) -> None:
        """Wait, but not longer than until the bell rings."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> Clock:
        """Monotonic is read on both sides of wall time, and the middle is told, so that a preemption in between
        shifts the offset by half of itself only."""
        before = time.monotonic_ns()
        wall, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return Clock((before + time.monotonic_ns()) // 2, boot, wall)

    async def sleep(self, seconds: float) -> None:
        """Wait in real time."""
        await asyncio.sleep(seconds)

    async def pause(self, seconds: float, bell: Bell) -> None:
        """Wait in real time, or for the bell."""
        await bell.wait(seconds)


class FakeClock:
    """Time that moves only when told (``advance``), or when somebody sleeps. ``step`` moves wall time alone, as NTP."""

    def __init__(self, wall_s: float = 1_700_000_000.0, monotonic_s: float = 1_000.0) -> None:
        self.monotonic_ns = int(monotonic_s * 1e9)
        self.wall_ns = int(wall_s * 1e9)

    def now(self) -> Clock:
        """The present, which stands still."""
        return Clock(self.monotonic_ns, self.monotonic_ns, self.wall_ns)

    def advance(self, seconds: float) -> None:
        """Let time pass on all clocks."""
        self.monotonic_ns += round(seconds * 1e9)
        self.wall_ns += round(seconds * 1e9)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does."""
        self.wall_ns += round(seconds * 1e9)

    async def sleep(self, seconds: float) -> None:
        """Time passes at once; other tasks get a turn."""
        self.advance(seconds)
        await asyncio.sleep(0)

    async def pause(self, seconds: float, bell: Bell) -> None:  # noqa: ARG002 - nothing rings in virtual time
        """Time passes at once."""
        await self.sleep(seconds)
