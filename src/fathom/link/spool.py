"""Batches on disk, one file each, that outlive the agent. Knows files and their order; sends nothing itself.

A file's name holds its place in the order, its batch's boot and sequence, and what is lost if it cannot be read:
``GENERATION-SEQUENCE-BOOT-BUCKET-FACTS.batch``. The generation counts the agent's starts. Each file appears by rename,
so that it is whole or absent when the agent is killed; after a power cut a file may be damaged, which its checksum
shows (with ``fsync`` it is whole or absent then too). A damaged file is kept in ``damaged/``.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from fathom.errors import UsageError, WireError

_MAGIC = b"FATHOMB1"
_HEADER = struct.Struct("<8sII16s")  # magic, bytes of the head, bytes of the edges, BLAKE2b-128 of both
#: What a file takes on disk is counted in blocks of this many bytes.
BLOCK = 4096
_NAME = re.compile(r"(\d{8})-(\d{19})-([0-9A-Za-z]{1,64})-(\d{1,12})-(\d{1,12})\.batch")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names a batch of this node; orders all batches as they were made."""

    generation: int
    sequence: int
    boot: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the spool: its batch's key, the first bucket (epoch seconds) and number of its facts, bytes on disk."""

    key: Key
    bucket: int
    facts: int
    size: int

    @property
    def name(self) -> str:
        key = self.key
        return f"{key.generation:08d}-{key.sequence:019d}-{key.boot}-{self.bucket}-{self.facts}.batch"


def size_on_disk(length: int) -> int:
    """Bytes that a payload of ``length`` bytes takes on disk: whole blocks."""
    return -(-(length + _HEADER.size) // BLOCK) * BLOCK


class Spool:
    """The directory of batches. Every method may raise OSError; one process at a time holds it."""

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        """Take hold of ``directory``, made if absent. Raises UsageError if another process holds it."""
        self._directory, self._fsync = directory, fsync
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise UsageError(
                f"the spool directory {directory} is in use by another agent",
                do="stop the other agent, or give this one its own --data-dir",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory. Calling it twice is harmless."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def scan(self) -> list[Stored]:
        """What is there, oldest first. Removes what a killed agent left half written."""
        found = []
        for path in self._directory.iterdir():
            if path.suffix == ".partial":
                path.unlink()  # put() had not returned for it
            elif match := _NAME.fullmatch(path.name):
                generation, sequence, boot, bucket, facts = match.groups()
                key = Key(int(generation), int(sequence), boot)
                found.append(Stored(key, int(bucket), int(facts), size_on_disk(path.stat().st_size - _HEADER.size)))
        return sorted(found, key=lambda stored: stored.key)

    def write(self, stored: Stored, head: bytes, edges: bytes) -> None:
        """Keep a payload under ``stored``'s name; replaces what that name held, at once or not at all."""
        body = blake2b(head, digest_size=16)
        body.update(edges)
        partial = self._directory / (stored.name + ".partial")
        try:
            with partial.open("wb") as file:
                file.write(_HEADER.pack(_MAGIC, len(head), len(edges), body.digest()))
                file.write(head)
                file.write(edges)
                if self._fsync:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(self._directory / stored.name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        if self._fsync:
            self._sync_directory()

    def read(self, stored: Stored) -> tuple[bytes, bytes]:
        """Head and edges of a payload. Raises WireError if the file is damaged or gone."""
        try:
            data = (self._directory / stored.name).read_bytes()
        except FileNotFoundError as error:
            raise WireError(f"spool file {stored.name} is gone") from error
        if len(data) < _HEADER.size:
            raise WireError(f"spool file {stored.name} is cut short")
        magic, head, edges, digest = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if magic != _MAGIC or len(body) != head + edges or blake2b(body, digest_size=16).digest() != digest:
            raise WireError(f"spool file {stored.name} is damaged")
        return body[:head], body[head:]

    def remove(self, stored: Stored) -> None:
        """Forget a payload; harmless if it is gone."""
        (self._directory / stored.name).unlink(missing_ok=True)

    def set_aside(self, stored: Stored) -> Path:
        """Move a damaged file out of the way, and return where it is. Of such files the newest 16 are kept."""
        aside = self._directory / "damaged"
        aside.mkdir(mode=0o700, exist_ok=True)
        kept = aside / stored.name
        path = self._directory / stored.name
        if path.exists():
            path.replace(kept)
        for old in sorted(aside.iterdir(), key=lambda file: file.stat().st_mtime_ns)[:-16]:
            old.unlink()
        return kept

    def _sync_directory(self) -> None:
        handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
