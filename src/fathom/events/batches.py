"""The batch: what one agent reports for a stretch of time, as plain data that agent, wire and store share."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.events.edges import FACT, Edge


class Clock(msgspec.Struct, frozen=True):
    """One moment on three clocks, nanoseconds: CLOCK_MONOTONIC, CLOCK_BOOTTIME, wall time since the epoch."""

    monotonic_ns: int
    boot_ns: int
    wall_ns: int


class BatchId(msgspec.Struct, frozen=True, order=True):
    """Names a batch for ever: node, boot (the agent's start, a random hex string made once per agent process), and a
    sequence that starts at 1 and has no holes."""

    node: str
    boot: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.node}:{self.boot}:{self.sequence}"


class Loss(msgspec.Struct, frozen=True):
    """Something that was not counted where it belongs, and that is therefore counted here.

    ``hop``: ``kernel`` (ring or map full), ``agent`` (reducer or edge table full), ``spool`` (fell off the disk
    bound), ``server`` (rejected batch). ``probe`` is ``tcp``, ``flow`` or ``""``. ``reason`` is a stable word such as
    ``ring_full``, ``map_full``. ``count`` is in events, or in flows for map entries; ``packets`` and ``bytes`` are
    what those carried.
    """

    bucket: int
    hop: str
    probe: str
    reason: str
    count: int
    packets: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class Observed(msgspec.Struct, frozen=True):
    """A stretch of wall time, epoch nanoseconds, half open, in which the node's probes were attached and drained."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one agent reports for a stretch of time. ``facts`` has dtype ``FACT``, one row per (edge, bucket).

    ``edges`` holds the edges that the server may not know yet; each fact's edge is there or was acknowledged before.
    """

    id: BatchId
    clock: Clock
    edges: tuple[Edge, ...] = ()
    facts: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, FACT))
    losses: tuple[Loss, ...] = ()
    observed: tuple[Observed, ...] = ()
