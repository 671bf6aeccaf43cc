"""Writing an answer: to standard output with the status that it means, and the progress of a long one.

The status stands although the reader of a pipe has left, so that ``| head`` hides no denial.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from fathom.cli.main import reader_left

if TYPE_CHECKING:
    from fathom.policy.questions import Progress

#: Seconds of work before a bar appears.
_PATIENCE_S = 1.0


def show(text: str, status: int = 0) -> int:
    """Print ``text``, and return ``status``."""
    try:
        click.echo(text)
    except BrokenPipeError:
        return reader_left(status)
    return status


@contextmanager
def progress(what: str) -> Iterator[Progress | None]:
    """A bar on standard error, if that is a terminal and the work is long; gone when it is done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    bars = Bars(console=Console(stderr=True), transient=True)
    task = bars.add_task(what, total=1.0)
    begun = time.monotonic()
    shown = False

    def tell(share: float) -> None:
        nonlocal shown
        if not shown and time.monotonic() - begun > _PATIENCE_S and share < 1:
            bars.start()
            shown = True
        bars.update(task, completed=share)

    try:
        yield tell
    finally:
        bars.stop()
