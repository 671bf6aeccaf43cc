"""Events as lines that come one by one: fixed columns, since nobody can know the widths of what is yet to come.

An event is a dict as ``fathom.events.render`` makes it. A value that is too long for its column shifts its own line
only; nothing is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fathom.cli.output import line, printable
from fathom.cli.units import latency, size

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One column: ``width`` cells, text of an event, right-aligned if a ``number``, only in ``wide`` or always."""

    header: str
    width: int
    text: Callable[[Event], str]
    number: bool = False
    wide: bool = False


FIELDS = (
    Field("TIME", 15, lambda e: _clock(e.get("time"))),
    Field("NODE", 12, lambda e: _word(e.get("node")), wide=True),
    Field("EVENT", 11, lambda e: _word(e.get("event"))),
    Field("DIRECTION", 9, lambda e: _word(e.get("direction"))),
    Field("PROTOCOL", 8, lambda e: _word(e.get("protocol"))),
    Field("WORKLOAD", 26, lambda e: _workload(e)),
    Field("PROCESS", 22, lambda e: f"{e['comm']}/{e['pid']}" if e.get("pid") else "-"),
    Field("LOCAL", 21, lambda e: _end(e, "local")),
    Field("REMOTE", 21, lambda e: _end(e, "remote")),
    Field("OUT", 9, lambda e: size(e.get("bytes_sent") or 0), number=True),
    Field("IN", 9, lambda e: size(e.get("bytes_received") or 0), number=True),
    Field("LATENCY", 8, lambda e: latency(e.get("latency")), number=True),
    Field("DURATION", 8, lambda e: latency(e.get("duration")), number=True),
    Field("PKTS OUT", 8, lambda e: str(e.get("packets_sent") or 0), number=True, wide=True),
    Field("PKTS IN", 8, lambda e: str(e.get("packets_received") or 0), number=True, wide=True),
    Field("RETRANS", 7, lambda e: _word(e.get("retransmits")), number=True, wide=True),
    Field("OWNER FROM", 10, lambda e: _word(e.get("owner_source")), wide=True),
    Field("REASON", 11, lambda e: _word(e.get("reason"))),
)


class EventLines:
    """Makes lines in the format ``output`` (table, wide, json, yaml)."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._fields = [field for field in FIELDS if output == "wide" or not field.wide]

    @property
    def is_table(self) -> bool:
        """Whether lines are for people."""
        return self._output in ("table", "wide")

    def header(self) -> str:
        """The first line of a table."""
        return self._join([field.header for field in self._fields])

    def line(self, event: Event) -> str:
        """``event`` as a line (in YAML: a document)."""
        if not self.is_table:
            return line(event, self._output)
        return self._join([printable(field.text(event)) for field in self._fields])

    def _join(self, texts: list[str]) -> str:
        cells = (
            text.rjust(field.width) if field.number else text.ljust(field.width)
            for text, field in zip(texts, self._fields, strict=True)
        )
        return "  ".join(cells).rstrip()


def _word(value: Any) -> str:
    return "-" if value in (None, "") else str(value)


def _clock(time: Any) -> str:
    """Local time of day of an RFC 3339 time, to the microsecond."""
    try:
        return datetime.fromisoformat(str(time)).astimezone().strftime("%H:%M:%S.%f")
    except ValueError:
        return _word(time)


def _workload(event: Event) -> str:
    if event.get("owner_source") == "listener":
        return "-"  # an accepted connection that nobody holds yet: whoever made the listener is not its owner
    name, kind = event.get("workload"), event.get("workload_kind")
    return f"{kind}/{name}" if kind and name else _word(name)


def _end(event: Event, end: str) -> str:
    address, port = event.get(f"{end}_address", ""), event.get(f"{end}_port")
    if not port:
        return _word(address)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
