"""The text of all questions, thin and portable: every one on facts carries ``hour IN (…)``, so that none reads it all.

An engine supplies the tables ``facts``, ``buckets``, ``hourly``, ``edges``, ``orphans`` and the two work tables:
``picked`` (ids of the edges that the filters select) and ``sums`` (one row of counters an edge). Values are parameters;
only integers that were made here (hours) are written into the text.
"""

from __future__ import annotations

from collections.abc import Iterable

from fathom.store.columns import COUNTERS, MERGED_ROW, SUMMED_LIST, names
from fathom.store.interface import MAX_SPANS

WORKLOAD = ("cluster", "node", "namespace", "kind", "name", "pod", "container")
EDGE = (*WORKLOAD, "direction", "peer", "peer_address", "protocol", "port", "verdict", "reason")

MAKE_PICKED = "CREATE TEMP TABLE picked(id INTEGER PRIMARY KEY)"
MAKE_SUMS = (
    f"CREATE TEMP TABLE sums(edge INTEGER PRIMARY KEY, {', '.join(f'{n} INTEGER NOT NULL' for n in COUNTERS)},"
    " first_bucket INTEGER NOT NULL, last_bucket INTEGER NOT NULL)"
)

_INSIDE = "bucket >= :since AND bucket < :until"
_PICKED = " AND edge IN (SELECT id FROM picked)"


def hours_in(hours: Iterable[int]) -> str:
    """``(1, 2, 3)`` for ``hour IN``."""
    return "(" + ", ".join(str(int(hour)) for hour in hours) + ")"


def pick(conditions: Iterable[str]) -> str:
    """Fill ``picked``."""
    return "INSERT INTO picked SELECT id FROM edges WHERE " + " AND ".join(conditions)


class Question:
    """Statements that add one kind of sums up, an edge a row, from every place where counters are."""

    def __init__(self, table: str, of_facts: str, of_hourly: str, merge: str) -> None:
        self._into, self._of_facts, self._of_hourly, self._merge = f"INSERT INTO {table}", of_facts, of_hourly, merge

    def facts(self, hours: Iterable[int], *, picked: bool) -> str:
        """Add the facts of the window, by reading all of them in time order."""
        return (
            f"{self._into} SELECT edge, {self._of_facts} FROM facts WHERE hour IN {hours_in(hours)} AND {_INSIDE}"
            f"{_PICKED if picked else ''} GROUP BY edge {self._merge}"
        )

    def picked_facts(self, hours: Iterable[int]) -> str:
        """The same for few edges: one step for each bucket and picked edge."""
        return (
            f"{self._into} SELECT edge, {self._of_facts} FROM picked CROSS JOIN buckets CROSS JOIN facts"
            " USING (hour, bucket)"
            f" WHERE hour IN {hours_in(hours)} AND {_INSIDE} AND edge = picked.id GROUP BY edge {self._merge}"
        )

    def hourly(self, hours: Iterable[int], *, picked: bool) -> str:
        """Add the roll-ups of ``hours``, of facts that are there or gone."""
        return (
            f"{self._into} SELECT edge, {self._of_hourly} FROM hourly WHERE hour IN {hours_in(hours)} AND gone = :gone"
            f"{_PICKED if picked else ''} GROUP BY edge {self._merge}"
        )


_TRAFFIC = "bytes_sent + bytes_received"

#: All counters of each edge.
SUM = Question(
    "sums",
    f"{SUMMED_LIST}, MIN(bucket), MAX(bucket)",
    f"{SUMMED_LIST}, MIN(first_bucket), MAX(last_bucket)",
    f"ON CONFLICT(edge) DO UPDATE SET {MERGED_ROW}",
)
#: Only what pages are ordered by: a third of the work, done for all edges; the sums then only for the page.
RANK = Question(
    "ranks",
    f"SUM({_TRAFFIC})",
    f"SUM({_TRAFFIC})",
    "ON CONFLICT(edge) DO UPDATE SET traffic = traffic + excluded.traffic",
)


