"""Flows as arrays: who opened a connection to whom, over which protocol and server port, how often and when.

``src`` is always the side that opened; replies are not flows. Sources: the store's edges, or JSON lines. An endpoint
is written ``ns/pod``, ``ns/Kind/name`` (also ``ns/Service/name``), ``Node/name``, ``Node/name/container`` (what runs in
a container: the pod that has it, else its node), an address, or a DNS name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.events.edges import Edge, EdgeColumns, Workload, workload_of
from fathom.policy.addresses import address
from fathom.policy.columns import MOST_COUNT
from fathom.policy.fields import Field
from fathom.policy.index import Interner
from fathom.policy.metadata import valid_kind, valid_name, valid_namespace
from fathom.policy.model import PROTOCOLS, TRANSPORTS
from fathom.policy.problems import Place, Problem, Refused
from fathom.policy.times import seconds

K = TypeVar("K")

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
_DIRECTIONS = ("egress", "ingress", "unknown")
_INGRESS, _UNKNOWN = 1, 2
_NUMBERS = {word.upper(): number for word, number in PROTOCOLS.items()}
_WORDS = {number: word for word, number in PROTOCOLS.items()}
#: Labels of letters, digits, dashes and underscores, not all of them numbers: 203.0.113.009 is a mistake, not a name.
_DNS_NAME = re.compile(r"(?=.{1,254}\Z)(?=.*[a-zA-Z])(?:[-_a-zA-Z0-9]{1,63}\.)*[-_a-zA-Z0-9]{1,63}\.?\Z")
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
    for index, line in enumerate(text.removeprefix("\ufeff").split("\n")):
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
        _end(field.get("src")),
        _end(field.get("dst")),
        protocol,
        port,
        src_address=_address(field.get("src_address")),
        dst_address=_address(field.get("dst_address")),
        name=field.get("name").text(default=""),
        oriented=field.get("oriented").boolean(True),
        observed=OBSERVED.index(observed.one_of(OBSERVED)) if not observed.absent else 0,
        node=field.get("node").text(default=""),
        count=field.get("count").integer(0, MOST_COUNT) if field.has("count") else 1,
        first=first,
        last=max(first, last),
    )


def _end(field: Field) -> str:
    """An end of a flow. Raises Refused if it is none: what is misspelt must not become a pod, or a name outside."""
    text = field.text()
    if not valid_end(text):
        raise field.refuse(
            f"{text[:80]!r} is not ns/pod, ns/Kind/name, Node/name, an address (without a port) or a DNS name"
        )
    return text


def valid_end(text: str) -> bool:
    """Whether ``text`` is written as an end of a flow is."""
    if "/" not in text:
        return address(text) is not None or bool(_DNS_NAME.match(text))
    head, *between, last = text.split("/")
    if head == "Node":
        return valid_name(between[0] if between else last)
    return valid_namespace(head) and valid_name(last) and len(between) < 2 and all(map(valid_kind, between))


def _address(field: Field) -> str:
    text = field.text(default="")
    if text and address(text) is None:
        raise field.refuse(f"{text[:64]!r} is not an address")
    return text


#: Kinds of a recorded workload that are a process on a node, not a pod.
HOST_KINDS = frozenset(("unit", "container", "session", "process", "host"))
#: Kind of a "workload" of which only its name is known, an address or a DNS name: imported flows have such ends.
ADDRESS_KIND = "address"


class Seen(msgspec.Struct, frozen=True):
    """An edge with what was counted on it in the window; ``id`` 0 is worked out from the edge."""

    edge: Edge
    count: int
    first: int
    last: int
    id: int = 0


def from_edges(seen: Iterable[Seen]) -> Flows:
    """Flows of the store's edges. An edge of unknown direction is kept, and not oriented."""
    items = list(seen)
    table = EdgeTable()
    rows = table.rows(EdgeColumns.of((item.id or item.edge.id, item.edge) for item in items))
    for name in ("count", "first", "last"):
        rows[name] = [getattr(item, name) for item in items]
    return Flows(rows, table.strings)


