"""Batches on their way from the link into the store: one writer, a bounded queue before it, an answer after the commit.

A full queue is told at once as "busy", and the agents keep their batches. Nothing is acknowledged, counted or looked at
further before the store has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fathom.errors import FathomError, StoreBusy, WireError
from fathom.events.batches import Batch
from fathom.server.meters import Meters
from fathom.store.interface import Store

T = TypeVar("T")


class Ingest:
    """The only writer of ``store``. Its methods are called from one event loop."""

    def __init__(self, store: Store, meters: Meters, limit: int, *, on_new: Callable[[], None] = lambda: None) -> None:
        """At most ``limit`` batches wait; ``on_new`` is called when the store has one that it did not have before."""
        self._store, self._meters, self._limit, self._on_new = store, meters, limit, on_new
        self._thread = ThreadPoolExecutor(1, "writer")
        self._waiting = 0
        self._closed = False

    async def on_batch(self, batch: Batch) -> None:
        """Bring ``batch`` into the store; returns when it is there, also if it was there before.

        Raises StoreBusy if too many wait or the store is busy, WireError if the batch makes no sense, EdgeMissing if
        the store does not know one of its edges.
        """
        if self._closed or self._waiting >= self._limit:
            self._meters.batches_busy += 1
            raise StoreBusy("the server ends" if self._closed else f"{self._waiting} batches wait for the store")
        self._count_waiting(1)
        begin = time.monotonic()
        try:
            new = await self._run(lambda: self._store.write(batch))
        except WireError:
            self._meters.batches_invalid += 1
            raise
        except FathomError:
            self._meters.batches_busy += 1
            raise
        finally:
            self._count_waiting(-1)
        self._meters.write.add(time.monotonic() - begin)
        self._count(batch, new)

    async def between_batches(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, which changes the store, run in the writer's turn. Raises what it raises."""
        return await self._run(work)

    async def close(self) -> None:
        """Take no more; returns when what waited is written."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the writer's thread; it is finished even when nobody waits for it any more."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        self._meters.batches_waiting = self._waiting

    def _count(self, batch: Batch, new: bool) -> None:
        if not new:
            self._meters.duplicates += 1
            return
        self._meters.batches += 1
        self._meters.facts += len(batch.facts)
        self._meters.edges += len(batch.edges)
        self._on_new()
        for loss in batch.losses:
            self._meters.lost(loss.hop, loss.probe, loss.reason, loss.count)
