"""A probe that shows what it is told to show: the double of the kernel, for tests of everything above it."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.errors import KernelError
from fathom.events.observations import OBSERVATION
from fathom.events.rows import joined
from fathom.probes.probe import LossCount

Rows = npt.NDArray[np.void]


class FakeProbe:
    """Implements ``fathom.probes.probe.Probe``. Its raw records are observations.

    ``show`` queues rows for the next drain, ``hold_open`` for the next snapshot, ``lose`` adds to the losses; after
    ``break_down`` everything raises KernelError.
    """

    def __init__(self, name: str = "tcp") -> None:
        self.name = name
        self.wakeup_fd: int | None = None
        self.full = 0.0
        self.closed = False
        self._rows: list[Rows] = []
        self._open: list[Rows] = []
        self._losses: dict[str, LossCount] = {}
        self._broken = ""

    def show(self, rows: Rows) -> None:
        """Queue ``rows`` (dtype ``OBSERVATION``) for the next drain."""
        self._rows.append(rows)

    def hold_open(self, rows: Rows) -> None:
        """Queue ``rows`` (dtype ``OBSERVATION``) for the next snapshot."""
        self._open.append(rows)

    def lose(self, reason: str, count: int, packets: int = 0, sent: int = 0, received: int = 0) -> None:
        """Count something as lost."""
        old = self._losses.get(reason, LossCount(0, 0, 0, 0))
        self._losses[reason] = LossCount(
            old.count + count, old.packets + packets, old.bytes_sent + sent, old.bytes_received + received
        )

    def break_down(self, why: str) -> None:
        """Fail from now on."""
        self._broken = why

    def drain(self, most: int | None = None) -> Rows:
        """What was shown since the last call, at ``most`` so many rows."""
        rows = self._take(self._rows)
        if most is not None and rows.size > most:
            self._rows.append(rows[most:])
        return rows[:most]

    def observe(self, records: Rows, *, hold: bool = False) -> Rows:  # noqa: ARG002 - nothing is held back
        """The records are observations already."""
        return records

    def snapshot(self) -> Rows:
        """What was held open since the last call."""
        return self._take(self._open)

    def losses(self) -> dict[str, LossCount]:
        """All that was lost."""
        self._check()
        return dict(self._losses)

    def fill(self) -> float:
        """``full``."""
        self._check()
        return self.full

    def close(self) -> None:
        """Nothing to detach."""
        self.closed = True

    def __enter__(self) -> FakeProbe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def times(self, records: Rows) -> tuple[int, int]:
        """Least and greatest time of ``records``."""
        return int(records["time"].min()), int(records["time"].max())

    def _take(self, queue: list[Rows]) -> Rows:
        self._check()
        rows = joined(queue, OBSERVATION)
        queue.clear()
        return rows

    def _check(self) -> None:
        if self._broken:
            raise KernelError(self._broken)


def observation(count: int = 1, *, local: str = "10.0.0.1", remote: str = "10.0.0.2", **columns: Any) -> Rows:
    """``count`` equal rows of dtype ``OBSERVATION``: an opened egress TCP connection to port 443, or as ``columns``
    say; ``latency`` (ns, scalar or one for each) is that of one handshake a row."""
    rows = np.zeros(count, OBSERVATION)
    if "latency" in columns:
        set_latency(rows, columns.pop("latency"))
    defaults = {
        "cgroup": 1,
        "protocol": 6,
        "direction": 1,
        "verdict": 1,
        "connections": 1,
        "local_port": 40_000,
        "remote_port": 443,
        "family": 6 if ":" in remote else 4,
    }
    for name, value in {**defaults, **columns}.items():
        rows[name] = value
    rows["local"], rows["remote"] = _packed(local), _packed(remote)
    return rows


def set_latency(rows: Rows, latency: npt.ArrayLike) -> None:
    """Give each of ``rows`` one handshake of ``latency`` ns; none where it is below 0."""
    measured = np.asarray(latency, np.int64)
    rows["latency_count"] = measured >= 0
    for name in ("latency_sum", "latency_min", "latency_max"):
        rows[name] = np.maximum(measured, 0)


def _packed(address: str) -> np.void:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    octets = socket.inet_pton(family, address)
    return np.void(octets if family == socket.AF_INET6 else bytes(10) + b"\xff\xff" + octets)
