"""Policies audited by a real server, from an agent's stream to a person's terminal, with the server killed in between.

Every batch is made up, so that the exact number of flows and connections of each policy and verdict is known.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from test_rest_process import Process, agent_of, until, until_async

from fathom.client import Client
from fathom.client.policies import PolicyClient
from fathom.errors import UsageError
from fathom.events.batches import Batch, BatchId, Clock, Observed
from fathom.events.edges import FACT, Edge, Workload
from fathom.policy import asked
from fathom.policy.inventory import Namespace, Pod, Records
from fathom.server.audit_answers import AuditDenial
from fathom.store.opening import open_store

NS = 1_000_000_000
ADDRESSES = {"web": "10.0.0.1", "db": "10.0.0.2", "ops": "10.0.0.3"}
WEB_TO_DB = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db
  namespace: shop
  annotations: {fathom.dev/audit: "true", team: x}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
"""
OPS_TO_DB = WEB_TO_DB.replace("app: web", "app: ops").replace("name: db", "name: ops")
DB, OPS = "NetworkPolicy shop/db", "NetworkPolicy shop/ops"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """``serve(**env)``: a server over a store that knows the shop's pods; none is left."""
    directory, processes = tmp_path / "data", list[Process]()
    directory.mkdir(mode=0o700)
    store = open_store(f"sqlite://{directory}/store")
    pods = [Pod("shop", f"{name}-1", {"app": name}, (ip,), "node-1", workload=("Deployment", name))
            for name, ip in ADDRESSES.items()]  # fmt: skip
    store.keep_inventory(Records(namespaces=[Namespace("shop", {})], pods=pods))
    store.close()

    def begin(**env: str) -> Process:
        processes.append(Process(directory, **env))
        return processes[-1].started()

    yield begin
    for process in processes:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


def edge(src: str, dst: str, port: int = 5432, **given: Any) -> Edge:
    who = Workload(node="node-1", namespace="shop", kind="Deployment", name=src, pod=f"{src}-1")
    address = ADDRESSES.get(dst, dst)
    return Edge(who, "egress", address, address, "TCP", port, **given)


#: What a batch may hold, and what becomes of it: verdict together, by db alone and by ops alone.
KINDS = {
    edge("web", "db"): ("allowed", "allowed", "denied-ingress"),
    edge("ops", "db"): ("allowed", "denied-ingress", "allowed"),
    edge("web", "ops", 22): ("allowed", "", ""),
    edge("ops", "198.51.100.7", 443): ("allowed", "", ""),
    edge("gone", "db", 5433): ("unknown", "unknown", "unknown"),
    edge("db", "db", 5434): ("allowed", "", ""),  # itself
}


class Told:
    """Batches of one agent, and what must be counted of them."""

    def __init__(self, seed: int) -> None:
        self.flows, self.connections = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self.sequence = self.facts = 0
        self._random = random.Random(seed)

    def batch(self) -> Batch:
        self.sequence += 1
        chosen = self._random.sample(list(KINDS), self._random.randint(1, len(KINDS)))
        bucket = int(time.time()) - 5
        facts = np.zeros(len(chosen), FACT)
        for row, of in zip(facts, chosen, strict=True):
            row["edge"], row["bucket"], row["connections"] = of.id, bucket, self._random.randint(0, 9)
            for policy, verdict in zip(("", DB, OPS), KINDS[of], strict=True):
                if verdict:
                    self.flows[policy, verdict] += 1
                    self.connections[policy, verdict] += int(row["connections"])
        self.facts += len(chosen)
        now_ns = time.time_ns()
        observed = (Observed(now_ns - 10 * NS, now_ns),)
        return Batch(BatchId("node-1", "aa", self.sequence), Clock(1, 2, now_ns), tuple(chosen), facts, (), observed)


async def counted(client: Client, name: str = "shop") -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Flows and connections by policy and verdict, as the server tells them."""
    answer = await client.audit(name)
    flows, connections = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for policy, verdicts in (("", answer.verdicts), *((item.policy, item.verdicts) for item in answer.items)):
        for row in verdicts:
            flows[policy, row.verdict] += row.flows
            connections[policy, row.verdict] += row.connections
    return flows, connections


async def all_judged(client: Client, facts: int) -> None:
    await until_async(lambda: client.audit("shop"), lambda answer: answer.audit.facts == facts)
    assert (await client.audits()).waiting == 0


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Samples of one metric by the values of its labels."""
    rows = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return {tuple(re.findall(r'="([^"]*)"', labels)): float(value) for labels, value in rows}


