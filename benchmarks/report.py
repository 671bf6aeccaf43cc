"""How a figure is taken and told: pairs in alternation, median and quartiles, the machine named."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of RESULTS.md: what was measured, the figure with its spread, the bar, and whether it was reached."""

    name: str
    figure: str
    bar: str
    met: bool
    note: str = ""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of one series of measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least two values."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def text(self, digits: int = 3, unit: str = "") -> str:
        """``1.04 [1.02..1.07]``."""
        return f"{self.median:.{digits}f}{unit} [{self.low:.{digits}f}..{self.high:.{digits}f}]"


def pairs(without: Callable[[], float], with_: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Run both ``rounds`` times in alternation, the order of the two turned each round, so that drift hits both."""
    first: list[float] = []
    second: list[float] = []
    without()
    with_()
    for index in range(rounds):
        if index % 2:
            second.append(with_())
            first.append(without())
        else:
            first.append(without())
            second.append(with_())
    return first, second


def ratio(without: Sequence[float], with_: Sequence[float]) -> Spread:
    """Spread of with/without, pair by pair."""
    return Spread.of([b / a for a, b in zip(without, with_, strict=True)])


def machine() -> str:
    """One line about where it was measured."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
