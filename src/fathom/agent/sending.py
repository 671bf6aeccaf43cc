"""From closed intervals to batches: ids without holes, at most so many facts each, handed to the sink in order.

The loop never waits for the sink. While the sink takes nothing, a bounded number of drafts wait; what is beyond is
given up, counted, and told with the next draft.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fathom.agent.clock import NodeClock
from fathom.agent.sink import Sink
from fathom.errors import FathomError, TemporaryError
from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import Edge

_LOG = logging.getLogger(__name__)
#: The most facts that one batch holds.
MAX_FACTS = 10_000
#: Drafts that may wait for the sink.
MAX_WAITING = 64
_RETRY_S = 0.5
_MANY_LOSSES = 500


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch that has no id yet. ``edges[i]`` is the edge of ``facts[i]``, None where the sink knows it."""

    clock: Clock
    bucket: int
    facts: npt.NDArray[np.void]
    edges: tuple[Edge | None, ...]
    losses: tuple[Loss, ...] = ()
    observed: tuple[Observed, ...] = ()

    def split(self) -> list[Draft]:
        """Drafts of at most ``MAX_FACTS`` facts; losses and stretches go with the last, so that what was observed is
        never claimed before its facts."""
        parts = [
            replace(
                self,
                facts=self.facts[start : start + MAX_FACTS],
                edges=self.edges[start : start + MAX_FACTS],
                losses=(),
                observed=(),
            )
            for start in range(0, max(self.facts.size, 1), MAX_FACTS)
        ]
        parts[-1] = replace(parts[-1], losses=self.losses, observed=self.observed)
        return parts


class Sender:
    """Gives ``node``'s drafts to ``sink``."""

    def __init__(self, node: str, boot: str, sink: Sink, clock: NodeClock) -> None:
        self.node = node
        self.boot = boot
        self.sequence = 0
        self.facts = 0
        self.given_up: dict[str, int] = {}
        self.problem = ""
        self._sink = sink
        self._clock = clock
        self._waiting: deque[Draft] = deque()
        self._losses: list[Loss] = []
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, draft: Draft) -> None:
        """Queue ``draft``; never waits."""
        for part in draft.split():
            if self._losses and part.observed:
                part, self._losses = replace(part, losses=(*part.losses, *self._losses)), []
            if len(self._waiting) >= MAX_WAITING:
                self._give_up(part, "sink_blocked")
                continue
            self._waiting.append(part)
        self._idle.clear()
        self._more.set()

    async def run(self) -> None:
        """Give drafts for ever."""
        while True:
            while self._waiting:
                await self._give(self._waiting.popleft())
            self._idle.set()
            self._more.clear()
            await self._more.wait()

    async def drained(self) -> None:
        """Wait until the sink has all that was offered."""
        await self._idle.wait()

    async def _give(self, draft: Draft) -> None:
        batch = Batch(
            id=BatchId(self.node, self.boot, self.sequence + 1),
            clock=draft.clock,
            edges=tuple(dict.fromkeys(edge for edge in draft.edges if edge is not None)),
            facts=draft.facts,
            losses=draft.losses,
            observed=draft.observed,
        )
        while True:
            try:
                await self._sink.put(batch)
            except TemporaryError as error:
                self.problem = str(error)
                await self._clock.sleep(_RETRY_S)
                continue
            except FathomError as error:
                self.problem = str(error)
                _LOG.error("the sink refuses a batch for good: %s", error)
                self._give_up(draft, "sink_refused")
                return
            break
        self.problem = ""
        self.sequence += 1
        self.facts += draft.facts.size

    def _give_up(self, draft: Draft, reason: str) -> None:
        """Count a draft as lost. Losses in it are told later all the same; its stretches stay unclaimed."""
        self.given_up[reason] = self.given_up.get(reason, 0) + draft.facts.size
        facts = draft.facts
        self._losses += draft.losses
        if facts.size:
            self._losses.append(
                Loss(
                    bucket=draft.bucket,
                    hop="agent",
                    probe="",
                    reason=reason,
                    count=int(facts.size),
                    packets=int(facts["packets_sent"].sum() + facts["packets_received"].sum()),
                    bytes_sent=int(facts["bytes_sent"].sum()),
                    bytes_received=int(facts["bytes_received"].sum()),
                )
            )
        if len(self._losses) > _MANY_LOSSES:
            self._losses = _joined(self._losses)


def _joined(losses: list[Loss]) -> list[Loss]:
    """One loss for each hop, probe and reason, told of the newest of their intervals."""
    sums: dict[tuple[str, str, str], Loss] = {}
    for loss in losses:
        key = (loss.hop, loss.probe, loss.reason)
        so_far = sums.get(key)
        sums[key] = (
            loss
            if so_far is None
            else Loss(
                max(loss.bucket, so_far.bucket),
                *key,
                loss.count + so_far.count,
                loss.packets + so_far.packets,
                loss.bytes_sent + so_far.bytes_sent,
                loss.bytes_received + so_far.bytes_received,
            )
        )
    return list(sums.values())
