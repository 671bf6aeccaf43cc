"""Subjects of generated policies: workloads, each with the labels that choose its pods and no others.

A workload's own selector is taken where it has one; else the labels that all its pods share. Labels that tell
replicas, revisions or places apart are never used, and neither are those that Cilium leaves out of identities, so that
every written form chooses the same pods. Where such labels also choose pods of another workload, an exclusion is
added; workloads that no label tells apart are one subject. A workload without labels is no subject: it is not guessed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.cilium_peers import kept_in_identities
from fathom.policy.index import HOST_POD, Index
from fathom.policy.inventory import Pod, Workload
from fathom.policy.labelling import stable_labels, workload_of
from fathom.policy.metadata import valid_name

#: In ``Subjects.of_pod``: a pod on the host's network; a pod that no label chooses.
ON_HOST, NOBODY = -2, -1
_LONGEST = 253  # characters of a name (RFC 1123)
_UNNAMEABLE = re.compile(r"[^a-z0-9]+")
_Labels = frozenset[tuple[str, str]]


class Subject(msgspec.Struct, frozen=True):
    """The pods of one workload (or of some that no label tells apart): ``labels`` without ``excluded`` values.

    ``name`` is that of its policies, which no other subject of the namespace has. ``workloads`` are ``ns/Kind/name``,
    sorted; ``pods`` are the names of the pods that the inventory holds.
    """

    namespace: str
    name: str
    workloads: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    excluded: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pods: frozenset[str] = frozenset()


def _names(workloads: Iterable[str]) -> dict[str, str]:
    """The name of the policies of each of some workloads of one namespace, which may all be there at once.

    ``kind-name``; where that is too long for a name, or none, or another's too, what is left of it and a hash.
    """
    plain = {workload: _name(workload) for workload in workloads}
    often = Counter(plain.values())
    return {workload: name if often[name] == 1 else _apart(name, workload) for workload, name in plain.items()}


@lru_cache(maxsize=1 << 16)
def _name(workload: str) -> str:
    _, kind, name = workload.split("/", 2)
    whole = f"{kind.lower()}-{name}"
    if valid_name(whole) or (len(whole) > _LONGEST and valid_name(whole[:_LONGEST].rstrip("-."))):
        return bounded(whole)
    return _apart(_UNNAMEABLE.sub("-", whole.lower()).strip("-") or "x", whole)


def bounded(name: str) -> str:
    """The name; where it is too long for an object's name, its begin and a hash of it."""
    return name if len(name) <= _LONGEST else _apart(name, name)


def _apart(name: str, hashed: str) -> str:
    """The begin of the name and a hash of ``hashed``."""
    told_apart = blake2b(hashed.encode(), digest_size=5).hexdigest()
    return f"{name[: _LONGEST - 11].rstrip('-.')}-{told_apart}"


class Subjects:
    """All subjects of an inventory; ``of_pod`` gives the subject of each pod record (or ON_HOST, NOBODY)."""

    def __init__(self, index: Index) -> None:
        members = _members(index)
        declared = {str(item): item for item in index.records.workloads}
        by_namespace: dict[str, list[str]] = defaultdict(list)
        for workload in members:
            by_namespace[workload.partition("/")[0]].append(workload)
        self.all: list[Subject] = []
        self.of_workload: dict[str, int] = {}
        for namespace in sorted(by_namespace):
            space = _Namespace(index, {name: members[name] for name in sorted(by_namespace[namespace])}, declared)
            for subject in space.subjects(namespace):
                for workload in subject.workloads:
                    self.of_workload[workload] = len(self.all)
                self.all.append(subject)
        self.of_pod: NDArray[np.int32] = np.full(len(index.records.pods) + 1, NOBODY, np.int32)
        for number, pod in enumerate(index.records.pods):
            self.of_pod[number] = ON_HOST if pod.host_network else self.of_workload.get(workload_of(pod), NOBODY)


def _members(index: Index) -> dict[str, list[int]]:
    """Workload → its pod records that are not on the host's network."""
    found: dict[str, list[int]] = defaultdict(list)
    hosts = set(index.presences["pod"][index.presences["kind"] == HOST_POD].tolist())
    for number, pod in enumerate(index.records.pods):
        if number not in hosts:
            found[workload_of(pod)].append(number)
    return found


