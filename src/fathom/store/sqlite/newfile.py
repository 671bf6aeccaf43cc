"""A recording in the making: a file beside its place, which appears there whole and sealed, or not at all."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from fathom.errors import FathomError, StoreError, UsageError
from fathom.store import schema
from fathom.store.making import PLAIN, Making, Stopped
from fathom.store.placing import Part
from fathom.store.sqlite import files, foreign

_PAGE = 4_096
#: Pages that the tables take when nothing is in them, and some more.
_LEAST_PAGES = 64
#: Virtual-machine steps of SQLite between two looks at whether to go on.
_STEPS = 200_000


class NewRecording:
    """Use it in ``with``: ``connection`` has the tables of the schema; ``finish`` puts the file in its place, anything
    else leaves nothing behind.

    Raises UsageError if the file is there already and ``making`` does not say to replace it, or if it grows larger
    than that allows; StoreError if it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_s: int,
        making: Making = PLAIN,
    ) -> None:
        self.path, self._now_s = path, now_s
        self._most_bytes, self._stopped = making.most_bytes, making.stopped
        self._part = Part(path, force=making.force)
        self._mark = secrets.token_hex(foreign.DIGEST_LENGTH // 2)
        self.connection: sqlite3.Connection

    def __enter__(self) -> Self:
        self._part.__enter__()
        try:
            self.connection = sqlite3.connect(
                files.uri(self._part.path, "rw"), uri=True, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except sqlite3.Error as error:
            self._leave()
            raise self._translated(error) from error
        except BaseException:
            self._leave()
            raise
        return self

    def _prepare(self) -> None:
        ask = self.connection.execute
        # Nothing is kept of a file that is not finished, so that it needs no journal.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "trusted_schema = OFF", "temp_store = FILE"):
            ask(f"PRAGMA {pragma}").fetchall()
        ask(f"PRAGMA page_size = {_PAGE}")
        ask(f"PRAGMA max_page_count = {max(_LEAST_PAGES, self._most_bytes // _PAGE)}").fetchall()
        ask("PRAGMA cache_size = -65536")
        schema.make(self.connection, ("meta", "day"), self._now_s)
        for name, _ in self._indexes():
            ask(f"DROP INDEX {name}")
        self.connection.set_progress_handler(self._stopped, _STEPS)

    def _indexes(self) -> list[tuple[str, str]]:
        """Indexes of the schema, with their text: they are made last, sorted, which takes a third of the time."""
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
            schema.make(model, ("meta", "day"), 0)
            wanted = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY rowid"
            return model.execute(wanted).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, in a transaction. Raises as the class does, and Stopped."""
        full = False
        try:
            with files.transaction(self.connection):
                try:
                    yield self.connection
                except sqlite3.Error:
                    full = self._pages("page_count") >= self._pages("max_page_count")
                    raise
        except sqlite3.Error as error:
            raise self._translated(error, full=full) from error

    def _pages(self, which: str) -> int:
        return int(self.connection.execute(f"PRAGMA main.{which}").fetchone()[0])

    def _translated(self, error: sqlite3.Error, *, full: bool = False) -> FathomError:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT and self._stopped():
            return Stopped("the recording is not wanted any more")
        if code == sqlite3.SQLITE_FULL and full:
            return UsageError(
                f"the recording would be larger than {self._most_bytes} bytes",
                affects="nothing was recorded",
                do="ask for a shorter window or fewer workloads",
            )
        return StoreError(f"cannot write {self.path}: {error}", affects="nothing was recorded", do="see to the disk")

    def finish(self, identity: Mapping[str, str]) -> str:
        """Put the file in its place with ``identity`` in it; returns its digest."""
        with self.writing() as connection:
            rows = {
                "store_id": secrets.token_hex(8),
                "floor_day": "0",
                "retired": "0",
                **identity,
                "digest": self._mark,
            }
            connection.executemany("INSERT INTO identity VALUES(?, ?)", rows.items())
            connection.execute("INSERT OR IGNORE INTO days SELECT DISTINCT hour / 24 FROM hours")
            connection.execute("INSERT OR IGNORE INTO buckets SELECT DISTINCT hour, bucket FROM facts")
            for _, text in self._indexes():
                connection.execute(text)
        self.connection.close()
        try:
            digest = foreign.seal(self._part.path, self._mark)
        except OSError as error:
            raise self._part.unwritable(error) from error
        self._part.place()
        return digest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
        self._part.__exit__(None, None, None)
