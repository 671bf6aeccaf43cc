"""Equivalence classes of peers: pods that no selector of a policy set tells apart are one column.

Before the classes of pods stand columns for what is no pod: the outside by address family, nodes by their labels and
by whether they are the pod's own node, and one column for a peer of which nothing is known. What is not known about a
column is the difference between *must* match and *may* match.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fathom.policy.bits import Bools
from fathom.policy.index import Index
from fathom.policy.inventory import NAME_LABEL
from fathom.policy.model import Requirement, Selector

_ABSENT, _UNKNOWN = -1, -2
#: The column of a peer of which nothing is known.
NOBODY = 0
#: Columns of the outside: family unknown, IPv4, IPv6; the same again where the API server is.
OUTSIDE = {0: 1, 4: 2, 6: 3}
_FIXED = 7
LOCAL, REMOTE, UNSURE = range(3)
Pair = tuple[Bools, Bools]


class Classes:
    """Columns for one inventory under one set of requirements."""

    def __init__(self, index: Index, requirements: Iterable[Requirement]) -> None:
        wanted = set(requirements)
        self._columns_of: dict[tuple[str, str], tuple[NDArray[np.int32], dict[str, int]]] = {}
        self._nodes(index, wanted)
        self._pods(index, wanted)
        self.first_pod = _FIXED + 3 * self.node_count
        self.count = self.first_pod + self.pod_count
        self.profile_column = self.profile_class + self.first_pod
        self.profile_column[0] = NOBODY
        self._memory: dict[Selector, NDArray[np.uint8]] = {}

    # -- nodes

    def _nodes(self, index: Index, wanted: set[Requirement]) -> None:
        """Classes of nodes by the labels that are asked for and by whether the API server has their address.

        The last class is the node of which nothing is known; index -1 finds it.
        """
        keys = sorted({r.key for r in wanted if r.scope == "node"})
        seen: dict[tuple[object, ...], int] = {}
        numbers: list[int] = []
        for name in index.nodes.values:
            records = index.node_records.get(name)
            labels = None if not records or any(r.labels is None for r in records) else (records[-1].labels or {})
            changing = labels is not None and len({tuple(sorted((r.labels or {}).items())) for r in records or ()}) > 1
            held = {one for r in records or () for one in index.addresses.values[index.address_set(r.addresses)]}
            state: tuple[object, ...] = ("?",) if labels is None or changing else tuple(labels.get(k) for k in keys)
            numbers.append(seen.setdefault((*state, bool(held & index.api_servers)), len(seen)))
        self.node_states = [*seen, None]
        self.node_keys = keys
        self.node_count = len(self.node_states)
        self.node_class = np.array([*numbers, len(seen)], np.int32)

    def node_column(self, nodes: NDArray[np.int32], relation: NDArray[np.int64]) -> NDArray[np.int64]:
        """The column of each node (-1: not known) in its relation to the pod at the other end."""
        found: NDArray[np.int64] = _FIXED + 3 * self.node_class[nodes] + relation
        return found

    # -- pods

    def _pods(self, index: Index, wanted: set[Requirement]) -> None:
        profiles = index.profiles.values
        keys: list[tuple[str, str]] = sorted({(r.scope, r.key) for r in wanted if r.scope in ("pod", "namespace")})
        keys += [(scope, "") for scope in ("namespace-name", "service-account")]
        position = {key: number for number, key in enumerate(keys)}
        values: list[dict[str, int]] = [{} for _ in keys]
        codes = np.full((len(keys), len(profiles)), _ABSENT, np.int32)
        for number, profile in enumerate(profiles):
            for scope, pairs in (("pod", profile.pod), ("namespace", profile.namespace_labels)):
                for key, value in pairs or ():
                    at = position.get((scope, key))
                    if at is not None:
                        codes[at, number] = values[at].setdefault(value, len(values[at]))
            for scope, text in (("namespace-name", profile.namespace), ("service-account", profile.account)):
                at = position[scope, ""]
                codes[at, number] = _UNKNOWN if text is None else values[at].setdefault(text, len(values[at]))
        for scope, missing in (("pod", [p.pod is None for p in profiles]), ("namespace", _no_labels(index))):
            for (owner, _), at in position.items():
                if owner == scope:
                    codes[at, np.array(missing, bool)] = _UNKNOWN
        self._known_names(index, position, values, codes)
        if codes.shape[0] <= 512:
            _, first, inverse = np.unique(codes.T.copy(), axis=0, return_index=True, return_inverse=True)
            inverse = inverse.reshape(-1)
        else:
            first = inverse = np.arange(len(profiles))
        self.pod_count = len(first)
        self.profile_class = inverse.astype(np.int64)
        for (scope, key), at in position.items():
            self._columns_of[scope, key] = (codes[at, first], values[at])

    def _known_names(
        self, index: Index, position: dict[tuple[str, str], int], values: list[dict[str, int]], codes: NDArray[np.int32]
    ) -> None:
        """A namespace whose labels are not known still has its name as a label."""
        at = position.get(("namespace", NAME_LABEL))
        if at is None:
            return
        for number, profile in enumerate(index.profiles.values):
            if profile.namespace_labels is None and profile.namespace is not None:
                codes[at, number] = values[at].setdefault(profile.namespace, len(values[at]))

    # -- conditions over columns

    def everything(self) -> Pair:
        """What matches every column, whatever it is."""
        return np.ones(self.count, bool), np.ones(self.count, bool)

    def nothing(self) -> Pair:
        """What matches no column."""
        return np.zeros(self.count, bool), np.zeros(self.count, bool)

    def anything(self) -> Pair:
        """What may match every column, and must match none."""
        return np.zeros(self.count, bool), np.ones(self.count, bool)

    def no_pods(self) -> Pair:
        """What may match the outside and nodes."""
        must, may = self.nothing()
        may[: self.first_pod] = True
        return must, may

    def pods(self, selector: Selector) -> Pair:
        """Pods that meet all requirements (never hosts or the outside)."""
        found = self._memory.get(selector)
        if found is None:
            must, may = np.ones(self.pod_count, bool), np.ones(self.pod_count, bool)
            for requirement in selector.requirements:
                sure, possible = self._requirement(requirement)
                must &= sure
                may &= possible
            pair = self._widen(must, False), self._widen(may, True)
            self._memory[selector] = np.packbits(pair, axis=1)
            return pair
        must, may = np.unpackbits(found, axis=1, count=self.count).view(np.bool_)
        return must, may

    def _widen(self, pods: Bools, nobody: bool) -> Bools:
        whole = np.zeros(self.count, bool)
        whole[self.first_pod :] = pods
        whole[NOBODY] = nobody
        return whole

    def _requirement(self, requirement: Requirement) -> Pair:
        codes, values = self._columns_of.get((requirement.scope, requirement.key), (None, {}))
        if codes is None or requirement.operator == "?":
            return np.zeros(self.pod_count, bool), np.ones(self.pod_count, bool)
        unknown = codes == _UNKNOWN
        return _meets(codes, values, requirement) & ~unknown, _meets(codes, values, requirement) | unknown

    def nodes(self, selector: Selector) -> Pair:
        """Nodes whose labels meet all requirements."""
        must, may = self.nothing()
        for number, state in enumerate(self.node_states):
            sure, possible = True, True
            for requirement in selector.requirements:
                held = self._node_meets(state, requirement)
                sure, possible = sure and held is True, possible and held is not False
            at = _FIXED + 3 * number
            must[at : at + 3], may[at : at + 3] = sure, possible
        may[NOBODY] = True
        return must, may

    def _node_meets(self, state: tuple[object, ...] | None, requirement: Requirement) -> bool | None:
        if state is None or state[0] == "?" or requirement.operator == "?":
            return None
        value = state[self.node_keys.index(requirement.key)]
        listed = value in requirement.values
        words = {"In": listed, "NotIn": not listed, "Exists": value is not None, "DoesNotExist": value is None}
        return words[requirement.operator]

    def entity(self, name: str) -> Pair:
        """One of Cilium's entities."""
        if name == "all":
            return self.everything()
        must, may = self.nothing()
        if name in ("none", "init", "ingress", "health", "unmanaged"):
            # No pod of the inventory; what is not in it may be one of these but for none.
            may[NOBODY] = name != "none"
            return must, may
        nodes = slice(_FIXED, self.first_pod)
        if name in ("world", "world-ipv4", "world-ipv6"):
            wanted = {"world": (0, 4, 6), "world-ipv4": (4,), "world-ipv6": (6,)}[name]
            for family in wanted:
                must[[OUTSIDE[family], OUTSIDE[family] + 3]] = True
            may |= must
            may[[OUTSIDE[0], OUTSIDE[0] + 3]] = True
        elif name == "cluster":
            must[nodes], must[self.first_pod :], must[4:7] = True, True, True
        elif name == "kube-apiserver":
            must[4:7] = True
            for number, state in enumerate(self.node_states):
                at = slice(_FIXED + 3 * number, _FIXED + 3 * number + 3)
                must[at], may[at] = state is not None and bool(state[-1]), state is None
        else:
            must[_FIXED + (LOCAL if name == "host" else REMOTE) : self.first_pod : 3] = True
            may[_FIXED + UNSURE : self.first_pod : 3] = True
        may |= must
        may[NOBODY] = True
        return must, may


def _no_labels(index: Index) -> list[bool]:
    return [p.namespace_labels is None for p in index.profiles.values]


def _meets(codes: NDArray[np.int32], values: dict[str, int], requirement: Requirement) -> Bools:
    present: Bools = codes != _ABSENT
    if requirement.operator == "Exists":
        return present
    if requirement.operator == "DoesNotExist":
        return ~present
    wanted = [values[text] for text in requirement.values if text in values]
    listed: Bools = codes == wanted[0] if len(wanted) == 1 else np.isin(codes, wanted)
    return listed if requirement.operator == "In" else ~listed
