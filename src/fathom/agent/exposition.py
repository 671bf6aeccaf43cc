"""Counters of many series as arrays, written in the Prometheus text format through one ready-made template.

Rows are made once per label set; a scrape fills numbers into a template, 0.1 µs a series. There is a bound on series:
what comes above it is counted in rows whose workload is ``other``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fathom.agent.families import LATENCY_BOUNDS_NS, LATENCY_CUTS, Family
from fathom.identity.slots import I32, U64, Slots

I64 = npt.NDArray[np.int64]
Labels = tuple[str, ...]
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
#: Series that one row of a histogram makes: its buckets, ``+Inf``, sum and count.
HISTOGRAM_SERIES = len(LATENCY_BOUNDS_NS) + 3


def escape(value: str) -> str:
    """A label's value as the text format wants it: backslash, quote and newline escaped. Other control characters and
    lone surrogates become ``?``, since a scraper may refuse them."""
    printable = "".join(c if c == "\n" or (c.isprintable() or c == " ") else "?" for c in value)
    return printable.translate(_ESCAPES)


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """``{name="value",…}``, or nothing without labels."""
    pairs = ",".join(f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


class Rows:
    """Label sets with ``width`` 64-bit columns each. ``cost`` is how many series a row makes."""

    def __init__(self, width: int, cost: int) -> None:
        self.cost = cost
        self.width = width
        self.labels: list[Labels] = []
        self.values: I64 = np.zeros((64, width), np.int64)
        self.used_s: I64 = np.zeros(64, np.int64)
        self.version = 0
        self._rows: dict[Labels, int] = {}
        self._slots = Slots()

    def __len__(self) -> int:
        return len(self.labels)

    def find(self, hashes: U64) -> I32:
        """Row of each hash, -1 where there is none."""
        return self._slots.find(hashes)

    def has(self, labels: Labels) -> bool:
        """Whether there is a row that shows as ``labels``."""
        return tuple(map(escape, labels)) in self._rows

    def append(self, key: int, labels: Labels) -> int:
        """The row for the hash ``key``, which has none yet. Equal labels share a row: a series is told once."""
        shown = tuple(map(escape, labels))
        row = self._rows.setdefault(shown, len(self.labels))
        if row == len(self.labels):
            self.labels.append(labels)
            self.version += 1
        if row == len(self.values):
            self.values = np.concatenate((self.values, np.zeros_like(self.values)))
            self.used_s = np.concatenate((self.used_s, np.zeros_like(self.used_s)))
        self._slots.add(np.array([key], np.uint64), np.array([row], np.int32))
        return row

    def forget(self, before_s: int) -> None:
        """Drop rows that counted nothing since ``before_s``; hashes must be found anew."""
        count = len(self.labels)
        rows = np.flatnonzero(self.used_s[:count] >= before_s)
        for column in (self.values, self.used_s):
            column[: rows.size] = column[rows]
            column[rows.size : count] = 0
        self.labels = [self.labels[row] for row in rows.tolist()]
        self._rows = {tuple(map(escape, labels)): row for row, labels in enumerate(self.labels)}
        self._slots = Slots()
        self.version += 1


class Template:
    """The text of one family over the rows of a table, made anew when rows came or went."""

    def __init__(self, family: Family, line: Callable[[Family, Labels], str]) -> None:
        self._family = family
        self._line = line
        self._version = -1
        self._text = ""

    def fill(self, rows: Rows, numbers: Sequence[float]) -> str:
        """The family's text with ``numbers``, as many for each row as its line takes."""
        if self._version != rows.version:
            self._version = rows.version
            self._text = self._family.head() + "".join(self._line(self._family, labels) for labels in rows.labels)
        return self._text % tuple(numbers) if rows.labels else self._text


def counter_line(family: Family, labels: Labels) -> str:
    """One series, one number."""
    return f"{family.name}{_percent(label_text(family.labels, labels))} %d\n"


def histogram_lines(family: Family, labels: Labels) -> str:
    """All series of one histogram: cumulative counts, sum in seconds, count."""
    names = (*family.labels, "le")
    bounds = [*(f"{bound / 1e9:g}" for bound in LATENCY_BOUNDS_NS), "+Inf"]
    lines = [f"{family.name}_bucket{_percent(label_text(names, (*labels, bound)))} %d\n" for bound in bounds]
    text = _percent(label_text(family.labels, labels))
    return "".join((*lines, f"{family.name}_sum{text} %.9f\n", f"{family.name}_count{text} %d\n"))


def histogram_numbers(histogram: I64, sum_ns: I64) -> list[float]:
    """The numbers for ``histogram_lines``: ``histogram`` has shape (rows, BUCKETS), ``sum_ns`` is per row."""
    total = histogram.cumsum(axis=1)
    numbers = np.empty((len(histogram), HISTOGRAM_SERIES))
    numbers[:, : len(LATENCY_CUTS)] = total[:, [cut - 1 for cut in LATENCY_CUTS]]
    numbers[:, -3] = numbers[:, -1] = total[:, -1]
    numbers[:, -2] = sum_ns / 1e9
    flat: list[float] = numbers.ravel().tolist()
    return flat


def _percent(text: str) -> str:
    return text.replace("%", "%%")
