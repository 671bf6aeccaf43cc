"""What workloads did, as Prometheus series: folded out of the sums of closed intervals, and of open ones at a scrape.

Nothing is counted twice: an interval's sums are told from the open ones until it is closed, and from the rows after.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fathom.agent import families
from fathom.agent.edges import EdgeTable, direction_name, pack, protocol_name, reason_name, unpack
from fathom.agent.exposition import (
    HISTOGRAM_SERIES,
    Labels,
    Rows,
    Template,
    counter_line,
    histogram_lines,
    histogram_numbers,
)
from fathom.agent.sums import Sums
from fathom.events.latency import BUCKETS
from fathom.identity.slots import Mixer, distinct

_TCP = 6
_OTHER = "other"
_KEPT_S = 900
_DIRECTION = np.uint64(pack(0, 0xFF, 0, 0, 0))
_REASON = np.uint64(pack(0, 0, 0, 0xFF, 0))
_PROTOCOL = np.uint64(pack(0xFF, 0, 0, 0, 0))
_TRAFFIC = ("bytes_sent", "bytes_received", "packets_sent", "packets_received")
_Share = tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]


class TrafficMetrics:
    """Series by workload, at most ``max_series`` and those of ``other``."""

    def __init__(self, max_series: int) -> None:
        self.max_series = max_series
        self.merged = 0
        self._refused = False
        self._mixer = Mixer(2)
        #: By (workload, direction): connections, retransmits, latency sum, histogram.
        self._tcp = Rows(3 + BUCKETS, 2 + HISTOGRAM_SERIES)
        #: By (workload, direction, reason).
        self._failures = Rows(1, 1)
        #: By (workload, direction, protocol).
        self._traffic = Rows(len(_TRAFFIC), len(_TRAFFIC))
        self._tables = (self._tcp, self._failures, self._traffic)
        self._tcp_texts = [Template(f, counter_line) for f in (families.CONNECTIONS, families.RETRANSMITS)]
        self._handshake = Template(families.HANDSHAKE, histogram_lines)
        self._failed = Template(families.FAILURES, counter_line)
        self._traffic_texts = [
            Template(f, counter_line)
            for f in (
                families.BYTES_SENT,
                families.BYTES_RECEIVED,
                families.PACKETS_SENT,
                families.PACKETS_RECEIVED,
            )
        ]

    def __len__(self) -> int:
        return sum(len(rows) * rows.cost for rows in self._tables)

    def close(self, sums: Sums, edges: EdgeTable, second: int) -> None:
        """Count the closed interval ``sums`` for good; ``second`` is the monotonic time, for forgetting."""
        if self._refused:
            self._refused = False
            for rows in self._tables:
                rows.forget(second - _KEPT_S)
        for rows, (at, values) in zip(self._tables, self._shares(sums, edges), strict=True):
            _add(rows.values, at, values)
            rows.used_s[at] = second

    def render(self, open_sums: list[Sums], edges: EdgeTable) -> str:
        """The text of all these families, open intervals included."""
        shares = [self._shares(sums, edges) for sums in open_sums]  # may make rows: before the copies
        tables = [rows.values[: len(rows)].copy() for rows in self._tables]
        for share in shares:
            for table, (at, values) in zip(tables, share, strict=True):
                _add(table, at, values)
        tcp, failures, traffic = tables
        texts = [text.fill(self._tcp, tcp[:, i].tolist()) for i, text in enumerate(self._tcp_texts)]
        texts.append(self._handshake.fill(self._tcp, histogram_numbers(tcp[:, 3:], tcp[:, 2])))
        texts.append(self._failed.fill(self._failures, failures[:, 0].tolist()))
        texts += [text.fill(self._traffic, traffic[:, i].tolist()) for i, text in enumerate(self._traffic_texts)]
        return "".join(texts)

    def _shares(self, sums: Sums, edges: EdgeTable) -> tuple[_Share, _Share, _Share]:
        """For each table: the row of each edge in ``sums`` that belongs there, and what it adds."""
        numbers = sums.numbers()
        meta = edges.meta(numbers)
        tcp = (meta & _PROTOCOL) == np.uint64(pack(_TCP, 0, 0, 0, 0))
        failed = tcp & (sums.counters["failures"][numbers] > 0)
        return (
            self._share(self._tcp, edges, numbers[tcp], _DIRECTION, _tcp_values(sums, numbers[tcp])),
            self._share(
                self._failures,
                edges,
                numbers[failed],
                _DIRECTION | _REASON,
                sums.counters["failures"][numbers[failed]][:, None],
            ),
            self._share(
                self._traffic,
                edges,
                numbers,
                _DIRECTION | _PROTOCOL,
                np.stack([sums.counters[name][numbers] for name in _TRAFFIC], axis=1),
            ),
        )

    def _share(
        self,
        rows: Rows,
        edges: EdgeTable,
        numbers: npt.NDArray[np.intp],
        mask: np.uint64,
        values: npt.NDArray[np.int64],
    ) -> _Share:
        if not numbers.size:
            return numbers, values
        meta = edges.meta(numbers) & mask
        hashes = self._mixer(edges.who(numbers), meta)
        at = rows.find(hashes)
        new = np.flatnonzero(at < 0)
        if new.size:
            first, inverse = distinct(hashes[new])
            made = [
                self._row(rows, int(hashes[row]), self._labels(rows, edges, int(numbers[row])))
                for row in new[first].tolist()
            ]
            at[new] = np.array(made, np.int32)[inverse]
        return at.astype(np.intp), values

    def _row(self, rows: Rows, key: int, labels: Labels) -> int:
        if rows.has(labels) or len(self) + rows.cost <= self.max_series:
            return rows.append(key, labels)
        self._refused = True
        self.merged += 1
        return rows.append(key, (_OTHER, _OTHER, *labels[2:]))

    def _labels(self, rows: Rows, edges: EdgeTable, number: int) -> Labels:
        workload = edges.workload(number)
        protocol, direction, _, reason, _ = unpack(int(edges.meta(np.array([number]))[0]))
        who = (workload.name, workload.kind, direction_name(direction))
        if rows is self._tcp:
            return who
        return (*who, reason_name(reason) if rows is self._failures else protocol_name(protocol))


def _add(target: npt.NDArray[np.int64], at: npt.NDArray[np.intp], values: npt.NDArray[np.int64]) -> None:
    for column in range(values.shape[1]):
        np.add.at(target[:, column], at, values[:, column])


def _tcp_values(sums: Sums, numbers: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    values = np.empty((numbers.size, 3 + BUCKETS), np.int64)
    values[:, 0] = sums.counters["connections"][numbers]
    values[:, 1] = sums.counters["retransmits"][numbers]
    values[:, 2] = sums.latency_sum[numbers]
    values[:, 3:] = sums.histogram(numbers)
    return values
