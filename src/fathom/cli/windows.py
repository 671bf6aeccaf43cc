"""The part of a store's or a recording's time that a person asks for."""

from __future__ import annotations

from datetime import datetime

from msgspec import structs

from fathom.cli.units import seconds_of
from fathom.store.interface import Window

#: No recording is of a later time, in epoch seconds.
_LATEST_S = 1 << 40


def part_of(whole: Window, since: str | None, until: str | None) -> Window:
    """The part of a recording's time that was asked for: a duration counts back from its end."""
    begin, end = (
        None if text is None else min(max(_second(text, whole.until_s), 0), _LATEST_S) for text in (since, until)
    )
    return structs.replace(
        whole,
        since_s=whole.since_s if begin is None else begin,
        until_s=whole.until_s if end is None else end,
    )


def _second(text: str, end: int) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return end - int(min(seconds_of(text), _LATEST_S))