async def test_every_batch_is_counted_once_by_policy_and_verdict_through_kills(
    serve: Callable[..., Process], tmp_path: Path
) -> None:
    process, told, chance = serve(), Told(7), random.Random(os.urandom(8))
    port = process.link
    async with process.client() as client:
        await client.register_audit("shop", f"{WEB_TO_DB}---\n{OPS_TO_DB}")
    async with agent_of(process, tmp_path) as agent:
        for turn in range(6):
            for _ in range(40):
                await agent.put(told.batch())
            wanted = 40 * turn + chance.randint(1, 39)
            await until(lambda wanted=wanted: agent.state().acknowledged >= wanted)  # type: ignore[misc]
            await asyncio.sleep(chance.uniform(0, 0.05))
            process.popen.kill()  # batches are on their way, wait to be judged, and are judged
            process.ended()
            process = serve(FATHOM_LINK_LISTEN=f"127.0.0.1:{port}")
        await until(lambda: not agent.state().queued)
        async with process.client() as client:
            await all_judged(client, told.facts)
            assert await counted(client) == (told.flows, told.connections)
            before = told.facts
            for _ in range(10):
                await agent.put(told.batch())
            await until(lambda: not agent.state().queued)
            await all_judged(client, told.facts)
            assert await counted(client) == (told.flows, told.connections)
            (summary,) = (await client.audits()).items
            assert (summary.missed, summary.flows) == (0, told.facts)
            assert summary.denied == 0
            assert summary.unknown == told.flows["", "unknown"]
    assert told.facts > before
    assert "Traceback" not in process.log()


async def test_metrics_count_exactly_and_denials_are_streamed(serve: Callable[..., Process], tmp_path: Path) -> None:
    process, told = serve(), Told(3)
    async with process.client() as client, agent_of(process, tmp_path) as agent:
        await client.register_audit("shop", f"{WEB_TO_DB}---\n{OPS_TO_DB}")
        await client.register_audit("strict", WEB_TO_DB)
        stream = client.audit_stream(audit="strict")
        following = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await until_async(client.status, lambda status: status.streams == 1)
        for _ in range(30):
            await agent.put(told.batch())
        await until(lambda: not agent.state().queued)
        await all_judged(client, told.facts)
        async with asyncio.timeout(20):
            denial = await following
            while denial.offender.verdict == "unknown":
                denial = await anext(stream)
        assert isinstance(denial, AuditDenial)
        assert (denial.audit, denial.offender.src, denial.offender.dst) == (
            "strict", "shop/Deployment/ops", "shop/Deployment/db",
        )  # fmt: skip
        assert denial.offender.policies == [DB]
        await stream.aclose()
        await until_async(client.status, lambda status: status.streams == 0)
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"http://127.0.0.1:{process.rest}/metrics")).text
        by_set = samples(text, "fathom_policy_audit_flows_total")
        assert {v: n for (audit, v), n in by_set.items() if audit == "shop" and n} == {
            verdict: n for (policy, verdict), n in told.flows.items() if not policy
        }
        for name, wanted in (("flows", told.flows), ("connections", told.connections)):
            by_policy = samples(text, f"fathom_policy_audit_policy_{name}_total")
            assert {(p, v): n for (audit, p, v), n in by_policy.items() if audit == "shop" and n} == {
                key: n for key, n in wanted.items() if key[0] and n
            }
        assert samples(text, "fathom_policy_audit_denied_flows_total") == {
            ("shop",): 0,
            ("strict",): told.flows[DB, "denied-ingress"],
        }
        assert samples(text, "fathom_policy_audit_batches_total") == {(): 30}
        assert samples(text, "fathom_policy_audit_missed_batches_total") == {(): 0}
        offenders = (await client.audit_offenders("strict")).items
        (ops,) = [row for row in offenders if row.verdict == "denied-ingress"]
        assert (ops.flows, ops.connections) == (
            told.flows[DB, "denied-ingress"], told.connections[DB, "denied-ingress"],
        )  # fmt: skip


