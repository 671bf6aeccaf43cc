"""Ctrl-C while SQLite works: it is noticed between two steps of its, and everything is put in order before the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fathom.store.making import Stopped


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Says whether Ctrl-C was typed; in its end KeyboardInterrupt is raised then. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    typed = False

    def note(_number: int, _frame: object) -> None:
        nonlocal typed
        typed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: typed
    except Stopped as error:
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, before)
    if typed:
        raise KeyboardInterrupt
