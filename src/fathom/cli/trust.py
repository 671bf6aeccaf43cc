"""How far an answer can be trusted, in words: the line below each table, and what is missing where something is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fathom.cli.output import warning
from fathom.cli.traffic import trust, trusted
from fathom.cli.units import duration, seconds_of
from fathom.server.answers import Answer

_MOST = 5


def footer(answer: Answer[Any], asked: str = "") -> list[str]:
    """``window 5m · coverage 100 % · lost 0``; in a colour, with gaps and losses named, when something is missing.

    ``asked`` is the duration that was asked for: the server answers for the whole seconds that hold it.
    """
    window, coverage = answer.window, answer.window.coverage
    known = coverage.share if coverage.node_seconds > 0 else None
    line = trust(seconds_of(asked) if asked else _seconds(window.since, window.until), known, answer.lost)
    lines = [line if trusted(known, answer.lost) else warning(line)]
    lines += [warning(f"  gap: {gap.node} from {gap.since} to {gap.until}") for gap in coverage.gaps[:_MOST]]
    if (more := len(coverage.gaps) - _MOST + coverage.gaps_omitted) > 0:
        lines.append(warning(f"  and {more} more gaps"))
    for row in answer.loss[:_MOST]:
        where = " ".join(
            word for word in (row.hop, row.probe, row.reason, f"on {row.node}" if row.node else "") if word
        )
        lines.append(warning(f"  lost {row.count} at {where}"))
    if len(answer.loss) > _MOST:
        lines.append(warning(f"  and {len(answer.loss) - _MOST} more losses: fathom status -o yaml"))
    if answer.next_cursor:
        lines.append(f"more: --cursor {answer.next_cursor}")
    return lines


def ago(time: str | None, now: datetime) -> str:
    """How long before ``now`` the RFC 3339 ``time`` was: ``12s ago``; ``-`` for None."""
    if time is None:
        return "-"
    return f"{duration(max((now - datetime.fromisoformat(time)).total_seconds(), 0))} ago"


def _seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
