"""The keys that open the server: an admin key for REST and a join token for agents, made at the first start.

Each is 256 random bits, so its SHA-256 is as good as any slow hash: there is nothing to guess, and checking is too
cheap to be an attack. Only the hashes are used at run time. The keys themselves are left, mode 0600, where the local
command line and the local agent find them; they may be taken away from there, and stay valid.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from fathom.agent.keys import write_private
from fathom.errors import UsageError
from fathom.link.tokens import JoinTokens, hash_token, make_token

ADMIN_FILE, KEYS_FILE = "admin.token", "keys.json"
JOIN_FILE, JOIN_HASHES_FILE = "join.token", "join.hashes"
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

    def __init__(self, stored: Iterable[StoredKey]) -> None:
        self._stored = tuple(stored)

    def allows(self, key: str, role: str) -> bool:
        """Whether ``key`` is one with ``role``."""
        if len(key) > _LONGEST:
            return False
        given, found = _hash(key), False
        for stored in self._stored:
            same = hmac.compare_digest(given, stored.sha256)
            found |= same and stored.role == role
        return found


def open_keys(directory: Path) -> Keys:
    """The keys for REST that ``directory`` holds; an admin key is made where there is none.

    Raises UsageError if a file cannot be read or written, or holds no keys.
    """
    path, left = directory / KEYS_FILE, directory / ADMIN_FILE
    with _told(directory):
        if path.exists():
            stored = _read(path)
            _check_left(left, {key.sha256 for key in stored}, KEYS_FILE)
            return Keys(stored)
        key = f"fathom_admin_{secrets.token_urlsafe(32)}"
        stored = [StoredKey("admin", "admin", _hash(key))]
        # The key before its hash: if this process dies in between, both are made anew.
        write_private(left, f"{key}\n".encode())
        write_private(path, msgspec.json.format(msgspec.json.encode(_Document(_VERSION, stored))))
        _LOG.info("made the admin key, %s", left)
        return Keys(stored)


def open_join_tokens(directory: Path) -> JoinTokens:
    """The join tokens that ``directory`` holds; one is made where there is none.

    Raises UsageError if a file cannot be read or written, or holds no hashes.
    """
    path, left = directory / JOIN_HASHES_FILE, directory / JOIN_FILE
    with _told(directory):
        if not path.exists():
            token = make_token()
            write_private(left, f"{token}\n".encode())
            write_private(path, f"# SHA-256 of the join tokens that are valid\n{hash_token(token)}\n".encode())
            _LOG.info("made the join token for agents, %s", left)
        else:
            _keep_private(path)
            lines = path.read_text(errors="replace").splitlines()
            _check_left(left, {line.partition("#")[0].strip() for line in lines}, JOIN_HASHES_FILE)
        return JoinTokens.load(path)


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot use the keys in {directory}: {error.strerror or error}",
            affects="the server is not started",
            do="give a data directory of your own with --data-dir",
        ) from error


def _read(path: Path) -> list[StoredKey]:
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
    return document.keys


def _check_left(path: Path, hashes: set[str], where: str) -> None:
    """Say so when the key that was left at ``path`` is not one that opens."""
    if not path.exists():
        _LOG.info("%s is not there; the key that was made stays valid", path)
        return
    _keep_private(path)
    if _hash(path.read_text(errors="replace").strip()) not in hashes:
        _LOG.warning("what %s holds does not open; to have a new key made, take %s away", path, where)


def _keep_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        _LOG.warning("%s could be read by others; it is private again", path)
        path.chmod(0o600)


def _hash(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
