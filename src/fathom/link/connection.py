"""The server's end of one agent's stream: batches in order, one at a time; acknowledged after the store has them.

A batch that the store cannot take now is refused with all that follow in the same round, so order is kept; one that
makes no sense is refused for good. Questions and live events share the stream and never wait for the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import grpc.aio

from fathom.errors import EdgeMissing, FathomError, NodeUnavailable, WireError
from fathom.events.batches import Batch, Clock
from fathom.link.together import until_first_ends
from fathom.v1 import link_pb2
from fathom.wire import batches, messages
from fathom.wire.messages import AgentHello, SpoolState

_LOG = logging.getLogger(__name__)
#: Payloads above this are decoded in a thread, so that other agents do not wait.
_LARGE = 128 * 1024

OnBatch = Callable[[Batch], Awaitable[object]]


class Ear(Protocol):
    """What hears from a connection: the server."""

    retry_s: float
    window: int
    store_id: Callable[[], str]

    async def write(self, batch: Batch) -> None:
        """Bring ``batch`` into the store, after all earlier ones of its node. Raises what the store raises."""
        ...

    def heard(self, connection: Connection, clock: Clock, spool: SpoolState) -> None:
        """A hello or a heartbeat."""
        ...

    def taken(self, connection: Connection, facts: int) -> None:
        """A batch was acknowledged."""
        ...

    def rejected(self, connection: Connection, detail: str) -> None:
        """A batch was refused for good."""
        ...

    def live(self, connection: Connection, chunk: link_pb2.EventChunk) -> None:
        """Live events."""
        ...


class Connection:
    """One stream of one agent."""

    def __init__(self, context: grpc.aio.ServicerContext[bytes, bytes], agent: AgentHello, ear: Ear) -> None:
        self.agent, self.peer = agent, context.peer()
        self._context, self._ear = context, ear
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(1024)
        self._deliveries: asyncio.Queue[link_pb2.Delivery] = asyncio.Queue(ear.window)
        self._questions: dict[int, asyncio.Future[link_pb2.Answer]] = {}
        self._refused_round = 0
        self._ended = asyncio.Event()
        self.end_reason = ""

    async def run(self, welcome: bytes) -> None:
        """Serve until the agent leaves or ``end`` is called. Raises WireError if the agent makes no sense."""
        await self._context.write(welcome)
        try:
            await until_first_ends(self._hear(), self._speak(), self._take(), self._wait_for_end())
        finally:
            for question in self._questions.values():
                if not question.done():
                    question.set_exception(NodeUnavailable(self.agent.node, "the connection was lost"))

    def end(self, reason: str) -> None:
        """Let ``run`` return soon."""
        self.end_reason = reason
        self._ended.set()

    async def ask(self, number: int, body: bytes, timeout_s: float) -> bytes:
        """The answer (JSON) to question ``number``. Raises NodeUnavailable if there is none in time."""
        answer: asyncio.Future[link_pb2.Answer] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._outgoing.put(messages.question(number, body, timeout_s))
                found = await answer
        except TimeoutError:
            self.tell(messages.cancel(number))
            raise NodeUnavailable(self.agent.node, f"no answer within {timeout_s:g} s") from None
        finally:
            del self._questions[number]
        if found.error:
            raise NodeUnavailable(self.agent.node, found.error)
        return found.answer

    def tell(self, message: bytes) -> None:
        """Put ``message`` on the stream without waiting; an agent that reads nothing is sent away."""
        try:
            self._outgoing.put_nowait(message)
        except asyncio.QueueFull:
            self.end("the agent does not read")

    # -- loops

    async def _wait_for_end(self) -> None:
        await self._ended.wait()

    async def _speak(self) -> None:
        while True:
            await self._context.write(await self._outgoing.get())

    async def _hear(self) -> None:
        while True:
            data = await self._context.read()
            if not isinstance(data, bytes):
                return  # gRPC's own end of stream
            message = messages.parse_agent(data)
            kind = message.WhichOneof("kind")
            if kind == "delivery":
                self._deliver(message.delivery)
            elif kind == "heartbeat":
                beat = message.heartbeat
                self._ear.heard(self, batches.clock_from(beat.clock), messages.spool_from(beat.spool))
            elif kind == "answer":
                question = self._questions.get(message.answer.id)
                if question and not question.done():
                    question.set_result(message.answer)
            elif kind == "events":
                self._ear.live(self, message.events)
            else:
                raise WireError("a second hello on one stream")

    def _deliver(self, delivery: link_pb2.Delivery) -> None:
        try:
            self._deliveries.put_nowait(delivery)
        except asyncio.QueueFull:
            raise WireError(f"more than {self._ear.window} batches under way") from None

    async def _take(self) -> None:
        while True:
            delivery = await self._deliveries.get()
            await self._outgoing.put(await self._reply(delivery))

    # -- batches

    async def _reply(self, delivery: link_pb2.Delivery) -> bytes:
        """Bring one batch into the store; the acknowledgement or refusal that it earned."""
        boot, sequence = delivery.boot, delivery.sequence
        if delivery.round <= self._refused_round:
            return messages.nack(boot, sequence, "round_over", "an earlier batch must come first", permanent=False)
        try:
            batch = await self._decode(delivery)
            before = self._ear.store_id()
            await self._ear.write(batch)
            after = self._ear.store_id()
        except WireError as error:
            self._ear.rejected(self, error.what)
            return messages.nack(boot, sequence, "invalid", error.what, permanent=True)
        except EdgeMissing as error:
            return self._not_now(delivery, messages.EDGE_MISSING, error.what, 0.0)
        except FathomError as error:
            return self._not_now(delivery, "store_busy", error.what, self._ear.retry_s)
        except Exception as error:
            _LOG.exception("batch %s:%d of node %s failed", boot, sequence, self.agent.node)
            return self._not_now(delivery, messages.SERVER_FAILED, type(error).__name__, self._ear.retry_s)
        self._ear.taken(self, len(batch.facts))
        return messages.ack(boot, sequence, after if before == after else "")

    async def _decode(self, delivery: link_pb2.Delivery) -> Batch:
        if len(delivery.batch) > _LARGE:
            batch = await asyncio.to_thread(batches.decode, delivery.batch)
        else:
            batch = batches.decode(delivery.batch)
        if (batch.id.boot, batch.id.sequence) != (delivery.boot, delivery.sequence):
            raise WireError(f"batch {batch.id} was delivered as {delivery.boot}:{delivery.sequence}")
        return batch

    def _not_now(self, delivery: link_pb2.Delivery, reason: str, detail: str, retry_s: float) -> bytes:
        self._refused_round = delivery.round
        return messages.nack(delivery.boot, delivery.sequence, reason, detail, permanent=False, retry_after_s=retry_s)
