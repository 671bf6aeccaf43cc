"""Join tokens: what an agent shows to be let in. The server keeps their SHA-256 only.

A token is made here and has 256 random bits, so a plain hash cannot be turned back by guessing; tokens that people
make up are refused for that reason. Several are valid at once, so that one can be replaced without a gap.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from fathom.errors import UsageError

_PREFIX = "fathom_join_"
_SHORTEST = len(_PREFIX) + 43


def make_token() -> str:
    """A new join token."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is kept of ``token``: SHA-256 as hex. Raises UsageError if ``make_token`` cannot have made it."""
    if not token.startswith(_PREFIX) or len(token) < _SHORTEST or not token.isascii():
        raise UsageError(
            "this is not a join token of Fathom", do="make one; a token that a person chose can be guessed"
        )
    return sha256(token.encode()).hexdigest()


class JoinTokens:
    """The valid tokens, as hashes."""

    def __init__(self, hashes: Iterable[str] = ()) -> None:
        self._hashes = frozenset(hashes)

    @classmethod
    def load(cls, path: Path) -> JoinTokens:
        """From a file of hashes, one a line; ``#`` begins a comment. Raises UsageError if it cannot be read or used."""
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the join tokens from {path}: {error}") from error
        hashes = [text for line in lines if (text := line.partition("#")[0].strip())]
        for text in hashes:
            if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
                raise UsageError(f"{path} holds {text[:16]!r}, which is not the hash of a join token")
        return cls(hashes)

    def save(self, path: Path) -> None:
        """Write the hashes to ``path`` (mode 0600) in one step. Raises OSError."""
        partial = path.with_name(path.name + ".partial")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="ascii") as file:
            file.write("".join(f"{text}\n" for text in sorted(self._hashes)))
        partial.replace(path)

    def add(self, token: str) -> JoinTokens:
        """These and ``token``. Raises UsageError if it is not one that Fathom made."""
        return JoinTokens((*self._hashes, hash_token(token)))

    def verify(self, token: str) -> bool:
        """Whether ``token`` is valid; takes the same time for every wrong one."""
        found = sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        valid = False
        for known in self._hashes:
            valid |= hmac.compare_digest(known, found)
        return valid
