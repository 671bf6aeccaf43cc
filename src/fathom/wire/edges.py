"""Edges as columns of indexes into one table of strings, and back.

An edge is sent once per store and then named by its id, so size matters less than that both sides mean the same edge:
the receiver computes each id again from the identity and refuses a difference. Nothing here remembers what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from fathom.errors import WireError
from fathom.events.edges import Direction, Edge, Verdict, Workload

#: Most edges in one batch, and most bytes of one string (a path on Linux has at most 4,096).
MAX_EDGES = 1 << 18
MAX_STRING = 4096

_WORKLOAD = ("cluster", "node", "namespace", "kind", "name", "pod", "container")
_TEXT = (*_WORKLOAD, "direction", "peer", "peer_address", "protocol", "verdict", "reason")
_DIRECTIONS, _VERDICTS = frozenset(get_args(Direction)), frozenset(get_args(Verdict))


def to_columns(edges: Sequence[Edge], message: Any) -> None:
    """Fill ``message`` (``fathom.v1.Edges``, empty) with ``edges``."""
    table: dict[str, int] = {}
    indexes = [
        table.setdefault(text, len(table))
        for edge in edges
        for text in (
            edge.workload.cluster,
            edge.workload.node,
            edge.workload.namespace,
            edge.workload.kind,
            edge.workload.name,
            edge.workload.pod,
            edge.workload.container,
            edge.direction,
            edge.peer,
            edge.peer_address,
            edge.protocol,
            edge.verdict,
            edge.reason,
        )
    ]
    message.strings.extend(table)
    message.id.extend([edge.id for edge in edges])
    message.port.extend([edge.port for edge in edges])
    for offset, name in enumerate(_TEXT):
        getattr(message, name).extend(indexes[offset :: len(_TEXT)])


def from_columns(message: Any) -> tuple[Edge, ...]:
    """The edges of ``message`` (``fathom.v1.Edges``).

    Raises WireError if columns differ in length, an index or a port is out of bounds, a word is unknown, a string is
    too long, or an id is not the hash of its edge.
    """
    size = len(message.id)
    if size > MAX_EDGES:
        raise WireError(f"a batch with {size} edges; at most {MAX_EDGES} are allowed")
    strings = list(message.strings)
    if any(len(text) > MAX_STRING for text in strings):
        raise WireError(f"a string longer than {MAX_STRING} characters in an edge")
    columns = [_texts(message, name, size, strings) for name in _TEXT]
    ports = list(message.port)
    if len(ports) != size:
        raise WireError(f"{len(ports)} ports for {size} edges")
    workloads: dict[tuple[str, ...], Workload] = {}
    return tuple(
        _edge(row, port, known, workloads)
        for row, port, known in zip(zip(*columns, strict=True), ports, message.id, strict=True)
    )


def _texts(message: Any, name: str, size: int, strings: list[str]) -> Iterable[str]:
    indexes = list(getattr(message, name))
    if len(indexes) != size:
        raise WireError(f"column {name} has {len(indexes)} values for {size} edges")
    if indexes and max(indexes) >= len(strings):
        raise WireError(f"column {name} names string {max(indexes)} of {len(strings)}")
    return map(strings.__getitem__, indexes)


def _edge(row: tuple[str, ...], port: int, known: int, workloads: dict[tuple[str, ...], Workload]) -> Edge:
    who = row[:7]
    direction, peer, peer_address, protocol, verdict, reason = row[7:]
    if direction not in _DIRECTIONS or verdict not in _VERDICTS:
        raise WireError(f"an edge with direction {direction!r} and verdict {verdict!r}")
    if port > 65535:
        raise WireError(f"an edge with port {port}")
    workload = workloads.get(who) or workloads.setdefault(who, Workload(*who))
    edge = Edge(workload, direction, peer, peer_address, protocol, port, verdict, reason)  # type: ignore[arg-type]
    if edge.id != known:
        raise WireError(f"edge id {known} is not the id of {edge}", do="run the same version of Fathom on both sides")
    return edge
