"""What every probe is to the agent. Kernel records stay numpy arrays; only the probe knows their fields."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]


class LossCount(NamedTuple):
    """What was lost for one reason since the probe was opened: events (or flows), and what they carried."""

    count: int
    packets: int
    bytes_sent: int
    bytes_received: int

    def __add__(self, other: object) -> LossCount:
        """Field by field."""
        if not isinstance(other, LossCount):
            return NotImplemented
        return LossCount(*(a + b for a, b in zip(self, other, strict=True)))


class Probe(Protocol):
    """A probe that is attached, until ``close``."""

    name: str

    def drain(self) -> Records:
        """Raw records since the last call, an owned array; never blocks. Raises KernelError."""
        ...

    def observe(self, records: Records) -> Records:
        """What ``records`` mean, as rows of ``OBSERVATION``; not every record is one."""
        ...

    def snapshot(self) -> Records:
        """Rows of ``OBSERVATION`` about what is open now, as deltas since it was last told. Raises KernelError."""
        ...

    def losses(self) -> dict[str, LossCount]:
        """Cumulative losses by reason. Raises KernelError."""
        ...

    def fill(self) -> float:
        """How full the ring or map was at the worst drain since the last call, 0..1."""
        ...

    def close(self) -> None:
        """Detach and let go of everything."""
        ...


def loss_of(counters: npt.NDArray[Any]) -> LossCount:
    """Sum over CPUs of a ``struct refused`` row (dtype with count, packets, bytes_sent, bytes_received)."""
    return LossCount(*(int(counters[name].sum()) for name in ("count", "packets", "bytes_sent", "bytes_received")))
