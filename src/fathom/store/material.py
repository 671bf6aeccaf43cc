"""A store, or a recording, as the material of questions about policy: who existed, what was seen, what was not.

Flows are as fine as the answer needs: an edge is one flow, but where one of its ends changed inside the window (labels,
the holder of an address, the backends of a service) it is one flow for each stretch between two changes. A fact is
known to the length of its interval; the interval in which a change falls is a flow of its own, which may be of either
side of the change. What lasts beyond the window and cannot be divided (a sum, a flow from a file) counts whole, and is
judged over all of its time. It refuses to mix the objects of several clusters.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fathom.errors import StoreDamaged, UsageError
from fathom.events.edges import EdgeColumns, workload_of
from fathom.policy.changes import changes, steady
from fathom.policy.columns import bounded
from fathom.policy.coverage import Gap, Loss
from fathom.policy.flows import FLOW, OBSERVED, EdgeTable, Flows
from fathom.policy.inventory import Inventory, Records
from fathom.policy.material import Material
from fathom.store.interface import EdgeQuery, Store, Window
from fathom.store.inventories import joined
from fathom.store.spans import Cuts, Spans

#: Flows that one material holds at most.
MOST_FLOWS = 4_000_000
#: The longest interval that agents are told to use; what cannot be told from the facts is taken to be this long.
LONGEST_INTERVAL_S = 60
_PART = 20_000
_TCP = 6
_DROPPED = OBSERVED.index("dropped")
_INTO = {"ingress": 1, "egress": 0}


def material(
    store: Store,
    window: Window | None = None,
    *,
    node: str = "",
    cluster: str = "",
    manifests: Records | None = None,
    most: int = MOST_FLOWS,
) -> Material:
    """All that ``store`` knows of ``window`` (None: of all its time), of the edges of ``node``.

    The window that it tells of begins with the first observation: before, nobody watched.

    ``manifests``: objects that are added where the store's inventory holds no version of them. ``cluster`` chooses one
    where there are several.

    Raises UsageError if the window is empty, several clusters are there and none is chosen, or there are more than
    ``most`` flows; and what the store raises.
    """
    if window and window.since_s >= window.until_s:
        raise UsageError("the window is empty", do="give a since that is before until")
    # By whole hours: of what is old there are sums of hours, which begin before the first observation in them.
    asked = window or store.extent() or Window(0, 0)
    watched = _watched(store, window)
    query = EdgeQuery(asked, node=node)
    spans = store.spans(query)
    _check(len(spans), most)
    table = _Edges(store, spans, cluster)
    records = _records(store.inventory(_lived(asked, spans)), table.clusters, cluster)
    inventory = Inventory(joined(records, manifests) if manifests else records)
    coverage = store.coverage(watched)
    nodes = tuple(item.node for item in store.nodes() if item.first_seen < asked.until_s)
    return Material(
        inventory,
        _cut(store, query, table, (table.flows(spans), inventory), (interval_s(store, asked, spans), most)),
        (watched.since_s, watched.until_s) if nodes else (0, 0),
        nodes,
        tuple(Gap(item.node, item.start_s, item.end_s) for item in coverage.gaps),
        coverage.share if nodes else None,
        tuple(Loss(m.hop, m.probe, m.reason, m.node, m.count, m.packets) for m in store.losses(asked)),
        beyond=len(np.unique(spans["edge"][_beyond(asked, spans)])),
    )


def _beyond(window: Window, spans: Spans) -> npt.NDArray[np.bool_]:
    """Which spans are of more than the window: sums, which cannot be divided, and what has no time."""
    found: npt.NDArray[np.bool_] = (spans["first"] < window.since_s) | (spans["last"] >= window.until_s)
    return found


def _lived(window: Window, spans: Spans) -> Window:
    """The window, and the time of what lasts beyond it."""
    timed = spans[spans["last"] > 0]
    if not len(timed):
        return window
    return Window(min(window.since_s, int(timed["first"].min())), max(window.until_s, int(timed["last"].max()) + 1))


def _watched(store: Store, window: Window | None) -> Window:
    """The window (None: all time) from the first observation on; as it is where it ends before that."""
    all_time = whole(store)
    if window is None or not all_time.since_s < window.until_s:
        return window or all_time
    return Window(max(window.since_s, all_time.since_s), window.until_s)


def whole(store: Store) -> Window:
    """All of a store's time: its hours, cut to what its nodes told; empty if there is nothing."""
    extent = store.extent() or Window(0, 0)
    nodes = store.nodes()
    if not nodes:
        return extent
    since = max(extent.since_s, min(item.first_seen for item in nodes))
    until = min(extent.until_s, max(item.last_seen for item in nodes) + 1)
    return Window(since, until) if since < until else extent


