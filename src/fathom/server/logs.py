"""The server's log: one JSON object a line (or text) on stderr, and never a key in it, whoever wrote the line."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from fathom.errors import UsageError

#: What keys look like: ours by their prefix, others by the header that carries them.
_SECRETS = re.compile(r"(fathom_(?:admin|join)_)[A-Za-z0-9_-]{8,}|(\b[Bb]earer\s+)[^\s\"',;]+")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def without_secrets(text: str) -> str:
    """``text`` with everything that looks like a key cut out."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2]}…", text)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps(line, ensure_ascii=False))


class TextLines(logging.Formatter):
    """For a person: time, level, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        return without_secrets(super().format(record))


def set_up(form: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send every log line of this process to ``stream``. Raises UsageError if form or level is not known."""
    if form not in ("json", "text"):
        raise UsageError(f"log_format is {form!r}", do="use json or text")
    if level.lower() not in _LEVELS:
        raise UsageError(f"log_level is {level!r}", do=f"use one of: {', '.join(_LEVELS)}")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level.lower()])
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what strangers send to a port is no news
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, _LEVELS[level.lower()]))
