"""The text of all questions, thin and portable: every one on facts carries ``hour IN (…)``, so that none reads it all.

An engine supplies the tables ``facts``, ``buckets``, ``hourly``, ``edges``, ``orphans`` and the two work tables:
``picked`` (ids of the edges that the filters select) and ``sums`` (one row of counters an edge). Values are parameters;
only integers that were made here (hours) are written into the text.
"""

from __future__ import annotations

from collections.abc import Iterable

from fathom.store.columns import COUNTERS, MERGED_LIST, SUMMED_LIST, names

WORKLOAD = ("cluster", "node", "namespace", "kind", "name", "pod", "container")
EDGE = (*WORKLOAD, "direction", "peer", "peer_address", "protocol", "port", "verdict", "reason")

MAKE_PICKED = "CREATE TEMP TABLE picked(id INTEGER PRIMARY KEY)"
MAKE_SUMS = (
    f"CREATE TEMP TABLE sums(edge INTEGER PRIMARY KEY, {', '.join(f'{n} INTEGER NOT NULL' for n in COUNTERS)},"
    " first_bucket INTEGER NOT NULL, last_bucket INTEGER NOT NULL)"
)

_MERGE = (
    f"ON CONFLICT(edge) DO UPDATE SET {MERGED_LIST}, first_bucket = MIN(first_bucket, excluded.first_bucket),"
    " last_bucket = MAX(last_bucket, excluded.last_bucket)"
)
_INSIDE = "bucket >= :since AND bucket < :until"
_PICKED = " AND edge IN (SELECT id FROM picked)"


def hours_in(hours: Iterable[int]) -> str:
    """``(1, 2, 3)`` for ``hour IN``."""
    return "(" + ", ".join(str(int(hour)) for hour in hours) + ")"


def pick(conditions: Iterable[str]) -> str:
    """Fill ``picked``."""
    return "INSERT INTO picked SELECT id FROM edges WHERE " + " AND ".join(conditions)


def sum_facts(hours: Iterable[int], *, picked: bool) -> str:
    """Add the facts of the window to ``sums``, by reading all of them in time order."""
    return (
        f"INSERT INTO sums SELECT edge, {SUMMED_LIST}, MIN(bucket), MAX(bucket) FROM facts"
        f" WHERE hour IN {hours_in(hours)} AND {_INSIDE}{_PICKED if picked else ''} GROUP BY edge {_MERGE}"
    )


def sum_picked_facts(hours: Iterable[int]) -> str:
    """The same for few edges: one step for each bucket and picked edge."""
    return (
        f"INSERT INTO sums SELECT f.edge, {SUMMED_LIST}, MIN(f.bucket), MAX(f.bucket)"
        " FROM picked p CROSS JOIN buckets b CROSS JOIN facts f"
        f" WHERE b.hour IN {hours_in(hours)} AND b.{_INSIDE.replace('AND ', 'AND b.')}"
        f" AND f.hour = b.hour AND f.bucket = b.bucket AND f.edge = p.id GROUP BY f.edge {_MERGE}"
    )


def sum_hourly(hours: Iterable[int], *, picked: bool) -> str:
    """Add the roll-ups of ``hours`` to ``sums``."""
    return (
        f"INSERT INTO sums SELECT edge, {SUMMED_LIST}, MIN(first_bucket), MAX(last_bucket) FROM hourly"
        f" WHERE hour IN {hours_in(hours)}{_PICKED if picked else ''} GROUP BY edge {_MERGE}"
    )


def count_buckets(hours: Iterable[int]) -> str:
    """How many buckets the window has in ``hours``."""
    return f"SELECT COUNT(*) FROM buckets WHERE hour IN {hours_in(hours)} AND {_INSIDE}"


_EDGE_ROW = f"SELECT sums.edge, {', '.join('edges.' + n for n in EDGE)}, {names('sums.')}, first_bucket, last_bucket"
_TRAFFIC = "bytes_sent + bytes_received"
_AFTER_EDGE = f"({_TRAFFIC} < :traffic OR {_TRAFFIC} = :traffic AND edge > :edge)"

#: Pages of edges. Only edges whose identity is known; the others are told by ``losses``.
EDGES_BY_ID = (
    f"{_EDGE_ROW} FROM sums JOIN edges ON edges.id = sums.edge WHERE sums.edge > :edge ORDER BY sums.edge LIMIT :limit"
)
EDGES_BY_TRAFFIC = (
    f"{_EDGE_ROW} FROM (SELECT * FROM sums WHERE {_AFTER_EDGE} AND edge IN (SELECT id FROM edges)"
    f" ORDER BY {_TRAFFIC} DESC, edge LIMIT :limit) AS sums JOIN edges ON edges.id = sums.edge"
    f" ORDER BY sums.bytes_sent + sums.bytes_received DESC, sums.edge"
)

