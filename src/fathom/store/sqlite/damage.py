"""What can be told and saved of a damaged file. Nothing is repaired in place: the file stays as it was found."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fathom.errors import StoreDamaged
from fathom.store.sqlite.files import DamagedFile, connect, translated
from fathom.store.sqlite.foreign import fault
from fathom.store.sqlite.metafile import MetaFile


@dataclass(slots=True)
class Saved:
    """Rows that could still be read of a damaged meta file."""

    edges: list[tuple[Any, ...]] = field(default_factory=list)
    nodes: list[tuple[Any, ...]] = field(default_factory=list)
    floor_day: int = 0
    audits: list[tuple[Any, ...]] = field(default_factory=list)


def examine(path: Path) -> str:
    """What is wrong with a file, or ``""``. Reads all of it."""
    try:
        with translated(path), contextlib.closing(connect(path, "ro")) as connection:
            return fault(connection)
    except DamagedFile as error:
        return error.why


def save(path: Path) -> Saved:
    """What can be read of a damaged meta file: rows up to the damage, from either end."""
    saved = Saved()
    try:
        with contextlib.closing(connect(path, "ro")) as connection:
            edges = {row[0]: row for row in _readable(connection, "edges", "id")}
            saved.edges = [edges[key] for key in sorted(edges)]
            saved.nodes = list({row[0]: row for row in _readable(connection, "nodes", "node")}.values())
            saved.audits = list({row[0]: row for row in _readable(connection, "audits", "name")}.values())
            for name, value in _readable(connection, "identity", "name"):
                if name == "floor_day" and value.isdecimal():
                    saved.floor_day = int(value)
    except (StoreDamaged, sqlite3.DatabaseError):
        return saved  # not even a header: nothing can be saved, which the caller says
    return saved


def _readable(connection: sqlite3.Connection, table: str, key: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError):  # the damage: what was read before it is kept
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY {key} {order}"):
                rows.append(row)
    return rows


def find_orphans(path: Path, day: int, meta: MetaFile) -> None:
    """Note the edges that have facts in a day's file, but whose identity was lost."""
    with translated(path), contextlib.closing(connect(path, "ro")) as connection:
        ids = np.fromiter((row[0] for row in connection.execute("SELECT DISTINCT edge FROM facts")), np.int64)
    meta.orphan(ids, day)
