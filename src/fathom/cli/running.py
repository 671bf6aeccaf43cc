"""What the long-running commands share: their log on stderr, and an orderly end on a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Mapping

from fathom.errors import UsageError

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def log_to_stderr(env: Mapping[str, str]) -> None:
    """Log a line each on stderr, from ``FATHOM_LOG_LEVEL`` of ``env`` on (default: info).

    Raises UsageError if that is no level.
    """
    word = env.get("FATHOM_LOG_LEVEL", "info").lower()
    if word not in _LEVELS:
        raise UsageError(f"FATHOM_LOG_LEVEL is {word!r}", do=f"use one of: {', '.join(_LEVELS)}")
    form = logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[word])


def on_end(stop: Callable[[], None]) -> None:
    """Call ``stop`` on SIGINT and SIGTERM; the second one ends the process in the ordinary, abrupt way."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first)
