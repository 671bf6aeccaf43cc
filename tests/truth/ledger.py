"""What was counted, in one shape for all who count: programs, probes, store, REST, command line.

A line is (program, direction, protocol, peer, server port, verdict, reason) with counters; two ledgers are compared
line by line, and the difference is told in words.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fathom.events.observations import Direction, Reason, Verdict
from fathom.events.render import protocol_name

TCP_COUNTERS = ("connections", "failures", "bytes_sent", "bytes_received")
UDP_COUNTERS = ("packets_sent", "packets_received", "bytes_sent", "bytes_received")
COUNTERS = (*TCP_COUNTERS, "packets_sent", "packets_received")
_PORTLESS = frozenset((1, 58))


class Line(NamedTuple):
    """What identifies a count."""

    program: str
    direction: str
    protocol: str
    peer: str
    port: int
    verdict: str
    reason: str


class Ledger:
    """Counters by line."""

    def __init__(self) -> None:
        self.pages: dict[Line, Counter[str]] = {}

    @classmethod
    def told(cls, program: str, entries: Iterable[Mapping[str, Any]]) -> Ledger:
        """What a talker said that it did."""
        ledger = cls()
        for entry in entries:
            line = Line(program, *(entry[name] for name in Line._fields[1:]))
            ledger.pages.setdefault(line, Counter()).update({name: entry[name] for name in COUNTERS})
        return ledger

    @classmethod
    def observed(cls, observations: np.ndarray[Any, np.dtype[Any]], programs: Iterable[str]) -> Ledger:
        """What probes observed (dtype ``OBSERVATION``) of processes with these names (comm)."""
        ledger, wanted = cls(), {name.encode()[:15] for name in programs}
        for row in observations[np.isin(observations["comm"], sorted(wanted))]:
            direction = Direction(int(row["direction"]))
            port = row["remote_port"] if direction == Direction.EGRESS else row["local_port"]
            reason = Reason(int(row["reason"]))
            line = Line(
                row["comm"].decode(),
                direction.name.lower(),
                protocol_name(int(row["protocol"])),
                _text(row["remote"].tobytes()),
                int(port) if row["protocol"] not in _PORTLESS and direction != Direction.UNKNOWN else 0,
                Verdict(int(row["verdict"])).name.lower(),
                "" if reason == Reason.NONE else reason.name.lower(),
            )
            ledger.pages.setdefault(line, Counter()).update({name: int(row[name]) for name in COUNTERS})
        return ledger

    @classmethod
    def items(cls, items: Iterable[Mapping[str, Any]], program: Callable[[Mapping[str, Any]], str]) -> Ledger:
        """What REST (``/api/v1/edges``) or ``fathom query edges -o json`` shows; ``program`` finds an item's name."""
        ledger = cls()
        for item in items:
            line = Line(
                program(item),
                item["direction"],
                item["protocol"],
                item["peer_address"],
                item["port"],
                item["verdict"],
                item.get("reason", ""),
            )
            ledger.pages.setdefault(line, Counter()).update({name: int(item[name]) for name in COUNTERS})
        return ledger

    def __add__(self, other: Ledger) -> Ledger:
        total = Ledger()
        for ledger in (self, other):
            for line, page in ledger.pages.items():
                total.pages.setdefault(line, Counter()).update(page)
        return total

    def only(self, **wanted: Any) -> Ledger:
        """The lines whose fields have these values."""
        part = Ledger()
        part.pages = {
            line: page
            for line, page in self.pages.items()
            if all(getattr(line, name) == value for name, value in wanted.items())
        }
        return part

    def differences(self, found: Ledger, counters: tuple[str, ...] = COUNTERS) -> list[str]:
        """In words, how ``found`` differs from this truth: nothing is an empty list."""
        told = []
        for line in sorted(self.pages.keys() | found.pages.keys()):
            truth, seen = self.pages.get(line, Counter()), found.pages.get(line, Counter())
            told += [
                f"{' '.join(map(str, line))}: {name} is {truth[name]}, found {seen[name]}"
                for name in counters
                if truth[name] != seen[name]
            ]
        return told


def _text(octets: bytes) -> str:
    address = ipaddress.IPv6Address(octets)
    return str(address.ipv4_mapped or address)
