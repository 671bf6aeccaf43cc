"""The absent rule: a NetworkPolicy that would allow what a replay says would be denied.

None is suggested where a deny rule or a higher tier decided, or where an end is not known: a rule there would be a
guess, or would not help.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from fathom.policy.addresses import BITS
from fathom.policy.flows import protocol_word
from fathom.policy.index import EXTERNAL, HOST_POD, NODE, POD
from fathom.policy.inventory import NAME_LABEL
from fathom.policy.model import Direction
from fathom.policy.networkpolicy_documents import selector
from fathom.policy.replay import Group
from fathom.policy.resolve import Resolved
from fathom.policy.subjects import Subject, Subjects

_TRANSPORTS = (6, 17, 132)


def suggest(group: Group, resolved: Resolved, subjects: Subjects) -> list[dict[str, Any]]:
    """The documents that together allow the group: one for each side that denies; empty where none would do.

    ``group`` must have been explained by the replay.
    """
    if any(hit.action == "deny" for hit in group.rules) or not group.verdict.startswith("denied"):
        return []
    row = int(np.searchsorted(resolved.rows["flow"], group.example))
    sides: list[tuple[Direction, str, str]] = []
    if group.verdict in ("denied-egress", "denied-both"):
        sides.append(("egress", "src", "dst"))
    if group.verdict in ("denied-ingress", "denied-both"):
        sides.append(("ingress", "dst", "src"))
    found: list[dict[str, Any]] = []
    for direction, mine, theirs in sides:
        document = _document(resolved, subjects, row, (direction, mine, theirs))
        if document is None:
            return []
        found.append(document)
    return found


def absent(groups: Iterable[Group], resolved: Resolved, subjects: Subjects) -> tuple[list[Group], list[dict[str, Any]]]:
    """The groups, each with the names of the policies that would allow it (``absent``), and these policies.

    Policies of one subject, direction, protocol and port are one, with all their peers. Order: by namespace and name.
    """
    told: list[Group] = []
    documents: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, bytes]] = set()
    for group in groups:
        names: list[str] = []
        for document in suggest(group, resolved, subjects):
            peers = _peers(document)
            head = document["metadata"]
            name = f"{document['kind']} {head['namespace']}/{head['name']}"
            key = name, msgspec.json.encode(peers, order="deterministic")
            if name not in documents:
                documents[name] = document
            elif key not in seen:
                _peers(documents[name]).extend(peers)
            seen.add(key)
            names.append(name)
        told.append(msgspec.structs.replace(group, absent=tuple(names)))
    return told, [documents[name] for name in sorted(documents)]


def _peers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The peers of the one rule of a suggested document."""
    spec = document["spec"]
    peers: list[dict[str, Any]] = spec["ingress"][0]["from"] if "ingress" in spec else spec["egress"][0]["to"]
    return peers


def _document(
    resolved: Resolved, subjects: Subjects, row: int, side: tuple[Direction, str, str]
) -> dict[str, Any] | None:
    direction, mine, theirs = side
    subject = _subject(resolved, subjects, row, mine)
    if subject is None:
        return None
    peer = _peer(resolved, subjects, row, theirs, subject)
    if peer is None:
        return None
    protocol, port = int(resolved.rows["protocol"][row]), int(resolved.rows["port"][row])
    rule: dict[str, Any] = {"from" if direction == "ingress" else "to": [peer]}
    if protocol in _TRANSPORTS:
        rule["ports"] = [{"protocol": protocol_word(protocol), "port": port}]
    word = f"{protocol_word(protocol)}-{port}".lower()
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{subject.name}-{direction}-{word}", "namespace": subject.namespace},
        "spec": {"podSelector": selector(subject), "policyTypes": [direction.title()], direction: [rule]},
    }


def _subject(resolved: Resolved, subjects: Subjects, row: int, end: str) -> Subject | None:
    number = int(subjects.of_pod[int(resolved.rows[end + "_pod"][row])])
    return subjects.all[number] if number >= 0 and resolved.rows[end + "_kind"][row] == POD else None


def _peer(resolved: Resolved, subjects: Subjects, row: int, end: str, subject: Subject) -> dict[str, Any] | None:
    other = _subject(resolved, subjects, row, end)
    if other is not None:
        pods: dict[str, Any] = {"podSelector": selector(other)}
        if other.namespace != subject.namespace:
            pods = {"namespaceSelector": {"matchLabels": {NAME_LABEL: other.namespace}}, **pods}
        return pods
    if int(resolved.rows[end + "_kind"][row]) not in (EXTERNAL, NODE, HOST_POD):
        return None
    held = resolved.index.addresses.values[int(resolved.rows[end + "_addresses"][row])]
    if len(held) != 1:
        return None
    return {"ipBlock": {"cidr": f"{held[0]}/{BITS[held[0].family]}"}}
