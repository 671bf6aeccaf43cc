"""Both probes, attached and drained in the background, as an agent would, but with nothing behind them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np

from fathom.events.observations import OBSERVATION
from fathom.probes.flow import FlowProbe
from fathom.probes.probe import LossCount
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import TcpProbe
from tests.truth.ledger import Ledger

TICK_S = 0.05
#: After this the kernel has closed what programs that ended left behind (delayed ACKs, last FINs on a local network).
SETTLE_S = 0.3

Rows = np.ndarray[Any, np.dtype[Any]]


class Watch:
    """Opens the probes, reads them until ``settle``, and keeps all that they gave.

    Flow maps are flipped every few ticks, so that most flows are told in several parts.
    """

    def __init__(self, settings: ProbeSettings | None = None) -> None:
        self._settings = settings or ProbeSettings()
        self._stack = ExitStack()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._observations: list[Rows] = []
        self.tcp_events: list[Rows] = []
        self.flow_events: list[Rows] = []

    def __enter__(self) -> Self:
        self.tcp = self._stack.enter_context(TcpProbe.open(self._settings))
        self.flow = self._stack.enter_context(FlowProbe.open(self._settings))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._stack.close()

    def settle(self) -> None:
        """Stop reading, once all is in."""
        time.sleep(SETTLE_S)
        self._stop.set()
        self._thread.join()
        if self._failure:
            raise self._failure
        self._turn(flip=True)

    def observations(self) -> Rows:
        """All of dtype ``OBSERVATION``, after ``settle``."""
        return np.concatenate([np.zeros(0, OBSERVATION), *self._observations])

    def ledger(self, *programs: str) -> Ledger:
        """What these programs did, as the probes saw it."""
        return Ledger.observed(self.observations(), programs)

    def losses(self) -> dict[str, LossCount]:
        """By probe and reason."""
        return {
            f"{probe.name} {reason}": loss
            for probe in (self.tcp, self.flow)
            for reason, loss in probe.losses().items()
            if loss.count
        }

    def _run(self) -> None:
        try:
            turn = 0
            while not self._stop.wait(TICK_S):
                turn += 1
                self._turn(flip=turn % 3 == 0)
        except Exception as error:  # told in the test's own thread
            self._failure = error

    def _turn(self, *, flip: bool) -> None:
        records = self.tcp.drain()
        if records.size:
            self.tcp_events.append(records)
            self._observations.append(self.tcp.observe(records))
        if flip:
            flows = self.flow.drain()
            self.flow_events.append(flows)
            self._observations.append(self.flow.observe(flows))
