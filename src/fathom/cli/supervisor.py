"""``fathom up``'s process tree: starts the parts, keeps them alive, ends them in the reverse of their order.

Nothing outlives it: every child dies with it, and its own end by a signal is an ordinary end. It refuses to know what
the parts are.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

from fathom.cli.children import Child, Pace, Part
from fathom.cli.logs import Log

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs ``parts`` until ``stop`` is called or a signal asks for the end; ``log_of`` opens the log of a part."""

    def __init__(self, parts: Sequence[Part], log_of: Callable[[str], Log], pace: Pace | None = None) -> None:
        settled = pace or Pace()
        self.children = [Child(part, log_of(part.name), settled) for part in parts]
        self.signal: signal.Signals | None = None
        self._over = asyncio.Event()

    def stop(self, number: signal.Signals | None = None) -> None:
        """Ask for the end; the second time, children are killed instead of asked."""
        if self._over.is_set():
            for child in self.children:
                child.kill()
        self.signal = self.signal or number
        self._over.set()

    async def run(self, body: Callable[[Supervisor], Awaitable[None]]) -> None:
        """Start all parts, then run ``body`` beside them; returns when ``body`` returns or the end was asked for.

        Raises FathomError if a part does not become ready the first time; what ``body`` raises passes through. In
        every case no child is left.
        """
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self.stop, number)
        keepers: list[asyncio.Task[None]] = []
        try:
            if await self._unless_over(self._start_all()):
                return
            keepers = [asyncio.create_task(child.keep()) for child in self.children]
            await self._unless_over(body(self))
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            for child in reversed(self.children):
                await child.stop()
            for child in self.children:
                child.log.close()
            for number in _ENDING:
                loop.remove_signal_handler(number)

    async def _start_all(self) -> None:
        starts = [asyncio.create_task(child.start()) for child in self.children]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    async def _unless_over(self, work: Awaitable[None]) -> bool:
        """Await ``work`` unless the end comes first; whether it came."""
        task = asyncio.ensure_future(work)
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result()
        return self._over.is_set()
