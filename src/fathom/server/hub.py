"""A hub without a network: the live side of the server (``fathom.link.hub.Hub``) for tests of everything above it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

from fathom.agent.questions import Answer, EventFilter, Question
from fathom.errors import NodeUnavailable, WireError
from fathom.link.hub import Answers, NodeEvents, NodeState


class MemoryHub:
    """Nodes are added by ``connect``, events published by ``publish``; nodes in ``silent`` never answer."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[NodeState, Callable[[Question], Answer]]] = {}
        self._subscribers: set[MemoryEvents] = set()
        self.silent: set[str] = set()

    @property
    def subscribers(self) -> int:
        """How many subscriptions are open."""
        return len(self._subscribers)

    def connect(self, node: NodeState, answer: Callable[[Question], Answer]) -> None:
        """``node`` is known from now on and answers questions with ``answer``."""
        self._nodes[node.node] = (node, answer)

    def disconnect(self, node: str) -> None:
        """``node`` is gone."""
        del self._nodes[node]

    def publish(self, events: NodeEvents | WireError) -> None:
        """Give ``events`` to all subscribers; an error is raised to them, as when bytes from a node make no sense."""
        for subscriber in self._subscribers:
            subscriber.queue.put_nowait(events)

    def nodes(self) -> list[NodeState]:
        """Those added by ``connect``, by name."""
        return [self._nodes[name][0] for name in sorted(self._nodes)]

    async def ask(self, node: str, question: Question, timeout_s: float = 5.0) -> Answer:
        """What the function that ``connect`` was given says. Raises NodeUnavailable if there is no answer."""
        await asyncio.sleep(0)
        if node not in self._nodes or not self._nodes[node][0].connected:
            raise NodeUnavailable(node, "not connected")
        if node in self.silent:
            raise NodeUnavailable(node, f"no answer within {timeout_s:g} s")
        return self._nodes[node][1](question)

    async def ask_all(self, question: Question, timeout_s: float = 5.0, expected: Iterable[str] = ()) -> Answers:
        """Every node's answer."""
        answers: dict[str, Answer] = {}
        missing: dict[str, str] = {}
        for name in sorted({*self._nodes, *expected}):
            try:
                answers[name] = await self.ask(name, question, timeout_s)
            except NodeUnavailable as error:
                missing[name] = error.why
        return Answers(answers, missing)

    def subscribe(self, wanted: EventFilter) -> MemoryEvents:
        """What ``publish`` gives from the moment it is entered; ``publish`` is trusted to give what is ``wanted``."""
        return MemoryEvents(wanted, self._subscribers)


class MemoryEvents:
    """One subscription of a ``MemoryHub``."""

    def __init__(self, wanted: EventFilter, among: set[MemoryEvents]) -> None:
        self.wanted = wanted
        self.queue: asyncio.Queue[NodeEvents | WireError] = asyncio.Queue()
        self._among = among

    async def __aenter__(self) -> Self:
        self._among.add(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._among.discard(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NodeEvents:
        events = await self.queue.get()
        if isinstance(events, WireError):
            raise events
        return events
