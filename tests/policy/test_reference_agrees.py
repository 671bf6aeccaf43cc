"""The engine against the slow reference, on cases that hypothesis makes.

``FATHOM_POLICY_TRIPLES`` sets how many (policy set, inventory, flow) triples the quick run compares; the slow run
compares a million, and asserts what must have occurred in them.
"""

from __future__ import annotations

import os

import pytest
from agreement import Tally, agree
from hypothesis import HealthCheck, given, settings
from strategies import Case, cases

QUICK = int(os.environ.get("FATHOM_POLICY_TRIPLES", "20000"))
FLOWS = 240


def compare(triples: int) -> Tally:
    """Run hypothesis until about that many triples were compared."""
    tally = Tally()

    @settings(
        max_examples=triples // FLOWS + 1,
        deadline=None,
        database=None,
        derandomize=triples == 20_000,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(FLOWS))
    def run(case: Case) -> None:
        agree(case, tally)

    run()
    return tally


def test_engine_and_reference_agree_on_every_verdict() -> None:
    tally = compare(QUICK)
    assert tally.triples >= min(QUICK, 1_000)
    assert {word for word, count in tally.verdicts.items() if count} >= {"allowed", "unknown", "denied-both"}


@pytest.mark.slow
def test_engine_and_reference_agree_on_a_million_triples() -> None:
    tally = compare(1_040_000)
    print(f"{tally.triples} triples, {tally.denied:.0%} denied: {dict(tally.verdicts)}")
    print(f"edge cases: {sorted(tally.cases.items())}")
    assert tally.triples >= 1_000_000
    assert tally.denied >= 0.30
    seldom = {number: tally.cases[number] for number in range(1, 33) if tally.cases[number] < 1_000}
    assert not seldom, f"edge cases that occurred fewer than 1,000 times: {seldom}"
