"""Answers as text: kubectl's tables for people, JSON and YAML in base units for programs.

A table never shows a number without saying how far it can be trusted: ``trust`` is the line below it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import click
import msgspec

T = TypeVar("T")

#: Characters of a name in a table that is not wide.
NAME_WIDTH = 48


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column: its ``header``, the ``text`` of a row, right-aligned if a ``number``, only in ``wide`` or always; a
    ``name`` is cut to ``NAME_WIDTH`` characters unless wide."""

    header: str
    text: Callable[[T], str]
    number: bool = False
    wide: bool = False
    name: bool = False


def table(rows: Iterable[T], columns: Sequence[Column[T]], *, wide: bool = False, headers: bool = True) -> str:
    """``rows`` as aligned text with three spaces between columns; no trailing spaces; empty for no rows."""
    shown = [column for column in columns if wide or not column.wide]
    cells = [[_cell(column, row, wide=wide) for column in shown] for row in rows]
    if not cells:
        return ""
    lines = ([[column.header for column in shown]] if headers else []) + cells
    widths = [max(len(line[i]) for line in lines) for i in range(len(shown))]
    return "\n".join(
        "   ".join(
            text.rjust(width) if column.number else text.ljust(width)
            for text, width, column in zip(line, widths, shown, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(column: Column[T], row: T, *, wide: bool) -> str:
    text = printable(column.text(row))
    return text[: NAME_WIDTH - 1] + "…" if column.name and not wide and len(text) > NAME_WIDTH else text


def printable(text: str) -> str:
    """``text`` with what could steer a terminal (control and other unprintable characters) shown as ``\\xNN``."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def document(value: Any, output: str) -> str:
    """``value`` (dicts, lists, msgspec Structs) as ``json`` (indented) or ``yaml``, without a final line feed."""
    plain = msgspec.to_builtins(value)
    if output == "yaml":
        import yaml

        from fathom.policy.scalars import Dumper

        text: str = yaml.dump(plain, Dumper=Dumper, sort_keys=False, allow_unicode=True)
        return text.rstrip("\n")
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()


def line(value: Any, output: str) -> str:
    """``value`` as one item of a stream: a line of JSON, or a YAML document."""
    if output == "yaml":
        return "---\n" + document(value, "yaml")
    return msgspec.json.encode(value).decode()


def coloured(stream: Any = None) -> bool:
    """Whether ``stream`` (default: standard output) is a terminal whose user has not set NO_COLOR."""
    target = sys.stdout if stream is None else stream
    return bool(target.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def warning(text: str) -> str:
    """``text`` in yellow where colours are wanted."""
    return click.style(text, fg="yellow") if coloured() else text
