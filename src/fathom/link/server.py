"""The server's end of the link: lets agents in by their join token, writes their batches, asks them questions.

It holds nothing that must survive: what is not acknowledged waits on the nodes. Bytes that make no sense end the
stream they came on, and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

import grpc
import grpc.aio
import msgspec

from fathom import __version__
from fathom.agent.questions import Answer, EventFilter, Question
from fathom.errors import NodeUnavailable, WireError
from fathom.events.batches import Batch, Clock
from fathom.link.bus import Bus, MemoryBus
from fathom.link.channels import METHOD, SERVICE, bind, server_options
from fathom.link.connection import Connection
from fathom.link.hub import Answers, NodeState
from fathom.link.live import Chunk, Live, topic
from fathom.link.registry import Registry
from fathom.link.settings import LinkServerSettings
from fathom.link.tokens import JoinTokens
from fathom.v1 import link_pb2
from fathom.wire import batches, messages, questions
from fathom.wire.messages import SpoolState, Welcome

_LOG = logging.getLogger(__name__)
_BEARER = "Bearer "

OnBatch = Callable[[Batch], Awaitable[object]]
Context = grpc.aio.ServicerContext[bytes, bytes]


class LinkCounts(msgspec.Struct, frozen=True):
    """Since start: streams let in, streams turned away by reason, batches and facts acknowledged, batches refused for
    good, and agents connected now."""

    accepted: int
    turned_away: dict[str, int]
    batches: int
    facts: int
    rejected: int
    connected: int


class LinkServer:
    """Listens for agents. Implements ``fathom.link.hub.Hub``."""

    def __init__(
        self,
        settings: LinkServerSettings,
        tokens: JoinTokens,
        on_batch: OnBatch,
        store_id: Callable[[], str],
        *,
        clock: Callable[[], int] = time.time_ns,
        bus: Bus | None = None,
    ) -> None:
        """``on_batch`` brings a batch into the store and returns when it is there; ``store_id`` names that store now.

        ``on_batch`` raises WireError for a batch that makes no sense, EdgeMissing for facts of an unknown edge, and
        any other error for "not now". ``clock`` gives epoch nanoseconds.
        """
        self.tokens, self.store_id = tokens, store_id
        self.retry_s, self.window = settings.link_retry_s, settings.link_window
        self._settings, self._on_batch, self._clock = settings, on_batch, clock
        self._bus = bus or MemoryBus()
        self._registry = Registry(settings.link_max_agents * 2)
        self._order: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._writes: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._live: dict[int, bytes] = {}
        self._turned_away: Counter[str] = Counter()
        self._accepted = self._batches = self._facts = self._rejected = 0
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> int:
        """Listen, and return the port. Raises UsageError if the address cannot be, or must not be, listened on."""
        self._server = grpc.aio.server(options=server_options(self._settings))
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        self.port = bind(self._server, self._settings)
        await self._server.start()
        return self.port

    async def stop(self, grace_s: float = 1.0) -> None:
        """End all streams, and wait for the batches that are being written; calling it twice is harmless."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for connection in self._registry.connections():
            connection.end("the server stops")
        await server.stop(grace_s)
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def counts(self) -> LinkCounts:
        """What happened since start."""
        return LinkCounts(
            self._accepted,
            dict(self._turned_away),
            self._batches,
            self._facts,
            self._rejected,
            self._registry.connected,
        )

    # -- Hub

    def nodes(self) -> list[NodeState]:
        """All nodes that connected since the server's start, by name."""
        return self._registry.states()

    async def ask(self, node: str, question: Question, timeout_s: float = 5.0) -> Answer:
        """The answer of one node. Raises NodeUnavailable if it is not connected, refuses, or is late."""
        connection = self._registry.connection(node)
        if connection is None:
            raise NodeUnavailable(node, "not connected")
        body = await connection.ask(next(self._numbers), questions.encode(question), timeout_s)
        try:
            return questions.decode_answer(body)
        except WireError as error:
            raise NodeUnavailable(node, error.what) from error

    async def ask_all(self, question: Question, timeout_s: float = 5.0, expected: Iterable[str] = ()) -> Answers:
        """The answers of all nodes known here and of those ``expected``; who does not answer is named."""
        names = sorted({*self._registry.names(), *expected})
        found = await asyncio.gather(*(self.ask(name, question, timeout_s) for name in names), return_exceptions=True)
        answers: dict[str, Answer] = {}
        missing: dict[str, str] = {}
        for name, answer in zip(names, found, strict=True):
            if isinstance(answer, NodeUnavailable):
                missing[name] = answer.why
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers[name] = answer
        return Answers(answers, missing)

    def subscribe(self, wanted: EventFilter) -> Live:
        """Live events that pass ``wanted``, of all nodes, those that connect later too."""
        number, body = next(self._numbers), questions.encode(wanted)

        def begin() -> None:
            self._live[number] = body
            for connection in self._registry.connections():
                connection.tell(messages.subscribe(number, body))

        def end() -> None:
            if self._live.pop(number, None) is not None:
                for connection in self._registry.connections():
                    connection.tell(messages.cancel(number))

        return Live(self._bus, number, self._settings.link_live_events, begin, end)

    # -- streams

    async def _serve(self, _requests: object, context: Context) -> None:
        """One stream, from its first byte to its last."""
        if not self.tokens.verify(_bearer(context)):
            await self._turn_away(context, grpc.StatusCode.UNAUTHENTICATED, "wrong_token", "the join token is wrong")
        if self._registry.connected >= self._settings.link_max_agents:
            await self._turn_away(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "too many agents are connected")
        try:
            connection = await self._enter(context)
        except (WireError, TimeoutError) as error:
            what = error.what if isinstance(error, WireError) else "no hello in time"
            await self._turn_away(context, grpc.StatusCode.INVALID_ARGUMENT, "no_hello", what)
            return
        try:
            await connection.run(self._welcome())
        except WireError as error:
            _LOG.warning("node %s at %s: %s", connection.agent.node, connection.peer, error.what)
            await self._turn_away(context, grpc.StatusCode.INVALID_ARGUMENT, "wire_error", error.what)
        finally:
            self._registry.leave(connection)
        if connection.end_reason:
            await context.abort(grpc.StatusCode.UNAVAILABLE, connection.end_reason)

    async def _turn_away(self, context: Context, code: grpc.StatusCode, reason: str, what: str) -> None:
        """Ends the stream; raises gRPC's own abort."""
        self._turned_away[reason] += 1
        await context.abort(code, what)

    async def _enter(self, context: Context) -> Connection:
        """Read the hello. Raises WireError if it is none, TimeoutError if it does not come."""
        async with asyncio.timeout(self._settings.link_hello_timeout_s):
            data = await context.read()
        if not isinstance(data, bytes):
            raise WireError("the stream ended before a hello")
        message = messages.parse_agent(data)
        if message.WhichOneof("kind") != "hello":
            raise WireError("the first message is not a hello")
        hello = message.hello
        connection = Connection(context, messages.agent_from(hello), self)
        self._registry.enter(connection, self._clock())
        self.heard(connection, batches.clock_from(hello.clock), messages.spool_from(hello.spool))
        self._accepted += 1
        for number, body in self._live.items():
            connection.tell(messages.subscribe(number, body))
        return connection

    def _welcome(self) -> bytes:
        room = self._settings.link_max_message_bytes - 4096  # for what surrounds a batch
        session, interval_s = secrets.token_hex(8), self._settings.link_interval_s
        return messages.welcome(Welcome(self.store_id(), session, __version__, self.window, room, interval_s))

    # -- what connections tell

    async def write(self, batch: Batch) -> None:
        """Bring ``batch`` into the store, one at a time for each node; a lost connection does not stop it."""
        task = asyncio.create_task(self._write(batch))
        self._writes.add(task)
        task.add_done_callback(self._written)
        await asyncio.shield(task)

    async def _write(self, batch: Batch) -> None:
        async with self._order.setdefault(batch.id.node, asyncio.Lock()):
            await self._on_batch(batch)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and task.exception():
            _LOG.debug("a batch was not written", exc_info=task.exception())

    def heard(self, connection: Connection, clock: Clock, spool: SpoolState) -> None:
        """A hello or a heartbeat came."""
        self._registry.heard(connection, self._clock(), clock, spool)

    def taken(self, connection: Connection, facts: int) -> None:
        """A batch was acknowledged."""
        self._batches += 1
        self._facts += facts
        self._registry.taken(connection.agent.node, facts)

    def rejected(self, connection: Connection, detail: str) -> None:
        """A batch was refused for good; the agent reports its facts as lost at hop ``server``."""
        _LOG.error("a batch of node %s is refused for good: %s", connection.agent.node, detail)
        self._rejected += 1
        self._registry.rejected(connection.agent.node)

    def live(self, connection: Connection, chunk: link_pb2.EventChunk) -> None:
        """Live events came; those of a subscription that is over are ignored."""
        if chunk.subscription not in self._live or (chunk.end and not chunk.error):
            return
        message = Chunk(connection.agent.node, chunk.events, chunk.dropped, chunk.error)
        # What the agent had to drop is told in the chunk: it is lost with it.
        loses = chunk.count + chunk.dropped
        self._bus.publish(topic(chunk.subscription), msgspec.msgpack.encode(message), max(chunk.count, 1), loses)


def _bearer(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith(_BEARER):
            return value.removeprefix(_BEARER)
    return ""