def count_buckets(hours: Iterable[int]) -> str:
    """How many buckets the window has in ``hours``."""
    return f"SELECT COUNT(*) FROM buckets WHERE hour IN {hours_in(hours)} AND {_INSIDE}"


def buckets(hours: Iterable[int]) -> str:
    """The buckets of the window in ``hours``."""
    return f"SELECT bucket FROM buckets WHERE hour IN {hours_in(hours)} AND {_INSIDE}"


MAKE_RANKS = "CREATE TEMP TABLE ranks(edge INTEGER PRIMARY KEY, traffic INTEGER NOT NULL)"
FORGET_PICKED = "DELETE FROM picked"

#: Pick a page. Only edges whose identity is known; the others are told by ``losses``.
PAGE_BY_ID = (
    "SELECT edge, traffic FROM ranks WHERE edge > :edge AND edge IN (SELECT id FROM edges) ORDER BY edge LIMIT :limit"
)
PAGE_BY_TRAFFIC = (
    "SELECT edge, traffic FROM ranks WHERE (traffic < :traffic OR traffic = :traffic AND edge > :edge)"
    " AND edge IN (SELECT id FROM edges) ORDER BY traffic DESC, edge LIMIT :limit"
)
PICK_ONE = "INSERT INTO picked VALUES(?)"

#: The sums of the edges of a page.
EDGES = (
    f"SELECT sums.edge, {', '.join('edges.' + n for n in EDGE)}, {names('sums.')}, first_bucket, last_bucket"
    " FROM sums JOIN edges ON edges.id = sums.edge"
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
        f" WHERE hour IN {hours_in(hours)} AND gone = :gone AND edge = :edge GROUP BY time"
    )


_LOSS_KEY = "hop, probe, reason, node"
_LOSS_SUMS = "SUM(count), SUM(packets), SUM(bytes_sent), SUM(bytes_received)"


def losses(hours: Iterable[int]) -> str:
    """Losses inside the window."""
    where = f"hour IN {hours_in(hours)} AND {_INSIDE}"
    return f"SELECT {_LOSS_KEY}, {_LOSS_SUMS} FROM losses WHERE {where} GROUP BY {_LOSS_KEY}"


def hourly_losses(hours: Iterable[int]) -> str:
    """Losses of ``hours``, from the roll-ups."""
    where = f"hour IN {hours_in(hours)} AND gone = :gone"
    return f"SELECT {_LOSS_KEY}, {_LOSS_SUMS} FROM hourly_losses WHERE {where} GROUP BY {_LOSS_KEY}"


#: Losses of what the store refused.
REFUSED_LOSSES = (
    f"SELECT {_LOSS_KEY}, {_LOSS_SUMS} FROM refused_losses WHERE hour >= :first_hour AND hour < :end_hour"
    f" AND {_INSIDE} GROUP BY {_LOSS_KEY}"
)


_ORPHANED = (
    "SELECT 'server', '', 'edge_unknown', '', COUNT(*), SUM(packets_sent + packets_received), SUM(bytes_sent),"
    " SUM(bytes_received) FROM {table} JOIN orphans ON orphans.edge = {table}.edge WHERE {where} HAVING COUNT(*) > 0"
)


def orphaned(hours: Iterable[int]) -> str:
    """What is kept of edges whose identity was lost; their node is not known either."""
    return _ORPHANED.format(table="facts", where=f"hour IN {hours_in(hours)} AND {_INSIDE}")


def hourly_orphaned(hours: Iterable[int]) -> str:
    """The same from the roll-ups."""
    return _ORPHANED.format(table="hourly", where=f"hour IN {hours_in(hours)} AND gone = :gone")


OBSERVED = "SELECT node, start_ns, end_ns FROM observed WHERE start_ns < :until_ns AND end_ns > :since_ns"


