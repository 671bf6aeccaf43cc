"""What every probe is to the agent. Kernel records stay numpy arrays; only the probe knows their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class LossCount:
    """What was lost for one reason since the probe was opened: events (or flows), and what they carried."""

    count: int
    packets: int
    bytes_sent: int
    bytes_received: int

    def __add__(self, other: LossCount) -> LossCount:
        """Field by field."""
        return LossCount(
            self.count + other.count,
            self.packets + other.packets,
            self.bytes_sent + other.bytes_sent,
            self.bytes_received + other.bytes_received,
        )

    def __sub__(self, other: LossCount) -> LossCount:
        """Field by field."""
        return LossCount(
            self.count - other.count,
            self.packets - other.packets,
            self.bytes_sent - other.bytes_sent,
            self.bytes_received - other.bytes_received,
        )


class Probe(Protocol):
    """A probe that is attached, until ``close``."""

    name: str

    @property
    def wakeup_fd(self) -> int | None:
        """A descriptor that becomes readable when a ring gets half full and should be drained; None: there is none."""
        ...

    def drain(self, most: int | None = None) -> Records:
        """Raw records since the last call, an owned array; never blocks. Raises KernelError.

        ``most``: so many at once will do; a probe that reads a ring leaves the rest there.
        """
        ...

    def times(self, records: Records) -> tuple[int, int]:
        """Least and greatest ``time`` of ``records``, of which there is one at least."""
        ...

    def observe(self, records: Records, *, hold: bool = False) -> Records:
        """What ``records`` mean, as rows of ``OBSERVATION``: a row may stand for many, and not every record counts.

        With ``hold`` rows may be held back, to stand for later records too, until a call without.
        """
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
