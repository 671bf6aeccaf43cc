"""Where the files of a store are, how they are made, opened, kept aside and deleted; no SQL beyond pragmas.

A *directory* holds ``meta.db``, one ``facts-YYYY-MM-DD.db`` a day (UTC) and ``lock``. A *recording* is one file with
all tables in it, for reading only. Files are 0600 and directories 0700: they tell who talks to whom.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import re
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fathom.errors import FathomError, StoreBusy, StoreDamaged, StoreError
from fathom.store import schema
from fathom.store.sqlite import foreign

_EPOCH = dt.date(1970, 1, 1)
_DAY_FILE = re.compile(r"facts-(\d{4}-\d\d-\d\d)\.db")
_COMPANIONS = ("-wal", "-shm", "")  # the log first: a log without its file is harmless, a file with a foreign log not
_MAGIC = b"SQLite format 3\x00"
_TEMPORARY = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    )
)
#: Pages (4 KiB) of log after which it is written back, and the most that it keeps on disk afterwards.
_LOG_PAGES, _LOG_BYTES = 4_000, 64 << 20
_CACHE_KIB, _READ_CACHE_KIB = 32_768, 16_384
_BUSY_TIMEOUT_S = 5.0
_OLDEST = (3, 38, 0)


def day_text(day: int) -> str:
    """A day since the epoch as ``YYYY-MM-DD``."""
    return (_EPOCH + dt.timedelta(days=day)).isoformat()


@dataclass(frozen=True, slots=True)
class Directory:
    """A store that is a directory."""

    root: Path
    single = False
    mode = "ro"

    @property
    def meta(self) -> Path:
        """The file with everything but facts."""
        return self.root / "meta.db"

    def day(self, day: int) -> Path:
        """The file with the facts of a day."""
        return self.root / f"facts-{day_text(day)}.db"

    def days(self) -> list[int]:
        """The days whose files are there, in order."""
        found = []
        for path in self.root.iterdir():
            if match := _DAY_FILE.fullmatch(path.name):
                with contextlib.suppress(ValueError):
                    found.append((dt.date.fromisoformat(match[1]) - _EPOCH).days)
        return sorted(found)

    def all(self) -> list[Path]:
        """All database files that are there."""
        return [path for path in (self.meta, *map(self.day, self.days())) if path.exists()]


@dataclass(frozen=True, slots=True)
class Recording:
    """A store that is one file."""

    path: Path
    single = True
    mode = "recording"

    @property
    def meta(self) -> Path:
        """The file."""
        return self.path

    def day(self, _day: int) -> Path:
        """The file."""
        return self.path

    def days(self) -> list[int]:
        """The days of which it holds facts, in order."""
        with translated(self.path), contextlib.closing(connect(self.path, self.mode)) as connection:
            return [int(row[0]) for row in connection.execute("SELECT DISTINCT hour / 24 FROM hours ORDER BY 1")]

    def all(self) -> list[Path]:
        """The file."""
        return [self.path]


Layout = Directory | Recording


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Errors of SQLite and of the system as Fathom's: what may pass is StoreBusy, damage is StoreDamaged."""
    try:
        yield
    except DamagedFile:
        raise
    except StoreDamaged as error:
        raise damaged(path, error.what) from error
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        raise StoreBusy(f"{path}: {error.strerror or error}", affects="the store", do="see to the disk") from error


def translate(error: sqlite3.Error, path: Path) -> FathomError:
    """The error of Fathom's that an error of SQLite on ``path`` is."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code in _TEMPORARY:
        return StoreBusy(
            f"{path}: {error}",
            affects="batches wait on their nodes until this passes",
            do="see whether the disk is full, read-only or failing",
        )
    return StoreError(f"{path}: {error}")


class DamagedFile(StoreDamaged):
    """A damaged file, with its ``path`` so that it can be kept aside, and ``why`` it is taken for damaged."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}")
        self.path, self.why = path, why


class Vanished(StoreBusy):
    """A file went between being seen and being opened: dropped or kept aside by somebody. Ask again."""


def damaged(path: Path, why: str) -> DamagedFile:
    """The error for a damaged file."""
    return DamagedFile(path, why)


