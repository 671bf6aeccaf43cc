"""Raw records as JSON-ready dicts, for a person or a program that asked: trace, events, the live stream.

Base units (seconds, bytes, counts); times are RFC 3339 in UTC; addresses are text, v4-mapped as IPv4; enums are words.
Which fields there are is the catalogue's. Columns are converted whole, so that a record costs some microseconds, and
nothing is rendered that nobody asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv6Address
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.errors import UsageError
from fathom.events.batches import Clock
from fathom.events.catalogue import FLAG, KINDS, MOMENT, PROTOCOLS, SECONDS, TEXT, WORD, Kind, Shown

Records = npt.NDArray[np.void]
Column = list[Any]


def protocol_name(number: int) -> str:
    """``TCP``, ``UDP``, ``ICMP``, ``ICMPv6``, ``SCTP``, ``UDPLite``, or the IP protocol number as text (IANA)."""
    return PROTOCOLS.get(number, str(number))


def address_text(octets: bytes) -> str:
    """The text of a 16-byte address; ``::ffff:a.b.c.d`` reads ``a.b.c.d``."""
    address = IPv6Address(octets)
    return str(address.ipv4_mapped or address)


def moments(ns: npt.NDArray[Any], clock: Clock) -> list[str]:
    """RFC 3339 texts, microseconds, of CLOCK_MONOTONIC nanoseconds."""
    offset = clock.wall_ns - clock.monotonic_ns
    return [
        datetime.fromtimestamp(wall // 10**9, UTC)
        .replace(microsecond=wall // 1000 % 10**6)
        .isoformat("T", "microseconds")[:-6]
        + "Z"
        for wall in (ns.astype(np.int64) + offset).tolist()
    ]


def to_dicts(records: Records, kind: str, clock: Clock) -> list[dict[str, Any]]:
    """One dict a record of ``kind``; a length of time that was not measured is None. Raises UsageError if unknown."""
    known = KINDS.get(kind)
    if known is None:
        raise UsageError(f"unknown kind of event {kind!r}", do=f"use one of: {', '.join(KINDS)}")
    columns: dict[str, Column] = {name: [value] * len(records) for name, value in known.same.items()}
    for shown in known.shown:
        columns[shown.name] = _column(records[shown.field], shown, known, clock)
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(values: npt.NDArray[Any], shown: Shown, kind: Kind, clock: Clock) -> Column:
    if shown.form == MOMENT:
        return moments(values, clock)
    if shown.form == SECONDS:
        return [value / shown.per if value else None for value in values.tolist()]
    if shown.form == WORD:
        words = kind.words[shown.field]
        return [words.get(value, str(value)) for value in values.tolist()]
    if shown.form == FLAG:
        return [bool(value) for value in values.tolist()]
    if shown.form == TEXT:
        return _texts(values)
    column: Column = values.tolist()
    return column


def _texts(values: npt.NDArray[Any]) -> Column:
    """Of addresses (``V16``), of names (``S16``), of ids (integers, as hexadecimal, which JSON readers keep exact)."""
    if values.dtype.kind == "S":
        return [name.decode(errors="replace") for name in values.tolist()]
    if values.dtype.kind != "V":
        return [f"{value:x}" for value in values.tolist()]
    known: dict[bytes, str] = {}
    raw, texts = values.tobytes(), []
    for at in range(0, len(raw), 16):
        octets = raw[at : at + 16]
        text = known.get(octets)
        if text is None:
            text = known[octets] = address_text(octets)
        texts.append(text)
    return texts
