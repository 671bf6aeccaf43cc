"""Recent and live raw events: found in the rings, rendered only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.agent.live import Live, Subscriber
from fathom.agent.matching import Matcher, workloads
from fathom.agent.questions import EventFilter, EventsAnswer, EventsQuestion
from fathom.agent.recent import RecentEvents
from fathom.events.batches import Clock
from fathom.events.rows import take
from fathom.identity.identities import Identities
from fathom.identity.workloads import OWN

Event = dict[str, Any]
Records = npt.NDArray[np.void]
#: Records, the probe's name and the clock → JSON-ready dicts, one per record.
Renderer = Callable[[Records, str, Clock], list[Event]]
#: How many records are looked at together, newest first.
_BLOCK = 4_096


class Events:
    """Answers about the raw events in ``rings``, made readable by ``render``. Fathom's own are left out."""

    def __init__(self, rings: Sequence[RecentEvents], identities: Identities, live: Live, render: Renderer) -> None:
        self.live = live
        self.own_traffic = False
        self._rings = rings
        self._identities = identities
        self._render = render
        self._matchers: dict[Subscriber, Matcher] = {}

    def answer(self, question: EventsQuestion, now: Clock) -> EventsAnswer:
        """The newest events that match. Raises UsageError if the filter's address is none."""
        matcher = Matcher(question.filter)
        offset = now.wall_ns - now.monotonic_ns
        rings = [ring for ring in self._rings if matcher.kind(ring.kind)]
        dated = [pair for ring in rings for pair in self._newest(ring, matcher, question, now)]
        found = [event for _, event in sorted(dated, key=itemgetter(0), reverse=True)]
        gone = max((ring.overwritten_until_ns for ring in rings), default=0)
        return EventsAnswer(
            events=found[: question.limit],
            truncated=len(found) > question.limit,
            oldest_ns=gone + offset if gone else 0,
            overwritten=sum(ring.overwritten for ring in rings),
        )

    def subscribe(self, wanted: EventFilter) -> Subscriber:
        """Begin to follow. Raises UsageError if there are too many subscribers or the filter's address is none."""
        matcher = Matcher(wanted)
        subscriber = self.live.add(wanted)
        self._matchers[subscriber] = matcher
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """End it."""
        del self._matchers[subscriber]
        self.live.remove(subscriber)

    def publish(self, records: Records, kind: str, now: Clock) -> None:
        """Give new ``records`` to those who follow; what finds no room in a queue is not even rendered."""
        for subscriber, matcher in self._matchers.items():
            if matcher.kind(kind) and records.size:
                _, events, more = self._select(records, kind, matcher, subscriber.room, now)
                subscriber.put(events, more)

    def _newest(
        self, ring: RecentEvents, matcher: Matcher, question: EventsQuestion, now: Clock
    ) -> list[tuple[int, Event]]:
        """Up to one more than ``question.limit`` events of one ring, each with its monotonic time."""
        offset = now.wall_ns - now.monotonic_ns
        found: list[tuple[int, Event]] = []
        skip = 0
        while skip < len(ring) and len(found) <= question.limit:
            block = ring.newest(skip, _BLOCK)
            skip += block.size
            wall = block[ring.clock].astype(np.int64) + offset
            inside = wall >= question.since_ns
            if question.until_ns:
                inside &= wall < question.until_ns
            limit = question.limit + 1 - len(found)
            chosen, events, _ = self._select(take(block, inside), ring.kind, matcher, limit, now)
            found += zip(chosen[ring.clock].tolist(), events, strict=False)
        return found

    def _select(
        self, records: Records, kind: str, matcher: Matcher, limit: int, now: Clock
    ) -> tuple[Records, list[Event], int]:
        """Which of ``records`` match, the first ``limit`` of them as dicts, and how many more there are."""
        chosen = take(records, matcher.mask(records, self._identities, now))
        if not chosen.size:
            return chosen, [], 0
        table, numbers = workloads(chosen, self._identities, now)
        if not self.own_traffic:
            foreign = numbers != OWN
            chosen, numbers = take(chosen, foreign), numbers[foreign]
        events = self._render(chosen[:limit], kind, now) if chosen.size and limit else []
        for event, number in zip(events, numbers.tolist(), strict=False):
            event.setdefault("kind", kind)
            event["node"] = self._identities.node
            # Nobody knows whose it is yet (an accepted connection): the node itself is no answer.
            unknown = table[number].kind == "host" and not event.get("pid")
            event["workload"] = "" if unknown else table[number].name
            event["workload_kind"] = "" if unknown else table[number].kind
        return chosen, events, chosen.size - len(events)
