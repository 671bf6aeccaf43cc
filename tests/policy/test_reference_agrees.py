"""The engine against the slow reference, on cases that hypothesis makes.

``FATHOM_POLICY_TRIPLES`` sets how many (policy set, inventory, flow) triples the quick run compares; the slow run
compares a million, and asserts what must have occurred in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from agreement import Tally, compare
from cores import shared
from edge_cases import CASES

QUICK = int(os.environ.get("FATHOM_POLICY_TRIPLES", "20000"))


def test_engine_and_reference_agree_on_every_verdict() -> None:
    tally = compare(QUICK)
    assert tally.triples >= min(QUICK, 1_000)
    assert {word for word, count in tally.verdicts.items() if count} >= {"allowed", "unknown", "denied-both"}


@pytest.mark.slow
def test_engine_and_reference_agree_on_a_million_triples(tell: Callable[[str], None]) -> None:
    tally = Tally()
    for part in shared(compare, 1_040_000, 40):
        tally.add(part)
    tell(f"{tally.triples} triples, {tally.denied:.0%} denied: {dict(tally.verdicts)}")
    tell(f"edge cases: {dict(sorted(tally.cases.items(), key=lambda item: (int(item[0].split()[0]), item[0])))}")
    assert tally.triples >= 1_000_000
    assert tally.denied >= 0.30
    wanted = [name for number, case in CASES.items() for name in (str(number), *case.clauses(number))]
    seldom = {name: tally.cases[name] for name in wanted if tally.cases[name] < 1_000}
    assert not seldom, f"edge cases that occurred fewer than 1,000 times: {seldom}"
