"""One stream to the server, from hello to its end: fills the window, reads acknowledgements, carries answers.

A session remembers only what is under way. What is not acknowledged when it ends stays in the outbox, and what the
server knows of edges stays in the ``Dictionary``; the next session goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc.aio

from fathom.errors import WireError
from fathom.events.batches import Clock
from fathom.link.answering import Answerer, Answering
from fathom.link.outbox import Item, Outbox, Payload
from fathom.link.together import until_first_ends
from fathom.v1 import link_pb2
from fathom.wire import batches, messages
from fathom.wire.messages import SpoolState, Welcome

T = TypeVar("T")
#: Edges remembered as known to the server; above, all are forgotten and sent once more.
_MAX_KNOWN = 1 << 18
#: Times that one batch is tried while the server fails on it for a reason of its own.
_MAX_ATTEMPTS = 20


class Owner(Protocol):
    """What a session needs of the client."""

    dictionary: Dictionary
    answerer: Answerer | None
    clock: Callable[[], Clock]
    heartbeat_s: float

    @property
    def outbox(self) -> Outbox:
        """What is not acknowledged."""
        ...

    async def on_disk(self, work: Callable[..., T], *arguments: object) -> T:
        """Run ``work`` in the one thread that touches the outbox."""
        ...

    def spool_state(self) -> SpoolState:
        """What waits."""
        ...

    def told_sent(self) -> None:
        """A batch was sent."""
        ...

    def told_acknowledged(self) -> None:
        """A batch was acknowledged."""
        ...


class Dictionary:
    """The edges that one store has acknowledged."""

    def __init__(self) -> None:
        self._store_id = ""
        self._known: set[int] = set()

    def of_store(self, store_id: str) -> None:
        """The server has store ``store_id`` now; another one knows no edge of ours."""
        if store_id != self._store_id:
            self._store_id = store_id
            self._known.clear()

    def forget(self) -> None:
        """Send all edges again."""
        self._known.clear()

    def acknowledged(self, store_id: str, ids: tuple[int, ...]) -> None:
        """Store ``store_id`` has the edges ``ids``; empty: it is not certain which store has them."""
        self.of_store(store_id)
        if store_id:
            if len(self._known) + len(ids) > _MAX_KNOWN:
                self._known.clear()
            self._known.update(ids)

    def strip(self, payload: Payload) -> tuple[bytes, tuple[int, ...], bool]:
        """What to send of ``payload``, the ids of its edges that go along, and whether that is all of it."""
        fresh = [index for index, edge in enumerate(payload.ids) if edge not in self._known]
        if len(fresh) == len(payload.ids):  # also a batch from disk, whose ids are not known here
            return payload.head + payload.edge_part, payload.ids, True
        edges = batches.encode_edges([payload.edges[index] for index in fresh])
        return payload.head + edges, tuple(payload.ids[index] for index in fresh), False


@dataclass(frozen=True, slots=True)
class _UnderWay:
    item: Item
    ids: tuple[int, ...]
    whole: bool


class Session:
    """One stream."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes], owner: Owner) -> None:
        self._call, self._owner = call, owner
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(64)
        self._under_way: dict[tuple[str, int], _UnderWay] = {}
        self._wake = asyncio.Event()
        self._hold_s: float | None = None  # go back to the oldest batch when nothing is under way, after this time
        self._round = 1
        self._welcome = Welcome("", "", "", 1, 0, 0)
        self._answering = Answering(owner.answerer, self._outgoing.put, 0)

    async def open(self, hello: bytes) -> Welcome:
        """Say hello, and return what the server answers.

        Raises EOFError or grpc's errors if the stream ended, WireError if the server speaks another language.
        """
        await self._call.write(hello)
        message = await self._read()
        if message.WhichOneof("kind") != "welcome":
            raise WireError("the server did not begin with a welcome")
        self._welcome = messages.welcome_from(message.welcome)
        self._owner.dictionary.of_store(self._welcome.store_id)
        self._answering = Answering(self._owner.answerer, self._outgoing.put, self._welcome.max_batch_bytes)
        await self._owner.on_disk(self._owner.outbox.rewind)
        return self._welcome

    async def run(self) -> None:
        """Deliver and answer until the stream ends, which is always an error."""
        try:
            await until_first_ends(self._hear(), self._speak(), self._deliver(), self._beat())
        finally:
            await self._answering.close()

    def wake(self) -> None:
        """There is a new batch."""
        self._wake.set()

    async def _read(self) -> link_pb2.ServerMessage:
        data = await self._call.read()
        if not isinstance(data, bytes):
            raise EOFError  # gRPC's own end of stream
        return messages.parse_server(data)

    async def _speak(self) -> None:
        while True:
            await self._call.write(await self._outgoing.get())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._owner.heartbeat_s)
            await self._outgoing.put(messages.heartbeat(self._owner.clock(), self._owner.spool_state()))

    async def _hear(self) -> None:
        while True:
            message = await self._read()
            kind = message.WhichOneof("kind")
            if kind == "ack":
                await self._acknowledged(message.ack)
            elif kind == "nack":
                await self._refused(message.nack)
            elif kind == "question":
                question = message.question
                await self._answering.question(question.id, question.question, question.timeout_ms / 1000)
            elif kind == "subscribe":
                await self._answering.subscribe(message.subscribe.id, message.subscribe.filter)
            elif kind == "cancel":
                self._answering.cancel(message.cancel.id)

    # -- delivery

    async def _deliver(self) -> None:
        while True:
            self._wake.clear()
            if self._hold_s is None:
                await self._fill_window()
            elif not self._under_way:
                await asyncio.sleep(self._hold_s)
                await self._owner.on_disk(self._owner.outbox.rewind)
                self._hold_s = None
                self._round += 1
                continue
            await self._wake.wait()

    async def _fill_window(self) -> None:
        outbox = self._owner.outbox
        while self._hold_s is None and len(self._under_way) < self._welcome.window:
            found = await self._owner.on_disk(outbox.next)
            if found is None:
                return
            item, payload = found
            data, ids, whole = self._owner.dictionary.strip(payload)
            boot, sequence = item.key.boot, item.key.sequence
            if len(data) > self._welcome.max_batch_bytes:
                await self._owner.on_disk(outbox.refused, boot, sequence, "too_large")
                continue
            self._under_way[boot, sequence] = _UnderWay(item, ids, whole)
            await self._outgoing.put(messages.delivery(boot, sequence, self._round, data))
            self._owner.told_sent()

    async def _acknowledged(self, ack: link_pb2.Ack) -> None:
        sent = self._under_way.pop((ack.boot, ack.sequence), None)
        if sent is None:
            raise WireError(f"the server acknowledged batch {ack.sequence}, which is not under way")
        self._owner.dictionary.acknowledged(ack.store_id, sent.ids)
        await self._owner.on_disk(self._owner.outbox.acknowledged, ack.boot, ack.sequence)
        self._owner.told_acknowledged()
        self._wake.set()

    async def _refused(self, nack: link_pb2.Nack) -> None:
        sent = self._under_way.pop((nack.boot, nack.sequence), None)
        if sent is None:
            raise WireError(f"the server refused batch {nack.sequence}, which is not under way")
        permanent, wait = nack.permanent, nack.retry_after_ms / 1000
        if nack.reason == messages.EDGE_MISSING:
            self._owner.dictionary.forget()
            permanent = sent.whole
        elif nack.reason == messages.SERVER_FAILED:
            permanent = permanent or sent.item.attempts >= _MAX_ATTEMPTS
        if permanent:
            await self._owner.on_disk(self._owner.outbox.refused, nack.boot, nack.sequence, nack.reason or "rejected")
        else:
            self._hold_s = max(self._hold_s or 0.0, wait)
        self._wake.set()
