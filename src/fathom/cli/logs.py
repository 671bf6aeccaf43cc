"""The log of a child process: what it writes goes to a file of bounded size instead of over the table.

Two files at most, ``<name>.log`` and the one before, ``<name>.log.1``. It never blocks the child: it only appends.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

#: Bytes after which the file is renamed and a new one begun.
LIMIT = 4 << 20
_TAIL = 200


class Log:
    """Appends lines to ``path``; each touch of the file happens inside ``guard()`` (the user whose file it is)."""

    def __init__(self, path: Path, guard: Callable[[], AbstractContextManager[None]], limit: int = LIMIT) -> None:
        self.path = path
        self._guard = guard
        self._limit = limit
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._lost = 0
        self._open()

    def append(self, text: bytes) -> None:
        """Add one line ``text`` (with or without its line feed)."""
        body = text.rstrip(b"\n")
        self._tail.append(body.decode(errors="replace"))
        if self._size + len(body) + 1 > self._limit:
            self._rotate()
        try:
            self._size += os.write(self._file, body + b"\n")
        except OSError:
            self._lost += 1  # a full disk must not end the product; told by ``lost``

    @property
    def lost(self) -> int:
        """Lines that could not be written (full disk)."""
        return self._lost

    def tail(self) -> list[str]:
        """The last lines, oldest first, at most 200."""
        return list(self._tail)

    def complaint(self) -> str:
        """What the process said last about why it ended: its last ``fathom: …`` block, else its last line."""
        lines = [line for line in self._tail if line.strip()]
        for index in range(len(lines) - 1, -1, -1):
            if lines[index].startswith("fathom: "):
                return "\n".join(lines[index:]).removeprefix("fathom: ")
        return lines[-1] if lines else "it said nothing"

    def forget(self) -> None:
        """Begin a new life of the process: ``tail`` starts empty."""
        self._tail.clear()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._guard():
            self._file = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        with self._guard():
            self.path.replace(self.path.with_suffix(self.path.suffix + ".1"))
        os.close(self._file)
        self._open()
