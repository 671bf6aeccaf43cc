"""Answers about policy as SARIF 2.1.0 (OASIS standard), for tools that annotate the files of a pull request. Pure.

A result points at the policy or rule that decided, by file and line where they are known (else at a policy of the same
namespace: code hosts show no result that points nowhere), and names the workloads as logical locations. The fingerprint
of a result is that of its workloads, protocol and port: it outlives other lines.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from fathom import __version__
from fathom.cli.policy import words
from fathom.policy.answers import Basis, Covered, Differences, Exposure, Replayed
from fathom.policy.connectivity import StaticChange
from fathom.policy.lines import Lines
from fathom.policy.model import PolicySet
from fathom.policy.problems import Place
from fathom.policy.replay import Group

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
#: Rule id → (level, what it means).
RULES: dict[str, tuple[str, str]] = {
    "denied-ingress": ("error", "Recorded traffic would be denied at its destination."),
    "denied-egress": ("error", "Recorded traffic would be denied at its source."),
    "denied-both": ("error", "Recorded traffic would be denied at both ends, or at either by candidate."),
    "unknown": ("warning", "It is not known whether recorded traffic would be allowed."),
    "newly-denied": ("error", "The change denies recorded traffic that was allowed."),
    "newly-allowed": ("warning", "The change allows recorded traffic that was denied."),
    "now-unknown": ("warning", "After the change it is not known whether recorded traffic is allowed."),
    "no-longer-unknown": ("note", "After the change it is known whether recorded traffic is allowed."),
    "static-newly-denied": ("note", "The change denies what was allowed, whether or not it was recorded."),
    "static-newly-allowed": ("warning", "The change allows what was denied, whether or not it was recorded."),
    "static-now-unknown": ("note", "After the change it is not known whether something is allowed."),
    "static-no-longer-unknown": ("note", "After the change it is known whether something is allowed."),
    "exposed": ("warning", "No policy covers a workload in some direction."),
    "thin-history": ("note", "A workload has too little history for a policy."),
}

#: Names of what was no file.
_NO_FILE = ("", "-")


@dataclass(frozen=True)
class Sources:
    """Where the policies of a set stand: in which files, and at which lines."""

    policies: PolicySet
    lines: Lines

    def places(self, titles: Iterable[str]) -> list[Place]:
        """The places of the policies of these titles."""
        wanted = set(titles)
        return [policy.place for policy in self.policies.policies if policy.title in wanted]

    def nearest(self, names: Iterable[str]) -> list[Place]:
        """Where to point when no policy decided: the first policy of a namespace of these workloads, else the first."""
        spaces = {name.partition("/")[0] for name in names}
        ordered = sorted(self.policies.policies, key=lambda policy: policy.namespace not in spaces)
        return [policy.place for policy in ordered if policy.place.file not in _NO_FILE][:1]


def replayed(answer: Replayed, sources: Sources) -> str:
    """One result for each group that is not allowed."""
    results = [_group(group, sources) for group in answer.groups]
    return _log("policy-replay", results, answer.basis, sources, answer.left_out)


def differences(answer: Differences, sources: Sources) -> str:
    """One result for each changed group of recorded traffic, and for each static change."""
    results = [_group(group, sources) for group in answer.recorded.groups]
    results += [_static(change, sources) for change in answer.static.changes]
    left_out = answer.recorded.left_out + answer.static.left_out
    return _log("policy-diff", results, answer.basis, sources, left_out)


def exposure(answer: Exposure, sources: Sources) -> str:
    """One result for each open workload."""
    results = []
    for item in answer.exposed:
        reach = [f"{words.counted(item.reached_by, 'workload')}"] if "ingress" in item.open else []
        reach += [word for word, there in (("nodes", item.nodes), ("the outside", item.outside)) if there]
        text = f"No policy covers {item.pods} of {item.of} pods of {item.workload} for {' and '.join(item.open)}."
        text += f" Reached by: {', '.join(reach)}." if reach else ""
        results.append(_result("exposed", text, [item.workload], [], sources))
    return _log("policy-exposure", results, answer.basis, sources, answer.left_out)


def covered(answer: Covered, sources: Sources) -> str:
    """One result for each workload with too little history."""
    thin = [item for item in answer.workloads if item.thin]
    results = [
        _result("thin-history", f"{item.workload}: {'; '.join(item.thin)}.", [item.workload], [], sources)
        for item in thin
    ]
    return _log("policy-coverage", results, answer.basis, sources, answer.thin - len(thin))


def _group(group: Group, sources: Sources) -> dict[str, Any]:
    places = [hit.place for hit in group.rules] or sources.places(group.policies)
    text = f"{group.src} > {group.dst} {words.port(group)}: {group.verdict} ({words.why(group)})."
    text += f" {words.counted(group.connections, 'connection')}, last seen {words.when(group.last)}."
    if group.absent:
        text += f" Absent: {', '.join(group.absent)}."
    elif group.no_rule:
        text += f" No rule is suggested: {group.no_rule}."
    found = _result(group.verdict, text, [group.src, group.dst], places, sources, words.port(group))
    found["properties"] = {"connections": group.connections, "flows": group.flows}
    return found


def _static(change: StaticChange, sources: Sources) -> dict[str, Any]:
    rule = f"static-{change.change}"
    text = f"{change.src} > {words.listed(change.targets)} {words.spans(change)}: {change.change}."
    text += f" Counter-example: {words.example(change)}."
    names = [change.src, *change.targets]
    return _result(rule, text, names, [], sources, words.spans(change))


def _result(
    rule: str, text: str, names: Sequence[str], places: Sequence[Place], sources: Sources, also: str = ""
) -> dict[str, Any]:
    """``names`` are the workloads that it is about, ``also`` what else tells it from other results."""
    level, _ = RULES[rule]
    logical = [{"fullyQualifiedName": name, "kind": "resource"} for name in names][:10]
    fingerprint = hashlib.sha256("\0".join((rule, *names, also)).encode()).hexdigest()
    found: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": list(RULES).index(rule),
        "level": level,
        "message": {"text": text},
        "locations": [{"logicalLocations": logical}],
        "partialFingerprints": {"fathom/v1": fingerprint},
    }
    there = [place for place in dict.fromkeys(places) if place.file not in _NO_FILE] or sources.nearest(names)
    physical = [one for place in there if (one := _physical(place, sources.lines)) is not None][:10]
    if physical:
        found["locations"][0]["physicalLocation"] = physical[0]
    if len(physical) > 1:
        found["relatedLocations"] = [
            {"id": number, "physicalLocation": one} for number, one in enumerate(physical[1:], 1)
        ]
    return found


def _physical(place: Place, lines: Lines) -> dict[str, Any] | None:
    """The file and line of ``place``; None where it was no file."""
    if place.file in _NO_FILE:
        return None
    path = posixpath.normpath(place.file)
    where = {"uri": "file://" + quote(path)} if path.startswith("/") else {"uri": quote(path), "uriBaseId": "%SRCROOT%"}
    found: dict[str, Any] = {"artifactLocation": where}
    line = lines.of(place)
    return found | ({"region": {"startLine": line}} if line else {})


def _log(command: str, results: list[dict[str, Any]], basis: Basis, sources: Sources, left_out: int) -> str:
    rules = [
        {"id": name, "shortDescription": {"text": text}, "defaultConfiguration": {"level": level}}
        for name, (level, text) in RULES.items()
    ]
    notes = [_note(problem.place, problem.reason, sources) for problem in basis.not_understood]
    notes += [_idle(title, sources) for title in basis.idle]
    if left_out:
        notes.append({"level": "warning", "message": {"text": f"{left_out} more results are left out (--limit)."}})
    run = {
        "tool": {"driver": {"name": "Fathom", "version": __version__, "rules": rules}},
        "automationDetails": {"id": f"fathom/{command}/"},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": results,
        "properties": {"basis": "; ".join(words.footer(basis))},
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2).decode()


def _idle(title: str, sources: Sources) -> dict[str, Any]:
    """A policy that chooses no pod."""
    found: dict[str, Any] = {"level": "warning", "message": {"text": f"{title} chooses no pod of the inventory"}}
    physical = [one for place in sources.places([title]) if (one := _physical(place, sources.lines)) is not None]
    return found | ({"locations": [{"physicalLocation": one} for one in physical[:1]]} if physical else {})


def _note(place: Place, reason: str, sources: Sources) -> dict[str, Any]:
    """A part of a policy that is not understood."""
    found: dict[str, Any] = {"level": "warning", "message": {"text": f"not understood: {place}: {reason}"}}
    physical = _physical(place, sources.lines)
    return found | ({"locations": [{"physicalLocation": physical}]} if physical else {})
