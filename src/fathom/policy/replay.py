"""Replay: what a policy set would have denied of recorded traffic that was let through, by workload, peer and port.

Groups are told with first and last seen, how many flows and connections, who decided, and the rule that is absent.
Verdicts that are unknown are groups of their own: they are neither allowed nor hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from fathom.policy.columns import distinct, sums, total
from fathom.policy.compile import Compiled
from fathom.policy.decide import Hit, decide
from fathom.policy.evaluate import ALLOW, ALLOWED, VERDICTS, Verdicts, evaluate
from fathom.policy.flows import OBSERVED, Flows, protocol_word
from fathom.policy.labelling import Labels, ranks
from fathom.policy.options import ASSUMPTIONS, REASONS
from fathom.policy.resolve import Resolved

_TEXTS = frozenset(("src", "dst", "name", "src_address", "dst_address"))
#: Kinds of observation (index into OBSERVED) of what was not let through.
NOT_LET_THROUGH = [OBSERVED.index(word) for word in ("failed", "dropped")]


class Group(msgspec.Struct, frozen=True, gc=False):
    """Flows of one verdict between two workloads over one protocol and port.

    ``flows`` counts rows, ``connections`` what was counted on them; ``first`` and ``last`` are epoch seconds (0: not
    known). ``policies`` select the side that decided, ``rules`` of them match (both empty beyond the groups that were
    asked to be explained). ``example`` is one flow's number. ``absent`` names the policies that would allow the group
    (empty where it was not asked, or none is suggested: ``no_rule`` says why).
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
    absent: tuple[str, ...] = ()
    no_rule: str = ""


class Replay(msgspec.Struct, frozen=True):
    """All groups that are not allowed, most connections first, and counts of flows and connections by verdict.

    All of them are of flows that were let through. ``stopped`` are groups of those that were dropped, refused or
    rejected when they were seen, and would not be allowed either: nobody misses them.
    """

    groups: tuple[Group, ...]
    stopped: tuple[Group, ...]
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
    through = ~np.isin(flows.rows["observed"], NOT_LET_THROUGH)
    against = found.verdict != ALLOWED
    groups = group(flows, resolved, found.verdict, np.flatnonzero(against & through))
    stopped = group(flows, resolved, found.verdict, np.flatnonzero(against & ~through))
    explained_groups = told(compiled, resolved, found, groups[:explained])
    kinds, weights = found.verdict[through], flows.rows["count"][through]
    counted = {word: int(np.sum(kinds == n)) for n, word in enumerate(VERDICTS)}
    connections = {word: total(weights[kinds == n]) for n, word in enumerate(VERDICTS)}
    seen = flows.rows["last"] > 0
    first = int(flows.rows["first"][seen].min()) if seen.any() else 0
    last = int(flows.rows["last"][seen].max()) if seen.any() else 0
    return Replay((*explained_groups, *groups[explained:]), tuple(stopped), counted, connections, first, last)


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
    unique, inverse = distinct(_keys(flows, labels, kind, wanted))
    count = len(unique)
    number = np.bincount(inverse, minlength=count)
    connections = sums(rows["count"], inverse, count)
    first, last = np.full(count, 1 << 62, np.int64), np.zeros(count, np.int64)
    known = rows["last"] > 0
    np.minimum.at(first, inverse[known], rows["first"][known])
    np.maximum.at(last, inverse[known], rows["last"][known])
    first[last == 0] = 0
    example = wanted[_examples(flows, rows, inverse, count)]
    order = np.lexsort((unique[:, 2], unique[:, 1], unique[:, 0], -connections))
    columns = (*unique[order].T, *(column[order] for column in (number, connections, first, last, example)))
    return [
        Group(
            labels.texts[src],
            labels.texts[dst],
            protocol_word(code >> 24),
            code >> 8 & 0xFFFF,
            kinds[code & 0xFF],
            flows_,
            opened,
            begin,
            end,
            example=place,
        )
        for src, dst, code, flows_, opened, begin, end, place in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def members(groups: Sequence[Group], flows: Flows, resolved: Resolved, kind: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each flow the number of its group in ``groups``, which a replay of the same verdicts gave; -1: of none."""
    found = np.full(len(flows), -1, np.int64)
    through = ~np.isin(flows.rows["observed"], NOT_LET_THROUGH)
    wanted = np.flatnonzero((kind != ALLOWED) & through)
    if not groups or not len(wanted):
        return found
    unique, inverse = distinct(_keys(flows, Labels(flows, resolved), kind, wanted))
    numbers = np.full(len(unique), -1, np.int64)
    numbers[inverse[np.searchsorted(wanted, [item.example for item in groups])]] = np.arange(len(groups))
    found[wanted] = numbers[inverse]
    return found


def _keys(flows: Flows, labels: Labels, kind: NDArray[np.uint8], wanted: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Columns in which flows of one group are equal: labels of both ends, protocol with port and kind."""
    rows = flows.rows[wanted]
    ports = rows["protocol"].astype(np.int64) << 24 | rows["port"].astype(np.int64) << 8 | kind[wanted]
    return [labels.src[wanted], labels.dst[wanted], ports]


def _examples(flows: Flows, rows: NDArray[np.void], of: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """For each of ``count`` groups (``of`` says whose each row is) the row that stands for it.

    The first by what is written in it; rows come in any order.
    """
    left = np.arange(len(rows))
    for name in ("src", "dst", "name", "src_address", "dst_address", "oriented", "observed", "first", "last", "count"):
        if len(left) == count:
            break
        key = _in_order(flows, rows[name][left]) if name in _TEXTS else rows[name][left].astype(np.int64)
        first = np.full(count, np.iinfo(np.int64).max, np.int64)
        np.minimum.at(first, of[left], key)
        left = left[key == first[of[left]]]
    found = np.full(count, len(rows), np.int64)
    np.minimum.at(found, of[left], left)
    return found


def _in_order(flows: Flows, texts: NDArray[np.int32]) -> NDArray[np.int64]:
    """Numbers that are in the order of the strings that ``texts`` point at."""
    occurs = np.zeros(len(flows.strings), bool)
    occurs[texts] = True
    places = ranks([flows.strings[number] for number in np.flatnonzero(occurs).tolist()])
    found: NDArray[np.int64] = places[(np.cumsum(occurs) - 1)[texts]]
    return found


def told(compiled: Compiled, resolved: Resolved, verdicts: Verdicts, groups: Sequence[Group]) -> list[Group]:
    """Groups with what decided their example: at the sides that deny or are unknown, or at both where it is allowed."""
    decisions = decide(compiled, resolved, np.array([item.example for item in groups], np.int64))
    found: list[Group] = []
    for item, decision in zip(groups, decisions, strict=True):
        outcomes = int(verdicts.egress[item.example]), int(verdicts.ingress[item.example])
        against = [outcome != ALLOW for outcome in outcomes]
        both = zip((decision.egress, decision.ingress), against, strict=True)
        sides = [side for side, counts in both if counts or not any(against)]
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
