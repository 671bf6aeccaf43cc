"""Replay: what a policy set would have denied of recorded traffic, by workload, peer and port.

Groups are told with first and last seen, how many flows and connections, who decided, and the rule that is absent.
Verdicts that are unknown are groups of their own: they are neither allowed nor hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.compile import Compiled
from fathom.policy.decide import Hit, decide
from fathom.policy.evaluate import ALLOWED, VERDICTS, Verdicts, evaluate
from fathom.policy.flows import Flows, protocol_word
from fathom.policy.labelling import Labels
from fathom.policy.options import ASSUMPTIONS, REASONS
from fathom.policy.resolve import Resolved


class Group(msgspec.Struct, frozen=True):
    """Flows of one verdict between two workloads over one protocol and port.

    ``flows`` counts rows, ``connections`` what was counted on them; ``first`` and ``last`` are epoch seconds (0: not
    known). ``policies`` select the side that decided, ``rules`` of them match (both empty beyond the groups that were
    asked to be explained). ``example`` is one flow's number.
    """

    src: str
    dst: str
    protocol: str
    port: int
    verdict: str
    flows: int
    connections: int
    first: int
    last: int
    reasons: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    rules: tuple[Hit, ...] = ()
    example: int = 0


class Replay(msgspec.Struct, frozen=True):
    """All groups that are not allowed, most connections first, and counts of flows and connections by verdict."""

    groups: tuple[Group, ...]
    flows: dict[str, int]
    connections: dict[str, int]
    first: int
    last: int


def replay(
    compiled: Compiled, flows: Flows, resolved: Resolved, verdicts: Verdicts | None = None, *, explained: int = 1_000
) -> Replay:
    """Replay ``flows`` (which ``resolved`` resolves); give ``verdicts`` where they are known already.

    The first ``explained`` groups are told with the policies and rules that decided them.
    """
    found = evaluate(compiled, resolved) if verdicts is None else verdicts
    wanted = np.flatnonzero(found.verdict != ALLOWED)
    groups = group(flows, resolved, found.verdict, wanted)
    explained_groups = told(compiled, resolved, found, groups[:explained])
    counted = {word: int(np.sum(found.verdict == n)) for n, word in enumerate(VERDICTS)}
    weights = flows.rows["count"]
    connections = {word: int(weights[found.verdict == n].sum()) for n, word in enumerate(VERDICTS)}
    seen = flows.rows["last"] > 0
    first = int(flows.rows["first"][seen].min()) if seen.any() else 0
    last = int(flows.rows["last"][seen].max()) if seen.any() else 0
    return Replay((*explained_groups, *groups[explained:]), counted, connections, first, last)


def group(
    flows: Flows,
    resolved: Resolved,
    kind: NDArray[np.uint8],
    wanted: NDArray[np.int64],
    kinds: tuple[str, ...] = VERDICTS,
) -> list[Group]:
    """Groups of the ``wanted`` flows by ends, protocol, port and ``kind`` (an index into ``kinds``)."""
    if not len(wanted):
        return []
    labels = Labels(flows, resolved)
    rows = flows.rows[wanted]
    keys = np.stack(
        [
            labels.src[wanted],
            labels.dst[wanted],
            rows["protocol"].astype(np.int64) << 24 | rows["port"].astype(np.int64) << 8 | kind[wanted],
        ],
        axis=1,
    )
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    count = len(unique)
    number = np.bincount(inverse, minlength=count)
    connections = np.zeros(count, np.int64)
    np.add.at(connections, inverse, rows["count"])
    first, last = np.full(count, 1 << 62, np.int64), np.zeros(count, np.int64)
    known = rows["last"] > 0
    np.minimum.at(first, inverse[known], rows["first"][known])
    np.maximum.at(last, inverse[known], rows["last"][known])
    first[last == 0] = 0
    example = np.full(count, len(flows), np.int64)
    np.minimum.at(example, inverse, wanted)
    order = np.lexsort((unique[:, 2], unique[:, 1], unique[:, 0], -connections))
    return [
        Group(
            labels.texts[int(unique[n, 0])],
            labels.texts[int(unique[n, 1])],
            protocol_word(int(unique[n, 2]) >> 24),
            int(unique[n, 2]) >> 8 & 0xFFFF,
            kinds[int(unique[n, 2]) & 0xFF],
            int(number[n]),
            int(connections[n]),
            int(first[n]),
            int(last[n]),
            example=int(example[n]),
        )
        for n in order.tolist()
    ]


def told(compiled: Compiled, resolved: Resolved, verdicts: Verdicts, groups: Sequence[Group]) -> list[Group]:
    """Groups with what decided their example."""
    decisions = decide(compiled, resolved, np.array([item.example for item in groups], np.int64))
    found: list[Group] = []
    for item, decision in zip(groups, decisions, strict=True):
        sides = [decision.egress] if item.verdict == "denied-egress" else [decision.ingress]
        if item.verdict in ("denied-both", "unknown"):
            sides = [decision.egress, decision.ingress]
        found.append(
            msgspec.structs.replace(
                item,
                reasons=words(REASONS, int(verdicts.reasons[item.example])),
                assumptions=words(ASSUMPTIONS, int(verdicts.assumptions[item.example])),
                policies=tuple(sorted({name for side in sides for name in side.policies})),
                rules=tuple(sorted({rule for side in sides for rule in side.rules})),
            )
        )
    return found


def words(table: dict[int, str], bits: int) -> tuple[str, ...]:
    """The words of the bits that are set."""
    return tuple(text for bit, text in table.items() if bits & bit)


def to_dict(flows: Flows, verdicts: Verdicts, number: int) -> dict[str, Any]:
    """One flow with its verdict, as ``fathom policy evaluate`` prints it; who decided is added by the caller."""
    side = {1: "allowed", 2: "denied", 3: "unknown"}
    found: dict[str, Any] = {
        "flow": flows.to_dict(number),
        "verdict": VERDICTS[int(verdicts.verdict[number])],
        "egress": {"outcome": side[int(verdicts.egress[number])]},
        "ingress": {"outcome": side[int(verdicts.ingress[number])]},
    }
    reasons = words(REASONS, int(verdicts.reasons[number]))
    assumptions = words(ASSUMPTIONS, int(verdicts.assumptions[number]))
    if reasons:
        found["reasons"] = list(reasons)
    if assumptions:
        found["assumptions"] = list(assumptions)
    return found
