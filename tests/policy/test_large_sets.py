"""Large inputs stay within the bounds that ``docs/limits.md`` states: each runs in a process that has no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import engine
import pytest
from reference_cluster import Doc
from world import World, namespace, pod, policy

ROOT = Path(__file__).resolve().parents[2]
LIMIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
sys.path.insert(0, {root!r})
"""


@dataclass(frozen=True)
class Bound:
    """Bytes of address space, and seconds of one core, as ``docs/limits.md`` states them."""

    memory: int
    seconds: int


def stated(what: str) -> Bound:
    """The bounds in the line of ``docs/limits.md`` that begins so."""
    text = (ROOT / "docs/limits.md").read_text()
    found = re.search(rf"^\| {re.escape(what)} +\| ([\d,]+) MiB +\| ([\d,]+) s +\|$", text, re.MULTILINE)
    assert found, what
    memory, seconds = (int(number.replace(",", "")) for number in found.groups())
    return Bound(memory << 20, seconds)


#: One text whatever is in it; a policy set of a thousand and of ten thousand.
TEXT, SMALLER_SET, SET = "one text, whatever it holds", "1,000 policies", "10,000 policies"


def run(code: str, bound: Bound, *arguments: str) -> str:
    """The output of a program that has no more than this memory and this time."""
    program = LIMIT.format(memory=bound.memory, seconds=bound.seconds, root=str(ROOT)) + code
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2_000:]}"
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
    assert run(COMPILE.format(count=1_000), stated(SMALLER_SET)) == "20000 0"


@pytest.mark.slow
def test_ten_thousand_policies_within_bounds() -> None:
    assert run(COMPILE.format(count=10_000), stated(SET)) == "20000 0"


WRITE = """
from pathlib import Path
from benchmarks.policy_cluster import documents
from fathom.policy.generate import to_yaml
Path(sys.argv[1]).write_text(to_yaml(documents(10_000, 10_000)))
"""


@pytest.mark.slow
def test_ten_thousand_policies_in_yaml_are_read_within_bounds(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    run(WRITE, Bound(8 << 30, 600), str(file))
    code = """
from fathom.cli.policy.inputs import read_policies
print(len(read_policies(sys.argv[1:]).set.policies))
"""
    assert run(code, stated(SET), str(file)) == "10000"


FATHOM = """
from fathom.cli.main import main
sys.stderr = sys.stdout
print("status", main(["policy", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("option", ["--policies", "--manifests", "--flows"])
def test_a_file_of_a_hundred_megabytes_is_refused_within_bounds(tmp_path: Path, option: str) -> None:
    big, small = tmp_path / "big.yaml", tmp_path / "small.yaml"
    with big.open("w") as file:
        file.write("a: ")
        for _ in range(100 if option != "--flows" else 600):
            file.write("x" * 1_000_000)
    small.write_text("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b}}")
    given = {"--policies": str(small), "--manifests": str(small), option: str(big)}
    arguments = [word for pair in given.items() for word in pair]
    told = run(FATHOM, stated(TEXT), "replay", *arguments)
    assert f"{big} is larger than {512 if option == '--flows' else 64} MiB" in told
    assert told.endswith("status 2")


READ = """
from fathom.policy import manifests, policysets
text = {text}
for read in (policysets.read_texts, lambda texts: manifests.read_texts(texts).records):
    print(read([("f", text)]).problems[0])
"""
#: Expressions of texts that are as large as they may be, or larger, and what is said of them.
TEXTS = {
    "100 MB": ("'a: ' + 'x' * 100_000_000", "100000003 characters are more than the bound of 67108864"),
    "a bomb": (
        "'a: &a [x, x, x, x, x, x, x, x, x, x]\\n' + ''.join("
        "f\"{c}: &{c} [{', '.join(['*' + p] * 10)}]\\n\" for p, c in zip('abcdefghijklm', 'bcdefghijklm'))",
        "aliases followed",
    ),
    "a bomb of merges": (
        "'a: &a {x: 1}\\n' + ''.join("
        "f\"{c}: &{c} {{<<: [{', '.join(['*' + p] * 10)}]}}\\n\" for p, c in zip('abcdefghijklm', 'bcdefghijklm'))",
        "aliases followed",
    ),
    "as many values as fit": ("'a: [' + 'a,' * 4_194_000 + 'a]'", "more than 2000000 values"),
    "as many lines as fit": ("'- a\\n' * 2_097_000", "more than 2000000 values"),
    "as many field names as fit": ("''.join(f'{n}:\\n' for n in range(1_040_000))", "more than 2000000 values"),
    "as many objects of JSON as fit": ("'[' + '{},' * 22_000_000 + '1]'", "more than 4000000 objects and lists"),
    "as many documents as fit": ("'a: 1\\n---\\n' * 250_000", "more than 200000 documents"),
    "elements of a list": ("'[' + '[],' * 3_900_000 + '1]'", "more than 200000 documents"),
    "one long line": ("'[' * 3_900_000", "nested deeper than 64"),
    "one long text": ("'a: \"' + '\\\\n' * 4_190_000 + '\"'", "has no kind"),
}


#: Those that take more than some seconds.
LONGER = {name for name in TEXTS if name.startswith("as many")} | {"elements of a list", "a bomb of merges"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONGER else n for n in TEXTS])
def test_a_text_stays_within_bounds(name: str) -> None:
    text, words = TEXTS[name]
    told = run(READ.format(text=text), stated(TEXT))
    assert words in told, told


SELECTOR = """
import engine
from world import World, namespace, pod, policy
labels = {f"label{n}": f"v{n}" for n in range(1_000)}
other = labels | {"label999": "other"}
pods = (pod("a/web", "10.0.0.1", labels=labels), pod("a/db", "10.0.0.2", labels=other), pod("a/x", "10.0.0.3"))
world = World(namespace("a"), *pods)
ingress = [{"from": [{"podSelector": {"matchLabels": other}}]}]
expressions = [{"key": key, "operator": "In", "values": [value, *labels.values()]} for key, value in labels.items()]
for selector in ({"matchLabels": labels}, {"matchExpressions": expressions}):
    document = policy("a/p", "{podSelector: {}}") | {"spec": {"podSelector": selector, "ingress": ingress}}
    for src, dst in (("db", "web"), ("x", "web"), ("web", "x")):
        print(world.see([document], f"a/{src} > a/{dst} TCP/80"))
"""


def test_selectors_of_a_thousand_labels_within_bounds() -> None:
    here = f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    told = run(here + SELECTOR, stated(SMALLER_SET))
    assert told.splitlines() == ["allowed", "denied-ingress", "allowed"] * 2


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
