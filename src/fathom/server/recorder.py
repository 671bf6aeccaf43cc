"""Recordings that the server makes for those who ask: one at a time, in a thread, in a folder of the data directory.

The file has no name any more before its first byte is sent, so that nothing of it stays, however the server ends; what
a server that was killed left half made is deleted at the next start. The disk is never filled: batches come first.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from fathom.errors import StoreError, UsageError
from fathom.server.problems import ProblemError
from fathom.server.settings import ServerSettings
from fathom.server.workers import Workers
from fathom.store.interface import EdgeQuery, Store, Window
from fathom.store.making import Making, Stopped

_LOG = logging.getLogger(__name__)
#: The folder, below the data directory.
FOLDER = "recordings"
#: The least that a recording needs.
_LEAST_BYTES = 1 << 20
_RETRY = {"Retry-After": "10"}


def clean(data: Path) -> None:
    """Delete what a server that was killed left behind below the data directory ``data``."""
    try:
        for path in (data / FOLDER).iterdir():
            if not path.is_dir():  # nothing of ours
                path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        _LOG.warning("what is left in %s cannot be deleted: %s", data / FOLDER, error)


class Recorder:
    """Makes recordings of ``store``; ``ending`` says whether the server is about to end."""

    def __init__(self, store: Store, settings: ServerSettings, ending: Callable[[], bool]) -> None:
        self._store, self._settings, self._ending = store, settings, ending
        self._workers = Workers(1, "recording")
        self._busy = threading.Lock()

    def take(self) -> Place:
        """The one place. Raises ProblemError (503) if another recording is under way."""
        if not self._busy.acquire(blocking=False):
            raise ProblemError(
                503, "another recording is under way", affects="this one", do="ask again later", headers=_RETRY
            )
        return Place(self, self._busy.release)

    def begin(self, window: Window, stopped: Callable[[], bool]) -> Future[BinaryIO]:
        """The recording, which nobody else can see any more, ready to be read."""
        return self._workers.submit(lambda: self._make(window, lambda: stopped() or self._ending()))

    def close(self) -> None:
        """Let the thread go."""
        self._workers.close(self._settings.shutdown_s)

    def _make(self, window: Window, stopped: Callable[[], bool]) -> BinaryIO:
        folder = self._settings.data / FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            room = shutil.disk_usage(folder).free - self._settings.recording_reserve_bytes
        except OSError as error:
            raise StoreError(
                f"cannot write to {folder}: {error.strerror}", affects="this recording", do="see to the disk"
            ) from error
        most = self._settings.max_recording_bytes
        if room < _LEAST_BYTES:
            raise self._no_room(max(room, 0))
        path = folder / secrets.token_hex(8)
        try:
            making = Making(most_bytes=min(most, room), stopped=stopped)
            self._store.record(EdgeQuery(window), path, making)
            return path.open("rb")
        except Stopped as error:
            raise ProblemError(
                503, "the recording was given up", affects="this recording", do="ask again", headers=_RETRY
            ) from error
        except UsageError as error:
            if room < most and "larger" in error.what:
                raise self._no_room(room) from error
            raise
        finally:
            path.unlink(missing_ok=True)

    def _no_room(self, room: int) -> ProblemError:
        return ProblemError(
            503,
            f"the recording needs more than the {room} bytes that the data directory's disk has for it",
            affects="this recording; the server goes on",
            do="free some space, or ask for a shorter window",
            headers=_RETRY,
        )


class Place:
    """The right to make one recording, given back by ``leave``, or when a recording that nobody waits for has ended."""

    def __init__(self, recorder: Recorder, release: Callable[[], None]) -> None:
        self._recorder, self._release = recorder, release
        self._left = threading.Event()
        self._future: Future[BinaryIO] | None = None

    def make(self, window: Window) -> Future[BinaryIO]:
        """Begin; at most once."""
        self._future = self._recorder.begin(window, self._left.is_set)
        return self._future

    def leave(self) -> None:
        """Give up what is under way, close what was made; the place is free once nothing is done in it any more."""
        self._left.set()
        if self._future is None:
            self._release()
        else:
            self._future.add_done_callback(self._ended)

    def _ended(self, future: Future[BinaryIO]) -> None:
        if not future.cancelled() and not future.exception():
            future.result().close()
        self._release()
