"""The engine under test, fed with the reference's raw documents."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from reference_cluster import FOREVER, Doc, Settings, Timed

from fathom.policy import manifests
from fathom.policy.compile import Compiled, compile_policies
from fathom.policy.documents import Document
from fathom.policy.evaluate import VERDICTS, Verdicts, evaluate
from fathom.policy.flows import Builder, Flows, protocol_number
from fathom.policy.inventory import Answer, Inventory, Records
from fathom.policy.model import PolicySet
from fathom.policy.options import Options
from fathom.policy.policysets import read
from fathom.policy.problems import Place
from fathom.policy.resolve import Resolved, resolve

_LISTS = ("namespaces", "pods", "services", "slices", "nodes")
OUTCOMES = {1: {"allow"}, 2: {"deny"}, 3: {"allow", "deny"}}


def inventory(cluster: list[Timed]) -> Inventory:
    """Each document read by itself, then given its times."""
    records = Records()
    for item in cluster:
        if item.doc["kind"] == "Answer":
            records.answers.append(Answer(item.doc["name"], item.doc["address"], item.since, item.until))
            continue
        found = manifests.read([Document(Place("made"), item.doc)]).records
        assert not found.problems, found.problems
        for name in _LISTS:
            for record in getattr(found, name):
                if name == "namespaces" and record.labels is None:
                    continue  # mentioned only
                since, until = max(item.since, record.since), min(item.until, record.until)
                getattr(records, name).append(msgspec.structs.replace(record, since=since, until=until))
    return Inventory(records)


def policy_set(docs: list[Doc]) -> PolicySet:
    return read(Document(Place("made", number), doc) for number, doc in enumerate(docs))


def accepted(found: PolicySet) -> PolicySet:
    """The set without what was refused."""
    kept = tuple(p for p in found.problems if p.severity != "refused")
    return PolicySet(found.policies, kept)


def flows(items: list[Doc]) -> Flows:
    builder = Builder()
    for item in items:
        last = item.get("last_seen", 0)
        builder.add(
            item["src"],
            item["dst"],
            protocol_number(item["protocol"]),
            item["port"],
            name=item.get("name", ""),
            src_address=item.get("src_address", ""),
            dst_address=item.get("dst_address", ""),
            oriented=item.get("oriented", True),
            count=0 if item.get("established") else 1,
            first=item.get("first_seen", 0),
            last=last,
            edge=1 if item.get("established") else 0,
        )
    return builder.flows()


def options(settings: Settings) -> Options:
    values: dict[str, Any] = dict(settings.__dict__)
    return Options(**values)


def run(
    docs: list[Doc], cluster: list[Timed], items: list[Doc], settings: Settings
) -> tuple[Verdicts, Compiled, Resolved]:
    who, chosen = inventory(cluster), options(settings)
    resolved = resolve(flows(items), who, chosen)
    compiled = compile_policies(accepted(policy_set(docs)), who, chosen)
    return evaluate(compiled, resolved), compiled, resolved


def told(verdicts: Verdicts, number: int) -> tuple[str, set[str], set[str]]:
    """One flow's result in the reference's words."""
    return (
        VERDICTS[int(verdicts.verdict[number])],
        OUTCOMES[int(verdicts.egress[number])],
        OUTCOMES[int(verdicts.ingress[number])],
    )


def places(chosen: np.ndarray[Any, Any]) -> list[int]:
    return [int(i) for i in chosen]


assert FOREVER == 1 << 62
