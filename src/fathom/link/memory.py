"""The hub without a network: agents of this process, for tests of the server and for programs that embed both."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

import msgspec

from fathom.agent.questions import Answer, EventFilter, Question
from fathom.errors import FathomError, NodeUnavailable
from fathom.link.answering import Answerer
from fathom.link.bus import MemoryBus
from fathom.link.hub import Answers, NodeState
from fathom.link.live import Chunk, Live, topic
from fathom.wire import questions
from fathom.wire.messages import AgentHello, SpoolState


class MemoryHub:
    """Implements ``fathom.link.hub.Hub`` over agents that are attached by hand."""

    def __init__(self, live_events: int = 10_000) -> None:
        self._live_events = live_events
        self._agents: dict[str, tuple[NodeState, Answerer]] = {}
        self._bus = MemoryBus()
        self._numbers = itertools.count(1)
        self._streams: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._wanted: dict[int, EventFilter] = {}

    def attach(self, agent: AgentHello, answerer: Answerer, now_ns: int = 0) -> None:
        """An agent connects."""
        state = NodeState(
            agent.node, agent.boot, agent.version, agent.features, True, "memory", now_ns, now_ns, 0, SpoolState()
        )
        self._agents[agent.node] = (state, answerer)
        for number, wanted in self._wanted.items():
            self._start(number, agent.node, answerer, wanted)

    def detach(self, node: str) -> None:
        """It leaves."""
        state, answerer = self._agents[node]
        self._agents[node] = (msgspec.structs.replace(state, connected=False), answerer)
        for key in [key for key in self._streams if key[1] == node]:
            self._streams.pop(key).cancel()

    def nodes(self) -> list[NodeState]:
        """All that were ever attached, by name."""
        return [self._agents[name][0] for name in sorted(self._agents)]

    async def ask(self, node: str, question: Question, timeout_s: float = 5.0) -> Answer:
        """The answer of one node. Raises NodeUnavailable if it is not attached, refuses, or is late."""
        state, answerer = self._agents.get(node, (None, None))
        if state is None or answerer is None or not state.connected:
            raise NodeUnavailable(node, "not connected")
        try:
            async with asyncio.timeout(timeout_s):
                return await answerer.answer(question)
        except TimeoutError:
            raise NodeUnavailable(node, f"no answer within {timeout_s:g} s") from None
        except FathomError as error:
            raise NodeUnavailable(node, error.what) from error

    async def ask_all(self, question: Question, timeout_s: float = 5.0, expected: Iterable[str] = ()) -> Answers:
        """The answers of all nodes; who does not answer is named."""
        answers: dict[str, Answer] = {}
        missing: dict[str, str] = {}
        for name in sorted({*self._agents, *expected}):
            try:
                answers[name] = await self.ask(name, question, timeout_s)
            except NodeUnavailable as error:
                missing[name] = error.why
        return Answers(answers, missing)

    def subscribe(self, wanted: EventFilter) -> Live:
        """Live events that pass ``wanted``, of all nodes, those that are attached later too."""
        number = next(self._numbers)

        def begin() -> None:
            self._wanted[number] = wanted
            for name, (state, answerer) in self._agents.items():
                if state.connected:
                    self._start(number, name, answerer, wanted)

        def end() -> None:
            self._wanted.pop(number, None)
            for key in [key for key in self._streams if key[0] == number]:
                self._streams.pop(key).cancel()

        return Live(self._bus, number, self._live_events, begin, end)

    def _start(self, number: int, node: str, answerer: Answerer, wanted: EventFilter) -> None:
        task = asyncio.get_running_loop().create_task(self._stream(number, node, answerer, wanted))
        self._streams[number, node] = task
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _stream(self, number: int, node: str, answerer: Answerer, wanted: EventFilter) -> None:
        error = ""
        try:
            async for event in answerer.subscribe(wanted):
                self._publish(number, Chunk(node, questions.encode_events([event]), 0))
        except FathomError as problem:
            error = problem.what
        if error:
            self._publish(number, Chunk(node, b"[]", 0, error))

    def _publish(self, number: int, chunk: Chunk) -> None:
        self._bus.publish(topic(number), msgspec.msgpack.encode(chunk))

    async def close(self) -> None:
        """End all streams."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
