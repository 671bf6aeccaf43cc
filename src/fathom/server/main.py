"""The server process: opens the store, listens for agents and for people, and ends in order when it is told to.

The order of the end: no new requests, then no new batches, then what waits is written, then the audit finishes its
turn, then the store is closed. What was not acknowledged is still on the nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from fathom import notify
from fathom.errors import UsageError
from fathom.link.channels import join_address, split_address
from fathom.link.server import LinkServer
from fathom.link.settings import LinkServerSettings
from fathom.link.tokens import JoinTokens
from fathom.server.app import create_app
from fathom.server.auditor import Auditor
from fathom.server.ingest import Ingest
from fathom.server.inventories import StoreInventories
from fathom.server.judging import Judge
from fathom.server.keys import open_join_tokens, open_keys
from fathom.server.listening import RestServer, bind, is_exposed, url_of
from fathom.server.maintenance import Maintenance
from fathom.server.meters import Meters
from fathom.server.recorder import clean
from fathom.server.settings import ServerSettings
from fathom.store.interface import Store
from fathom.store.opening import open_store

_LOG = logging.getLogger(__name__)
_ENDING = (signal.SIGTERM, signal.SIGINT)
LOCK_FILE = "server.lock"


async def run_server(settings: ServerSettings, link: LinkServerSettings | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises UsageError if the data directory cannot be written, another server uses it, or a port is taken; what
    ``open_store`` raises passes through.
    """
    check(settings)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, ending.set)
    try:
        with data_directory(settings.data):
            clean(settings.data)
            await _serve(settings, link or LinkServerSettings(), ending)
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)


def check(settings: ServerSettings) -> None:
    """Raises UsageError if settings make no sense or contradict one another."""
    try:
        split_address(settings.listen)
    except UsageError as error:
        raise UsageError(
            f"{settings.listen!r} is no address to listen on", do="write for example 127.0.0.1:8600 or [::1]:8600"
        ) from error
    if settings.hours_retention_days < settings.retention_days:
        raise UsageError(
            f"hours_retention_days is {settings.hours_retention_days}, less than retention_days",
            do=f"give at least {settings.retention_days}",
        )


@contextlib.contextmanager
def data_directory(path: Path) -> Iterator[None]:
    """Make ``path`` if need be, mode 0700, and hold it against a second server.

    Raises UsageError if it cannot be written or another server holds it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            f"cannot write to the data directory {path}: {error.strerror}",
            affects="the server is not started",
            do="choose a directory that can be written with --data-dir",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
        raise UsageError(
            f"another server uses {path}" + (f" (pid {holder})" if holder.isdigit() else ""),
            affects="the server is not started; the other one goes on",
            do="end it, or give another directory with --data-dir",
        ) from None
    finally:
        os.close(lock)


async def _serve(settings: ServerSettings, link: LinkServerSettings, ending: asyncio.Event) -> None:
    keys = open_keys(settings.data)
    tokens = JoinTokens.load(Path(link.link_tokens_file)) if link.link_tokens_file else open_join_tokens(settings.data)
    meters = Meters()
    with contextlib.closing(bind(settings)) as listener:
        async with (
            _store(settings) as store,
            _auditor(store, meters) as auditor,
            _ingest(store, meters, settings, auditor) as ingest,
        ):
            hub = LinkServer(link, tokens, ingest.on_batch, lambda: store.store_id)
            app = create_app(store, hub, settings, keys, meters=meters, auditor=auditor)
            try:
                async with hub:
                    agents = join_address(split_address(link.link_listen)[0], hub.port)
                    _LOG.info("REST on %s, agents on %s, data in %s", url_of(listener), agents, settings.data)
                    if is_exposed(settings):
                        _LOG.warning("REST is not encrypted, and others can reach it: put a proxy with TLS before it")
                    maintenance = Maintenance(store, ingest, settings, meters, time.time)
                    rest = RestServer(app, settings)
                    notify.ready()
                    await _until(ending, rest, listener, (maintenance.run(), auditor.run()), app.state.desk.closing)
            finally:
                app.state.desk.close()
    _LOG.info("ended")


@contextlib.asynccontextmanager
async def _store(settings: ServerSettings) -> AsyncIterator[Store]:
    url = settings.store or f"sqlite://{quote(str((settings.data / 'store').absolute()))}"
    store = await asyncio.to_thread(open_store, url)
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)


@contextlib.asynccontextmanager
async def _auditor(store: Store, meters: Meters) -> AsyncIterator[Auditor]:
    auditor = Auditor(Judge(store, StoreInventories(store)), meters.audit)
    try:
        yield auditor
    finally:
        await auditor.close()


@contextlib.asynccontextmanager
async def _ingest(store: Store, meters: Meters, settings: ServerSettings, auditor: Auditor) -> AsyncIterator[Ingest]:
    ingest = Ingest(store, meters, settings.ingest_queue, on_new=auditor.wake)
    try:
        yield ingest
    finally:
        await ingest.close()


async def _until(
    ending: asyncio.Event,
    rest: RestServer,
    listener: socket.socket,
    beside: Iterable[Coroutine[None, None, None]],
    closing: asyncio.Event,
) -> None:
    """Serve REST, and do what is to be done ``beside``, until ``ending``; then let streams and requests end."""
    serving = asyncio.create_task(rest.serve([listener]))
    caring = [asyncio.create_task(one) for one in beside]
    told = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait((serving, *caring, told), return_when=asyncio.FIRST_COMPLETED)
        _LOG.info("ending: requests under way may finish")
    finally:
        closing.set()
        for task in (told, *caring):
            task.cancel()
        rest.should_exit = True
        await asyncio.gather(told, *caring, return_exceptions=True)
        await serving
