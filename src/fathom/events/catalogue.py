"""The kinds of events and their fields, as people and programs are shown them.

A record's struct in C says what each field is and in which unit (``DOC``, ``units.h``); here stands under which name
and in which form ``render`` shows it. Nothing is described twice: the sentences come from the compiled object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from fathom.events.btf import Struct
from fathom.events.observations import Direction, OwnerSource, Reason

MOMENT, SECONDS, WORD, TEXT, NUMBER, FLAG = "RFC 3339", "s", "word", "text", "", "true or false"


@dataclass(frozen=True, slots=True)
class Shown:
    """A field as it is shown: its ``name``, the record's field that it comes from, and its ``form``.

    ``form`` is one of the constants above; a NUMBER keeps the unit that the record has, SECONDS are it divided by
    ``per``.
    """

    name: str
    field: str
    form: str = NUMBER
    per: float = 1e9


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event. ``record`` is a struct of ``<stem>.bpf.o``; what ``hidden`` fields hold is said by others.

    ``same`` is the same in all of them. ``words`` has the values of each WORD by field, those of the object's ``enum
    <record>_<field>``; ``""`` stands for nothing to say, a value without a word is shown as its number.
    """

    name: str
    stem: str
    record: str
    shown: tuple[Shown, ...]
    words: Mapping[str, Mapping[int, str]]
    same: Mapping[str, str]
    hidden: frozenset[str] = frozenset(("pad", "family"))


@dataclass(frozen=True, slots=True)
class Described:
    """One row of a reference table."""

    name: str
    unit: str
    doc: str


def _words(enum: type[IntEnum]) -> dict[int, str]:
    return {int(value): value.name.lower() for value in enum}


#: IANA protocol numbers that have a name here; others are shown as numbers.
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 33: "DCCP", 58: "ICMPv6", 132: "SCTP", 136: "UDPLite"}

_ENDS = (
    Shown("local_address", "local", TEXT),
    Shown("local_port", "local_port"),
    Shown("remote_address", "remote", TEXT),
    Shown("remote_port", "remote_port"),
)
_OWNER = (
    Shown("pid", "pid"),
    Shown("comm", "comm", TEXT),
    Shown("owner_source", "owner_source", WORD),
    Shown("cgroup", "cgroup"),
    Shown("netns", "netns"),
)
_TRAFFIC = (
    Shown("bytes_sent", "bytes_sent"),
    Shown("bytes_received", "bytes_received"),
    Shown("packets_sent", "packets_sent"),
    Shown("packets_received", "packets_received"),
)

TCP = Kind(
    "tcp",
    "tcp",
    "tcp_event",
    (
        Shown("time", "time", MOMENT),
        Shown("event", "kind", WORD),
        Shown("direction", "direction", WORD),
        Shown("reason", "reason", WORD),
        Shown("latency", "latency", SECONDS),
        Shown("duration", "duration", SECONDS),
        *_TRAFFIC,
        Shown("retransmits", "retransmits"),
        Shown("srtt", "srtt", SECONDS, 1e6),
        Shown("connection", "socket", TEXT),
        Shown("before", "before", FLAG),
        *_ENDS,
        *_OWNER,
    ),
    {
        "kind": {1: "established", 2: "closed", 3: "failed", 4: "open"},
        "direction": _words(Direction),
        "reason": {**_words(Reason), 0: ""},
        "owner_source": _words(OwnerSource),
    },
    {"kind": "tcp", "protocol": "TCP"},
)
FLOW = Kind(
    "flow",
    "flow",
    "flow_event",
    (
        Shown("time", "time", MOMENT),
        Shown("first", "first", MOMENT),
        Shown("direction", "direction", WORD),
        Shown("protocol", "protocol", WORD),
        Shown("message", "message", WORD),
        *_TRAFFIC,
        Shown("socket", "socket", TEXT),
        Shown("kernel", "kernel", FLAG),
        *_ENDS,
        *_OWNER,
    ),
    {
        "direction": _words(Direction),
        "protocol": PROTOCOLS,
        "message": {0: "", 1: "request", 2: "reply", 3: "other"},
        "owner_source": _words(OwnerSource),
    },
    {"kind": "flow", "event": "flow"},
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in (TCP, FLOW)}


def describe(kind: Kind, record: Struct) -> list[Described]:
    """The reference table of ``kind``, whose struct is ``record``. Raises KeyError if a shown field is not in it."""
    fields = {field.name: field for field in record.fields}
    rows = [Described(name, "text", f"always `{value}`") for name, value in kind.same.items()]
    for shown in kind.shown:
        doc = fields[shown.field].doc
        if shown.form == WORD:
            words = [f"`{word}`" for word in kind.words[shown.field].values() if word]
            doc += ": " + ", ".join(words)
        rows.append(Described(shown.name, shown.form or fields[shown.field].unit, doc))
    return rows
