"""Promotion: what speaks against enforcing an audited set, and its documents as they would be applied.

A set is proved by what it was tried on. What was not seen, or could not be judged, is said and stands against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fathom.policy.documents import Document
from fathom.policy.documents import read as read_documents
from fathom.policy.findings import Count
from fathom.policy.generate import PREFIX
from fathom.policy.problems import Problem
from fathom.policy.thin import DAY

#: Annotations that begin so belong to the audit.
AUDIT_PREFIX = f"{PREFIX}audit"
_NAMED = 5


class Need(msgspec.Struct, frozen=True):
    """What an audit must have seen: so many ``seconds``, the share of node ``time`` (0 to 1), traffic for every policy;
    and how much may be ``lost`` for each fact."""

    seconds: int = DAY
    time: float = 0.95
    lost: float = 0.01


class Tried(msgspec.Struct, frozen=True):
    """What an audit has seen: for so many ``seconds``, with the share of node ``time``; ``facts`` that were judged,
    and that were ``missed``; ``lost`` on the way to the store; ``counts`` as found; titles of all ``policies``."""

    seconds: int
    time: float
    facts: int
    missed: int
    lost: int
    policies: Sequence[str]
    counts: Sequence[Count]


def objections(tried: Tried, need: Need | None = None) -> list[str]:
    """Sentences that each speak against enforcing the set; none if nothing does."""
    wanted = need or Need()
    found: list[str] = []
    denied = [c for c in tried.counts if not c.policy and c.new and c.verdict != "unknown"]
    if denied:
        flows, connections = sum(c.flows for c in denied), sum(c.connections for c in denied)
        found.append(f"{flows} flows ({connections} connections) that pass today would be denied")
    unknown = [c for c in tried.counts if not c.policy and c.new and c.verdict == "unknown"]
    if unknown:
        found.append(f"{sum(c.flows for c in unknown)} flows that pass today could not be judged")
    if tried.seconds < wanted.seconds:
        found.append(f"it was audited for {_hours(tried.seconds)}, less than {_hours(wanted.seconds)}")
    if tried.time < wanted.time:
        found.append(f"{tried.time:.1%} of the nodes' time was seen, less than {wanted.time:.1%}")
    if tried.missed:
        found.append(f"{tried.missed} facts were not judged, against {tried.facts} that were")
    if tried.lost > wanted.lost * tried.facts:
        found.append(
            f"{tried.lost} events, flows or facts were lost on the way, against {tried.facts} that were judged"
        )
    seen = {c.policy for c in tried.counts if c.policy and c.flows}
    if untried := [title for title in tried.policies if title not in seen]:
        found.append(f"no traffic concerned {len(untried)} of {len(tried.policies)} policies: {_some(untried)}")
    return found


def _hours(seconds: int) -> str:
    return f"{seconds / 3_600:.1f} h"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def promoted(text: str, evidence: Mapping[str, str], file: str = "-") -> tuple[list[dict[str, Any]], list[Problem]]:
    """The documents of ``text`` as they would be applied, and what could not be read of it.

    Annotations of an audit are taken off, and ``evidence`` is put on every policy in their place; of other documents
    only the former.
    """
    documents, problems = read_documents(text, file)
    return [_document(item, evidence) for item in documents if isinstance(item.data, dict)], problems


def _document(item: Document, evidence: Mapping[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = dict(item.data)
    given = data.get("metadata")
    if not isinstance(given, dict):
        return data
    metadata = dict(given)
    held = metadata.get("annotations")
    annotations = _without_audit(held.items() if isinstance(held, dict) else ())
    if str(data.get("kind", "")).endswith("NetworkPolicy"):
        annotations |= {f"{AUDIT_PREFIX}-{key}": value for key, value in sorted(evidence.items())}
    if annotations or "annotations" in metadata:
        metadata["annotations"] = annotations
    if metadata.get("annotations") == {}:
        del metadata["annotations"]
    return {**data, "metadata": metadata}


def _without_audit(annotations: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in annotations if not key.startswith(AUDIT_PREFIX)}
