"""Coverage: how much of the window was seen, so that no policy looks better founded than it is.

Takes what the store knows (gaps and losses by node) as plain data, and says which share of time and of pods was
observed, what was lost, and which workloads have too little history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from fathom.policy.columns import MOST_SUM, sums
from fathom.policy.flows import Flows
from fathom.policy.inventory import Inventory
from fathom.policy.labelling import Labels, workload_of
from fathom.policy.resolve import Resolved
from fathom.policy.thin import Need, Seen, too_little


class Gap(msgspec.Struct, frozen=True, order=True):
    """A span (epoch seconds) in which a node sent nothing."""

    node: str
    start: int
    end: int


class Loss(msgspec.Struct, frozen=True, order=True):
    """What was lost and counted: where, why, and how much."""

    hop: str
    probe: str
    reason: str
    node: str
    count: int
    packets: int = 0


class WorkloadCoverage(msgspec.Struct, frozen=True, order=True):
    """One workload: its pods in the window, those that were seen in flows, its flows, first and last seen, and its
    connections (of other protocols than TCP, packets).

    ``thin`` says in words why its history is too little; empty where it is not.
    """

    workload: str
    pods: int
    pods_seen: int
    flows: int
    first: int
    last: int
    thin: tuple[str, ...] = ()
    connections: int = 0


class Coverage(msgspec.Struct, frozen=True):
    """The whole: share of node time seen (0 … 1), pods and pods seen, losses, and every workload."""

    since: int
    until: int
    time: float
    pods: int
    pods_seen: int
    losses: tuple[Loss, ...]
    lost: int
    workloads: tuple[WorkloadCoverage, ...]

    @property
    def thin(self) -> tuple[WorkloadCoverage, ...]:
        """Workloads with too little history."""
        return tuple(item for item in self.workloads if item.thin)


def coverage(
    window: tuple[int, int],
    inventory: Inventory,
    flows: Flows,
    resolved: Resolved,
    *,
    nodes: Sequence[str] = (),
    gaps: Iterable[Gap] = (),
    share: float | None = None,
    losses: Iterable[Loss] = (),
    need: Need | None = None,
) -> Coverage:
    """The coverage of ``window`` (epoch seconds, end exclusive).

    ``nodes``: those that should have been seen; without any, the nodes of the inventory that run pods. ``share``: of
    their time, where somebody knows it who knows when each node began; None: the whole window less ``gaps``.
    """
    wanted = need or Need()
    since, until = window
    listed = list(losses)
    expected = list(nodes) or sorted({pod.node for pod in inventory.records.pods if pod.node})
    time = _time(window, expected, list(gaps)) if share is None else share
    living = [pod for pod in inventory.records.pods if not pod.virtual and pod.since < until and pod.until > since]
    seen = _seen_pods(resolved)
    counted = _by_workload(flows, resolved)
    members: dict[str, list[int]] = defaultdict(list)
    for number, pod in enumerate(inventory.records.pods):
        if pod.virtual or (pod.since < until and pod.until > since):
            members[workload_of(pod)].append(number)
    workloads = [
        _workload(name, [n for n in numbers if not inventory.records.pods[n].virtual], seen, counted, (time, wanted))
        for name, numbers in sorted(members.items())
    ]
    return Coverage(
        since,
        until,
        time,
        len(living),
        sum(item.pods_seen for item in workloads),
        tuple(sorted(listed)),
        sum(item.count for item in listed),
        tuple(workloads),
    )


def _time(window: tuple[int, int], nodes: list[str], gaps: list[Gap]) -> float:
    """The share of node time without a gap; overlapping gaps of one node count once."""
    since, until = window
    whole = max(0, until - since) * max(1, len(nodes))
    if not whole:
        return 0.0
    missing = 0
    for node in nodes or [""]:
        end = since
        for gap in sorted(g for g in gaps if not nodes or g.node == node):
            start, stop = max(gap.start, end), min(gap.end, until)
            if stop > start:
                missing += stop - start
                end = stop
    return 1.0 - missing / whole


def _seen_pods(resolved: Resolved) -> set[int]:
    """Records of pods that stand at an end of some flow."""
    found = np.unique(np.concatenate([resolved.rows["src_pod"], resolved.rows["dst_pod"]]))
    return set(found[found >= 0].tolist())


def _by_workload(flows: Flows, resolved: Resolved) -> dict[str, tuple[int, int, int, int]]:
    """Flows, connections, first and last seen of each label at either end; a flow to itself counts once."""
    labels = Labels(flows, resolved)
    count = len(labels.texts)
    number, connections = np.zeros(count, np.int64), np.zeros(count, np.int64)
    first, last = np.full(count, 1 << 62, np.int64), np.zeros(count, np.int64)
    begins = np.where(flows.rows["last"] > 0, flows.rows["first"], 1 << 62)
    for end, counts in ((labels.src, np.ones(len(flows), bool)), (labels.dst, labels.src != labels.dst)):
        np.add.at(number, end, counts)
        added = sums(np.where(counts, flows.rows["count"], 0), end, len(connections))
        connections = np.minimum(connections, MOST_SUM - added) + added
        np.minimum.at(first, end, begins)
        np.maximum.at(last, end, flows.rows["last"])
    first[last == 0] = 0
    columns = (column.tolist() for column in (number, connections, first, last))
    return dict(zip(labels.texts, zip(*columns, strict=True), strict=True))


def _workload(
    name: str,
    pods: list[int],
    seen: set[int],
    counted: dict[str, tuple[int, int, int, int]],
    measure: tuple[float, Need],
) -> WorkloadCoverage:
    time, need = measure
    flows, connections, first, last = counted.get(name, (0, 0, 0, 0))
    observed = sum(number in seen for number in pods)
    if flows and not observed and len(pods) == 1:
        observed = 1
    thin = too_little(Seen(connections, first, last, time, (observed, len(pods))), need)
    return WorkloadCoverage(name, len(pods), observed, flows, first, last, thin, connections)
