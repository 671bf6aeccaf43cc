"""What every route works with: the store behind a bounded number of threads, the hub, the clock, the meters.

It refuses to let a slow question take more than its thread: what waits is bounded by the number of requests under way,
and what was given up is not begun. Questions about policy compute for long; they have threads of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request

from fathom.errors import StoreError
from fathom.link.hub import Hub
from fathom.server import rows
from fathom.server.answers import Loss, Window
from fathom.server.auditor import Auditor
from fathom.server.meters import Meters
from fathom.server.problems import ProblemError
from fathom.server.recorder import Recorder
from fathom.server.settings import ServerSettings
from fathom.server.workers import Workers
from fathom.store import interface

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Desk:
    """See the module. ``now_ns`` is the wall clock; ``closing`` is set when the server is about to end."""

    store: interface.Store
    hub: Hub
    settings: ServerSettings
    meters: Meters
    now_ns: Callable[[], int]
    version: str
    started_s: int
    auditor: Auditor
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    recorder: Recorder = field(init=False)
    _threads: ThreadPoolExecutor = field(init=False)
    _workers: Workers = field(init=False)
    _under_way: int = 0

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.settings.query_threads, "query")
        self._workers = Workers(self.settings.policy_threads, "policy")
        self.recorder = Recorder(self.store, self.settings, self.closing.is_set)

    async def ask(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``question``, a method of the store, gives; it runs in one of the query threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: question(*args, **kwargs))

    async def work(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``task`` gives, which computes for long; it runs in one of the threads for policy.

        Raises ProblemError (503) if too many are under way: also those count whose asker has gone, until they end.
        """
        self._check_room()
        return await self._begin(lambda: task(*args, **kwargs))

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[Callable[[Callable[[], T]], Awaitable[T]]]:
        """A place for work in several steps: what is given runs one of them. Raises ProblemError (503) as ``work``."""
        self._check_room()
        self._under_way += 1
        try:
            yield self._begin
        finally:
            self._under_way -= 1

    def _check_room(self) -> None:
        if self._under_way >= self.settings.max_policy_requests:
            raise ProblemError(
                503, "too many questions about policy are under way", do="ask again", headers={"Retry-After": "5"}
            )

    async def _begin(self, task: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future = self._workers.submit(task)
        self._under_way += 1
        future.add_done_callback(lambda _: _tell(loop, self._ended))
        return await asyncio.wrap_future(future)

    def _ended(self) -> None:
        self._under_way -= 1

    async def trust(self, window: interface.Window) -> tuple[Window, list[Loss]]:
        """How far the numbers of ``window`` can be trusted: coverage, and what was lost."""
        age_s = self.now_ns() // 1_000_000_000 - window.until_s
        grace_s = max(self.settings.coverage_grace_s - max(age_s, 0), 0)

        def look() -> tuple[interface.Coverage, list[interface.LossRow]]:
            return self.store.coverage(window, grace_s=grace_s), self.store.losses(window)

        coverage, lost = await self.ask(look)
        return rows.window(window, coverage), rows.losses(lost)

    def close(self) -> None:
        """Let the threads go; questions that were not begun never will be."""
        self.recorder.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._workers.close(self.settings.shutdown_s)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call ``what`` in the loop, if that still turns."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)


def _desk(request: Request) -> Desk:
    desk = request.app.state.desk
    if not isinstance(desk, Desk):
        raise StoreError("the server has no store")
    return desk


#: How a route asks for it.
AtDesk = Annotated[Desk, Depends(_desk)]