def make(path: Path, kinds: Sequence[schema.Kind], now_s: int) -> None:
    """Make a file (0600) with the tables of ``kinds``; it appears with all of them or not at all."""
    making = path.with_name(f"{path.name}.making")
    delete(making)
    os.close(os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.closing(_connect(making, "rw")) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        schema.make(connection, kinds, now_s)
    making.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def connect(path: Path, mode: str, *, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """A connection, usable from any thread by one at a time; ``mode`` is ``ro``, ``rw`` or ``recording``, which is for
    a file that others made: nothing is written, not even beside it, and no lock is taken.

    Raises StoreDamaged, touching nothing, if the file is empty or a database of something else; StoreNewer.
    """
    connection = _connect(path, mode)
    try:
        if mode == "recording":
            foreign.restrain(connection)
        schema.check(connection)
        _settle(connection, mode, synchronous)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with there(path):
        return sqlite3.connect(
            uri(path, mode), uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S
        )


@contextlib.contextmanager
def there(path: Path) -> Iterator[None]:
    """Raises Vanished if opening ``path`` fails because it is not there."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if path.exists():
            raise
        raise Vanished(f"{path} is not there any more") from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _settle(connection: sqlite3.Connection, mode: str, synchronous: str) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA temp_store = {'FILE' if mode == 'recording' else 'MEMORY'}")
    if mode != "rw":
        connection.execute(f"PRAGMA cache_size = -{_READ_CACHE_KIB}")
        return
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")


def uri(path: Path, mode: str) -> str:
    """The name under which SQLite opens ``path``."""
    how = "mode=ro&immutable=1" if mode == "recording" else f"mode={mode}"
    name = os.fsencode(path)
    # Two slashes before an absolute path, or SQLite takes what follows two of its own for a host.
    return f"file:{'//' if name.startswith(b'/') else ''}{quote(name)}?{how}"


def check_engine(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raises StoreError if Python's SQLite is too old for strict tables."""
    if version < _OLDEST:
        raise StoreError(
            f"this Python's SQLite is {'.'.join(map(str, version))}; the store needs {'.'.join(map(str, _OLDEST))}",
            do="use a Python that is built with a newer SQLite, such as that of Debian 12 or Ubuntu 24.04",
        )


def make_directory(root: Path) -> None:
    """The directory, made 0700 if it is absent. Raises StoreError if it cannot be made or written to."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the data directory {root} cannot be made: {error.strerror}", do="choose another data directory"
        ) from error
    if not writable(root):
        raise StoreError(
            f"the data directory {root} cannot be written to",
            affects="nothing can be kept",
            do="make it writable for this user, or choose another data directory",
        )


def writable(root: Path) -> bool:
    """Whether a file can be made in ``root``: root's permissions say yes even on a read-only disk, so try it."""
    probe = root / f".probe-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError:
        return False
    return True


def refuse_newer(layout: Layout) -> None:
    """Raises StoreNewer if a file has a newer schema; reads headers only, so that nothing is touched."""
    for path in layout.all():
        version = version_of(path)
        if version > schema.VERSION:
            raise schema.newer(str(path), version)


def version_of(path: Path) -> int:
    """The schema version in a file's header, 0 if the file is not one of Fathom's."""
    with translated(path), path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        return 0
    version, application = struct.unpack_from(">4xi4xi", header, 56)
    return int(version) if application == schema.APPLICATION_ID else 0


def lock(root: Path) -> int:
    """The descriptor that holds the writer's lock until it is closed. Raises StoreError if another process has it."""
    path = root / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreError(
            f"another process (pid {holder}) writes to the store {root}",
            affects="this process cannot write to it",
            do="stop that process, or choose another data directory",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def keep_aside(path: Path, now_s: int) -> Path:
    """Rename a damaged file, with its log, to ``NAME.damaged-TIMESTAMP``; the new name."""
    stamp = dt.datetime.fromtimestamp(now_s, dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    kept, count = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while kept.exists():
        count += 1
        kept = path.with_name(f"{path.name}.damaged-{stamp}-{count}")
    for companion in _COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{companion}").rename(f"{kept}{companion}")
    return kept


def delete(path: Path) -> None:
    """Delete a file with its log; absent is fine."""
    for companion in _COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{companion}").unlink()


def size(root: Path) -> int:
    """Bytes on disk of all that is in ``root`` (or of the file ``root``)."""
    paths = [root] if root.is_file() else list(root.iterdir())
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total
