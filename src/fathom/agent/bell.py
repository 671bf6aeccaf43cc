"""What ends the loop's pause before its time: a ring in the kernel that gets half full.

The kernel's programs wake whoever waits for the ring's descriptor at that moment and at no other, so it is watched by
edge: by level it would be readable for as long as the ring holds anything.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterable
from types import TracebackType
from typing import Self


class Bell:
    """Waits for a time or for one of ``descriptors``, in the event loop that entered it."""

    def __init__(self, descriptors: Iterable[int]) -> None:
        self._descriptors = tuple(descriptors)
        self._waiting: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._epoll = select.epoll()
        for descriptor in self._descriptors:
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._rung)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    async def wait(self, seconds: float) -> None:
        """Until it rings, or for so long."""
        self._waiting = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._end)
        try:
            await self._waiting
        finally:
            timer.cancel()

    def _rung(self) -> None:
        self._epoll.poll(0)
        self._end()

    def _end(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)
