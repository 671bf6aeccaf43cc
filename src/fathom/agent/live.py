"""Live subscribers: events as they come, each subscriber behind a bounded queue of its own.

With nobody subscribed nothing is rendered. What a slow subscriber misses is counted and told in its stream, in the
place where it is missing, as ``{"kind": "lost", "count": n}``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from fathom.agent.questions import EventFilter
from fathom.errors import UsageError

Event = dict[str, Any]


class Subscriber:
    """One queue of at most ``limit`` events."""

    def __init__(self, wanted: EventFilter, limit: int) -> None:
        self.wanted = wanted
        self.limit = limit
        self.lost = 0
        self._missing = 0
        self._events: deque[Event] = deque()
        self._more = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more events it takes now."""
        return self.limit - len(self._events)

    def put(self, events: list[Event], missed: int = 0) -> None:
        """Queue ``events`` as far as there is room; ``missed`` more came that nobody rendered."""
        if self._missing and self.room:
            self._events.append(self._told())
        fitting = events[: self.room]
        self._events.extend(fitting)
        lost = len(events) - len(fitting) + missed
        self._missing += lost
        self.lost += lost
        self._more.set()

    def _told(self) -> Event:
        count, self._missing = self._missing, 0
        return {"kind": "lost", "count": count}

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events for ever, waiting where there is none."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._missing:
                yield self._told()
                continue
            self._more.clear()
            await self._more.wait()


class Live:
    """All subscribers, at most ``limit`` of them."""

    def __init__(self, limit: int, queue: int) -> None:
        self.limit = limit
        self.queue = queue
        self._gone = 0
        self._subscribers: list[Subscriber] = []

    def __len__(self) -> int:
        return len(self._subscribers)

    @property
    def lost(self) -> int:
        """Events that subscribers missed since start."""
        return self._gone + sum(subscriber.lost for subscriber in self._subscribers)

    def subscribers(self) -> tuple[Subscriber, ...]:
        """Those of this moment."""
        return tuple(self._subscribers)

    def add(self, wanted: EventFilter) -> Subscriber:
        """A new subscriber. Raises UsageError if there are too many."""
        if len(self._subscribers) >= self.limit:
            raise UsageError(
                f"this node has {self.limit} live subscribers already",
                do="end one, or raise the setting max_subscribers",
            )
        subscriber = Subscriber(wanted, self.queue)
        self._subscribers.append(subscriber)
        return subscriber

    def remove(self, subscriber: Subscriber) -> None:
        """It has gone."""
        self._gone += subscriber.lost
        self._subscribers.remove(subscriber)
