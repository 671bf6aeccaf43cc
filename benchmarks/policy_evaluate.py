"""Verdicts a second on one core: 1,000 policies over 30,000 pods, one million flows."""

from __future__ import annotations

import time

from benchmarks.policy_cluster import documents, flows, inventory, policies
from benchmarks.report import Row, Spread
from fathom.policy.compile import compile_policies
from fathom.policy.evaluate import evaluate
from fathom.policy.resolve import resolve

COUNT = 1_000_000


def run() -> list[Row]:
    """Compile once; then evaluate, and resolve with evaluate, five times each. Times are of the process's one core."""
    who = inventory(3000, 10)
    made = policies(documents(1000, 3000))
    traffic = flows(COUNT, who)
    resolved = resolve(traffic, who)
    begin = time.process_time()
    compiled = compile_policies(made, who)
    compiling = time.process_time() - begin
    only, both = [], []
    for _ in range(5):
        begin = time.process_time()
        again = resolve(traffic, who)
        middle = time.process_time()
        evaluate(compiled, again)
        end = time.process_time()
        only.append(COUNT / (end - middle) / 1e6)
        both.append(COUNT / (end - begin) / 1e6)
    rate, whole = Spread.of(only), Spread.of(both)
    note = f"compiled in {compiling:.2f} s; {len(resolved.rows)} rows; with resolution {whole.text(2)} million/s"
    return [Row("policy: verdicts/s, one core", rate.text(2, " million/s"), "≥ 1 million/s", rate.median >= 1, note)]