class _Edges:
    """The identities of edges as rows of FLOW, sorted by id: what they were, without when and how often."""

    def __init__(self, store: Store, spans: Spans, cluster: str) -> None:
        self._table = EdgeTable()
        self.clusters: set[str] = set()
        rows, into = [np.zeros(0, FLOW)], [np.zeros(0, "i1")]
        ids = spans["edge"][np.flatnonzero(np.diff(spans["edge"], prepend=0))]
        clusters = _Clusters()
        for first in range(0, len(ids), _PART):
            edges = store.identities(ids[first : first + _PART])
            made = self._rows_of(edges)
            names = [clusters[text] for text in edges.workloads]
            self.clusters.update(names)
            chosen = np.array([not cluster or name in ("", cluster) for name in names], bool)
            rows.append(made[chosen])
            into.append(np.array([_INTO.get(word, -1) for word in edges.directions], "i1")[chosen])
        self._rows, self._into = np.concatenate(rows), np.concatenate(into)

    def _rows_of(self, edges: EdgeColumns) -> npt.NDArray[np.void]:
        try:
            return self._table.rows(edges)
        except ValueError as error:
            raise StoreDamaged(f"the edges of this store make no sense: {error}") from error

    def flows(self, spans: Spans) -> Flows:
        """One flow for each span of an edge that is known."""
        at = np.searchsorted(self._rows["edge"], spans["edge"])
        at[at == len(self._rows)] = 0
        known = self._rows["edge"][at] == spans["edge"] if len(self._rows) else np.zeros(len(spans), bool)
        spans, at = spans[known], at[known]
        rows = self._rows[at]
        rows["count"] = _counts(rows, spans, self._into[at])
        rows["first"], rows["last"] = spans["first"], spans["last"]
        return Flows(rows, self._table.strings)


class _Clusters(dict[str, str]):
    """The cluster of a workload's text, decoded once for all edges."""

    def __missing__(self, text: str) -> str:
        found = self[text] = workload_of(text).cluster
        return found


def _counts(rows: npt.NDArray[np.void], spans: Spans, into: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """How often a flow was seen: connections; and where there are none, the packets of the side that opened it."""
    sent = np.where(into == 1, 0, spans["packets_sent"])
    received = np.where(into == 0, 0, spans["packets_received"])
    packets = (rows["protocol"] != _TCP) | (rows["observed"] == _DROPPED)
    found: npt.NDArray[np.int64] = bounded(spans["opened"], np.where(packets, sent, 0), np.where(packets, received, 0))
    return found


def divisions(store: Store, query: EdgeQuery) -> tuple[Cuts, int]:
    """What the material of the edges that ``query`` selects is divided by: (edge, time) pairs, sorted, at which an end
    changed in some cluster; and what divides all starts of the facts' intervals (seconds; 0: there are none)."""
    spans, found = store.spans(query), [np.zeros((0, 2), np.int64)]
    by_cluster = store.inventory(query.window)
    common = _common_s(store, query.window, spans)
    for cluster in sorted(by_cluster):
        inventory = Inventory(joined(by_cluster[cluster], by_cluster.get("", Records())))
        if not steady(inventory):
            flows = _Edges(store, spans, cluster).flows(spans)
            flow, time = changes(flows, inventory, bounded_s(common))
            found.append(np.stack([flows.rows["edge"][flow], time], axis=1))
    return np.unique(np.concatenate(found), axis=0), common


def _cut(
    store: Store, query: EdgeQuery, table: _Edges, whole_: tuple[Flows, Inventory], bounds: tuple[int, int]
) -> Flows:
    """The flows with their last second, those whose ends changed divided as far as the facts can tell. ``bounds``: the
    interval, and the most flows."""
    (flows, inventory), (interval, most) = whole_, bounds
    flow, time = changes(flows, inventory, interval)
    if not len(flow):
        return _lasting(flows, interval)
    edge = flows.rows["edge"][flow]
    cuts = np.unique(np.stack([edge, time], axis=1), axis=0)
    parts = table.flows(store.spans(query, cuts))
    kept = flows.select(~np.isin(flows.rows["edge"], edge))
    _check(len(kept) + len(parts), most)
    rows = np.concatenate([kept.rows, parts.rows])
    order = np.lexsort((rows["first"], rows["edge"]))
    return _lasting(Flows(rows[order], flows.strings), interval)


def interval_s(store: Store, window: Window, spans: Spans) -> int:
    """The length of the facts' intervals in seconds, at most ``LONGEST_INTERVAL_S``: what divides all their starts."""
    return bounded_s(_common_s(store, window, spans))


def _common_s(store: Store, window: Window, spans: Spans) -> int:
    if told := store.told_interval_s():
        return told
    times = np.concatenate([spans["first"], spans["last"]])
    return math.gcd(store.interval_s(window), int(np.gcd.reduce(times)) if len(times) else 0)


def bounded_s(common: int) -> int:
    """The length of intervals, of which ``common`` divides all starts (seconds; 0: there are none)."""
    return common if 0 < common <= LONGEST_INTERVAL_S else math.gcd(common, LONGEST_INTERVAL_S)


def _lasting(flows: Flows, interval: int) -> Flows:
    """The flows with ``last`` at the last second of the interval whose start it is."""
    rows = flows.rows.copy()
    rows["last"] += np.where(rows["last"] > 0, interval - 1, 0)
    return Flows(rows, flows.strings)


def _records(by_cluster: dict[str, Records], clusters: set[str], cluster: str) -> Records:
    """The inventory of the one cluster. Raises UsageError if there are several and none was chosen."""
    named = sorted((by_cluster.keys() | clusters) - {""})
    if cluster and named and cluster not in named:
        raise UsageError(f"nothing is recorded of cluster {cluster!r}", do=f"choose one of: {', '.join(named[:20])}")
    if not cluster and len(named) > 1:
        raise UsageError(
            f"{len(named)} clusters are recorded: {', '.join(named[:20])}",
            affects="pods of different clusters can have equal names and addresses",
            do="choose one cluster",
        )
    wanted = cluster or (named[0] if named else "")
    return joined(by_cluster.get(wanted, Records()), by_cluster.get("", Records()) if wanted else Records())


def _check(count: int, most: int) -> None:
    if count > most:
        raise UsageError(
            f"there are {count} flows in this window, more than {most}",
            do="ask for a shorter window, or one node",
        )
