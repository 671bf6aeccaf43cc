"""The live table of ``fathom up``: drawn again each second on a terminal, printed each interval into a pipe.

It owns the terminal while it runs and gives it back as it was. It refuses to keep history: each look stands alone.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fathom.cli.layout import cut, flowed
from fathom.cli.traffic import View, body, headline, trusted

#: Seconds between two looks on a terminal.
REFRESH = 1.0
_PIPE_ROWS, _PIPE_WIDTH = 20, 120
Look = Callable[[], Awaitable[View]]


def picture(view: View, footer: Sequence[str], width: int, height: int) -> Group:
    """One whole screen of ``width`` x ``height`` cells; on a tiny one the table comes before the footer."""
    sure = trusted(view.coverage, view.lost) or view.coverage is None
    top = [Text(line, style="bold" if sure else "bold yellow") for line in headline(view, width)]
    top += [Text(cut(note, width), style="yellow") for note in view.notes]
    foot = [Text(line, style="dim") for line in flowed(footer, width)]
    if height < len(top) + len(foot) + 6:
        foot = []
    room = height - len(top) - len(foot) - 2
    lines = body(view, width, room)
    table = [Text(line, style="bold" if i == 0 and view.rows else "") for i, line in enumerate(lines)]
    gap = [Text("")] * max(room + 1 - len(table), 0)
    return Group(*[*top, Text(""), *table, *gap, *foot][:height])


async def live(look: Look, footer: Sequence[str], console: Console) -> None:
    """Draw what ``look`` gives until ``q`` is typed or the task is cancelled."""
    loop = asyncio.get_running_loop()
    done, redraw = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGWINCH, redraw.set)
    try:
        with _keys(done), Live(console=console, screen=True, auto_refresh=False) as screen:
            while not done.is_set():
                view = await look()
                due = loop.time() + REFRESH
                while not done.is_set():
                    size = console.size
                    screen.update(picture(view, footer, size.width, size.height), refresh=True)
                    redraw.clear()
                    if not await _any(due - loop.time(), done, redraw):
                        break
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def farewell(view: View, width: int) -> None:
    """Leave the last table on the ordinary screen."""
    for line in (*headline(view, width), *view.notes, *body(view, width, _PIPE_ROWS + 2)):
        click.echo(cut(line, width))


async def plain(look: Look, footer: Sequence[str], interval: float) -> None:
    """Print a table each ``interval`` seconds until cancelled.

    Raises BrokenPipeError if the reader has gone.
    """
    width = min(int(os.environ.get("COLUMNS", "") or _PIPE_WIDTH), _PIPE_WIDTH)
    for line in flowed(footer, width):
        click.echo(line)
    while True:
        view = await look()
        lines = [*headline(view, width), *view.notes, *body(view, width, _PIPE_ROWS + 2)]
        click.echo("\n" + "\n".join(lines))
        sys.stdout.flush()
        await _unless_left(interval if view.waiting is None else max(min(view.waiting, interval), 1.0))


async def _unless_left(seconds: float) -> None:
    """Sleep; raises BrokenPipeError as soon as the reader of a pipe has gone."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        if any(events & select.POLLERR for _, events in reader.poll(0)):
            raise BrokenPipeError
        await asyncio.sleep(min(left, 0.25))


async def _any(seconds: float, *events: asyncio.Event) -> bool:
    """Whether one of ``events`` came within ``seconds``."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(tasks, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def _keys(done: asyncio.Event) -> Iterator[None]:
    """While inside, ``q`` sets ``done``; keys are not shown. Ctrl-C still is a signal. No terminal, no keys."""
    if not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    loop = asyncio.get_running_loop()

    def typed() -> None:
        if b"q" in os.read(terminal, 64).lower():
            done.set()

    tty.setcbreak(terminal, termios.TCSANOW)
    loop.add_reader(terminal, typed)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSANOW, before)
