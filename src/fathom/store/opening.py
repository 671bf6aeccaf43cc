"""From a URL to a store: the only place that knows which engines there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from fathom.errors import UsageError
from fathom.store.audits import MOST_OFFENDERS, MOST_WAITING
from fathom.store.interface import Store

if TYPE_CHECKING:
    from fathom.store.sqlite.recording import RecordingStore

#: Edges that a store holds at most; what comes beyond is counted as lost.
MOST_EDGES = 1_000_000
_MODES = ("rw", "ro", "recording")
_SYNCHRONOUS = ("normal", "full")


def open_store(
    url: str,
    *,
    read_only: bool = False,
    most_edges: int = MOST_EDGES,
    most_waiting: int = MOST_WAITING,
    most_offenders: int = MOST_OFFENDERS,
    clock: Callable[[], float] = time.time,
) -> Store:
    """The store at ``url``: ``sqlite:///DIRECTORY``, or ``sqlite:///FILE?mode=recording``.

    Options after ``?``: ``mode`` is ``rw`` (default), ``ro`` or ``recording`` (one file, read only); ``synchronous``
    is ``normal`` (default: acknowledged facts survive the process, not always a power failure) or ``full``.

    Raises UsageError if the URL makes no sense, StoreNewer if a newer Fathom wrote the store, StoreError if it cannot
    be used, StoreBusy if it cannot be used just now.
    """
    split = urlsplit(url)
    if split.scheme != "sqlite":
        raise UsageError(f"{url!r} names no kind of store that is known", do="use sqlite:///DIRECTORY")
    path = unquote(split.path)
    if split.netloc or split.fragment or path in ("", "/") or "\0" in path:
        raise UsageError(f"{url!r} names no directory", do="use sqlite:///DIRECTORY, with three slashes")
    options = _options(url, split.query)
    bounds = {"most_edges": most_edges, "most_waiting": most_waiting, "most_offenders": most_offenders}
    return _open_sqlite(Path(path), options, read_only=read_only, bounds=bounds, clock=clock)


def open_recording(path: Path, *, clock: Callable[[], float] = time.time) -> RecordingStore:
    """The recording in a file, for reading only; the file is not changed.

    Raises StoreError if there is no such file, StoreDamaged if it is no recording, cut short or changed since it was
    taken, StoreNewer if a newer Fathom wrote it.
    """
    from fathom.store.sqlite import files, recording

    files.check_engine()
    return recording.open_recording(path, clock=clock)


def _options(url: str, query: str) -> dict[str, str]:
    options = {"mode": "rw", "synchronous": "normal"}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        allowed = {"mode": _MODES, "synchronous": _SYNCHRONOUS}.get(name, ())
        if values[-1] not in allowed:
            raise UsageError(
                f"{url!r}: {name}={values[-1]} is not an option of this store",
                do=f"use mode={'|'.join(_MODES)} or synchronous={'|'.join(_SYNCHRONOUS)}",
            )
        options[name] = values[-1]
    return options


def _open_sqlite(
    path: Path, options: dict[str, str], *, read_only: bool, bounds: dict[str, int], clock: Callable[[], float]
) -> Store:
    from fathom.store.sqlite import engine, files

    files.check_engine()
    mode = options["mode"]
    if mode == "recording":
        return open_recording(path, clock=clock)
    if read_only or mode == "ro":
        return engine.open_for_reading(files.Directory(path), clock=clock)
    return engine.open_directory(path, clock=clock, synchronous=options["synchronous"].upper(), **bounds)
