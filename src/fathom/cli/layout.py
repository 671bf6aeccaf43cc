"""A table in a bounded width: drops the least important columns, then shortens names, and never wraps a line.

Pure: rows in, lines out. Widths are terminal cells, so that wide characters do not shift columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

_GAP = 2
#: Between facts in a line.
DOT = " · "


@dataclass(frozen=True, slots=True)
class Slot:
    """One column: ``rank`` 0 is the last to be dropped; ``least`` > 0 means that its text may be cut to that width."""

    header: str
    rank: int
    number: bool = False
    least: int = 0


def fit(rows: Sequence[Sequence[str]], slots: Sequence[Slot], width: int) -> list[str]:
    """The header line and one line a row, each at most ``width`` cells; ``rows`` hold one text per slot."""
    natural = [max([cell_len(slot.header), *(cell_len(row[i]) for row in rows)]) for i, slot in enumerate(slots)]
    shown = _chosen(slots, natural, width)
    widths = _shared(slots, natural, shown, width)
    lines = [[slot.header for slot in slots], *rows]
    return [_line(line, slots, shown, widths, width) for line in lines]


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells, with ``…`` where something was left out."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + "…" if width > 0 else ""


def flowed(facts: Sequence[str], width: int) -> list[str]:
    """``facts`` with dots between them, in as few lines of at most ``width`` cells as hold them in their order."""
    lines: list[str] = []
    for fact in facts:
        if lines and cell_len(lines[-1] + DOT + fact) <= width:
            lines[-1] += DOT + fact
        else:
            lines.append(fact)
    return [cut(line, width) for line in lines]


def _smallest(slot: Slot, natural: int) -> int:
    return min(slot.least, natural) if slot.least else natural


def _chosen(slots: Sequence[Slot], natural: Sequence[int], width: int) -> list[int]:
    """Indices of the columns that fit at their smallest, the most important first, in their order on the screen."""
    chosen: list[int] = []
    used = -_GAP
    for index in sorted(range(len(slots)), key=lambda i: slots[i].rank):
        need = _smallest(slots[index], natural[index]) + _GAP
        if used + need > width and chosen:
            break
        used += need
        chosen.append(index)
    return sorted(chosen)


def _shared(slots: Sequence[Slot], natural: Sequence[int], shown: Sequence[int], width: int) -> dict[int, int]:
    """Width of each shown column: what is left over goes to the shortened ones, cell by cell, the narrowest first."""
    widths = {i: _smallest(slots[i], natural[i]) for i in shown}
    left = width - sum(widths.values()) - _GAP * (len(shown) - 1)
    while left > 0:
        growing = [i for i in shown if widths[i] < natural[i]]
        if not growing:
            break
        widths[min(growing, key=lambda i: widths[i])] += 1
        left -= 1
    return widths


def _line(texts: Sequence[str], slots: Sequence[Slot], shown: Sequence[int], widths: dict[int, int], width: int) -> str:
    parts = []
    for index in shown:
        text = cut(texts[index], widths[index])
        space = " " * (widths[index] - cell_len(text))
        parts.append(space + text if slots[index].number else text + space)
    return cut((" " * _GAP).join(parts).rstrip(), width)
