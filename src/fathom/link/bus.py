"""A small publish-and-subscribe, so that what one part of the server hears can be told to another.

In memory here; between replicas another implementation takes its place. Delivery is at most once and bounded: a reader
that is too slow misses what arrives meanwhile, and is told how much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self


class Reader(Protocol):
    """Messages of one topic from now on, until closed. Iterate over it."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    def take_dropped(self) -> int:
        """What was missed since this was last asked: the sum of what the missed messages lose."""
        ...

    def close(self) -> None:
        """Stop; an iteration that waits ends after what is already there."""
        ...


class Bus(Protocol):
    """What carries messages."""

    def publish(self, topic: str, message: bytes, weight: int = 1, loses: int | None = None) -> None:
        """Give ``message`` to the present readers of ``topic``; ``weight`` is what counts against their bounds, and
        ``loses`` what a reader misses that has no room for it (default: the weight)."""
        ...

    def subscribe(self, topic: str, limit: int) -> Reader:
        """Read ``topic`` from now on; messages with a weight of more than ``limit`` together do not wait."""
        ...


class MemoryBus:
    """A bus inside one process and one event loop."""

    def __init__(self) -> None:
        self._readers: dict[str, set[MemoryReader]] = {}

    def publish(self, topic: str, message: bytes, weight: int = 1, loses: int | None = None) -> None:
        """Give ``message`` to the present readers of ``topic``."""
        for reader in self._readers.get(topic, ()):
            reader.offer(message, weight, weight if loses is None else loses)

    def subscribe(self, topic: str, limit: int) -> MemoryReader:
        """Read ``topic`` from now on."""
        reader = MemoryReader(limit, lambda: self._leave(topic, reader))
        self._readers.setdefault(topic, set()).add(reader)
        return reader

    def _leave(self, topic: str, reader: MemoryReader) -> None:
        readers = self._readers.get(topic, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(topic, None)


class MemoryReader:
    """See ``Reader``."""

    def __init__(self, limit: int, leave: Callable[[], None]) -> None:
        self._limit, self._leave = limit, leave
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._weight = self._dropped = 0
        self._closed = False
        self._some = asyncio.Event()

    def offer(self, message: bytes, weight: int, loses: int) -> None:
        """Take ``message``, or count it; a message that is heavier than the bound passes when nothing waits."""
        if self._waiting and self._weight + weight > self._limit:
            self._dropped += loses
            return
        self._waiting.append((message, weight))
        self._weight += weight
        self._some.set()

    def take_dropped(self) -> int:
        """What was missed."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def close(self) -> None:
        """Stop."""
        self._closed = True
        self._leave()
        self._some.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._some.clear()
            await self._some.wait()
        message, weight = self._waiting.popleft()
        self._weight -= weight
        return message