def fathom(process: Process, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """The command line, asking ``process``."""
    env = {**os.environ, "FATHOM_SERVER": f"http://127.0.0.1:{process.rest}", "FATHOM_TOKEN": process.key}
    command = [sys.executable, "-m", "fathom.cli.main", "policy", *arguments]
    return subprocess.run(command, env=env, input=input, capture_output=True, text=True, timeout=60, check=False)


async def test_the_command_line_from_registering_to_promoting(serve: Callable[..., Process], tmp_path: Path) -> None:
    process = serve()

    async def run(*arguments: str, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = await asyncio.to_thread(fathom, process, *arguments, **more)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "db.yaml").write_text(WEB_TO_DB)
    assert (await run("audit", "add", "shop", str(folder))).stdout.startswith("shop: 1 policies, judged since 20")
    added = await run("audit", "add", "base", "-", "--enforced", input=OPS_TO_DB)
    assert added.stdout == "base: 1 policies, in force, and judged along\n"
    refused = await run("audit", "add", "bad", "-", status=2, input="kind: [")
    assert "not YAML" in refused.stderr
    async with process.client() as client, agent_of(process, tmp_path) as agent:
        now_ns = time.time_ns()
        facts = np.zeros(2, FACT)
        told = edge("web", "db"), edge("ops", "db")
        facts["edge"], facts["bucket"], facts["connections"] = [e.id for e in told], now_ns // NS - 5, (3, 4)
        observed = (Observed(now_ns - 10 * NS, now_ns),)
        await agent.put(Batch(BatchId("node-1", "aa", 1), Clock(1, 2, now_ns), told, facts, (), observed))
        await all_judged(client, 2)
    listed = (await run("audit", "list")).stdout.splitlines()
    assert re.split(r" {2,}", listed[0]) == [
        "NAME", "STATE", "POLICIES", "SINCE", "FLOWS", "DENIED", "UNKNOWN", "MISSED",
    ]  # fmt: skip
    assert [line.split()[:2] for line in listed[1:3]] == [["base", "enforced"], ["shop", "audited"]]
    shown = (await run("audit", "status", "shop")).stdout
    assert "2 allowed · newly denied 0, newly unknown 0" in shown
    assert "! it was audited for 0.0 h, less than 24.0 h" in shown
    assert re.search(r"NetworkPolicy shop/db +1 +1 +0", shown)
    alone = (await run("audit", "status", "shop", "--scope", "alone")).stdout
    assert re.search(r"shop/Deployment/ops +shop/Deployment/db +TCP/5432 +denied-ingress +1 +4", alone)
    found = yaml.safe_load((await run("audit", "status", "shop", "-o", "yaml")).stdout)
    assert found["status"]["audit"]["policies"] == [DB]
    not_yet = await run("promote", "shop", status=1)
    assert not_yet.stdout == ""
    assert "it was audited for 0.0 h, less than 24.0 h" in not_yet.stderr
    assert "shop is not proved" in not_yet.stderr
    (document,) = yaml.safe_load_all((await run("promote", "shop", "--force")).stdout)
    annotations = document["metadata"]["annotations"]
    assert document["spec"] == yaml.safe_load(WEB_TO_DB)["spec"]
    assert "fathom.dev/audit" not in annotations
    assert (annotations["team"], annotations["fathom.dev/audit-flows"]) == ("x", "2")
    assert "audited for" in annotations["fathom.dev/audit-forced"]
    (proved,) = yaml.safe_load_all((await run("promote", "shop", "--need", "0s")).stdout)
    assert "fathom.dev/audit-forced" not in proved["metadata"]["annotations"]
    assert (await run("audit", "remove", "shop")).stdout == "shop: forgotten\n"
    assert "no policy set of this name" in (await run("audit", "remove", "shop", status=2)).stderr
    assert "no policy set of this name" in (await run("promote", "shop", status=2)).stderr


async def test_hostile_bodies_disturb_neither_the_ingest_nor_the_audit(
    serve: Callable[..., Process], tmp_path: Path
) -> None:
    process, told = serve(), Told(11)
    bomb = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)
    ])  # fmt: skip
    wide = WEB_TO_DB.replace("app: web", ", ".join(f"k{n}: v" for n in range(1_000)))
    deep = "a: " + "[" * 50_000
    many = "---\n".join(WEB_TO_DB.replace("name: db", f"name: db{n}") for n in range(2_000))
    async with process.client() as client, agent_of(process, tmp_path) as agent:
        await client.register_audit("shop", f"{WEB_TO_DB}---\n{OPS_TO_DB}")
        hostile = asyncio.gather(
            *(client.register_audit(f"bad{n}", text) for n, text in enumerate((bomb, deep, many, "x" * 20_000_000))),
            client.register_audit("wide", wide),
            return_exceptions=True,
        )
        for _ in range(20):
            await agent.put(told.batch())
        *refused, taken = await hostile
        assert all(isinstance(error, UsageError) for error in refused), refused
        assert refused[3].what == "the body is larger than 8388608 bytes"
        assert taken.audit.policies == [DB]
        await until(lambda: not agent.state().queued)
        await all_judged(client, told.facts)
        assert await counted(client) == (told.flows, told.connections)
        assert [item.name for item in (await client.audits()).items] == ["shop", "wide"]
        async with PolicyClient(client.server, process.key) as policies:
            texts = [asked.Text("db.yaml", WEB_TO_DB)]
            for text in (bomb, deep, many):
                with pytest.raises(UsageError):
                    await policies.policy_replay(asked.PoliciesAsked(policies=[asked.Text("x", text)]))
            verdicts = Counter([item.verdict async for item in policies.policy_evaluate(
                asked.PoliciesAsked(policies=texts, since="1h"))])  # fmt: skip
            replayed = await policies.policy_replay(asked.PoliciesAsked(policies=texts, since="1h"))
        assert set(verdicts) == {"allowed", "denied-ingress", "unknown"}
        assert replayed.connections["denied-ingress"] == told.connections[DB, "denied-ingress"]
    assert "Traceback" not in process.log()
