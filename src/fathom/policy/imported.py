"""Flows from elsewhere as edges, so that they can be kept in a recording and mean the same when they are read again.

An edge has one address, that of the side it was not seen from. A flow that says more than an edge can hold is refused,
never shortened: its verdict could be another.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fathom.events.edges import Direction, Edge, EdgeColumns, Verdict, Workload
from fathom.policy.flows import ADDRESS_KIND, HOST_KINDS, OBSERVED, EdgeTable, Flows, Seen, protocol_word

#: What a flow and the edge made of it must agree in, as text.
_TEXTS = ("src", "dst", "src_address", "dst_address", "name", "node")
_NUMBERS = ("protocol", "port", "oriented", "observed")
#: The first second that no recording can hold (``fathom.store.sqlite.foreign``), and some.
_LATEST_S = (1 << 33) - 2


def to_edges(flows: Flows) -> tuple[list[Seen], list[str]]:
    """An edge for each flow, in order, and what of the flows cannot be held: a sentence each, with the flow's number
    from 1. If there is any, the edges are not to be used."""
    seen = list(_each(flows))
    problems = dict(_unheld(flows, seen))
    timed: dict[int, bool] = {}
    for number, item in enumerate(seen):
        if not item.count:
            problems.setdefault(number, "its count is 0, which a recording takes for a connection opened before")
        if not 0 <= item.first <= item.last < _LATEST_S:
            problems.setdefault(number, "its times are none that a recording can hold")
        if timed.setdefault(item.id, item.last > 0) != (item.last > 0):
            problems.setdefault(number, "the same flow is there with times and without")
    return seen, [f"flow {number + 1}: {why}" for number, why in sorted(problems.items())]


def _each(flows: Flows) -> Iterator[Seen]:
    text = flows.strings
    workloads: dict[tuple[int, int], Workload] = {}
    for row in flows.rows.tolist():
        src, dst, src_address, dst_address, name, protocol, port, oriented, observed, node, count, first, last, _ = row
        # Seen from the side whose address is not told.
        served = bool(src_address) and not dst_address and text[src_address] != text[src]
        mine, theirs, spoken = (dst, src, src_address) if served else (src, dst, dst_address)
        who = workloads.get((mine, node))
        if who is None:
            who = workloads[mine, node] = _workload(text[mine], text[node])
        peer, address = text[theirs], text[spoken]
        if name and not served:
            peer, address = text[name], text[theirs]
        direction: Direction = "unknown" if not oriented else "ingress" if served else "egress"
        verdict: Verdict = OBSERVED[observed]  # type: ignore[assignment]  # they are the words of verdicts
        edge = Edge(who, direction, peer, address, protocol_word(protocol), port, verdict)
        yield Seen(edge, count, first, last, edge.id)


def _workload(text: str, node: str) -> Workload:
    """The workload that is written ``text``."""
    parts = text.split("/")
    if len(parts) == 3 and all(parts) and parts[0] != "Node" and parts[1] not in (*HOST_KINDS, ADDRESS_KIND):
        return Workload("", node, *parts)
    if len(parts) == 2 and all(parts) and parts[0] != "Node":
        return Workload("", node, parts[0], "Pod", parts[1], parts[1])
    if parts == ["Node", node] and node:
        return Workload("", node, "", "host", "host")
    return Workload("", node, "", ADDRESS_KIND, text)


def _unheld(flows: Flows, seen: list[Seen]) -> Iterator[tuple[int, str]]:
    """The flows that their edges do not say again, each with what differs."""
    table = EdgeTable()
    rows = table.rows(EdgeColumns.of((item.id, item.edge) for item in seen))
    again = Flows(rows, table.strings)
    for field in _TEXTS:
        differs = _text(again, field) != _text(flows, field)
        if field in ("src_address", "dst_address"):  # the address that the end is written as says nothing more
            end = _text(flows, field[:3])
            differs &= ~((_text(flows, field) == "") & (_text(again, field) == end))
            differs &= ~((_text(again, field) == "") & (_text(flows, field) == end))
        for number in np.flatnonzero(differs).tolist():
            yield number, f"its {field} cannot be held beside the other fields"
    for field in _NUMBERS:
        for number in np.flatnonzero(rows[field] != flows.rows[field]).tolist():
            yield number, f"its {field} cannot be held beside the other fields"


def _text(flows: Flows, field: str) -> NDArray[np.object_]:
    found: NDArray[np.object_] = np.array(flows.strings, object)[flows.rows[field]]
    return found
