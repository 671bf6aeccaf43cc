"""Which ends of a static analysis meet, and who stands for them: pods, nodes and addresses by name, and how many.

A difference between two kinds of ends is told only with two members of theirs that really stand so: another pod than
the pod itself, a node that is (or is not) the pod's own, addresses of one family.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bits import Bools
from fathom.policy.classes import LOCAL, REMOTE, UNSURE
from fathom.policy.ends import Ends, Member
from fathom.policy.index import NODE, POD

#: A source, and the destinations that it is told with.
Links = list[tuple[int, NDArray[np.int64]]]


class Pairs:
    """Pairs of ends that are ``placed``."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.is_node, self.is_pod = ends.kind == NODE, ends.kind == POD
        self._nodes = [np.array([one.node for one in members], np.int64) for members in ends.members]
        self._pods = [np.array([one.pod for one in members], np.int64) for members in ends.members]
        self._node_ends, self._meets = self._meeting()
        #: What some member's name or address says wholly; and what says by its own family which address of the other
        #: end is meant.
        self._spoken = self._some(lambda one: one.clear or bool(one.address))
        self._settles = (ends.family > 0) & self._some(lambda one: one.single or bool(one.address))
        numbers: dict[object, int] = {}
        bodies = [tuple(one.text for one in members) or end for end, members in enumerate(ends.members)]
        #: Ends that are the same pods, nodes or address, by another family or in another relation, have one number.
        self.body = np.array([numbers.setdefault(body, len(numbers)) for body in bodies], np.int64)

    def _some(self, holds: Callable[[Member], bool]) -> Bools:
        return np.array([not members or any(map(holds, members)) for members in self.ends.members], bool)

    def _meeting(self) -> tuple[NDArray[np.int64], Bools]:
        """The ends that are nodes, and for each which pods' ends it meets in its relation."""
        nodes = np.flatnonzero(self.is_node)
        found = np.zeros((len(nodes), len(self.ends)), bool)
        on: dict[int, list[int]] = defaultdict(list)
        known, lost = np.zeros(len(self.ends), np.int64), np.zeros(len(self.ends), bool)
        for end in np.flatnonzero(self.is_pod).tolist():
            for node in set(self._nodes[end].tolist()):
                on[node].append(end)
                known[end] += node >= 0
                lost[end] |= node < 0
        for row, end in enumerate(nodes.tolist()):
            mine, relation = {n for n in self._nodes[end].tolist() if n >= 0}, int(self.ends.relation[end])
            if relation == REMOTE:
                found[row] = known > 0
                if len(mine) == 1:
                    found[row, on[next(iter(mine))]] = known[on[next(iter(mine))]] > 1
            elif relation == LOCAL:
                for node in mine:
                    found[row, on[node]] = True
            else:
                found[row] = lost | (self.is_pod if not mine else False)
        return nodes, found

    def possible(self, src: int) -> Bools:
        """Which ends ``src`` may talk to, as a flow between members of both that can be written down."""
        found: Bools = self._related(src) & (self._spoken[src] | self._settles) & (self._spoken | self._settles[src])
        return found

    def _related(self, src: int) -> Bools:
        """Nodes and pods that stand to one another as the ends' relation says."""
        relation = self.ends.relation
        if self.is_node[src]:
            once = relation[src] == REMOTE or bool((self._nodes[src] < 0).all())
            meets = self._meets[np.searchsorted(self._node_ends, src)]
            alike: Bools = np.where(self.is_pod, meets, once & ~(self.is_node & (relation != relation[src])))
            return alike
        found = np.ones(len(self.ends), bool)
        found[self._node_ends] = self._meets[:, src] if self.is_pod[src] else relation[self._node_ends] == REMOTE
        return found

    def example(self, src: int, dst: int) -> tuple[str, str]:
        """How to write a source and a destination of these ends, so that a flow between them is one of theirs."""
        one, other = self._chosen(src, dst)
        return self._written(src, one, (dst, other)), self._written(dst, other, (src, one))

    def _says(self, end: int, one: Member | None) -> bool:
        """Whether the name of one end has one family, which then is the other's too."""
        return bool(self.ends.family[end] > 0) and (one is None or one.single)

    def _chosen(self, src: int, dst: int) -> tuple[Member | None, Member | None]:
        mine, theirs = self._best(src), self._best(dst)
        if src == dst:
            return mine[0], mine[-1]
        if self.is_node[src] and self.is_pod[dst]:
            return self._placed(src, mine, theirs)
        if self.is_pod[src] and self.is_node[dst]:
            return self._placed(dst, theirs, mine)[::-1]
        return (mine[0] if mine else None), (theirs[0] if theirs else None)

    def _best(self, end: int) -> list[Member]:
        """Members, those whose name says all first, then those that have an address to themselves."""
        return sorted(self.ends.members[end], key=lambda one: (not one.single, not one.address, not one.clear))

    def _placed(self, node: int, nodes: list[Member], pods: list[Member]) -> tuple[Member, Member]:
        """A node and a pod in the relation of the end ``node``."""
        relation = int(self.ends.relation[node])
        for pod in pods:
            for one in nodes:
                if _relation(one.node, pod.node) == relation:
                    return one, pod
        raise AssertionError("ends that do not meet have no example")

    def _written(self, end: int, one: Member | None, other: tuple[int, Member | None]) -> str:
        if one is None:
            return self.ends.text[end]
        settled = other[1] is None or other[1].single or other[1].clear or bool(other[1].address)
        named = one.single or not one.address or self._says(*other) or (one.clear and settled)
        return one.text if named else one.address

    def counted(self, links: Links) -> tuple[int, int]:
        """How many pods there are among the sources, and how many among the destinations."""
        sources: list[NDArray[np.int64]] = []
        targets: list[NDArray[np.int64]] = []
        for src, found in links:
            nodes = found[self.is_node[found]]
            if self.is_pod[src] and len(nodes) == len(found):
                sources += [self._pods[src][self._standing(end, src)] for end in nodes.tolist()]
            else:
                sources.append(self._pods[src])
            targets += [self._met(src, end) for end in found.tolist()]
        return _distinct(sources), _distinct(targets)

    def _met(self, src: int, end: int) -> NDArray[np.int64]:
        return self._pods[end][self._standing(src, end)] if self.is_node[src] and self.is_pod[end] else self._pods[end]

    def _standing(self, node: int, pods: int) -> Bools:
        """Which pods of an end stand in the node's relation to one of its nodes."""
        mine, theirs, relation = self._nodes[node], self._nodes[pods], self.ends.relation[node]
        if relation == UNSURE:
            return (theirs < 0) | bool((mine < 0).all())
        known = theirs >= 0
        return known & (
            np.isin(theirs, mine) if relation == LOCAL else (theirs != mine[0]) | (len(set(mine.tolist())) > 1)
        )


def _relation(node: int, other: int) -> int:
    return UNSURE if node < 0 or other < 0 else LOCAL if node == other else REMOTE


def _distinct(pods: Iterable[NDArray[np.int64]]) -> int:
    every = np.concatenate([np.zeros(0, np.int64), *pods])
    return len(np.unique(every[every >= 0]))
