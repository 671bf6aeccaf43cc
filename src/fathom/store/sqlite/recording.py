"""A recording as a store for reading: looked at once when it is opened, and held to be the same file ever after."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fathom.errors import StoreError
from fathom.store import schema
from fathom.store.interface import Window
from fathom.store.sqlite import files, foreign
from fathom.store.sqlite.engine import Clock, SqliteStore
from fathom.store.sqlite.reader import View
from fathom.store.tallies import Tally

T = TypeVar("T")


class RecordingStore(SqliteStore):
    """A store in one file that others made; see ``fathom.store.interface.Store``. ``version`` is that of its schema."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        super().__init__(files.Recording(path), clock=clock, most_edges=0, synchronous="NORMAL")
        self.path, self.version = path, 0
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._signature: tuple[int, ...] = ()

    def open_reader(self) -> None:
        """Look at the file. One of an earlier version is brought to this one as a copy of our own.

        Raises StoreError if there is no such file, StoreDamaged if it is no recording or was changed, StoreNewer.
        """
        self.version = version = foreign.check_file(self.path)
        self._signature = _signature(self.path)
        try:
            with contextlib.closing(files.connect(self.path, "recording")) as connection:
                foreign.check_content(self.path, connection, version)
        except sqlite3.Error as error:
            raise foreign.damaged(self.path, str(error)) from error
        if version < schema.VERSION:
            self._layout = files.Recording(self._brought_here())
        super().open_reader()

    def extent(self) -> Window | None:
        """The window of which it was taken, where it says so; see ``Store.extent``."""
        told = self.told()
        try:
            window = Window(int(told["since"]), int(told["until"]))
        except (KeyError, ValueError):
            return super().extent()
        if not 0 <= window.since_s <= window.until_s < foreign.LATEST_S:
            raise foreign.damaged(self.path, "it says that it is of a time that is none")
        return window

    def told_interval_s(self) -> int:
        """See ``Store.told_interval_s``."""
        told = self.told().get("interval_s", "")
        return int(told) if told.isascii() and told.isdecimal() and len(told) < 19 else 0

    def told(self) -> dict[str, str]:
        """What the recording says about itself."""
        return self._asking(View.identity)

    def tally(self) -> Tally:
        """How much it holds."""
        return self._asking(View.tally)

    @property
    def file(self) -> Path:
        """The file that is read: a copy, where it is of an earlier version."""
        return self._layout.meta

    def hours(self) -> list[int]:
        """The hours (epoch seconds // 3600) of which something is held."""
        return self._asking(View.hours)

    def summed_hours(self) -> list[int]:
        """The hours (epoch seconds // 3600) of which sums are held."""
        return self._asking(View.summed_hours)

    def observed(self) -> list[tuple[str, int, int]]:
        """The stretches in which nodes were observed: (node, begin, end) in ns."""
        return self._asking(View.observed)

    def clusters(self) -> list[str]:
        """The names of the clusters of which it holds something, in order."""
        return self._asking(View.clusters)

    def _brought_here(self) -> Path:
        self._copies = tempfile.TemporaryDirectory(prefix="fathom-recording-")
        copy = Path(self._copies.name) / "recording"
        with files.translated(copy):
            shutil.copyfile(self.path, copy)
            with contextlib.closing(files.connect(copy, "rw")) as connection:
                schema.migrate(connection, ("meta", "day"), self._now())
        return copy

    def close(self) -> None:
        """See ``Store.close``."""
        super().close()
        if self._copies:
            self._copies.cleanup()
            self._copies = None

    def _asking(self, ask: Callable[[View], T]) -> T:
        answer = super()._asking(ask)
        if self._signature != _signature(self.path):
            raise StoreError(f"{self.path} was changed while it was read", affects="this answer", do="ask again")
        return answer


def _signature(path: Path) -> tuple[int, ...]:
    """What differs once a file was changed or replaced."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def open_recording(path: Path, *, clock: Clock) -> RecordingStore:
    """The recording in the file ``path``; see ``RecordingStore.open_reader``."""
    store = RecordingStore(path, clock=clock)
    try:
        store.open_reader()
    except BaseException:
        store.close()
        raise
    return store