_GROUPS = (
    "SELECT cluster, CASE WHEN namespace = '' THEN node ELSE '' END AS host, namespace, kind, name,"
    f" {SUMMED_LIST}, COUNT(DISTINCT peer) AS peers, COUNT(*) AS edges, MIN(first_bucket) AS first_bucket,"
    " MAX(last_bucket) AS last_bucket FROM sums JOIN edges ON edges.id = sums.edge GROUP BY 1, 2, 3, 4, 5"
)
_GROUP_KEY = "(cluster, host, namespace, kind, name)"
_AFTER_GROUP = f"{_GROUP_KEY} > (:cluster, :host, :namespace, :kind, :name)"
_GROUP_ORDER = "cluster, host, namespace, kind, name"

#: Pages of workloads; :first is 1 for the first page.
WORKLOADS_BY_ID = (
    f"SELECT * FROM ({_GROUPS}) AS g WHERE :first = 1 OR {_AFTER_GROUP} ORDER BY {_GROUP_ORDER} LIMIT :limit"
)
WORKLOADS_BY_TRAFFIC = (
    f"SELECT * FROM ({_GROUPS}) AS g WHERE :first = 1 OR {_TRAFFIC} < :traffic OR ({_TRAFFIC} = :traffic"
    f" AND {_AFTER_GROUP}) ORDER BY {_TRAFFIC} DESC, {_GROUP_ORDER} LIMIT :limit"
)


def series_facts(hours: Iterable[int]) -> str:
    """Points of one edge from facts."""
    return (
        f"SELECT f.bucket - f.bucket % :step AS time, {SUMMED_LIST} FROM buckets b CROSS JOIN facts f"
        f" WHERE b.hour IN {hours_in(hours)} AND b.bucket >= :since AND b.bucket < :until"
        " AND f.hour = b.hour AND f.bucket = b.bucket AND f.edge = :edge GROUP BY time"
    )


def series_hourly(hours: Iterable[int]) -> str:
    """Points of one edge from roll-ups."""
    return (
        f"SELECT hour * 3600 - (hour * 3600) % :step AS time, {SUMMED_LIST} FROM hourly"
        f" WHERE hour IN {hours_in(hours)} AND edge = :edge GROUP BY time"
    )


_LOSS_KEY = "hop, probe, reason, node"
_LOSS_SUMS = "SUM(count), SUM(packets), SUM(bytes_sent), SUM(bytes_received)"


def losses(table: str, hours: Iterable[int], *, inside: bool) -> str:
    """Losses of ``hours`` in ``table``, only those in the window if ``inside``."""
    return (
        f"SELECT {_LOSS_KEY}, {_LOSS_SUMS} FROM {table} WHERE hour IN {hours_in(hours)}"
        f"{' AND ' + _INSIDE if inside else ''} GROUP BY {_LOSS_KEY}"
    )


#: Losses of what the store refused.
REFUSED_LOSSES = (
    f"SELECT {_LOSS_KEY}, {_LOSS_SUMS} FROM refused_losses WHERE hour >= :first_hour AND hour < :end_hour"
    f" AND {_INSIDE} GROUP BY {_LOSS_KEY}"
)


def orphaned(table: str, hours: Iterable[int], *, inside: bool) -> str:
    """What is kept of edges whose identity was lost, from ``facts`` or ``hourly``; their node is not known either."""
    return (
        "SELECT 'server', '', 'edge_unknown', '', COUNT(*), SUM(packets_sent + packets_received),"
        f" SUM(bytes_sent), SUM(bytes_received) FROM {table} JOIN orphans ON orphans.edge = {table}.edge"
        f" WHERE hour IN {hours_in(hours)}{' AND ' + _INSIDE if inside else ''}"
        " HAVING COUNT(*) > 0"
    )


OBSERVED = "SELECT node, start_ns, end_ns FROM observed WHERE start_ns < :until_ns AND end_ns > :since_ns"


def hourly_observed(hours: Iterable[int]) -> str:
    """Stretches observed in ``hours``, from the roll-ups."""
    return f"SELECT node, start_ns, end_ns FROM hourly_observed WHERE hour IN {hours_in(hours)}"
