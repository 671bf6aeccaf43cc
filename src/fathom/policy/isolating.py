"""Selectors that choose no pod but those that policies isolate already, whatever pods there are or will be.

A policy that selects a pod isolates it. One that is to allow more, and to deny nothing, may select only what an
isolating policy of the same namespace selects: that is decided on the selectors, not on the pods that are known.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fathom.policy.compile import Compiled
from fathom.policy.index import POD
from fathom.policy.labels import valid_key, valid_value
from fathom.policy.model import Direction, Policy, Requirement
from fathom.policy.networkpolicy_documents import selector
from fathom.policy.subjects import Subject, Subjects


class Isolating:
    """What isolates the pods of each subject."""

    def __init__(self, compiled: Compiled, subjects: Subjects) -> None:
        self._compiled, self._subjects = compiled.current(), subjects
        table = self._compiled.index.presences
        rows = np.flatnonzero(table["kind"] == POD)
        of = subjects.of_pod[table["pod"][rows]]
        order = np.argsort(of, kind="stable")
        self._numbers, self._profiles = of[order], table["profile"][rows][order]
        self._found: dict[tuple[int, Direction], list[dict[str, Any]]] = {}

    def selectors(self, subject: int, direction: Direction) -> list[dict[str, Any]]:
        """LabelSelectors that together choose every pod of the subject that is isolated in ``direction``, and no pod
        that is not; none where no selector says that."""
        key = subject, direction
        if key not in self._found:
            self._found[key] = self._choose(subject, direction)
        return self._found[key]

    def _choose(self, number: int, direction: Direction) -> list[dict[str, Any]]:
        subject = self._subjects.all[number]
        by_pods = self._policies(number, direction)
        often = Counter(policy for policies in by_pods for policy in policies)
        needed = {policy: _beyond(self._compiled.policies[policy], subject) for policy in often}
        if any(more == [] for more in needed.values()):
            return [selector(subject)]
        chosen: list[int] = []
        for policies in by_pods:
            said = [(-often[n], len(more), n) for n in policies if (more := needed[n]) is not None]
            if not said:
                return []
            if not any(n in chosen for *_, n in said):
                chosen.append(min(said)[2])
        return [_narrowed(subject, needed[n] or []) for n in sorted(chosen)]

    def _policies(self, number: int, direction: Direction) -> list[tuple[int, ...]]:
        """The policies that surely isolate pods of the subject, for each set of pods with the same ones."""
        begin, end = np.searchsorted(self._numbers, (number, number + 1)).tolist()
        side = self._compiled.sides[direction]
        columns = self._compiled.classes.profile_column[self._profiles[begin:end]]
        found: list[tuple[int, ...]] = []
        for group in np.unique(side.group_of[columns]).tolist():
            members = side.groups[group].developer if group >= 0 else ()
            policies = tuple(
                item.policy
                for item in members
                if item.sure and direction in self._compiled.policies[item.policy].isolates
            )
            if policies:
                found.append(policies)
        return found


def _beyond(policy: Policy, subject: Subject) -> list[Requirement] | None:
    """What the policy asks of a pod's labels beyond what the subject's selector asks; None: a podSelector cannot say
    it. What it asks of the namespace holds, since it selects a pod there."""
    found: list[Requirement] = []
    for item in policy.subject.requirements:
        if item.scope in ("namespace", "namespace-name") or _implied(item, subject):
            continue
        if item.scope != "pod" or item.operator == "?" or not valid_key(item.key):
            return None
        if not all(valid_value(value) for value in item.values):
            return None
        found.append(item)
    return found


def _implied(item: Requirement, subject: Subject) -> bool:
    """Whether each pod that the subject's selector chooses meets the requirement."""
    labels, excluded = dict(subject.labels), dict(subject.excluded)
    if item.scope != "pod":
        return False
    if item.operator == "In":
        return labels.get(item.key) in item.values
    if item.operator == "NotIn":
        known = item.key in labels and labels[item.key] not in item.values
        return known or set(item.values) <= set(excluded.get(item.key, ()))
    return item.operator == "Exists" and item.key in labels


def _narrowed(subject: Subject, more: list[Requirement]) -> dict[str, Any]:
    """The subject's selector with these requirements."""
    found = selector(subject)
    expressions = list(found.get("matchExpressions", ()))
    for item in more:
        if item.operator == "In" and len(item.values) == 1 and item.key not in found["matchLabels"]:
            found["matchLabels"][item.key] = item.values[0]
        else:
            values = {"values": list(item.values)} if item.operator in ("In", "NotIn") else {}
            expressions.append({"key": item.key, "operator": item.operator, **values})
    return {**found, "matchExpressions": expressions} if expressions else found
