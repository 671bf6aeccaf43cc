"""One probe as the loop sees it: read, remembered, its losses told once, and set aside if the kernel fails it.

A probe that fails does not stop the others; it is not read again, and status says why.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fathom.agent.recent import RecentEvents
from fathom.errors import FathomError
from fathom.events.batches import Loss
from fathom.events.observations import OBSERVATION

if TYPE_CHECKING:
    from fathom.probes.probe import Probe

_LOG = logging.getLogger(__name__)
Records = npt.NDArray[np.void]


class Watched:
    """A probe, its recent events (``recent_bytes`` of them) and what was told of its losses."""

    def __init__(self, probe: Probe, recent_bytes: int) -> None:
        self.probe = probe
        self.name = probe.name
        self.recent = RecentEvents(probe.name, recent_bytes)
        self.records = 0
        self.fill = 0.0
        self.failure = ""
        #: Least and greatest time (monotonic ns) of what was drained last.
        self.times = (0, 0)
        #: The interval whose observations wait in the probe.
        self.holds: int | None = None
        self._none = _NOTHING
        self._totals: dict[str, tuple[int, int, int, int]] = {}
        self._told: dict[str, tuple[int, int, int, int]] = {}

    @property
    def attached(self) -> bool:
        """Whether the probe is read."""
        return not self.failure

    def look(self) -> float:
        """How full the probe's ring or map is or was since the last drain, 0 to 1."""
        try:
            self.fill = self.probe.fill() if self.attached else 0.0
        except (FathomError, OSError) as error:
            self._fail(error)
        return self.fill

    def drain(self, most: int | None = None) -> Records:
        """Raw records that came since the last call, of a ring at ``most`` so many."""
        if self.failure:
            return _NOTHING
        try:
            records = self.probe.drain(most)
        except (FathomError, OSError) as error:
            self._fail(error)
            return _NOTHING
        if records.size:
            self._none = records[:0]
            self.times = self.probe.times(records)
            self.records += records.size
            self.recent.add(records, self.times[1])
        return records

    def observe(self, records: Records, bucket: int) -> Records:
        """What ``records``, all of interval ``bucket``, mean (dtype ``OBSERVATION``), as far as it cannot wait.

        What waits is told at last by ``held``, which comes before records of another interval.
        """
        self.holds = bucket
        return self.probe.observe(records, hold=True)

    def held(self) -> Records:
        """What waited (dtype ``OBSERVATION``)."""
        if self.holds is None:
            return _NOTHING
        self.holds = None
        return self.probe.observe(self._none)

    def snapshot(self) -> Records:
        """What open connections carried since they were last told (dtype ``OBSERVATION``)."""
        if self.failure:
            return _NOTHING
        try:
            return self.probe.snapshot()
        except (FathomError, OSError) as error:
            self._fail(error)
            return _NOTHING

    def totals(self) -> dict[str, tuple[int, int, int, int]]:
        """Losses since the probe was opened, by reason: count, packets, bytes sent, bytes received.

        They only grow: where a probe takes something back, what comes next is less by that.
        """
        if self.failure:
            return self._totals
        try:
            for reason, loss in self.probe.losses().items():
                now = loss.count, loss.packets, loss.bytes_sent, loss.bytes_received
                count, packets, sent, received = map(max, now, self._totals.get(reason, _NO_LOSS))
                self._totals[reason] = count, packets, sent, received
        except (FathomError, OSError) as error:
            self._fail(error)
        return self._totals

    def losses(self, bucket: int) -> list[Loss]:
        """What was lost since the last call, as losses of ``bucket``."""
        fresh: list[Loss] = []
        totals = dict(self.totals())
        for reason, now in totals.items():
            before = self._told.get(reason, _NO_LOSS)
            count, packets, sent, received = (a - b for a, b in zip(now, before, strict=True))
            if count or packets or sent or received:
                fresh.append(Loss(bucket, "kernel", self.name, reason, count, packets, sent, received))
        self._told = totals
        return fresh

    def _fail(self, error: Exception) -> None:
        self.failure = str(error) or type(error).__name__
        _LOG.error("probe %s is set aside: %s", self.name, self.failure)


_NO_LOSS = (0, 0, 0, 0)
_NOTHING: Records = np.zeros(0, OBSERVATION)
