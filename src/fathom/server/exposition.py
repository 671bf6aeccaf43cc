"""Prometheus text exposition format 0.0.4: metrics as lines of text, and histograms of seconds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Duration:
    """A histogram of seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS_S) + 1))
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.buckets[bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum += seconds


class Page:
    """Metrics as lines of text, whose names begin with ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self.lines: list[str] = []
        self._prefix = prefix

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"

    def one(self, name: str, text: str, value: int) -> None:
        """A metric without labels; a counter if it is named so, else a gauge."""
        self.many(name, text, [("", value)])

    def many(self, name: str, text: str, samples: Iterable[tuple[str, int]]) -> None:
        """A metric with a sample for each set of labels."""
        kind = "counter" if name.endswith("_total") else "gauge"
        self.lines.append(f"# HELP {self._prefix}{name} {text}\n# TYPE {self._prefix}{name} {kind}")
        self.lines.extend(f"{self._prefix}{name}{labels} {value}" for labels, value in samples)

    def durations(self, name: str, text: str, by: dict[str, Duration]) -> None:
        """A histogram of seconds for each set of labels, given without braces."""
        name = f"{self._prefix}{name}"
        self.lines.append(f"# HELP {name} {text}\n# TYPE {name} histogram")
        for inner, duration in by.items():
            comma, braces = ("," if inner else ""), (f"{{{inner}}}" if inner else "")
            total = 0
            for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), duration.buckets, strict=True):
                total += count
                self.lines.append(f'{name}_bucket{{{inner}{comma}le="{bound}"}} {total}')
            self.lines.append(f"{name}_sum{braces} {duration.sum:.9g}")
            self.lines.append(f"{name}_count{braces} {total}")


def labels(**values: str) -> str:
    """``{name="value"}``, escaped."""
    return f"{{{inner(**values)}}}"


def inner(**values: str) -> str:
    """The same without braces."""
    return ",".join(f'{name}="{_escape(value)}"' for name, value in values.items())


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
