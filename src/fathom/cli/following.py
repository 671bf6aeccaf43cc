"""Events of a server on the terminal: recent ones, and live ones until Ctrl-C or a count; what was missed is said."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import click

from fathom.cli.eventlines import EventLines
from fathom.cli.output import document, warning
from fathom.cli.trust import footer
from fathom.client import Client, StreamEvent
from fathom.server.answers import Events, StreamLoss

#: Seconds to wait before asking again for a stream that ended.
RECONNECT_S = 1.0


def show_recent(answer: Events, output: str, *, headers: bool, asked: str = "") -> None:
    """Print recent events, oldest first as they happened; below a table, which nodes are missing."""
    lines = EventLines(output)
    if not lines.is_table:
        click.echo(document(answer, output))
        return
    if headers:
        click.echo(lines.header())
    for event in reversed(answer.items):
        click.echo(lines.line(event))
    if headers:
        missing = [warning(f"  missing: node {node.node}: {node.why}") for node in answer.missing]
        click.echo("\n" + "\n".join([*footer(answer, asked), *_overwritten(answer), *missing]))


def _overwritten(answer: Events) -> list[str]:
    """A line for each node that has had to give up events of the window that was asked for."""
    since = datetime.fromisoformat(answer.window.since)
    return [
        warning(f"  {node.node}: only events since {_clock(node.oldest, since)} are kept; "
                f"{node.overwritten:,} older ones were overwritten")
        for node in answer.nodes
        if node.overwritten and node.oldest and datetime.fromisoformat(node.oldest) > since
    ]  # fmt: skip


def _clock(time: str, since: datetime) -> str:
    """The RFC 3339 ``time`` as the lines above it show time: local; with its date if ``since`` was on another day."""
    here = datetime.fromisoformat(time).astimezone()
    return f"{here:%H:%M:%S}" if here.date() == since.astimezone().date() else f"{here:%Y-%m-%d %H:%M:%S}"


async def follow(client: Client, output: str, count: int | None, *, headers: bool, **wanted: Any) -> None:
    """Print live events as they come; what this reader misses goes to standard error."""
    lines = EventLines(output)
    if headers and lines.is_table:
        click.echo(lines.header())
    shown = 0
    while True:
        async for item in client.stream(**wanted):
            if isinstance(item, StreamEvent):
                click.echo(lines.line(item.event))
                shown += 1
                if count is not None and shown >= count:
                    return
            elif isinstance(item, StreamLoss):
                number = "an unknown number of" if item.events < 0 else str(item.events)
                click.echo(
                    warning(f"missed {number} events ({item.reason}{f' on {item.node}' if item.node else ''})"),
                    err=True,
                )
            elif not item.connected:
                click.echo(warning("no node is connected"), err=True)
        click.echo(warning("the stream ended; asking again"), err=True)
        await asyncio.sleep(RECONNECT_S)
