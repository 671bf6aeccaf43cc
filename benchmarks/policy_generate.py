"""Generate for 3,000 workloads from 600,000 edges, to the last byte of YAML, in seconds of one core.

Twice: traffic as clusters have it, each workload with some tens of peers; and pairs at random, where nearly each edge
becomes a rule at both of its ends, which is the worst that can be. Each in a process of its own, as a command is.
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import time

from benchmarks.policy_cluster import flows, inventory, steady_flows
from benchmarks.report import Row, Spread
from fathom.policy.material import Material
from fathom.policy.questions import generate
from fathom.policy.yamltext import blocks

COUNT, ROUNDS, BAR_S = 600_000, 3, 30
TRAFFIC = {"some tens of peers each": steady_flows, "pairs at random, the worst": flows}


def once(traffic: str) -> None:
    """Prints seconds of CPU, rules, bytes of YAML, and the peak of memory (KiB) of this process."""
    who = inventory(3_000, 10)
    seen = TRAFFIC[traffic](COUNT, who)
    gc.disable()  # as the command does
    begin = time.process_time()
    made = generate(Material(who, seen))
    size = sum(map(len, blocks(made.documents)))
    took = time.process_time() - begin
    assert len(made.documents) == 3_000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([took, len(made.evidence), size, peak]))


def run() -> list[Row]:
    """The bar is for both."""
    found = []
    for traffic in TRAFFIC:
        program = f"from benchmarks.policy_generate import once; once({traffic!r})"
        rounds = [
            json.loads(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
            for _ in range(ROUNDS)
        ]
        spread = Spread.of([took for took, *_ in rounds])
        _, rules, size, _ = rounds[0]
        memory = max(peak for *_, peak in rounds) / 2**20
        note = f"{rules:,} rules, {size / 1e6:.0f} MB of YAML; peak of the process {memory:.2f} GiB"
        name = f"policy: generate for 3,000 workloads from 600,000 edges, {traffic}"
        found.append(Row(name, spread.text(1, " s CPU"), f"≤ {BAR_S} s", spread.median <= BAR_S, note))
    return found
