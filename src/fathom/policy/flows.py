"""Flows as arrays: who opened a connection to whom, over which protocol and server port, how often and when.

``src`` is always the side that opened; replies are not flows. Sources: the store's edges, or JSON lines. An endpoint
is written ``ns/pod``, ``ns/Kind/name`` (also ``ns/Service/name``), ``Node/name``, ``Node/name/container`` (what runs in
a container: the pod that has it, else its node), an address, or a DNS name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.events.edges import Edge
from fathom.policy.addresses import address
from fathom.policy.fields import Field
from fathom.policy.index import Interner
from fathom.policy.model import PROTOCOLS
from fathom.policy.problems import Place, Problem, Refused
from fathom.policy.times import seconds

#: One flow. Strings are numbers into ``Flows.strings`` (0 is ""). ``oriented``: it is known who opened. ``protocol`` is
#: the IP protocol number, ``port`` the server's port (0 where there is none). ``observed``: index into OBSERVED.
#: ``count`` connections (or packets) between ``first`` and ``last`` (epoch seconds; ``last`` 0: time not known).
FLOW = np.dtype(
    [
        ("src", "<i4"),
        ("dst", "<i4"),
        ("src_address", "<i4"),
        ("dst_address", "<i4"),
        ("name", "<i4"),
        ("protocol", "u1"),
        ("port", "<u2"),
        ("oriented", "?"),
        ("observed", "u1"),
        ("node", "<i4"),
        ("count", "<i8"),
        ("first", "<i8"),
        ("last", "<i8"),
        ("edge", "<i8"),
    ]
)
OBSERVED = ("forwarded", "failed", "dropped", "unknown")
_NUMBERS = {word.upper(): number for word, number in PROTOCOLS.items()}
_WORDS = {number: word for word, number in PROTOCOLS.items()}
_FIELDS = frozenset(
    "src dst protocol port count first_seen last_seen src_address dst_address name verdict oriented node".split()
)


class Flows:
    """Rows of FLOW and the strings that they name."""

    __slots__ = ("rows", "strings")

    def __init__(self, rows: NDArray[np.void], strings: Sequence[str]) -> None:
        self.rows = rows
        self.strings = strings

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: NDArray[Any] | slice) -> Flows:
        """The rows that an index array, a mask or a slice chooses; strings are shared."""
        return Flows(self.rows[chosen], self.strings)

    def to_dict(self, number: int) -> dict[str, Any]:
        """One flow as it stands in JSON lines."""
        row, text = self.rows[number], self.strings
        found: dict[str, Any] = {
            "src": text[row["src"]],
            "dst": text[row["dst"]],
            "protocol": protocol_word(int(row["protocol"])),
            "port": int(row["port"]),
            "count": int(row["count"]),
        }
        if row["last"]:
            found |= {"first_seen": int(row["first"]), "last_seen": int(row["last"])}
        for key in ("src_address", "dst_address", "name", "node"):
            if row[key]:
                found[key] = text[row[key]]
        if not row["oriented"]:
            found["oriented"] = False
        if row["observed"]:
            found["verdict"] = OBSERVED[row["observed"]]
        return found


class Builder:
    """Collects rows, then makes Flows."""

    def __init__(self) -> None:
        self.strings: Interner[str] = Interner([""])
        self._rows: list[tuple[Any, ...]] = []

    def add(self, src: str, dst: str, protocol: int, port: int, **more: Any) -> None:
        """One flow; ``more`` holds the other fields of FLOW by name, strings as text."""
        number = self.strings.number
        get = more.get
        self._rows.append(
            (
                number(src),
                number(dst),
                number(get("src_address", "")),
                number(get("dst_address", "")),
                number(get("name", "")),
                protocol,
                port,
                get("oriented", True),
                get("observed", 0),
                number(get("node", "")),
                get("count", 1),
                get("first", 0),
                get("last", 0),
                get("edge", 0),
            )
        )

    def flows(self) -> Flows:
        """What was added so far."""
        return Flows(np.array(self._rows, dtype=FLOW), self.strings.values)


def protocol_number(word: str) -> int:
    """The IP protocol number of ``TCP``, ``udp``, ``ICMPv6``, ``132``. Raises ValueError if it is none."""
    number = _NUMBERS.get(word.upper())
    if number is not None:
        return number
    if word.isdigit() and word.isascii() and int(word) < 256:
        return int(word)
    raise ValueError(f"{word[:32]!r} is not an IP protocol")


def protocol_word(number: int) -> str:
    """The name of an IP protocol, or its number as text."""
    return _WORDS.get(number, str(number))


def read_lines(text: str, file: str = "-") -> tuple[Flows, list[Problem]]:
    """Flows of JSON lines, and what was refused with its line (0-based) as the document."""
    builder, problems = Builder(), []
    for index, line in enumerate(text.splitlines()):
        if not line.strip():
            continue
        place = Place(file, index)
        try:
            data = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            problems.append(Problem(place, f"not JSON: {error}"))
            continue
        try:
            add_dict(builder, Field(data, place, problems))
        except Refused as refused:
            problems.append(refused.problem)
    return builder.flows(), problems


def from_dicts(items: Iterable[Mapping[str, Any]]) -> Flows:
    """Flows of decoded objects. Raises ValueError if one is malformed."""
    builder, problems = Builder(), list[Problem]()
    for index, item in enumerate(items):
        try:
            add_dict(builder, Field(dict(item), Place("flows", index), problems))
        except Refused as refused:
            raise ValueError(str(refused.problem)) from None
    return builder.flows()


def add_dict(builder: Builder, field: Field) -> None:
    """One decoded flow. Raises Refused if it is malformed."""
    for unknown in field.unknown(_FIELDS):
        raise unknown.refuse("unknown field of a flow")
    word = field.get("protocol")
    try:
        protocol = protocol_number(word.text(default="TCP"))
    except ValueError as error:
        raise word.refuse(str(error)) from None
    port = field.get("port").integer(0, 65535) if field.has("port") else 0
    if protocol in (6, 17, 132) and not port:
        raise field.get("port").refuse("must be between 1 and 65535 for this protocol")
    first = seconds(field.get("first_seen")) if field.has("first_seen") else 0
    last = seconds(field.get("last_seen")) if field.has("last_seen") else first
    observed = field.get("verdict")
    builder.add(
        field.get("src").text(),
        field.get("dst").text(),
        protocol,
        port,
        src_address=_address(field.get("src_address")),
        dst_address=_address(field.get("dst_address")),
        name=field.get("name").text(default=""),
        oriented=field.get("oriented").boolean(True),
        observed=OBSERVED.index(observed.one_of(OBSERVED)) if not observed.absent else 0,
        node=field.get("node").text(default=""),
        count=field.get("count").integer(0, 1 << 62) if field.has("count") else 1,
        first=first,
        last=max(first, last),
    )


def _address(field: Field) -> str:
    text = field.text(default="")
    if text and address(text) is None:
        raise field.refuse(f"{text[:64]!r} is not an address")
    return text


#: Kinds of a recorded workload that are a process on a node, not a pod.
HOST_KINDS = frozenset(("unit", "container", "session", "process", "host"))


class Seen(msgspec.Struct, frozen=True):
    """An edge with what was counted on it in the window; ``id`` 0 is worked out from the edge."""

    edge: Edge
    count: int
    first: int
    last: int
    id: int = 0


def from_edges(seen: Iterable[Seen]) -> Flows:
    """Flows of the store's edges. An edge of unknown direction is kept, and not oriented."""
    strings: Interner[str] = Interner([""])
    number, rows = strings.number, []
    known = set[str]()
    for item in seen:
        edge = item.edge
        given = edge.peer_address
        if given and given not in known:
            if address(given) is None:
                given = ""
            else:
                known.add(given)
        mine = number(_subject(edge))
        peer, name = _peer(edge)
        theirs, spoken = number(peer), number(given)
        into = edge.direction == "ingress"
        protocol = _NUMBERS.get(edge.protocol.upper()) or _other_protocol(edge.protocol)
        rows.append(
            (
                theirs if into else mine,
                mine if into else theirs,
                spoken if into else 0,
                0 if into else spoken,
                number(name),
                protocol,
                edge.port,
                edge.direction != "unknown" and (edge.port > 0 or protocol not in (6, 17, 132)),
                OBSERVED.index(edge.verdict),
                number(edge.workload.node),
                item.count,
                item.first,
                item.last,
                item.id or edge.id,
            )
        )
    return Flows(np.array(rows, dtype=FLOW), strings.values)


def _peer(edge: Edge) -> tuple[str, str]:
    """(the peer as an endpoint, its DNS name): the address where it is known, unless a workload is named."""
    if not edge.peer_address or edge.peer == edge.peer_address:
        return edge.peer, ""
    parts = edge.peer.split("/")
    if len(parts) in (2, 3) and parts[0] not in HOST_KINDS:
        return edge.peer, ""
    return edge.peer_address, edge.peer if len(parts) == 1 else ""


def _other_protocol(word: str) -> int:
    return int(word) if word.isdigit() and word.isascii() and int(word) < 256 else 255


def _subject(edge: Edge) -> str:
    who = edge.workload
    if who.kind in HOST_KINDS:
        return f"Node/{who.node}/{who.container}" if who.container else f"Node/{who.node}"
    if who.pod:
        return f"{who.namespace}/{who.pod}"
    return f"{who.namespace}/{who.kind}/{who.name}"


def lines(flows: Flows) -> Iterator[str]:
    """JSON lines that ``read_lines`` reads back."""
    for number in range(len(flows)):
        yield msgspec.json.encode(flows.to_dict(number)).decode()