#: The roll-up of an hour.
HOUR_FACTS = (
    f"SELECT hour, 0, edge, {SUMMED_LIST}, MIN(bucket), MAX(bucket) FROM facts WHERE hour = :hour GROUP BY hour, edge"
)
HOUR_LOSSES = (
    f"SELECT hour, 0, node, hop, probe, reason, {_LOSS_SUMS} FROM losses WHERE hour = :hour"
    " GROUP BY hour, node, hop, probe, reason"
)
HOUR_OBSERVED = (
    "SELECT :hour, 0, node, MAX(start_ns, :since_ns), MIN(end_ns, :until_ns) FROM observed"
    " WHERE start_ns < :until_ns AND end_ns > :since_ns"
)


def hourly_observed(hours: Iterable[int]) -> str:
    """Stretches observed in ``hours``, from the roll-ups."""
    return f"SELECT node, start_ns, end_ns FROM hourly_observed WHERE hour IN {hours_in(hours)} AND gone = :gone"


MAKE_CUTS = "CREATE TEMP TABLE cuts(edge INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(edge, at)) WITHOUT ROWID"
CUT = "INSERT INTO cuts VALUES(?, ?)"
_OPENED = "SUM(connections + failures), SUM(packets_sent), SUM(packets_received)"
_CUT_EDGES = " AND edge IN (SELECT edge FROM cuts)"


def _after(bucket: str) -> str:
    """The last cut that is not after ``bucket``, 0 if there is none."""
    return f"COALESCE((SELECT MAX(at) FROM cuts WHERE cuts.edge = counted.edge AND at <= {bucket}), 0)"


def spans_of_facts(hours: Iterable[int], *, picked: bool, cut: bool) -> str:
    """Rows of ``fathom.store.spans.SPAN`` from facts; with ``cut`` of CUT_SPAN, of the edges in ``cuts`` only."""
    after = _after("bucket")
    return (
        f"SELECT edge, {f'{after} AS after, {after} AS end_after, ' if cut else ''}{_OPENED}, MIN(bucket), MAX(bucket)"
        f" FROM facts AS counted WHERE hour IN {hours_in(hours)} AND {_INSIDE}"
        f"{_PICKED if picked else ''}{_CUT_EDGES if cut else ''}"
        f" GROUP BY edge{', after' if cut else ''} LIMIT {MAX_SPANS + 1}"
    )


#: The hours that a window touches, and those before it, of which one file holds sums that may reach into it. Only a
#: flow from a file lasts longer than its hour, or has no time at all; its recording's source says that there are some.
SUMS_TOUCHED = "SELECT hour FROM rolled WHERE gone = 1 AND hour >= :first_hour AND hour < :end_hour"
FROM_FILES = "SELECT 1 FROM identity WHERE name = 'source' AND value LIKE '%files-%'"
_LASTS = "(last_bucket >= :since OR last_bucket = 0)"
SUMS_BEFORE = f"SELECT DISTINCT hour FROM hourly WHERE gone = 1 AND hour < :first_hour AND {_LASTS}"


def spans_of_hourly(hours: Iterable[int], *, picked: bool, cut: bool) -> str:
    """The same from roll-ups, a row for each hour: added up by whoever reads them, which takes half of the time.

    Sums of which no part can lie inside the window are left out.
    """
    cuts = f"{_after('first_bucket')} AS after, {_after('last_bucket')} AS end_after, " if cut else ""
    return (
        f"SELECT edge, {cuts}connections + failures, packets_sent, packets_received, first_bucket, last_bucket"
        f" FROM hourly AS counted WHERE hour IN {hours_in(hours)} AND gone = :gone{_PICKED if picked else ''}"
        f"{_CUT_EDGES if cut else ''} AND first_bucket < :until AND {_LASTS}"
    )


#: Versions of the inventory that held inside a window, and sets of system calls that were seen in it.
INVENTORY = (
    "SELECT cluster, kind, document FROM endpoints WHERE valid_from < :until AND valid_to > :since"
    " ORDER BY cluster, kind, namespace, name, valid_from LIMIT :limit"
)
SYSCALLS = (
    "SELECT * FROM syscalls WHERE first_seen < :until AND last_seen >= :since"
    " ORDER BY cluster, node, namespace, kind, name, pod, container, image, executable, architecture, syscall"
    " LIMIT :limit"
)
