"""From a store with many edges to a file, and from the file to the same answers in another process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

from fathom.events.batches import Batch, BatchId, Clock, Loss, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.policy import policysets, questions
from fathom.policy.inventory import Inventory
from fathom.store.interface import Store, Window
from fathom.store.material import material
from fathom.store.opening import open_store

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.policy_cluster import documents, inventory  # noqa: E402 - it lies beside the tests

#: 2023-11-15 00:00:00 UTC.
DAY = 1_700_006_400
HOURS = 5
WINDOW = Window(DAY, DAY + HOURS * 3_600)
NS = 1_000_000_000
FATHOM = (sys.executable, "-c", "import sys; from fathom.cli.main import main; sys.exit(main())")


def batches(who: Inventory, edges: int) -> Iterator[Batch]:
    """What one node saw of ``edges`` edges between pods, over some hours, 20,000 edges a batch."""
    rng, pods, begun = random.Random(7), who.records.pods, 0
    told: dict[int, Edge] = {}
    for number in range(-(-edges // 20_000)):
        count = min(20_000, edges - begun)
        begun += count
        while len(told) < begun:
            mine, theirs = rng.choice(pods), rng.choice(pods).addresses[0]
            workload = Workload("", "n1", mine.namespace, *mine.workload, mine.name)
            edge = Edge(workload, "egress", theirs, theirs, "TCP", rng.choice((80, 443, 9000, 5432)))
            told[edge.id] = edge
        fresh = dict(list(told.items())[-count:])
        facts = np.zeros(count, FACT)
        facts["edge"] = list(fresh)
        facts["bucket"] = DAY + 10 * np.random.default_rng(number).integers(0, HOURS * 360, count)
        facts["connections"] = 1 + np.arange(count) % 9
        losses = (Loss(DAY + 3_600, "kernel", "tcp", "ring_full", number + 1),)
        end = WINDOW.until_s
        observed = (Observed(DAY * NS, (DAY + 5_400) * NS), Observed((DAY + 6_000) * NS, end * NS))
        clock = Clock(0, 0, end * NS)
        yield Batch(BatchId("n1", "b", number + 1), clock, tuple(fresh.values()), facts, losses, observed)


def filled(url: str, who: Inventory, edges: int) -> Store:
    store = open_store(url, clock=lambda: DAY + 43_200.0)
    for batch in batches(who, edges):
        assert store.write(batch)
    store.keep_inventory(who.records)
    return store


def fathom(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "FATHOM_SERVER": "http://127.0.0.1:1"}
    return subprocess.run(
        [*FATHOM, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("edges", "policies"),
    [(20_000, 50), pytest.param(600_000, 1_000, marks=pytest.mark.slow)],
)
def test_a_recording_replays_in_another_process_as_its_store_does(tmp_path: Path, edges: int, policies: int) -> None:
    workloads = max(50, edges // 200)
    who = inventory(workloads, 10)
    text = yaml.dump_all(documents(policies, workloads), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    (tmp_path / "policies.yaml").write_text(text)
    store = filled(f"sqlite://{tmp_path}/store", who, edges)
    made = fathom(tmp_path, "record", "export", "all.fathom", "--store", f"sqlite://{tmp_path}/store")
    assert (made.returncode, made.stderr) == (0, "")
    told = json.loads(fathom(tmp_path, "record", "info", "all.fathom", "-o", "json").stdout)
    assert told["edges"] == edges
    assert told["coverage"]["share"] == pytest.approx(1 - 600 / (HOURS * 3_600), abs=1e-3)
    assert sum(row["count"] for row in told["loss"]) == sum(range(-(-edges // 20_000) + 1))

    replayed = fathom(tmp_path, "policy", "replay", "--policies", "policies.yaml", "--recording", "all.fathom",
                      "--limit", "5000", "-o", "json")  # fmt: skip
    assert replayed.returncode == 1, replayed.stderr
    expected = questions.replay(material(store), policysets.read_texts([("policies.yaml", text)]), limit=5_000)
    store.close()
    assert expected.basis.flows == edges
    assert expected.groups
    assert json.loads(replayed.stdout) == json.loads(msgspec.json.encode(expected))
