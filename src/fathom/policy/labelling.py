"""What people call the ends of flows: workloads, nodes, names and addresses; and the labels that select a workload.

Used wherever flows are grouped or a rule is written down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fathom.policy.flows import Flows
from fathom.policy.index import EXTERNAL, NODE, Index
from fathom.policy.inventory import Pod
from fathom.policy.resolve import Resolved

#: Labels that tell pods or revisions of one workload apart, or that name where it runs.
_OWN = re.compile(
    r"pod-template-hash\Z|controller-revision-hash\Z|pod-template-generation\Z|controller-uid\Z|job-name\Z"
    r"|statefulset\.kubernetes\.io/pod-name\Z|apps\.kubernetes\.io/pod-index\Z|batch\.kubernetes\.io/"
    r"|topology\.kubernetes\.io/|failure-domain\.beta\.kubernetes\.io/|helm\.sh/chart\Z"
    r"|app\.kubernetes\.io/(?:version|managed-by|created-by|owner|revision)\Z"
)


def workload_of(pod: Pod) -> str:
    """``ns/Kind/name`` of the top of the owner chain; a pod without an owner is its own."""
    kind, name = pod.workload
    return f"{pod.namespace}/{kind}/{name}" if name else f"{pod.namespace}/Pod/{pod.name}"


def stable_labels(pod: Pod) -> dict[str, str]:
    """The pod's labels without those that differ between replicas, revisions and places."""
    return {key: value for key, value in sorted((pod.labels or {}).items()) if not _OWN.match(key)}


class Labels:
    """Numbers for the two ends of each flow, and the text of each number, in the order of the texts.

    So what is sorted by these numbers has one order, whatever the order of flows and of the inventory.
    """

    def __init__(self, flows: Flows, resolved: Resolved) -> None:
        index, rows = resolved.index, resolved.rows
        start = np.searchsorted(rows["flow"], np.arange(resolved.count))
        self._numbers: dict[str, int] = {}
        src, dst = (self._end(flows, resolved, index, end, start) for end in ("src", "dst"))
        place = ranks(list(self._numbers))
        self.texts = sorted(self._numbers)
        self.src, self.dst = place[src], place[dst]

    def _end(
        self, flows: Flows, resolved: Resolved, index: Index, end: str, start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        rows = resolved.rows
        pods, kinds = rows[end + "_pod"][start], rows[end + "_kind"][start]
        nodes, given = rows[end + "_node"][start].astype(np.int64), flows.rows[end]
        code = np.where(pods >= 0, pods.astype(np.int64), -1 - given.astype(np.int64))
        code = np.where((kinds == NODE) & (nodes >= 0), (1 << 40) + nodes, code)
        unique, inverse = np.unique(code, return_inverse=True)
        numbers = [self._number(self._text(item, flows, index)) for item in unique.tolist()]
        return np.array(numbers, np.int64)[inverse.reshape(-1)]

    def _text(self, code: int, flows: Flows, index: Index) -> str:
        if code >= 1 << 40:
            return f"Node/{index.nodes.values[code - (1 << 40)]}"
        if code >= 0:
            return workload_of(index.records.pods[code])
        return flows.strings[-1 - code]

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))


def ranks(texts: Sequence[str]) -> NDArray[np.int64]:
    """The place of each text in the order of all; equal ones have one each."""
    found = np.empty(len(texts), np.int64)
    found[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    return found


def outside(resolved: Resolved) -> NDArray[np.bool_]:
    """Whether the destination of each flow is outside of the cluster, by its first row."""
    start = np.searchsorted(resolved.rows["flow"], np.arange(resolved.count))
    found: NDArray[np.bool_] = resolved.rows["dst_kind"][start] == EXTERNAL
    return found
