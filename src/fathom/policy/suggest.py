"""The absent rule: NetworkPolicies that would allow what a replay says would be denied.

They follow the rules of ``generate``: what a flow does not prove is not allowed. No suggestion isolates a pod that is
not isolated in that direction already, so that none denies anything. Where a rule would be a guess, would not help or
cannot be written, the group says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.addresses import BITS
from fathom.policy.bits import Bools
from fathom.policy.compile import Compiled
from fathom.policy.evaluate import ALLOW, UNDECIDED, VERDICTS, Verdicts
from fathom.policy.flows import Flows, protocol_word
from fathom.policy.history import ADDRESSES, API_NODE, API_OUTSIDE, NODES, PROTOCOL, REASONS, Limits, Observations
from fathom.policy.history import read as read_history
from fathom.policy.inventory import NAME_LABEL
from fathom.policy.isolating import Isolating
from fathom.policy.model import DIRECTIONS, Direction
from fathom.policy.networkpolicy_documents import selector
from fathom.policy.replay import Group, members
from fathom.policy.resolve import Resolved
from fathom.policy.subjects import Subject, Subjects, bounded

_KEYS: dict[Direction, str] = {"ingress": "from", "egress": "to"}
_Place = tuple[int, Direction, int, int]  # subject, direction, protocol, port


def absent(
    groups: Sequence[Group], flows: Flows, resolved: Resolved, verdicts: Verdicts, compiled: Compiled
) -> tuple[list[Group], list[dict[str, Any]]]:
    """The groups, each with the names of the policies that would allow it (``absent``) or why none would
    (``no_rule``), and these policies, by namespace and name. ``groups`` must have been explained by the replay.

    Policies of one subject, direction, protocol and port are one, with all their peers.
    """
    of = members(groups, flows, resolved, verdicts.verdict)
    chosen = of >= 0
    part = _part(resolved, chosen)
    subjects = Subjects(resolved.index)
    history = read_history(flows.select(chosen), part, subjects, Limits())
    number = of[chosen]
    why = _why(groups, number, history.left_out)
    writing = _Writing(part, subjects, compiled)
    for direction in DIRECTIONS:
        outcome = (verdicts.egress if direction == "egress" else verdicts.ingress)[chosen]
        against = (outcome != ALLOW) & np.array([not text for text in why], bool)[number]
        for one in writing.add(direction, history.observations[direction], against, number):
            why[one] = why[one] or "no rule would do"
    for one, text in writing.refused.items():
        why[one] = why[one] or text
    names, documents = writing.documents(why)
    told = [
        msgspec.structs.replace(item, absent=() if text else tuple(names[n]), no_rule=text)
        for n, (item, text) in enumerate(zip(groups, why, strict=True))
    ]
    return told, documents


def _part(resolved: Resolved, chosen: Bools) -> Resolved:
    """The rows of the chosen flows, numbered anew."""
    rows = resolved.rows.select(chosen[resolved.rows["flow"]])
    rows["flow"][:] = (np.cumsum(chosen) - 1)[rows["flow"]]
    return Resolved(resolved.index, resolved.options, rows, int(chosen.sum()), resolved.names, resolved.named)


def _why(groups: Sequence[Group], number: NDArray[np.int64], left_out: NDArray[np.uint8]) -> list[str]:
    """For each group why no rule is suggested; empty: one may be. ``number``: the group of each flow."""
    worst = np.zeros(len(groups), np.uint8)
    np.maximum.at(worst, number, left_out)
    found: list[str] = []
    for item, reason in zip(groups, worst.tolist(), strict=True):
        if item.verdict == VERDICTS[UNDECIDED]:
            found.append("it is not known whether it would be denied")
        elif any(hit.action == "deny" for hit in item.rules):
            found.append("a deny rule decides")
        elif reason == PROTOCOL:
            found.append(f"a NetworkPolicy cannot name {item.protocol}")
        else:
            found.append(REASONS[reason])
    return found


class _Writing:
    """The peers of each suggested policy, and which groups need it; for which groups one is ``refused``, and why."""

    def __init__(self, resolved: Resolved, subjects: Subjects, compiled: Compiled) -> None:
        self.index, self.subjects = resolved.index, subjects
        self.isolating = Isolating(compiled, subjects)
        self.taken = {(p.namespace, p.name) for p in compiled.policies if p.kind == "NetworkPolicy"}
        self.peers: dict[_Place, dict[int, set[int]]] = {}
        self.groups: dict[_Place, set[int]] = {}
        self.refused: dict[int, str] = {}
        self._cilium = any(p.kind.startswith("Cilium") for p in compiled.policies)

    def add(self, direction: Direction, seen: Observations, against: Bools, number: NDArray[np.int64]) -> set[int]:
        """Take in the observations of flows that are denied at this side (``against``); ``number``: the group of each.

        Returns the groups with a flow of which there is no observation.
        """
        unseen = against.copy()
        unseen[np.array(seen.flows, np.int64)] = False
        for n, subject in enumerate(seen.subject):
            flows = np.array(seen.evidence([n]), np.int64)
            mine = set(number[flows[against[flows]]].tolist())
            if not mine:
                continue
            place = subject, direction, seen.protocol[n], seen.port[n]
            self.groups.setdefault(place, set()).update(mine)
            self.peers.setdefault(place, {}).setdefault(seen.peer[n], set()).update(mine)
            if not self.isolating.selectors(subject, direction):
                why = "what isolates its pods cannot be said in the podSelector of a NetworkPolicy"
                self.refused |= dict.fromkeys(mine, why)
            elif self._cilium and _is_node(seen.peer[n]):
                why = "an ipBlock matches no node where Cilium enforces: an entity of a CiliumNetworkPolicy would"
                self.refused |= dict.fromkeys(mine, why)
        return set(number[unseen].tolist())

    def documents(self, why: Sequence[str]) -> tuple[list[list[str]], list[dict[str, Any]]]:
        """The names of the policies of each group, and the policies, for the groups of which ``why`` says nothing."""
        names: list[list[str]] = [[] for _ in why]
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for place in sorted(self.groups, key=self._order):
            codes = [code for code, groups in sorted(self.peers[place].items()) if any(not why[g] for g in groups)]
            if not codes:
                continue
            subject = self.subjects.all[place[0]]
            peers = sorted((peer for code in codes for peer in self._peer(code, subject)), key=str)
            for choice in self.isolating.selectors(place[0], place[1]):
                document = _document(subject, place, choice, peers)
                head = document["metadata"]
                head["name"] = self._free(head["namespace"], head["name"])
                found[head["namespace"], head["name"]] = document
                for group in sorted(self.groups[place]):
                    names[group].append(f"NetworkPolicy {head['namespace']}/{head['name']}")
        return names, [found[key] for key in sorted(found)]

    def _order(self, place: _Place) -> tuple[object, ...]:
        subject = self.subjects.all[place[0]]
        return subject.namespace, subject.name, place[1:]

    def _free(self, namespace: str, name: str) -> str:
        """The name, or another where a policy of the set, or one that was suggested, has it."""
        free, count = name, 1
        while (namespace, free) in self.taken:
            count += 1
            free = bounded(f"{name}-{count}")
        self.taken.add((namespace, free))
        return free

    def _peer(self, code: int, subject: Subject) -> Iterator[dict[str, Any]]:
        """The peer of an observation: pods of a subject, the addresses of a node, or one address outside."""
        if code < NODES:
            other = self.subjects.all[code]
            pods: dict[str, Any] = {"podSelector": selector(other)}
            if other.namespace != subject.namespace:
                pods = {"namespaceSelector": {"matchLabels": {NAME_LABEL: other.namespace}}, **pods}
            yield pods
            return
        if _is_node(code):
            node = self.index.nodes.values[code - (NODES if code < ADDRESSES else API_NODE)]
            texts = [text for item in self.index.node_records.get(node, ()) for text in item.addresses]
            held = self.index.addresses.values[self.index.address_set(texts)]
        else:
            held = self.index.addresses.values[code - (ADDRESSES if code < API_NODE else API_OUTSIDE)]
        for one in held:
            yield {"ipBlock": {"cidr": f"{one}/{BITS[one.family]}"}}


def _is_node(code: int) -> bool:
    return NODES <= code < ADDRESSES or API_NODE <= code < API_OUTSIDE


def _document(subject: Subject, place: _Place, choice: dict[str, Any], peers: list[dict[str, Any]]) -> dict[str, Any]:
    _, direction, protocol, port = place
    word = protocol_word(protocol)
    rule = {_KEYS[direction]: peers, "ports": [{"protocol": word, "port": port}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": bounded(f"{subject.name}-{direction}-{word.lower()}-{port}"),
            "namespace": subject.namespace,
        },
        "spec": {"podSelector": choice, "policyTypes": [direction.title()], direction: [rule]},
    }
