"""Large inputs stay within stated bounds: each runs in a process whose address space is limited."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import engine
import pytest
from reference_cluster import Doc
from world import World, namespace, pod, policy

ROOT = Path(__file__).resolve().parents[2]
LIMIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
sys.path.insert(0, {root!r})
"""
#: What ``docs/policy.md`` states: memory for ten thousand policies, and for reading any text.
SETS, TEXTS = 2_500 << 20, 1_500 << 20


def run(code: str, limit: int) -> str:
    """The output of a program in a process of at most ``limit`` bytes of address space."""
    program = LIMIT.format(limit=limit, root=str(ROOT)) + code
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.strip()


COMPILE = """
from benchmarks.policy_cluster import documents, flows, inventory, policies
from fathom.policy.compile import compile_policies
from fathom.policy.evaluate import evaluate
from fathom.policy.resolve import resolve
who = inventory({count}, 3)
resolved = resolve(flows(20_000, who), who)
verdicts = evaluate(compile_policies(policies(documents({count}, {count})), who), resolved)
print(len(verdicts.verdict), int((verdicts.verdict == 4).sum()))
"""


def test_a_thousand_policies_within_bounds() -> None:
    assert run(COMPILE.format(count=1_000), SETS) == "20000 0"


@pytest.mark.slow
def test_ten_thousand_policies_within_bounds() -> None:
    assert run(COMPILE.format(count=10_000), SETS) == "20000 0"


def test_a_file_of_a_hundred_megabytes_is_refused_within_bounds() -> None:
    code = """
from fathom.policy.policysets import read_texts
found = read_texts([("big.yaml", "a: " + "x" * 100_000_000)])
print(found.refused[0])
"""
    told = run(code, TEXTS)
    assert "100000003 characters are more than the bound of 67108864" in told


def test_a_bomb_is_refused_within_bounds() -> None:
    code = """
from fathom.policy.policysets import read_texts
names = "abcdefghijklm"
bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\\n"
bomb += "".join(f"{c}: &{c} [{', '.join(['*' + p] * 10)}]\\n" for p, c in zip(names, names[1:]))
print(read_texts([("bomb.yaml", bomb)]).refused[0].reason)
"""
    assert "aliases followed" in run(code, TEXTS)


def test_flows_between_workloads_of_a_thousand_unlike_replicas_stay_few_rows() -> None:
    def replica(kind: str, number: int) -> Doc:
        labels = {"app": kind, "apps.kubernetes.io/pod-index": str(number)}
        block = {"x": 1, "y": 2}[kind]
        address = f"10.{block}.{number // 250}.{number % 250 + 1}"
        return pod(f"a/{kind}-{number}", address, labels=labels, owner=("StatefulSet", kind))

    world = World(namespace("a"), *[replica(kind, number) for kind in "xy" for number in range(1_000)])
    by_app = policy("a/p", "{podSelector: {matchLabels: {app: y}}, ingress: [{from: [{podSelector: {}}]}]}")
    by_pod = "{podSelector: {matchLabels: {apps.kubernetes.io/pod-index: '3'}}}"
    some = policy("a/p", f"{{podSelector: {{matchLabels: {{app: y}}}}, ingress: [{{from: [{by_pod}]}}]}}")
    flow = "a/StatefulSet/x > a/StatefulSet/y TCP/80"
    item = {"src": "a/StatefulSet/x", "dst": "a/StatefulSet/y", "protocol": "TCP", "port": 80}
    resolved = engine.resolve(engine.flows([item] * 3), engine.inventory(world.cluster))
    assert len(resolved.rows) == 3 * 1_000
    assert world.see([by_app], flow) == "allowed"
    assert world.see([some], flow) == "unknown"
    assert world.reasons([some], flow) == ["the pods of the workload differ"]
