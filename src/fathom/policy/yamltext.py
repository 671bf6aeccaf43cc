"""Plain data as YAML in block style, for documents of Kubernetes.

Why not ``yaml.dump``: thousands of policies take it longer than making them, and it follows YAML 1.1 in what it quotes.
Here every string that is not surely one without quotes is written as a JSON string, which YAML 1.1 and 1.2 read alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

#: Strings that no YAML reader takes for something else.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


#: Elements of lists that were written, by their identity: the object, which keeps that its own, and its text.
_Seen = dict[int, tuple[Any, str, str]]
_MOST_SEEN = 1 << 14


def block(value: Any) -> str:
    """One document: objects, lists, strings, whole numbers, booleans and null. Ends with a line feed.

    Raises TypeError if there is anything else in it.
    """
    return next(blocks([value]))


def blocks(values: Iterable[Any]) -> Iterator[str]:
    """Each value as a document, as ``block`` does. What stands in several, as one object, is written once: nobody may
    change it meanwhile."""
    seen: _Seen = {}
    for value in values:
        lines: list[str] = []
        _write(value, "", "", lines, seen)
        yield "\n".join(lines) + "\n"


def _write_element(value: Any, margin: str, lines: list[str], seen: _Seen) -> None:
    """An element of a list. One that chooses something, and holds no list itself, may stand in many documents."""
    if not isinstance(value, dict) or not isinstance(next(iter(value.values()), None), dict):
        _write(value, margin + "- ", margin + "  ", lines, seen)
        return
    known = seen.get(id(value))
    if known is None or known[1] != margin:
        begin = len(lines)
        _write(value, margin + "- ", margin + "  ", lines, seen)
        if len(seen) >= _MOST_SEEN:
            seen.clear()
        seen[id(value)] = value, margin, "\n".join(lines[begin:])
    else:
        lines.append(known[2])


def _write(value: Any, head: str, margin: str, lines: list[str], seen: _Seen) -> None:
    """Append the lines of ``value``: the first begins with ``head``, the others with ``margin``."""
    if value and isinstance(value, dict):
        for key, item in value.items():
            name = _text(key)
            if isinstance(item, str):
                lines.append(f"{head}{name}: {_text(item)}")
            elif item and isinstance(item, dict):
                lines.append(f"{head}{name}:")
                _write(item, margin + "  ", margin + "  ", lines, seen)
            elif item and isinstance(item, list):
                lines.append(f"{head}{name}:")
                for element in item:
                    _write_element(element, margin, lines, seen)
            else:
                lines.append(f"{head}{name}: {_scalar(item)}")
            head = margin
    elif value and isinstance(value, list):
        for item in value:
            _write(item, head + "- ", margin + "  ", lines, seen)
            head = margin
    else:
        lines.append(head + _scalar(value))


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int)):
        return "null" if value is None else str(value).lower()
    if value in ({}, []):
        return "{}" if isinstance(value, dict) else "[]"
    raise TypeError(f"{type(value).__name__} is not written as YAML")


@lru_cache(maxsize=1 << 16)
def _text(value: str) -> str:
    return value if _PLAIN.match(value) and value.lower() not in _WORDS else _quoted(value)


def _quoted(text: str) -> str:
    """A JSON string in which nothing stands that YAML does not take as it is."""
    found = msgspec.json.encode(text).decode()
    if found.isprintable():
        return found
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else f"\\U{ord(c):08x}" for c in found
    )
