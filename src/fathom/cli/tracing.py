"""Straight from a probe to the terminal: no server, no agent, nothing kept. ``fathom trace`` is the command for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fathom.agent.clock import SystemClock
from fathom.agent.matching import Matcher, workloads
from fathom.agent.questions import EventFilter
from fathom.agent.turns import AGGREGATING
from fathom.cli.running import on_end
from fathom.events.render import to_dicts
from fathom.identity.identities import Identities
from fathom.probes.flow import FlowProbe
from fathom.probes.probe import LossCount, Probe, Records
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import TcpProbe

#: Seconds between two looks: connections as they come, flows summed over a second.
_EVERY = {"tcp": 0.1, "flow": 1.0}
#: Events shown between two looks at a ring that is filling, and bytes of events that wait to be shown.
_PIECE, _WAITING = 500, 16 << 20
_OPEN: dict[str, Callable[[ProbeSettings], Probe]] = {"tcp": TcpProbe.open, "flow": FlowProbe.open}


@dataclass(slots=True)
class Seen:
    """What became of a trace: events shown and left out by the filter, seconds, losses by reason, stopped or done."""

    shown: int = 0
    left_out: int = 0
    seconds: float = 0.0
    losses: dict[str, LossCount] | None = None
    interrupted: bool = False

    @property
    def lost(self) -> int:
        """Events, or flows, that were lost."""
        return sum(loss.count for loss in (self.losses or {}).values())


class Trace:
    """One probe, one filter, one reader: ``show`` is given each event."""

    def __init__(self, probe: Probe, matcher: Matcher, show: Callable[[dict[str, Any]], None]) -> None:
        self._probe = probe
        self._matcher = matcher
        self._show = show
        self._clock = SystemClock()
        self._identities = Identities()
        self._seen = Seen()

    async def run(self, duration: float | None, count: int | None) -> Seen:
        """Show events until ``duration`` seconds or ``count`` events are over, or a signal comes."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        on_end(ended.set)
        begin = loop.time()
        end = begin + duration if duration is not None else None
        while not self._enough(count):
            now = loop.time()
            left = _EVERY[self._probe.name] if end is None else min(_EVERY[self._probe.name], end - now)
            try:
                await asyncio.wait_for(ended.wait(), max(left, 0))
                self._seen.interrupted = True
            except TimeoutError:
                pass  # nobody asked for the end: the ordinary case
            await self._take(count, lambda: ended.is_set() or (end is not None and loop.time() >= end))
            self._seen.interrupted |= ended.is_set()
            if self._seen.interrupted or (end is not None and loop.time() >= end):
                break
        self._seen.seconds = loop.time() - begin
        self._seen.losses = {reason: loss for reason, loss in self._probe.losses().items() if loss.count}
        return self._seen

    def _enough(self, count: int | None) -> bool:
        return count is not None and self._seen.shown >= count

    async def _take(self, count: int | None, over: Callable[[], bool]) -> None:
        """Show what is there, and what comes meanwhile until it is ``over``. A burst comes faster than it can be shown:
        it waits here, within a bound, and beyond that in the ring, which counts what it refuses."""
        waiting = deque([self._probe.drain()])
        held = waiting[0].nbytes
        while waiting and not self._enough(count):
            records = waiting.popleft()
            for start in range(0, records.size, _PIECE):
                self._show_some(records[start : start + _PIECE], count)
                await asyncio.sleep(0)
                if held < _WAITING and self._probe.name not in AGGREGATING and not over():
                    waiting.append(self._probe.drain())
                    held += waiting[-1].nbytes
            held -= records.nbytes

    def _show_some(self, records: Records, count: int | None) -> None:
        now = self._clock.now()
        mask = self._matcher.mask(records, self._identities, now)
        wanted = records[mask]
        self._seen.left_out += records.size - wanted.size
        if count is not None:
            wanted = wanted[: count - self._seen.shown]
        table, numbers = workloads(wanted, self._identities, now)
        for event, number in zip(to_dicts(wanted, self._probe.name, now), numbers.tolist(), strict=True):
            event["workload"], event["workload_kind"] = table[number].name, table[number].kind
            self._show(event)
        self._seen.shown += wanted.size


def trace(
    kind: str,
    settings: ProbeSettings,
    wanted: EventFilter,
    told: tuple[Callable[[], None], Callable[[dict[str, Any]], None]],
    *,
    duration: float | None,
    count: int | None,
) -> Seen:
    """Attach the probe ``kind``, show its events, detach it. ``told``: called once it is attached; with each event.

    Raises PrivilegeError, FeatureMissing, VerifierError or KernelError if the kernel refuses it, UsageError if the
    filter makes no sense.
    """
    matcher = Matcher(wanted)
    probe = _OPEN[kind](settings)
    begin, show = told
    try:
        begin()
        return asyncio.run(Trace(probe, matcher, show).run(duration, count))
    finally:
        probe.close()
