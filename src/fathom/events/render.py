"""Raw records as JSON-ready dicts, for a person or a program that asked: trace, events, the live stream.

Base units (seconds, bytes, counts); times are RFC 3339 in UTC; addresses are text, v4-mapped as IPv4; enums are words.
Columns are converted whole, so that a record costs a microsecond or two, and nothing is rendered that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv6Address
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.errors import UsageError
from fathom.events.batches import Clock
from fathom.events.observations import Direction, OwnerSource, Reason

Records = npt.NDArray[np.void]
Column = list[Any]

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP", 136: "UDPLite"}
_TCP_EVENTS = {1: "established", 2: "closed", 3: "failed", 4: "open"}


def protocol_name(number: int) -> str:
    """``TCP``, ``UDP``, ``ICMP``, ``ICMPv6``, ``SCTP``, ``UDPLite``, or the IP protocol number as text (IANA)."""
    return _PROTOCOLS.get(number, str(number))


def address_text(octets: bytes) -> str:
    """The text of a 16-byte address; ``::ffff:a.b.c.d`` reads ``a.b.c.d``."""
    address = IPv6Address(octets)
    return str(address.ipv4_mapped or address)


def moments(ns: npt.NDArray[Any], clock: Clock) -> list[str]:
    """RFC 3339 texts, microseconds, of CLOCK_MONOTONIC nanoseconds."""
    offset = clock.wall_ns - clock.monotonic_ns
    return [
        datetime.fromtimestamp(wall // 10**9, UTC).replace(microsecond=wall // 1000 % 10**6).isoformat()[:-6] + "Z"
        for wall in (ns.astype(np.int64) + offset).tolist()
    ]


def to_dicts(records: Records, kind: str, clock: Clock) -> list[dict[str, Any]]:
    """One dict a record of the probe ``kind``. Raises UsageError if no such kind is known."""
    if kind not in _KINDS:
        raise UsageError(f"unknown kind of event {kind!r}", do=f"use one of: {', '.join(_KINDS)}")
    columns: dict[str, Column] = {"time": moments(records["time"], clock), "kind": [kind] * len(records)}
    columns |= _KINDS[kind](records)
    columns |= _ends(records) | _owner(records)
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _words(records: Records, name: str, words: type[Direction] | type[Reason] | type[OwnerSource]) -> Column:
    table = {int(word): word.name.lower() for word in words}
    return [table.get(value, str(value)) for value in records[name].tolist()]


def _seconds(values: npt.NDArray[Any], scale: float) -> Column:
    return [value * scale if value else None for value in values.tolist()]


def _ends(records: Records) -> dict[str, Column]:
    cache: dict[bytes, str] = {}
    columns: dict[str, Column] = {}
    for end in ("local", "remote"):
        raw = records[end].tobytes()
        texts = []
        for at in range(0, len(raw), 16):
            octets = raw[at : at + 16]
            text = cache.get(octets)
            if text is None:
                text = cache[octets] = address_text(octets)
            texts.append(text)
        columns[f"{end}_address"] = texts
        columns[f"{end}_port"] = records[f"{end}_port"].tolist()
    return columns


def _owner(records: Records) -> dict[str, Column]:
    return {
        "pid": records["pid"].tolist(),
        "comm": [comm.decode(errors="replace") for comm in records["comm"].tolist()],
        "owner_source": _words(records, "owner_source", OwnerSource),
        "cgroup": records["cgroup"].tolist(),
        "netns": records["netns"].tolist(),
    }


def _tcp(records: Records) -> dict[str, Column]:
    return {
        "event": [_TCP_EVENTS.get(kind, str(kind)) for kind in records["kind"].tolist()],
        "direction": _words(records, "direction", Direction),
        "protocol": ["TCP"] * len(records),
        "reason": ["" if reason == "none" else reason for reason in _words(records, "reason", Reason)],
        "latency": _seconds(records["latency"], 1e-9),
        "duration": _seconds(records["duration"], 1e-9),
        "bytes_sent": records["bytes_sent"].tolist(),
        "bytes_received": records["bytes_received"].tolist(),
        "packets_sent": records["packets_sent"].tolist(),
        "packets_received": records["packets_received"].tolist(),
        "retransmits": records["retransmits"].tolist(),
        "srtt": _seconds(records["srtt"], 1e-6),
        "connection": [f"{socket:x}" for socket in records["socket"].tolist()],
    }


def _flow(records: Records) -> dict[str, Column]:
    return {
        "event": ["flow"] * len(records),
        "direction": _words(records, "direction", Direction),
        "protocol": [protocol_name(number) for number in records["protocol"].tolist()],
        "bytes_sent": records["bytes_sent"].tolist(),
        "bytes_received": records["bytes_received"].tolist(),
        "packets_sent": records["packets_sent"].tolist(),
        "packets_received": records["packets_received"].tolist(),
    }


_KINDS: dict[str, Callable[[Records], dict[str, Column]]] = {"tcp": _tcp, "flow": _flow}
