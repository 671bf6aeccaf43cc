"""The live side of the server, as an interface: nodes that are connected, questions to them, their events as they come.

The link server is behind it at run time (``fathom.server.live``), ``MemoryHub`` in tests. An answer that lacks a node
names it. Nothing here waits for a node longer than it was told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from fathom.agent.questions import Answer, EventFilter, Question
from fathom.errors import NodeUnavailable


@dataclass(frozen=True, slots=True)
class Connected:
    """A node whose agent is connected. ``clock_skew_s``: how far its clock is ahead of the server's, None if unknown.

    ``waiting_batches`` and ``waiting_bytes`` are what its spool held when it last told.
    """

    node: str
    boot: str
    version: str
    since_s: float = 0.0
    clock_skew_s: float | None = None
    waiting_batches: int = 0
    waiting_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the nodes said: ``given`` by node, and ``missing``: why there is none, by node."""

    given: Mapping[str, Answer] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveEvents:
    """Events of one node as they came; ``dropped`` counts those that were left out before these."""

    node: str
    events: tuple[Mapping[str, Any], ...] = ()
    dropped: int = 0


class Hub(Protocol):
    """The live side. All methods are called from the server's event loop."""

    def nodes(self) -> list[Connected]:
        """The nodes that are connected now, by name."""
        ...

    async def ask_all(self, question: Question, *, timeout_s: float, node: str = "") -> Answers:
        """Ask every connected node, or only ``node``, at once. Never raises for a node: it is named in ``missing``."""
        ...

    def subscribe(
        self, wanted: EventFilter, *, node: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[LiveEvents]]:
        """Events of all nodes, or only of ``node``, that connect now or later, until the context is left.

        A reader that is too slow loses events and is told how many; it never holds up a node.
        """
        ...


class MemoryHub:
    """A hub without a network, for tests. Nodes are added by ``connect``, events published by ``publish``."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[Connected, Callable[[Question], Answer]]] = {}
        self._subscribers: list[tuple[EventFilter, str, asyncio.Queue[LiveEvents]]] = []
        self.silent: set[str] = set()

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscribers)

    def connect(self, node: Connected, answer: Callable[[Question], Answer]) -> None:
        """``node`` is connected from now on and answers questions with ``answer``; those in ``silent`` never do."""
        self._nodes[node.node] = (node, answer)

    def disconnect(self, node: str) -> None:
        """``node`` is gone."""
        del self._nodes[node]

    def publish(self, events: LiveEvents) -> None:
        """Give ``events`` to all subscribers; the filter was applied by whoever calls."""
        for _, node, queue in self._subscribers:
            if node in ("", events.node):
                queue.put_nowait(events)

    def nodes(self) -> list[Connected]:
        """Those added by ``connect``."""
        return [self._nodes[name][0] for name in sorted(self._nodes)]

    async def ask_all(self, question: Question, *, timeout_s: float, node: str = "") -> Answers:
        """Ask the functions that ``connect`` was given."""
        given: dict[str, Answer] = {}
        missing: dict[str, str] = {}
        if node and node not in self._nodes:
            missing[node] = "not connected"
        for name in [n for n in sorted(self._nodes) if node in ("", n)]:
            if name in self.silent:
                missing[name] = f"no answer within {timeout_s:g} s"
                continue
            try:
                given[name] = self._nodes[name][1](question)
            except NodeUnavailable as error:
                missing[name] = error.why
        return Answers(given, missing)

    @asynccontextmanager
    async def subscribe(self, wanted: EventFilter, *, node: str = "") -> AsyncIterator[AsyncIterator[LiveEvents]]:
        """What ``publish`` gives from now on."""
        queue: asyncio.Queue[LiveEvents] = asyncio.Queue()
        entry = (wanted, node, queue)
        self._subscribers.append(entry)

        async def events() -> AsyncIterator[LiveEvents]:
            while True:
                yield await queue.get()

        try:
            yield events()
        finally:
            self._subscribers.remove(entry)
