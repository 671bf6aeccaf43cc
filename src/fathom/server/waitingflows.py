"""Batches that wait for the audit as flows: one for each edge and interval, so that who it was is asked of its time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fathom.policy.flows import OBSERVED, Flows, Seen, from_edges
from fathom.store.audits import AuditWork, ends_of

Ints = npt.NDArray[np.int64]
_TCP = 6
_DROPPED = OBSERVED.index("dropped")


@dataclass(frozen=True)
class UnknownEdges:
    """Facts of edges that the store does not know any more: revision of the sets, and count, of each."""

    revisions: Ints
    counts: Ints


def flows_by_cluster(work: AuditWork) -> tuple[list[tuple[str, Flows, Ints]], UnknownEdges]:
    """For each cluster its flows, and for each flow the revision of the sets when it came; and what nobody knows."""
    items = [item for item in work.items if len(item.rows)]
    nothing = np.zeros(0, np.int64)
    if not items:
        return [], UnknownEdges(nothing, nothing)
    rows = np.concatenate([item.rows for item in items])
    last = np.concatenate([ends_of(item) for item in items])
    revisions = np.repeat([item.revision for item in items], [len(item.rows) for item in items])
    ids = np.array(sorted(work.edges), np.int64)
    at = np.minimum(np.searchsorted(ids, rows[:, 0]), max(len(ids) - 1, 0))
    known = ids[at] == rows[:, 0] if len(ids) else np.zeros(len(rows), bool)
    lost = UnknownEdges(revisions[~known], rows[~known, 2])
    edges = [work.edges[number] for number in ids.tolist()]
    clusters = np.array([edge.workload.cluster for edge in edges])
    found: list[tuple[str, Flows, Ints]] = []
    table = from_edges(Seen(edge, 0, 0, 0, number) for edge, number in zip(edges, ids.tolist(), strict=True))
    into = np.array([{"ingress": 1, "egress": 0}.get(edge.direction, -1) for edge in edges], np.int8)
    for cluster in sorted(set(clusters.tolist())):
        chosen = np.flatnonzero(known)
        chosen = chosen[clusters[at[chosen]] == cluster]
        mine = table.rows[at[chosen]]
        mine["count"] = _counts(mine, rows[chosen], into[at[chosen]])
        mine["first"], mine["last"] = rows[chosen, 1], last[chosen]
        found.append((cluster, Flows(mine, table.strings), revisions[chosen]))
    return [part for part in found if len(part[1])], lost


def _counts(flows: npt.NDArray[np.void], rows: Ints, into: npt.NDArray[np.int8]) -> Ints:
    """Connections; and where there are none, the packets of the side that opened it."""
    sent, received = np.where(into == 1, 0, rows[:, 3]), np.where(into == 0, 0, rows[:, 4])
    packets = (flows["protocol"] != _TCP) | (flows["observed"] == _DROPPED)
    found: Ints = rows[:, 2] + np.where(packets, sent + received, 0)
    return found
