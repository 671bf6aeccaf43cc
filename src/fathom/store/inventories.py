"""Inventory records as rows of the table ``endpoints``, and back without loss: the ``document`` is the whole record.

The other columns are what an engine selects by. One object's versions share its key and differ in ``valid_from``, so
whoever watches a cluster closes a version by writing it again with its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from fathom.errors import StoreDamaged, UsageError
from fathom.policy.inventory import Answer, Namespace, Node, Pod, Records, Service, Slice, Workload
from fathom.store.filters import address_key
from fathom.store.interface import Window

#: What names a version of an object: cluster, kind, namespace, name, valid from.
Key = tuple[str, str, str, str, int]
Record = Namespace | Pod | Workload | Service | Slice | Node | Answer
#: Records that one inventory holds at most.
MOST_RECORDS = 2_000_000
#: The kinds of rows: what a row's document is, and which list of ``Records`` it stands in. A ``Template`` is the
#: virtual pod of a workload, which may have the name of a pod.
_TYPES: dict[str, tuple[type[Record], str]] = {
    "Namespace": (Namespace, "namespaces"),
    "Pod": (Pod, "pods"),
    "Template": (Pod, "pods"),
    "Workload": (Workload, "workloads"),
    "Service": (Service, "services"),
    "EndpointSlice": (Slice, "slices"),
    "Node": (Node, "nodes"),
    "Answer": (Answer, "answers"),
}


class EndpointRow(NamedTuple):
    """One row of ``endpoints``, in the order of its columns."""

    cluster: str
    kind: str
    namespace: str
    name: str
    valid_from: int
    valid_to: int
    uid: str
    owner_kind: str
    owner_name: str
    node: str
    host_network: int
    labels: str
    document: str

    @property
    def key(self) -> Key:
        """What names this version of this object."""
        return self[:5]


class AddressRow(NamedTuple):
    """One row of ``endpoint_addresses``."""

    address_key: str
    valid_from: int
    valid_to: int
    cluster: str
    kind: str
    namespace: str
    name: str


def to_rows(records: Records, cluster: str = "") -> list[tuple[EndpointRow, list[AddressRow]]]:
    """The rows of ``records``, each with its addresses. Equal records are one row; different ones of one key are
    numbered. Raises UsageError if a record holds what is no text or no time."""
    found: dict[Key, EndpointRow] = {}
    rows: list[tuple[EndpointRow, list[AddressRow]]] = []
    for kind, record in _each(records):
        row = _row(kind, record, cluster)
        number = 1
        while (there := found.get(row.key)) is not None and there.document != row.document:
            number += 1
            row = row._replace(name=f"{row.name.rpartition('#')[0] if number > 2 else row.name}#{number}")
        if there is None:
            found[row.key] = row
            rows.append((row, addresses(row)))
    return rows


def _each(records: Records) -> Iterator[tuple[str, Record]]:
    yield from (("Namespace", item) for item in records.namespaces)
    yield from (("Template" if item.virtual else "Pod", item) for item in records.pods)
    yield from (("Workload", item) for item in records.workloads)
    yield from (("Service", item) for item in records.services)
    yield from (("EndpointSlice", item) for item in records.slices)
    yield from (("Node", item) for item in records.nodes)
    yield from (("Answer", item) for item in records.answers)


def _row(kind: str, record: Record, cluster: str) -> EndpointRow:
    if not 0 <= record.since <= record.until < 1 << 63:
        raise UsageError(f"{kind} {_name(record)} is valid from {record.since} to {record.until}, which are no times")
    pod = record if isinstance(record, Pod) else None
    owner = pod.workload if pod else ("", "")
    labels = getattr(record, "labels", None)
    try:
        return EndpointRow(
            cluster,
            kind,
            getattr(record, "namespace", ""),
            _name(record),
            record.since,
            record.until,
            "",
            *owner,
            pod.node if pod else "",
            int(pod.host_network) if pod else 0,
            msgspec.json.encode(labels or {}).decode(),
            msgspec.json.encode(record).decode(),
        )
    except (UnicodeEncodeError, TypeError, OverflowError) as error:
        raise UsageError(f"{kind} {_name(record)[:80]!r} cannot be kept: {error}") from error


def _name(record: Record) -> str:
    """What tells the record from others of its kind and namespace."""
    if isinstance(record, Workload):
        return f"{record.kind}/{record.name}"
    if isinstance(record, Pod) and record.virtual:
        return f"{record.workload[0]}/{record.name}"
    if isinstance(record, Slice):
        return f"{record.service}/{record.name}"
    return f"{record.name}/{record.address}" if isinstance(record, Answer) else record.name


def addresses(row: EndpointRow) -> list[AddressRow]:
    """The rows of a row's addresses."""
    record = msgspec.json.decode(row.document, type=_TYPES[row.kind][0])
    texts: Sequence[str] = ()
    if isinstance(record, (Pod, Node)):
        texts = record.addresses
    elif isinstance(record, Service):
        texts = (*record.cluster_ips, *record.external_ips)
    keys = dict.fromkeys(key for text in texts if (key := address_key(text)))
    return [
        AddressRow(key, row.valid_from, row.valid_to, row.cluster, row.kind, row.namespace, row.name) for key in keys
    ]


def to_records(rows: Iterable[tuple[str, str, str]]) -> dict[str, Records]:
    """Records by cluster, of (cluster, kind, document).

    Raises StoreDamaged if a document is not what its kind says, or there are more than ``MOST_RECORDS``.
    """
    decoders = {kind: msgspec.json.Decoder(held) for kind, (held, _) in _TYPES.items()}
    found: dict[str, Records] = {}
    for count, (cluster, kind, document) in enumerate(rows):
        if count == MOST_RECORDS:
            raise StoreDamaged(f"the inventory holds more than {MOST_RECORDS} records")
        if kind not in decoders:
            raise StoreDamaged(f"the inventory holds a {kind[:64]!r}, which this Fathom does not know")
        try:
            record = decoders[kind].decode(document)
        except msgspec.DecodeError as error:
            raise StoreDamaged(f"a {kind} of the inventory makes no sense: {error}") from error
        getattr(found.setdefault(cluster, Records()), _TYPES[kind][1]).append(record)
    return found


def overlaps(row: EndpointRow, window: Window) -> bool:
    """Whether the version held at some time inside the window."""
    return row.valid_from < window.until_s and row.valid_to > window.since_s


def joined(first: Records, second: Records) -> Records:
    """``first``, and of ``second`` the objects that ``first`` holds no version of."""
    there = {(kind, getattr(item, "namespace", ""), _name(item)) for kind, item in _each(first)}
    found = Records(**{name: list(getattr(first, name)) for name in Records.__struct_fields__})
    for kind, item in _each(second):
        if (kind, getattr(item, "namespace", ""), _name(item)) not in there:
            getattr(found, _TYPES[kind][1]).append(item)
    found.problems += second.problems
    return found
