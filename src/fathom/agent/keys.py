"""The key that opens the agent's local API: 256 random bits, made at the first start, left in the data directory.

Whoever may read the file may ask; nothing else on the machine may. It refuses to stop the agent: where no file can be
written, a key that nobody knows keeps the API shut, and observation goes on.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

KEY_FILE = "agent.token"
_PREFIX = "fathom_agent_"
_SHORTEST = len(_PREFIX) + 43
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalKey:
    """The key and the file where the people find it who may use it."""

    secret: str = field(repr=False)
    path: Path

    def opens(self, header: str) -> bool:
        """Whether an ``Authorization`` header shows this key (RFC 6750); takes the same time for every wrong one."""
        scheme, _, shown = header.partition(" ")
        same = secrets.compare_digest(shown.strip().encode("utf-8", "surrogatepass"), self.secret.encode())
        return same and scheme.lower() == "bearer"


def open_key(directory: Path) -> LocalKey:
    """The key that ``directory`` holds; made where there is none. Never raises: see above."""
    path = directory / KEY_FILE
    try:
        secret = _read(path)
        if len(secret) >= _SHORTEST and secret.isascii():
            return LocalKey(secret, path)
        if secret:
            _LOG.warning("what %s holds is no key of the local API; a new one is made", path)
    except FileNotFoundError:
        pass  # the first start
    except OSError as error:
        return _shut(path, error)
    secret = make_key()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, f"{secret}\n".encode())
    except OSError as error:
        return _shut(path, error)
    _LOG.info("made the key of the local API, %s", path)
    return LocalKey(secret, path)


def make_key() -> str:
    """A new key."""
    return _PREFIX + secrets.token_urlsafe(32)


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


def _shut(path: Path, error: OSError) -> LocalKey:
    _LOG.error("cannot use %s (%s): the local API opens to nobody; /metrics and health go on", path, error.strerror)
    return LocalKey(make_key(), path)


def _read(path: Path) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if os.fstat(handle).st_mode & 0o077:
            _LOG.warning("%s could be read by others; it is private again", path)
            os.fchmod(handle, 0o600)
        return file.read(512).decode(errors="replace").strip()
