"""A recording before it is read: a file that somebody sent. It is looked at and bounded, or refused, and never changed.

Nothing in a file can make SQLite run anything: only the tables of the schema are taken, word for word, so that there is
no view, trigger, generated column or virtual table, and functions of the schema are not trusted. What a file may cost
is bounded (``LIMITS``, ``MOST_ROWS``). A recording that Fathom wrote is *sealed*: its own digest stands in it, so that
one changed bit is noticed, wherever it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from fathom.errors import StoreDamaged, StoreError, StoreNewer
from fathom.store import schema

#: What a connection to a recording may use, by limits of SQLite (sqlite3.h, "Run-Time Limit Categories").
LIMITS: Mapping[int, int] = {
    sqlite3.SQLITE_LIMIT_LENGTH: 64 << 20,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 << 20,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
#: Rows that a table may hold.
MOST_ROWS: Mapping[str, int] = {
    "edges": 8_000_000,
    "endpoints": 2_000_000,
    "syscalls": 5_000_000,
    "hours": 100_000,
    "rolled": 200_000,
    "nodes": 100_000,
}
#: The first second that no recording is of.
LATEST_S = 2**33
_LATEST_HOUR = LATEST_S // 3_600
_HEADER = 100
_MAGIC = b"SQLite format 3\x00"
_CHUNK = 1 << 20
#: Characters of a digest.
DIGEST_LENGTH = 64
_NULL = re.compile(r"NULL value in (\w+)\.(\w+)")
_AGAIN = "take the recording again, or copy it again from where it was made"


def damaged(path: Path, why: str) -> StoreDamaged:
    """The error for a file that cannot be read as a recording."""
    return StoreDamaged(f"{path} is no recording that can be read: {why}", affects="nothing of it is used", do=_AGAIN)


def check_file(path: Path) -> int:
    """The schema version of the file, seen without SQLite.

    Raises StoreError if there is no such file, StoreDamaged if it is something else or cut short, StoreNewer.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is not a file", do="name a recording")
        with path.open("rb") as file:
            head = file.read(_HEADER)
    except FileNotFoundError as error:
        raise StoreError(f"there is no store or recording at {path}", do="see whether the path is right") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", do="see whether the path is right") from error
    if not head:
        raise damaged(path, "it is empty")
    if len(head) < _HEADER or not head.startswith(_MAGIC):
        raise damaged(path, "it is something else")
    size = int.from_bytes(head[16:18], "big")
    told = (65_536 if size == 1 else size) * int.from_bytes(head[28:32], "big")
    version, application = (int.from_bytes(head[at : at + 4], "big") for at in (60, 68))
    if application != schema.APPLICATION_ID:
        raise damaged(path, "it is a database, but not one of Fathom's")
    if version > schema.VERSION:
        raise StoreNewer(
            f"{path} was written by a newer Fathom (its schema is version {version}, this one knows up to"
            f" {schema.VERSION})",
            affects="nothing of it is used, and nothing in it was changed",
            do="use that newer Fathom",
        )
    if version < 1:
        raise damaged(path, "it has no schema")
    if found.st_size != told:
        raise damaged(path, f"it has {found.st_size} bytes of {told}")
    return version


def restrain(connection: sqlite3.Connection) -> None:
    """Bound what ``connection`` may do, before its first statement."""
    for category, most in LIMITS.items():
        connection.setlimit(category, most)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def check_content(path: Path, connection: sqlite3.Connection, version: int) -> None:
    """Raises StoreDamaged if the file is not whole, has other tables than the schema's, or more rows than may be."""
    _check_tables(path, connection, version)
    digest = digest_of(connection)
    if digest:
        if digest != _digest(path, digest):
            raise damaged(path, "it was changed since it was taken: its digest is another")
    elif found := fault(connection):
        raise damaged(path, found)
    if not connection.execute("SELECT 1 FROM identity WHERE name = 'store_id'").fetchone():
        raise damaged(path, "it does not say which store it is")
    for table, most in MOST_ROWS.items():
        if connection.execute(f"SELECT 1 FROM {table} LIMIT 1 OFFSET {most}").fetchone():
            raise damaged(path, f"its table {table} has more than {most} rows")
    for table in ("hours", "rolled"):
        first, last = connection.execute(f"SELECT MIN(hour), MAX(hour) FROM {table}").fetchone()
        if first is not None and not 0 <= first <= last < _LATEST_HOUR:
            raise damaged(path, f"its table {table} holds an hour that is no time")


