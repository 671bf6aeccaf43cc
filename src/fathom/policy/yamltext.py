"""Plain data as YAML in block style, for documents of Kubernetes.

Why not ``yaml.dump``: thousands of policies take it longer than making them, and it follows YAML 1.1 in what it quotes.
Here every string that is not surely one without quotes is written as a JSON string, which YAML 1.1 and 1.2 read alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

#: Strings that no YAML reader takes for something else.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def block(value: Any) -> str:
    """One document: objects, lists, strings, whole numbers, booleans and null. Ends with a line feed.

    Raises TypeError if there is anything else in it.
    """
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item)
    elif isinstance(value, list) and value:
        for item in value:
            first, *rest = _lines(item)
            yield f"- {first}"
            for line in rest:
                yield f"  {line}"
    else:
        yield _scalar(value)


def _entry(head: str, value: Any) -> Iterator[str]:
    """A key with its value: below it if that is an object or list that is not empty."""
    if not isinstance(value, (dict, list)) or not value:
        yield f"{head} {_scalar(value)}"
        return
    yield head
    margin = "  " if isinstance(value, dict) else ""
    for line in _lines(value):
        yield margin + line


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.match(value) and value.lower() not in _WORDS
        return value if plain else _quoted(value)
    if value is None or isinstance(value, (bool, int)):
        return "null" if value is None else str(value).lower()
    if value in ({}, []):
        return "{}" if isinstance(value, dict) else "[]"
    raise TypeError(f"{type(value).__name__} is not written as YAML")


def _quoted(text: str) -> str:
    """A JSON string in which nothing stands that YAML does not take as it is."""
    found = msgspec.json.encode(text).decode()
    if found.isprintable():
        return found
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else f"\\U{ord(c):08x}" for c in found
    )
