"""Cursors: where a page ended, sealed so that nobody can take one for another question or write one by hand.

A cursor carries the window of the first page, because ``since 5m`` means something else a minute later. It is no
secret: it only refuses to be wrong.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b

import msgspec

from fathom.errors import UsageError
from fathom.store.interface import EdgeQuery, Window

_SEAL = 12
_LONGEST = 65_536
Key = tuple[int | str, ...]


def _digest(question: str, query: EdgeQuery) -> str:
    same = msgspec.structs.replace(query, window=Window(0, 0), cursor="", limit=0)
    return blake2b(question.encode() + msgspec.json.encode(same), digest_size=8).hexdigest()


def _seal(store_id: str, body: bytes) -> bytes:
    return blake2b(body, digest_size=_SEAL, key=store_id.encode()[:64]).digest()


def seal(store_id: str, question: str, query: EdgeQuery, key: Key) -> str:
    """The cursor after the row whose sort key is ``key``, for ``query`` (with the window that was really used)."""
    window = query.window
    body = msgspec.json.encode((_digest(question, query), window.since_s, window.until_s, key))
    return base64.urlsafe_b64encode(_seal(store_id, body) + body).rstrip(b"=").decode()


def unseal(store_id: str, question: str, query: EdgeQuery) -> tuple[Window, Key]:
    """The window and sort key in ``query.cursor``.

    Raises UsageError if it was changed, is of another store, or belongs to another question or other filters.
    """
    text = query.cursor
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused() from error
    head, body = raw[:_SEAL], raw[_SEAL:]
    if len(text) > _LONGEST or head != _seal(store_id, body):
        raise _refused()
    digest, since_s, until_s, key = msgspec.json.decode(body, type=tuple[str, int, int, Key])
    if digest != _digest(question, query):
        raise UsageError(
            "this cursor belongs to another query",
            do="use a cursor with the filters and the order that it was given for, or none",
        )
    return Window(since_s, until_s), key


def _refused() -> UsageError:
    return UsageError("this is not a cursor of this store", do="use next_cursor as it was given, or none")