def _check_tables(path: Path, connection: sqlite3.Connection, version: int) -> None:
    wanted = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        schema.make(model, ("meta", "day"), 0, migrations=schema.MIGRATIONS[: version - 1])
        expected = set(model.execute(wanted))
    there = set(connection.execute(f"{wanted} LIMIT {2 * len(expected)}"))
    if version < schema.SETTLED:
        texts = {name: text for _, name, _, text in expected}
        there = {(*row[:3], texts.get(row[1]) if row[3] == schema.EITHER.get(row[1]) else row[3]) for row in there}
    if there != expected:
        names = sorted({str(row[1])[:64] for row in there ^ expected})
        raise damaged(path, f"its tables are not those of schema version {version}: {', '.join(names[:5])}")


def fault(connection: sqlite3.Connection) -> str:
    """What is wrong with a database, or ``""``. Reads all of it.

    SQLite before 3.41 takes a column between those of a WITHOUT ROWID table's key for NULL where it is not; faults of
    the trees come first, so that the other tables' rows are all that is left to look at then.
    """
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if (told := _NULL.fullmatch(found)) and not _has_null(connection, *told.groups()):
        others = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> ?"
        for (table,) in connection.execute(others, (told[1],)).fetchall():
            found = str(connection.execute(f"PRAGMA quick_check({table})").fetchone()[0])
            if found != "ok":
                break
        else:
            return ""
    return "" if found == "ok" else " ".join(found.split())


def _has_null(connection: sqlite3.Connection, table: str, column: str) -> bool:
    text = f"SELECT EXISTS(SELECT 1 FROM {table} WHERE typeof({column}) = 'null')"
    return bool(connection.execute(text).fetchone()[0])


def digest_of(connection: sqlite3.Connection) -> str:
    """The digest that stands in a recording; ``""`` if it was never sealed."""
    row = connection.execute("SELECT value FROM identity WHERE name = 'digest'").fetchone()
    return str(row[0]) if row else ""


def seal(path: Path, mark: str) -> str:
    """Put the digest of a closed recording in the place of ``mark``, which is as long; returns it."""
    with path.open("r+b", buffering=0) as file:
        places, digest = _read(file, mark)
        if not places:
            raise StoreError(f"{path} has no place for its digest")
        for place in places:
            file.seek(place)
            file.write(digest.encode())
        os.fsync(file.fileno())
    return digest


def _digest(path: Path, told: str) -> str:
    """The digest of a file in which ``told`` stands as its digest; ``""`` if that stands nowhere."""
    if len(told) != DIGEST_LENGTH or not told.isascii():
        return ""
    with path.open("rb", buffering=0) as file:
        places, digest = _read(file, told)
    return digest if places else ""


def _read(file: BinaryIO, mark: str) -> tuple[list[int], str]:
    """Where ``mark`` stands (SQLite may leave copies behind), and the BLAKE2b of the file with zeros in its places."""
    wanted, blank = mark.encode(), b"0" * len(mark)
    hashed, places, position, rest = blake2b(digest_size=DIGEST_LENGTH // 2), list[int](), 0, b""
    while chunk := file.read(_CHUNK):
        data, at = rest + chunk, -1
        while (at := data.find(wanted, at + 1)) >= 0:
            places.append(position + at)
        data = data.replace(wanted, blank)
        done = len(data) - min(len(wanted) - 1, len(data))
        hashed.update(data[:done])
        position, rest = position + done, data[done:]
    hashed.update(rest)
    return places, hashed.hexdigest()
