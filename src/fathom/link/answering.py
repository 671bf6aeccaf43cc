"""The agent's side of live questions and subscriptions: runs them, bounds them, and never lets them delay batches.

At most ``MAX_RUNNING`` run at once. A subscription keeps ``MAX_WAITING`` events while the link is slow; what is beyond
is counted and told with the next chunk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from fathom.agent.questions import Answer, EventFilter, Question
from fathom.errors import FathomError
from fathom.wire import messages, questions

_LOG = logging.getLogger(__name__)
MAX_RUNNING = 64
MAX_WAITING = 10_000
#: Events of one chunk, and the time in which a chunk is gathered.
_CHUNK, _GATHER_S = 500, 0.05

Send = Callable[[bytes], Awaitable[None]]


class Answerer(Protocol):
    """What answers: the agent."""

    async def answer(self, question: Question) -> Answer:
        """Raises UsageError if the question makes no sense."""
        ...

    def subscribe(self, wanted: EventFilter) -> AsyncIterator[dict[str, Any]]:
        """Events (JSON-ready) from now on that pass the filter, until the iterator is closed."""
        ...


class Answering:
    """Questions and subscriptions of one session; ``send`` puts a message on the stream."""

    def __init__(self, answerer: Answerer | None, send: Send, max_bytes: int) -> None:
        self._answerer, self._send, self._max_bytes = answerer, send, max_bytes
        self._running: dict[int, asyncio.Task[None]] = {}

    async def question(self, number: int, body: bytes, timeout_s: float) -> None:
        """Begin to answer."""
        if self._answerer is None or len(self._running) >= MAX_RUNNING:
            await self._send(messages.answer(number, b"", self._refusal()))
            return
        self._start(number, self._answer(self._answerer, number, body, timeout_s))

    async def subscribe(self, number: int, body: bytes) -> None:
        """Begin to send live events."""
        if self._answerer is None or len(self._running) >= MAX_RUNNING:
            await self._send(messages.events_end(number, self._refusal()))
            return
        self._start(number, self._stream(self._answerer, number, body))

    def cancel(self, number: int) -> None:
        """End it, if it still runs."""
        if task := self._running.get(number):
            task.cancel()

    async def close(self) -> None:
        """End all."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refusal(self) -> str:
        return "this agent answers no questions" if self._answerer is None else "this agent answers too many already"

    def _start(self, number: int, work: Any) -> None:
        if number in self._running:
            work.close()
            return
        task = asyncio.create_task(work)
        self._running[number] = task
        task.add_done_callback(lambda _: self._running.pop(number, None))

    async def _answer(self, answerer: Answerer, number: int, body: bytes, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                answer = questions.encode(await answerer.answer(questions.decode_question(body)))
            if len(answer) > self._max_bytes:
                raise ValueError(f"the answer has {len(answer)} bytes, more than the server takes: ask for less")
            await self._send(messages.answer(number, answer))
        except Exception as error:
            await self._send(messages.answer(number, b"", _sentence(error)))

    async def _stream(self, answerer: Answerer, number: int, body: bytes) -> None:
        flow = _Flow()
        gathering: asyncio.Task[None] | None = None
        try:
            gathering = asyncio.create_task(flow.fill(answerer.subscribe(questions.decode_filter(body))))
            while not (flow.ended and not flow.waiting):
                await flow.wait()
                chunk, dropped = flow.take()
                await self._send(messages.events(number, questions.encode_events(chunk), len(chunk), dropped))
            await gathering
            await self._send(messages.events_end(number))
        except Exception as error:
            await self._send(messages.events_end(number, _sentence(error)))
        finally:
            if gathering:
                gathering.cancel()
                await asyncio.gather(gathering, return_exceptions=True)


class _Flow:
    """Events between the agent and a stream that may be slower."""

    def __init__(self) -> None:
        self.waiting: list[dict[str, Any]] = []
        self.ended = False
        self._dropped = 0
        self._some = asyncio.Event()

    async def fill(self, source: AsyncIterator[dict[str, Any]]) -> None:
        try:
            async for event in source:
                if len(self.waiting) >= MAX_WAITING:
                    self._dropped += 1
                else:
                    self.waiting.append(event)
                self._some.set()
        finally:
            self.ended = True
            self._some.set()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    async def wait(self) -> None:
        """Until there is something to send; a little longer, so that a burst becomes one chunk."""
        await self._some.wait()
        if len(self.waiting) < _CHUNK and not self.ended:
            await asyncio.sleep(_GATHER_S)

    def take(self) -> tuple[list[dict[str, Any]], int]:
        """Up to a chunk of events, and how many were dropped since the last."""
        chunk, self.waiting = self.waiting[:_CHUNK], self.waiting[_CHUNK:]
        dropped, self._dropped = self._dropped, 0
        if not self.waiting and not self.ended:
            self._some.clear()
        return chunk, dropped


def _sentence(error: Exception) -> str:
    if isinstance(error, FathomError):
        return error.what
    if isinstance(error, TimeoutError):
        return "the agent did not answer in time"
    _LOG.warning("a question could not be answered", exc_info=error)
    return f"{type(error).__name__}: {error}"
