"""Where batches go: the interface that the link implements, and a sink in memory for tests and for ``fathom trace``.

The agent gives each batch once, in the order of its sequence. Keeping it until a store has it is the sink's work.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from fathom.events.batches import Batch, Loss


class SinkState(msgspec.Struct, frozen=True):
    """How delivery is. ``ok``: batches reach a store now; ``detail`` says why not, for a person.

    ``queued`` batches (``queued_bytes`` on disk and in memory together) wait for an acknowledgement. ``losses`` are
    cumulative since start: what fell off the spool's bound.
    """

    ok: bool = True
    detail: str = ""
    queued: int = 0
    queued_bytes: int = 0
    acknowledged: int = 0
    losses: tuple[Loss, ...] = ()


class Sink(Protocol):
    """Takes batches."""

    async def put(self, batch: Batch) -> None:
        """Take ``batch`` over. Returns soon, whatever the server does.

        Raises TemporaryError if it cannot be taken now; the agent gives the same batch again.
        """
        ...

    def known(self, edge_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """For each edge id (``int64``), whether the present store acknowledged a batch that held the edge.

        An edge that is not known goes along with its facts, so a sink without memory may say False for ever.
        """
        ...

    def state(self) -> SinkState:
        """How delivery is, for readiness, status and metrics."""
        ...


class MemorySink:
    """Keeps the last ``limit`` batches in ``batches``; knows the edges of those that ``acknowledge`` was called for."""

    def __init__(self, limit: int = 1_000) -> None:
        self.limit = limit
        self.batches: list[Batch] = []
        self.acknowledged = 0
        self._known: set[int] = set()

    async def put(self, batch: Batch) -> None:
        """Keep ``batch``; the oldest goes when there are too many."""
        self.batches.append(batch)
        del self.batches[: -self.limit]

    def acknowledge(self, batch: Batch) -> None:
        """Pretend that a store has ``batch`` now."""
        self.acknowledged += 1
        self._known.update(edge.id for edge in batch.edges)

    def known(self, edge_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Edges of acknowledged batches."""
        return np.fromiter((int(i) in self._known for i in edge_ids), np.bool_, len(edge_ids))

    def state(self) -> SinkState:
        """Always well."""
        return SinkState(queued=len(self.batches), acknowledged=self.acknowledged)
