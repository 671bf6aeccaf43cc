"""The audit as a task of the server: woken by new batches, it lets the judge work, counts, and tells who listens.

It refuses to slow the ingest down: it has a thread of its own, and where judging needs a new inventory it rests for
some of the time that this took. A listener that is too slow loses denials and is told how many.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

from fathom.errors import FathomError
from fathom.policy.findings import Offender
from fathom.server.audit_meters import AuditMeters
from fathom.server.judging import Judge, Turn

#: Denials that wait for one listener.
MOST_WAITING = 1_000
#: Seconds between two looks when nothing wakes it: sets may have been changed by another replica.
LOOK_S = 5.0
#: Seconds before a turn that failed is tried again.
_AGAIN_S = 1.0
#: It rests so many times as long as a new inventory took, and so many seconds at most.
_REST, _MOST_REST_S = 4.0, 60.0
_LOG = logging.getLogger(__name__)


class Told(NamedTuple):
    """A new denial, or a new unknown verdict: of which set, and when it was judged (epoch seconds)."""

    audit: str
    at_s: float
    what: Offender


class Listener:
    """Who wants to know; made by ``Auditor.listen``, used in ``async with``."""

    def __init__(self, among: set[Listener]) -> None:
        self._among = among
        self._waiting: deque[Told] = deque()
        self._dropped = 0
        self._some = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._among.add(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._among.discard(self)

    def give(self, told: Told) -> None:
        """One more, if there is room."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(told)
        else:
            self._dropped += 1
        self._some.set()

    async def take(self) -> tuple[list[Told], int]:
        """What came since the last time, at least one, and how many there was no room for."""
        await self._some.wait()
        self._some.clear()
        taken, dropped = list(self._waiting), self._dropped
        self._waiting.clear()
        self._dropped = 0
        return taken, dropped


class Auditor:
    """See the module. All methods belong to one event loop."""

    def __init__(self, judge: Judge, meters: AuditMeters, now_s: Callable[[], float] = time.time) -> None:
        self._judge, self._meters, self._now_s = judge, meters, now_s
        self._thread = ThreadPoolExecutor(1, "audit")
        self._listeners: set[Listener] = set()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something to judge, or the sets have changed."""
        self._woken.set()

    def listen(self) -> Listener:
        """New denials from the moment it is entered."""
        return Listener(self._listeners)

    async def run(self) -> None:
        """Judge until cancelled."""
        while True:
            rest_s = await self.turn()
            if rest_s is not None:
                await asyncio.sleep(rest_s)
                continue
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def turn(self) -> float | None:
        """One turn; seconds to rest before the next, None if nothing waits. A turn that fails is tried again."""
        self._woken.clear()
        loop = asyncio.get_running_loop()
        try:
            return self._done(await loop.run_in_executor(self._thread, self._judge.turn))
        except FathomError as error:
            _LOG.warning("the audit of policies failed, it is tried again: %s", error)
        except Exception:
            _LOG.exception("the audit of policies failed by a defect, it is tried again")
        self._meters.failures += 1
        return _AGAIN_S

    def _done(self, done: Turn | None) -> float | None:
        if done is None:
            return None
        if done.policies is not None:
            self._meters.sets(done.policies)
        self._meters.failures += len(done.failed)
        self._meters.compiled += done.compiled
        self._meters.waiting = done.waiting
        for name, found in done.found.items():
            self._meters.found(name, found)
        self._meters.left_out.update(done.left_out)
        if done.totals.batches or done.totals.missed_batches:
            self._meters.looked(done.totals, done.seconds)
        for name, offenders in done.told.items():
            for offender in offenders:
                for listener in self._listeners:
                    listener.give(Told(name, self._now_s(), offender))
        return min(done.loading_s * _REST, _MOST_REST_S)

    async def close(self) -> None:
        """Returns when the turn under way is finished; what waits is judged by the next process."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
