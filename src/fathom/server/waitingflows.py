"""Batches that wait for the audit as flows: one for each edge and interval, so that who it was is asked of its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fathom.events.edges import EdgeColumns, workload_of
from fathom.policy.columns import bounded
from fathom.policy.flows import FLOW, OBSERVED, EdgeTable, Flows
from fathom.store.audits import Waiting, ends_of
from fathom.store.interface import MAX_IDENTITIES, Store

Ints = npt.NDArray[np.int64]
_TCP = 6
_DROPPED = OBSERVED.index("dropped")
_INTO = {"ingress": 1, "egress": 0}


@dataclass(frozen=True)
class Came:
    """The flows of one cluster, and for each the revision of the policy sets when it came."""

    cluster: str
    flows: Flows
    revisions: Ints


@dataclass(frozen=True)
class UnknownEdges:
    """Facts of edges that the store does not know any more: revision of the sets, and count, of each."""

    revisions: Ints
    counts: Ints


def flows_by_cluster(items: Sequence[Waiting], store: Store) -> tuple[list[Came], UnknownEdges]:
    """The flows of each cluster, and what nobody knows. Raises what the store raises."""
    held = [item for item in items if len(item.rows)]
    nothing = np.zeros(0, np.int64)
    if not held:
        return [], UnknownEdges(nothing, nothing)
    rows = np.concatenate([item.rows for item in held])
    last = np.concatenate([ends_of(item) for item in held])
    revisions = np.repeat([item.revision for item in held], [len(item.rows) for item in held])
    edges = _Edges(store, np.unique(rows[:, 0]))
    at, known = edges.find(rows[:, 0])
    lost = UnknownEdges(revisions[~known], rows[~known, 2])
    found: list[Came] = []
    for number, cluster in enumerate(edges.clusters):
        chosen = np.flatnonzero(known & (edges.cluster[at] == number)) if len(edges.rows) else nothing
        if len(chosen):
            flows = edges.rows[at[chosen]]
            flows["count"] = _counts(flows, rows[chosen], edges.into[at[chosen]])
            flows["first"], flows["last"] = rows[chosen, 1], last[chosen]
            found.append(Came(cluster, Flows(flows, edges.strings), revisions[chosen]))
    return found, lost


class _Edges:
    """Edges as rows of FLOW, sorted by id; for each the number of its ``cluster``, and 1 where it is ``into`` (0 out,
    -1 not known)."""

    def __init__(self, store: Store, ids: Ints) -> None:
        table = EdgeTable()
        rows, into, names = [np.zeros(0, FLOW)], [np.zeros(0, np.int8)], list[str]()
        for part in _parts(store, ids):
            rows.append(table.rows(part))
            into.append(np.array([_INTO.get(word, -1) for word in part.directions], np.int8))
            cluster_of = {text: workload_of(text).cluster for text in set(part.workloads)}
            names += [cluster_of[text] for text in part.workloads]
        self.rows, self.into, self.strings = np.concatenate(rows), np.concatenate(into), table.strings
        self.clusters = sorted(set(names))
        numbers = {name: number for number, name in enumerate(self.clusters)}
        self.cluster = np.array([numbers[name] for name in names], np.int64)

    def find(self, ids: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """The row of each id, and whether there is one."""
        at = np.minimum(np.searchsorted(self.rows["edge"], ids), max(len(self.rows) - 1, 0))
        known = self.rows["edge"][at] == ids if len(self.rows) else np.zeros(len(ids), bool)
        return at, known


def _parts(store: Store, ids: Ints) -> Iterator[EdgeColumns]:
    for first in range(0, len(ids), MAX_IDENTITIES):
        yield store.identities(ids[first : first + MAX_IDENTITIES])


def _counts(flows: npt.NDArray[np.void], rows: Ints, into: npt.NDArray[np.int8]) -> Ints:
    """Connections; and where there are none, the packets of the side that opened it."""
    sent, received = np.where(into == 1, 0, rows[:, 3]), np.where(into == 0, 0, rows[:, 4])
    packets = (flows["protocol"] != _TCP) | (flows["observed"] == _DROPPED)
    return bounded(rows[:, 2], np.where(packets, sent, 0), np.where(packets, received, 0))
