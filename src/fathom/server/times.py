"""Times as people and programs write them in a question: RFC 3339, or a duration that means "this long ago".

It refuses a time without a zone, which would mean something else on each machine. The clock is an argument.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from fathom.errors import UsageError

NS = 1_000_000_000
_UNITS_NS = {"ms": 1_000_000, "s": NS, "m": 60 * NS, "h": 3600 * NS, "d": 86_400 * NS}
_DURATION = re.compile(r"(?:\d{1,9}(?:ms|[smhd]))+", re.ASCII)
_PART = re.compile(r"(\d+)(ms|[smhd])")
#: RFC 3339 section 5.6; a space for ``T`` is allowed there, a space for ``+`` is what a query string makes of it.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[-+ ]\d\d:\d\d)", re.ASCII)
_LONGEST = 64


def duration_ns(text: str) -> int:
    """Nanoseconds of a duration such as ``5m``, ``1h30m``, ``7d``, ``250ms``.

    Raises UsageError if ``text`` is none.
    """
    if len(text) > _LONGEST or not _DURATION.fullmatch(text):
        raise UsageError(f"{text[:_LONGEST]!r} is not a duration", do="write for example 30s, 5m, 1h30m, 7d")
    return sum(int(number) * _UNITS_NS[unit] for number, unit in _PART.findall(text))


def moment_ns(text: str, now_ns: int) -> int:
    """Epoch nanoseconds of ``text``: ``now``, a duration before ``now_ns``, or an RFC 3339 time with its zone.

    Raises UsageError if it is none of them.
    """
    if text == "now":
        return now_ns
    if len(text) <= _LONGEST and _DURATION.fullmatch(text):
        return now_ns - duration_ns(text)
    if len(text) <= _LONGEST and (match := _TIME.fullmatch(text)):
        day, clock, fraction, zone = match.groups()
        try:
            whole = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace(' ', '+')}")
            return int(whole.timestamp()) * NS + int((fraction or "").ljust(9, "0"))
        except (ValueError, OverflowError):
            pass  # the 31st of February; told below
    raise UsageError(
        f"{text[:_LONGEST]!r} is no time", do="write a duration before now (5m, 1h30m, 7d) or 2026-01-31T12:00:00Z"
    )


def text_s(epoch_s: int) -> str:
    """RFC 3339 text in UTC of epoch seconds: ``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat().removesuffix("+00:00") + "Z"


def text_ns(epoch_ns: int) -> str:
    """RFC 3339 text in UTC of epoch nanoseconds, with nine digits: ``2026-01-31T12:00:00.000000001Z``."""
    return f"{text_s(epoch_ns // NS)[:-1]}.{epoch_ns % NS:09d}Z"