class _Namespace:
    """The workloads of one namespace, and which labels choose which of them."""

    def __init__(self, index: Index, members: Mapping[str, list[int]], declared: Mapping[str, Workload]) -> None:
        pods = index.records.pods
        self.labels: dict[str, set[_Labels]] = {}
        self.names: dict[str, frozenset[str]] = {}
        self.declared = declared
        unknown: list[str] = []
        for workload, numbers in members.items():
            known = [pods[n] for n in numbers if pods[n].labels is not None]
            if len(known) < len(numbers):
                unknown.append(workload)
                continue
            self.labels[workload] = {_kept(pod) for pod in known}
            self.names[workload] = frozenset(pods[n].name for n in numbers if not pods[n].virtual)
        self._holders: dict[tuple[str, str], set[str]] = defaultdict(set)
        for workload, every in self.labels.items():
            for labels in every:
                for pair in labels:
                    self._holders[pair].add(workload)

    def subjects(self, namespace: str) -> Iterable[Subject]:
        """Subjects, in order of their first workload."""
        groups: list[tuple[str, ...]] = [(workload,) for workload in self.labels]
        while True:
            found = {group: self._chosen(group) for group in groups}
            merged = _merged(groups, [(group, others) for group, (_, _, others) in found.items() if others])
            if merged == groups:
                break
            groups = merged
        named = _names(group[0] for group in groups)
        for group in groups:
            labels, excluded, _ = found[group]
            if labels:
                names = frozenset(name for workload in group for name in self.names[workload])
                exclusions = tuple((key, tuple(sorted(values))) for key, values in sorted(excluded.items()))
                yield Subject(namespace, named[group[0]], group, tuple(sorted(labels)), exclusions, names)

    def _chosen(self, group: tuple[str, ...]) -> tuple[_Labels, dict[str, set[str]], set[str]]:
        """Labels, exclusions, and the workloads that these do not keep out."""
        every = [labels for workload in group for labels in self.labels[workload]]
        shared = frozenset.intersection(*every)
        own = self._own(group[0]) if len(group) == 1 else frozenset()
        if own and own <= shared and not self._foreign(group, own):
            return own, {}, set()
        excluded: dict[str, set[str]] = defaultdict(set)
        mine = {pair for labels in every for pair in labels}
        stuck: set[str] = set()
        for workload, labels in sorted(self._foreign(group, shared), key=lambda item: (item[0], sorted(item[1]))):
            apart = sorted(labels - mine)
            if not apart:
                stuck.add(workload)
            elif not any(value in excluded[key] for key, value in apart if key in excluded):
                excluded[apart[0][0]].add(apart[0][1])
        return shared, excluded, stuck if shared else set()

    def _own(self, workload: str) -> _Labels:
        """The matchLabels of the workload's selector, where it is made of nothing else."""
        given = self.declared.get(workload)
        labels = given.selector.get("matchLabels") if given is not None else None
        if given is None or not isinstance(labels, dict) or given.selector.get("matchExpressions"):
            return frozenset()
        return _kept(Pod("", "", labels={str(key): str(value) for key, value in labels.items()}))

    def _foreign(self, group: tuple[str, ...], labels: _Labels) -> set[tuple[str, _Labels]]:
        """(workload, labels of some of its pods) of other workloads that ``labels`` also choose."""
        if not labels:
            return set()
        near = set.intersection(*(self._holders.get(pair, set()) for pair in labels))
        return {
            (other, theirs) for other in near.difference(group) for theirs in self.labels[other] if labels <= theirs
        }


def _kept(pod: Pod) -> _Labels:
    return frozenset((key, value) for key, value in stable_labels(pod).items() if kept_in_identities(key))


def _merged(groups: list[tuple[str, ...]], stuck: list[tuple[tuple[str, ...], set[str]]]) -> list[tuple[str, ...]]:
    """Groups joined with those that they cannot be told from."""
    where = {workload: set(group) for group in groups for workload in group}
    for group, others in stuck:
        union: set[str] = set().union(*(where[workload] for workload in (*group, *others)))
        for workload in union:
            where[workload] = union
    return sorted({tuple(sorted(item)) for item in where.values()})
