"""Taking a recording: each way writes beside the file, proves what came, and then puts it in its place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from fathom.cli.access import key_for
from fathom.cli.policy.show import progress
from fathom.cli.record.interrupting import interruptible
from fathom.cli.record.summary import Summary, summary
from fathom.cli.windows import part_of
from fathom.client import Client
from fathom.errors import FathomError, StoreError, UsageError, WireError
from fathom.server.times import text_s
from fathom.store.interface import EdgeQuery, Window
from fathom.store.making import Making, nobody
from fathom.store.material import whole
from fathom.store.opening import open_store
from fathom.store.placing import Part

#: Since and until, as they were typed.
Asked = tuple[str | None, str | None]


def from_store(url: str, target: Path, asked: Asked, *, force: bool) -> Summary:
    """The recording of the store at ``url``, in ``target``.

    Raises UsageError if the window is empty or ``target`` is there already, and what the store raises.
    """
    with contextlib.closing(open_store(url, read_only=True)) as store:
        all_of_it = whole(store)
        if all_of_it.since_s >= all_of_it.until_s:
            raise _nothing("in this store")
        window = part_of(all_of_it, *asked)
        window = Window(max(window.since_s, all_of_it.since_s), min(window.until_s, all_of_it.until_s))
        if window.since_s >= window.until_s:
            held = f"{text_s(all_of_it.since_s)} to {text_s(all_of_it.until_s)}"
            raise UsageError("the window is empty", do=f"give a since before until; the store holds {held}")
        with progress("Recording") as told, interruptible() as stopped:
            making = Making(force=force, stopped=stopped, progress=told or nobody)
            store.record(EdgeQuery(window), target, making)
    return summary(target)


def from_server(server: str, token_file: str | None, target: Path, asked: Asked, *, force: bool) -> Summary:
    """The recording that ``server`` makes, in ``target``.

    Raises what the client raises; WireError if what came is not whole, StoreError if it cannot be written.
    """
    key = key_for(server, token_file, os.environ)
    with Part(target, force=force) as part:
        with progress("Receiving") as told:
            _receive(server, key, part, asked, told)
        try:
            found = structs.replace(summary(part.path), file=os.fsencode(target).decode(errors="replace"))
        except StoreError as error:
            raise WireError(
                f"what {server} sent is no whole recording: {error.what}",
                affects="it was not kept",
                do="take it again; use a client and a server of the same version",
            ) from error
        if found.empty:
            raise _nothing("in this window")
        part.place()
    return found


def _receive(server: str, key: str, part: Part, asked: Asked, told: Callable[[float], None] | None) -> None:
    came, size = 0, 0

    def begin(announced: int) -> None:
        nonlocal size
        size = announced
        free = shutil.disk_usage(part.path.parent).free
        if announced > free:
            raise StoreError(f"the recording has {announced} bytes, and {free} are free", do="free some space")

    def write(data: bytes) -> None:
        nonlocal came
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(part.descriptor, view) :]
        except OSError as error:
            raise part.unwritable(error) from error
        came += len(data)
        if told and size:
            told(came / size)

    async def run() -> None:
        async with Client(server, key) as client:
            await client.recording(begin, write, since=asked[0] or "24h", until=asked[1] or "now")

    asyncio.run(run())


def _nothing(where: str) -> FathomError:
    return FathomError(f"nothing was recorded {where}", affects="no file was made", do="ask for another window")
