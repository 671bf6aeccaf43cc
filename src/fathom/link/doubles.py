"""Doubles of what the link joins: a store that remembers every write, an agent that answers, batches to send.

They ship with the product, so that whoever builds on the link tests against the same ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from fathom.agent.questions import Answer, EventFilter, EventsAnswer, EventsQuestion, Question
from fathom.errors import EdgeMissing, UsageError
from fathom.events.batches import Batch, BatchId, Clock
from fathom.events.edges import FACT, Edge, Workload


class Ledger:
    """A store that counts what it was told. ``error`` is raised instead of a write while it is set."""

    def __init__(self, store_id: str = "store-1") -> None:
        self.store_id = store_id
        self.written: dict[BatchId, Batch] = {}
        self.order: list[BatchId] = []
        self.repeats: list[BatchId] = []
        self.edges: set[int] = set()
        self.edges_sent = 0
        self.error: Exception | None = None
        self.delay_s = 0.0
        self.busy = 0
        self.most_busy = 0

    async def write(self, batch: Batch) -> None:
        """Keep ``batch``, after ``delay_s``."""
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            await asyncio.sleep(self.delay_s)
            self.keep(batch)
        finally:
            self.busy -= 1

    def keep(self, batch: Batch) -> None:
        """Keep ``batch``, or remember that it was there. Raises EdgeMissing as a strict store does."""
        if self.error:
            raise self.error
        if batch.id in self.written:
            self.repeats.append(batch.id)
            return
        self.edges_sent += len(batch.edges)
        edges = self.edges | {edge.id for edge in batch.edges}
        if not set(batch.facts["edge"].tolist()) <= edges:
            raise EdgeMissing("a fact of an unknown edge")
        self.edges = edges
        self.written[batch.id] = batch
        self.order.append(batch.id)

    @property
    def facts(self) -> int:
        """Facts written."""
        return sum(len(batch.facts) for batch in self.written.values())

    def lost(self, hop: str, reason: str) -> int:
        """Facts that batches told as lost."""
        losses = [loss for batch in self.written.values() for loss in batch.losses]
        return sum(loss.count for loss in losses if (loss.hop, loss.reason) == (hop, reason))


class ScriptedAgent:
    """Answers with what it was asked, and streams ``events``."""

    def __init__(self, events: list[dict[str, Any]] | None = None) -> None:
        self.events = events or []
        self.asked: list[Question] = []
        self.streams = 0
        self.answer_delay_s = 0.0

    async def answer(self, question: Question) -> Answer:
        """The first events; more than 5 are refused."""
        self.asked.append(question)
        await asyncio.sleep(self.answer_delay_s)
        if isinstance(question, EventsQuestion) and question.limit > 5:
            raise UsageError("limit must be from 1 to 5")
        return EventsAnswer(events=self.events[:5], truncated=False, oldest_ns=0, overwritten=0)

    async def subscribe(self, wanted: EventFilter) -> AsyncIterator[dict[str, Any]]:
        """All events of the wanted kind, then silence."""
        self.streams += 1
        try:
            for event in self.events:
                if not wanted.kind or event["kind"] == wanted.kind:
                    yield event
            await asyncio.Event().wait()
        finally:
            self.streams -= 1


def sample_edge(name: str) -> Edge:
    """An edge of the process ``name``."""
    return Edge(Workload(kind="process", name=name), "egress", "10.0.0.1", "10.0.0.1", "TCP", 443)


def sample_batch(sequence: int, edges: int = 3, boot: str = "aa", node: str = "node-1", **changes: Any) -> Batch:
    """A batch with one fact for each of ``edges`` edges, the same edges in each batch."""
    them = tuple(sample_edge(f"program-{number}") for number in range(edges))
    facts = np.zeros(edges, FACT)
    facts["edge"] = [one.id for one in them]
    facts["bucket"] = 1_700_000_000 + 10 * sequence
    facts["connections"], facts["bytes_sent"], facts["packets_sent"] = 1, 100, 2
    values: dict[str, Any] = {"edges": them, "facts": facts}
    return Batch(BatchId(node, boot, sequence), Clock(1, 2, 1_700_000_000_000_000_000), **(values | changes))
