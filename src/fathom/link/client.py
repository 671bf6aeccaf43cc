"""The agent's end of the link: dials the server, keeps one stream, and delivers every batch exactly once.

``put`` returns once a batch is on disk, so a killed agent loses only the interval that it had not yet put. The server
acknowledges a batch after its store has it; only then does it leave the disk. Nothing listens here, and a server that
is away, slow or wrong never stops the agent: it costs disk up to a bound, and what falls off the bound is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import grpc
import grpc.aio
import msgspec
import numpy as np
import numpy.typing as npt

from fathom.agent.sink import SinkState
from fathom.errors import AuthenticationError, FathomError, ServerUnavailable, UsageError
from fathom.events.batches import Batch, Clock, Loss
from fathom.link.answering import Answerer
from fathom.link.backoff import Backoff
from fathom.link.channels import METHOD, SERVICE, client_channel, client_metadata
from fathom.link.outbox import Outbox
from fathom.link.session import Dictionary, Session
from fathom.link.settings import LinkClientSettings
from fathom.link.spool import Spool
from fathom.wire import messages
from fathom.wire.batches import check_name
from fathom.wire.messages import AgentHello, SpoolState

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
_REFUSALS = frozenset((grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED))
_WRONG_SERVER = frozenset((grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.FAILED_PRECONDITION))

#: A stream that lived this long shows that the server is well.
_SETTLED_S = 30.0

State = Literal["connecting", "connected", "waiting", "refused", "closed"]


class LinkStatus(msgspec.Struct, frozen=True):
    """How the link is. ``state`` ``refused``: the server does not want this agent as it is; ``detail`` says why."""

    state: State
    server: str
    detail: str
    store_id: str
    interval_s: int
    attempts: int
    acknowledged: int
    sent: int
    spool: SpoolState


class LinkClient:
    """Delivers batches, answers questions. Implements ``fathom.agent.sink.Sink``."""

    def __init__(
        self,
        settings: LinkClientSettings,
        agent: AgentHello,
        clock: Callable[[], Clock],
        answerer: Answerer | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Raises WireError if the agent's node, boot or version cannot be sent."""
        for what in ("node", "boot", "version"):
            check_name(what, getattr(agent, what))
        self._settings, self._agent, self.clock = settings, agent, clock
        self.answerer, self.heartbeat_s = answerer, settings.link_heartbeat_s
        self._backoff = backoff or Backoff(settings.link_backoff_max_s)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.dictionary = Dictionary()
        self._outbox: Outbox | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._state: State = "connecting"
        self._detail, self._store_id, self._interval_s = "not connected yet", "", 0
        self._logged = ""
        self._acknowledged = self._sent = 0

    async def start(self) -> None:
        """Open the spool and begin to dial. Raises UsageError if the settings make no sense or the spool is in use."""
        await client_channel(self._settings).close(None)
        await self.on_disk(self._open)
        self._task = asyncio.create_task(self._run(), name="link")

    def _open(self) -> None:
        settings = self._settings
        self._outbox = Outbox(
            self._agent.node,
            lambda: Spool(Path(settings.spool_dir), fsync=settings.spool_fsync),
            disk_bytes=settings.spool_bytes,
            memory_bytes=settings.link_memory_bytes,
        )

    async def close(self, linger_s: float = 1.0) -> None:
        """Wait up to ``linger_s`` for acknowledgements, then stop; what is left stays on disk."""
        if self._state == "connected" and self._outbox is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger_s):
                    while len(self._outbox):
                        self._empty.clear()
                        await self._empty.wait()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._outbox is not None and self._state != "closed":
            await self.on_disk(self._outbox.close)
        self._state, self._detail = "closed", "closed"
        self._disk.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- Sink

    async def put(self, batch: Batch) -> None:
        """Take ``batch`` over. On return it is on disk, or in memory if the disk refuses it (see ``status``)."""
        await self.on_disk(self.outbox.put, batch)
        if self._session:
            self._session.wake()

    def known(self, edge_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """False for all: what is on disk must be whole, in case another store receives it. The link itself leaves
        edges out that the server knows."""
        return np.zeros(len(edge_ids), np.bool_)

    def state(self) -> SinkState:
        """How delivery is."""
        outbox = self._outbox
        if outbox is None:
            return SinkState(ok=False, detail="not started")
        losses = tuple(Loss(0, hop, "", reason, count) for (hop, reason), count in outbox.totals.losses.items())
        return SinkState(
            ok=self._state == "connected" and outbox.writable,
            detail="; ".join(filter(None, (self._detail, "" if outbox.writable else "the spool cannot be written"))),
            queued=len(outbox),
            queued_bytes=max(outbox.disk_bytes, outbox.memory_bytes),
            acknowledged=self._acknowledged,
            losses=losses,
        )

    def status(self) -> LinkStatus:
        """How the link is, in more detail."""
        return LinkStatus(
            state=self._state,
            server=self._settings.link_server,
            detail=self._detail,
            store_id=self._store_id,
            interval_s=self._interval_s,
            attempts=self._backoff.attempts,
            acknowledged=self._acknowledged,
            sent=self._sent,
            spool=self.spool_state(),
        )

    # -- what a session needs

    def spool_state(self) -> SpoolState:
        """What waits here."""
        outbox = self._outbox
        if outbox is None:
            return SpoolState()
        return SpoolState(
            len(outbox),
            outbox.disk_bytes,
            outbox.totals.facts_dropped,
            outbox.totals.files_damaged,
            outbox.writable,
        )

    def told_sent(self) -> None:
        """A batch was sent."""
        self._sent += 1

    def told_acknowledged(self) -> None:
        """A batch was acknowledged: the link works."""
        self._acknowledged += 1
        self._backoff.reset()
        self._empty.set()

    async def on_disk(self, work: Callable[..., T], *arguments: object) -> T:
        """Run ``work`` in the one thread that touches the outbox."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    @property
    def outbox(self) -> Outbox:
        """What is not acknowledged. Raises UsageError if the link was not started."""
        if self._outbox is None:
            raise UsageError("the link was not started")
        return self._outbox

    # -- dialling

    async def _run(self) -> None:
        while True:
            try:
                await self._connect()
            except (AuthenticationError, UsageError) as error:
                wait = self._backoff.around(self._settings.link_refused_retry_s)
                self._told_down("refused", error)
            except FathomError as error:
                wait = self._backoff.next()
                self._told_down("waiting", error)
            except Exception as error:
                wait = self._backoff.next()
                _LOG.exception("the link failed in a way that nobody expected")
                self._told_down("waiting", error)
            await asyncio.sleep(wait)

    def _told_down(self, state: State, error: Exception) -> None:
        detail = error.what if isinstance(error, FathomError) else f"{type(error).__name__}: {error}"
        self._state, self._detail = state, detail
        if detail != self._logged:  # once, not at each attempt
            _LOG.warning("link to %s: %s", self._settings.link_server, detail)
            self._logged = detail

    async def _connect(self) -> None:
        """One stream, from dialling to its end, which is always an error."""
        metadata = client_metadata(self._settings)
        began = asyncio.get_running_loop().time()
        async with client_channel(self._settings) as channel:
            connect = channel.stream_stream(f"/{SERVICE}/{METHOD}", bytes, bytes)
            call = connect(None, metadata=metadata)
            session = Session(call, self)
            try:
                async with asyncio.timeout(self._settings.link_connect_timeout_s):
                    welcome = await session.open(messages.hello(self._agent, self.clock(), self.spool_state()))
                self._store_id, self._interval_s = welcome.store_id, welcome.interval_s
                self._state, self._detail, self._session = "connected", "", session
                _LOG.info("link to %s: connected", self._settings.link_server)
                self._logged = ""
                await session.run()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, EOFError, TimeoutError) as error:
                raise await _reason(call, error) from error
            finally:
                self._session = None
                call.cancel()
                if asyncio.get_running_loop().time() - began > _SETTLED_S:
                    self._backoff.reset()


async def _reason(call: grpc.aio.StreamStreamCall[bytes, bytes], error: Exception) -> FathomError:
    """Why the stream ended, as an error of ours."""
    if isinstance(error, TimeoutError):
        return ServerUnavailable("the server did not answer in time")
    code, details = await call.code(), await call.details()
    if code in _REFUSALS:
        return AuthenticationError(
            f"the server refused the join token: {details}",
            affects="batches wait in the spool",
            do="give the token of this server by --join-token-file",
        )
    if code in _WRONG_SERVER:
        return UsageError(f"the server does not speak this link: {details}", do="check --server-link and its version")
    return ServerUnavailable(f"the server is not reachable: {details or code.name}")
