"""The keys that open the server: an admin key for REST and a join token for agents, made at the first start.

Each is 256 random bits, so its SHA-256 is as good as any slow hash: there is nothing to guess, and checking is too
cheap to be an attack. Only the hashes are read at run time. The keys themselves are left, mode 0600, where the local
command line and the local agent find them; they may be taken away from there, and stay valid.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from fathom.errors import UsageError

ADMIN_FILE, JOIN_FILE, HASHES_FILE = "admin.token", "join.token", "keys.json"
_LOG = logging.getLogger(__name__)
_VERSION = 1
#: Longer ones are refused before they are hashed.
_LONGEST = 512


class StoredKey(msgspec.Struct, frozen=True):
    """A key as it is kept: its name, what it may do, and the SHA-256 of it in hex."""

    name: str
    role: str
    sha256: str


class _Document(msgspec.Struct, frozen=True):
    version: int
    keys: list[StoredKey]


class Keys:
    """Checks keys by their hashes, in constant time."""

    def __init__(self, stored: Mapping[str, StoredKey]) -> None:
        self._stored = dict(stored)

    def allows(self, key: str, role: str) -> bool:
        """Whether ``key`` is a key with ``role`` (``admin`` or ``join``)."""
        if len(key) > _LONGEST:
            return False
        given, found = _hash(key), False
        for stored in self._stored.values():
            same = hmac.compare_digest(given, stored.sha256)
            found |= same and stored.role == role
        return found

    def hash_of(self, name: str) -> str:
        """The hash of key ``name``, SHA-256 in hex."""
        return self._stored[name].sha256


def open_keys(directory: Path) -> Keys:
    """The keys of ``directory``; made, with mode 0600 and in one step each, where there are none.

    Raises UsageError if a file cannot be read or written, or holds no keys.
    """
    path = directory / HASHES_FILE
    try:
        stored = _read(path) if path.exists() else {}
        for name, file in (("admin", ADMIN_FILE), ("join", JOIN_FILE)):
            if name in stored:
                _check_left(directory / file, stored[name])
            else:
                key = f"fathom-{name}-{secrets.token_urlsafe(32)}"
                # The key before its hash: if this process dies in between, both are made anew.
                write_private(directory / file, f"{key}\n".encode())
                stored[name] = StoredKey(name, name, _hash(key))
                write_private(path, msgspec.json.format(msgspec.json.encode(_Document(_VERSION, [*stored.values()]))))
                _LOG.info("made the %s key, %s", name, directory / file)
    except OSError as error:
        raise UsageError(
            f"cannot use the keys in {directory}: {error.strerror or error}",
            affects="the server is not started",
            do="give a data directory of your own with --data-dir",
        ) from error
    return Keys(stored)


def write_private(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step, mode 0600, on disk when this returns. Follows no link at ``path``."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> dict[str, StoredKey]:
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
        if document.version != _VERSION or any(len(bytes.fromhex(key.sha256)) != 32 for key in document.keys):
            raise ValueError(f"version {document.version}")
    except (msgspec.DecodeError, ValueError) as error:
        raise UsageError(
            f"{path} holds no keys that this version knows: {error}",
            affects="the server is not started, because it would let nobody in",
            do="bring the file back, or take it away: new keys are made then, and the old ones end",
        ) from error
    _keep_private(path)
    return {key.name: key for key in document.keys}


def _check_left(path: Path, stored: StoredKey) -> None:
    """Say so when the key that was left at ``path`` is not the one that opens."""
    if not path.exists():
        _LOG.info("%s is not there; the key that was made stays valid", path)
        return
    _keep_private(path)
    if not hmac.compare_digest(_hash(path.read_text(errors="replace").strip()), stored.sha256):
        _LOG.warning("%s is not the %s key; to make new keys take %s away", path, stored.name, HASHES_FILE)


def _keep_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        _LOG.warning("%s could be read by others; it is private again", path)
        path.chmod(0o600)


def _hash(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
