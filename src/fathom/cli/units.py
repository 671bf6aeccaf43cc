"""Numbers as people read them, and durations as people type them. Refuses to round what json and yaml carry."""

from __future__ import annotations

import re
from datetime import datetime

from fathom.errors import UsageError

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def size(count: float) -> str:
    """``count`` bytes in binary units with at most three digits: ``999 B``, ``1.2 MiB``."""
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    digits = 0 if unit == 0 or abs(value) >= 99.95 else 1
    return f"{value:.{digits}f} {_SIZES[unit]}"


def latency(seconds: float | None) -> str:
    """A short time: ``850ns``, ``42µs``, ``3.2ms``, ``1.5s``; ``-`` where there is none."""
    if seconds is None:
        return "-"
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        value = seconds * factor
        if value < 999.5:
            return f"{value:.{0 if value >= 9.95 or unit == 'ns' else 1}f}{unit}"
    return f"{seconds:.{0 if seconds >= 99.5 else 1}f}s"


def duration(seconds: float) -> str:
    """A stretch of time in its two largest units: ``12s``, ``5m``, ``1m30s``, ``2h05m``, ``3d04h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    for large, small, name, part in ((60, 1, "m", "s"), (3600, 60, "h", "m"), (86400, 3600, "d", "h")):
        if whole < large * (60 if name == "m" else 24) or name == "d":
            rest = whole % large // small
            return f"{whole // large}{name}" + (f"{rest:02d}{part}" if rest else "")
    raise AssertionError("unreachable: days are unbounded")


def rate(per_second: float) -> str:
    """Events a second with at most three digits: ``0.4``, ``12``, ``3.4k``, ``1.2M``."""
    value = per_second
    for unit in ("", "k", "M"):
        if value < 999.5:
            return f"{value:.{0 if value >= 9.95 or (unit == '' and value == round(value)) else 1}f}{unit}"
        value /= 1000
    return f"{value:.1f}G"


def share(value: float) -> str:
    """A share 0..1 in per cent, never rounded up to ``100 %``: 0.9999 is ``99.9 %``."""
    if value >= 1:
        return "100 %"
    return f"{int(value * 1000) / 10:.1f} %"


def seconds_of(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``5m``, ``1h30m``, ``250ms``.

    Raises UsageError if ``text`` is none.
    """
    if not _DURATION.fullmatch(text):
        raise UsageError(f"{text!r} is not a duration", do="write for example 30s, 5m, 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def moment(text: str) -> str:
    """``text`` itself, when it is a duration (``5m`` ago) or an RFC 3339 time with its zone.

    Raises UsageError if it is neither.
    """
    if _DURATION.fullmatch(text):
        return text
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None or "T" not in text.upper():
        raise UsageError(f"{text!r} is no time", do="write for example 5m (ago) or 2026-01-31T12:00:00Z")
    return text