class EdgeTable:
    """Makes edges into rows of FLOW, part by part, with strings of their own; counts and times are the caller's.

    Column by column, and each distinct workload and peer once: this is the way that 600,000 edges go.
    """

    def __init__(self) -> None:
        self._interner: Interner[str] = Interner([""])
        self._subjects = _Numbered[str](self._subject)
        self._peers = _Numbered[tuple[str, str]](self._peer)
        self._protocols = _Numbered[str](lambda word: (_NUMBERS.get(word.upper()) or _other_protocol(word),))
        self._directions = _Numbered[str](lambda word: (_DIRECTIONS.index(word),))
        self._verdicts = _Numbered[str](lambda word: (OBSERVED.index(word),))

    @property
    def strings(self) -> list[str]:
        """The strings of all rows so far."""
        return self._interner.values

    def rows(self, edges: EdgeColumns) -> NDArray[np.void]:
        """One row for each edge. Raises ValueError if a direction, a verdict or a port is none."""
        rows = np.zeros(len(edges.ids), FLOW)
        if not len(rows):
            return rows
        mine, node = self._subjects.columns(edges.workloads)
        theirs, spoken, name = self._peers.columns(zip(edges.peers, edges.peer_addresses, strict=True))
        (direction,) = self._directions.columns(edges.directions)
        ports = np.array(edges.ports, np.int64)
        if ports.min() < 0 or ports.max() > 65_535:
            raise ValueError("an edge's port is none")
        served = direction == _INGRESS
        rows["src"], rows["dst"] = np.where(served, theirs, mine), np.where(served, mine, theirs)
        rows["src_address"], rows["dst_address"] = np.where(served, spoken, 0), np.where(served, 0, spoken)
        rows["name"], rows["node"], rows["port"], rows["edge"] = name, node, ports, edges.ids
        rows["protocol"] = self._protocols.columns(edges.protocols)[0]
        rows["oriented"] = (direction != _UNKNOWN) & ((ports > 0) | ~np.isin(rows["protocol"], TRANSPORTS))
        rows["observed"] = self._verdicts.columns(edges.verdicts)[0]
        return rows

    def _subject(self, text: str) -> tuple[int, ...]:
        """Numbers of a workload: itself, its node."""
        who = workload_of(text)
        return self._interner.number(_subject(who)), self._interner.number(who.node)

    def _peer(self, pair: tuple[str, str]) -> tuple[int, ...]:
        """Numbers of a peer: itself, its address, its DNS name."""
        peer, name = _peer(*pair)
        number = self._interner.number
        return number(peer), number(pair[1] if address(pair[1]) is not None else ""), number(name)


class _Numbered(dict[K, int], Generic[K]):
    """Keys numbered as they come, and for each what ``find`` found, asked once."""

    def __init__(self, find: Callable[[K], tuple[int, ...]]) -> None:
        super().__init__()
        self._find = find
        self._new: list[tuple[int, ...]] = []
        self._table = np.zeros((0, 0), np.int64)

    def __missing__(self, key: K) -> int:
        self._new.append(self._find(key))
        number = self[key] = len(self)
        return number

    def columns(self, keys: Iterable[K]) -> NDArray[np.int64]:
        """What was found for each of ``keys`` (one at least), a column for each thing found."""
        numbers = np.fromiter(map(self.__getitem__, keys), np.int64)
        if self._new:
            new = np.array(self._new, np.int64)
            self._table = np.concatenate([self._table, new]) if len(self._table) else new
            self._new = []
        found: NDArray[np.int64] = self._table[numbers].T
        return found


def _peer(peer: str, given: str) -> tuple[str, str]:
    """(the peer as an endpoint, its DNS name): the address where it is known, unless a workload is named."""
    if not given or peer == given:
        return peer, ""
    parts = peer.split("/")
    if len(parts) in (2, 3) and parts[0] not in HOST_KINDS:
        return peer, ""
    return given, peer if len(parts) == 1 else ""


def _other_protocol(word: str) -> int:
    return int(word) if word.isdigit() and word.isascii() and int(word) < 256 else 255


def _subject(who: Workload) -> str:
    if who.kind == ADDRESS_KIND:
        return who.name
    if who.kind in HOST_KINDS:
        return f"Node/{who.node}/{who.container}" if who.container else f"Node/{who.node}"
    if who.pod:
        return f"{who.namespace}/{who.pod}"
    return f"{who.namespace}/{who.kind}/{who.name}"


def lines(flows: Flows) -> Iterator[str]:
    """JSON lines that ``read_lines`` reads back."""
    for number in range(len(flows)):
        yield msgspec.json.encode(flows.to_dict(number)).decode()
