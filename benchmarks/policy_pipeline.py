"""A repository of 20 policies and 500 pods in a pipeline: from the start of the process to its end, as a user waits."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Row, Spread

ROUNDS, BAR = 5, 1.0
PODS, WORKLOADS, POLICIES, FLOWS = 500, 50, 20, 2_000

_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {space}
  labels: {{app: app{app}, team: t{team}, pod-template-hash: 7d9f8c6b5}}
  ownerReferences:
  - {{apiVersion: apps/v1, kind: ReplicaSet, name: app{app}-7d9f8c6b5, controller: true}}
spec:
  nodeName: node{node}
  containers:
  - name: main
    image: registry.example/app{app}:1.2.3
    ports:
    - name: http
      containerPort: 8080
    resources:
      requests:
        cpu: 100m
        memory: 128Mi
    livenessProbe:
      httpGet:
        path: /healthz
        port: http
status:
  podIP: {address}
  podIPs:
  - ip: {address}
"""
_OWNERS = """\
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: app{app}-7d9f8c6b5
  namespace: {space}
  ownerReferences:
  - {{apiVersion: apps/v1, kind: Deployment, name: app{app}, controller: true}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app{app}
  namespace: {space}
spec:
  selector:
    matchLabels: {{app: app{app}}}
"""
_POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: p{number}
  namespace: ns{space}
spec:
  podSelector:
    matchLabels: {{app: app{number}}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - namespaceSelector:
        matchLabels: {{kubernetes.io/metadata.name: ns{space}}}
    - podSelector:
        matchExpressions:
        - {{key: app, operator: In, values: [app{one}, app{other}]}}
    ports:
    - port: http
    - port: 9090
      endPort: 9099
  egress:
  - to:
    - ipBlock:
        cidr: 10.0.0.0/16
        except: [10.0.1.0/24]
  - ports:
    - port: 53
      protocol: UDP
"""


def repository(folder: Path) -> None:
    """Manifests, policies and flows below ``folder``."""
    rng = random.Random(1)
    documents, names = [], []
    for number in range(PODS):
        app = number % WORKLOADS
        name, space = f"app{app}-7d9f8c6b5-{number:05d}", f"ns{app % 5}"
        names.append(f"{space}/{name}")
        address = f"10.0.{number // 250}.{number % 250 + 1}"
        given = {"app": app, "team": app % 3, "node": number % 10, "address": address}
        documents.append(_POD.format(name=name, space=space, **given))
    documents += [_OWNERS.format(app=app, space=f"ns{app % 5}") for app in range(WORKLOADS)]
    policies = [_POLICY.format(number=n, space=n % 5, one=n + 5, other=n + 10) for n in range(POLICIES)]
    flows = [
        {"src": rng.choice(names), "dst": rng.choice(names), "port": rng.choice((8080, 9090, 53, 443)), "count": 9}
        for _ in range(FLOWS)
    ]
    (folder / "manifests.yaml").write_text("---\n".join(documents))
    (folder / "policies.yaml").write_text("---\n".join(policies))
    (folder / "flows.jsonl").write_text("".join(json.dumps(flow) + "\n" for flow in flows))


def run() -> list[Row]:
    """Replay and diff, each a process of its own."""
    found = []
    program = "import sys; from fathom.cli.main import main; sys.exit(main())"
    seen = ("--manifests", "manifests.yaml", "--flows", "flows.jsonl")
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**kept, "PYTHONPYCACHEPREFIX": f"{folder}/compiled"}  # as an installed package has it
        repository(Path(folder))
        for name, policies in (
            ("replay", ("--policies", "policies.yaml")),
            ("diff", ("--old", "policies.yaml", "--new", "policies.yaml")),
        ):
            wall, cpu = [], []
            for _ in range(ROUNDS + 1):  # the first makes the files of compiled Python
                before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
                command = [sys.executable, "-c", program, "policy", name, *policies, *seen]
                done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False)
                wall.append(time.monotonic() - begun)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
                if done.returncode not in (0, 1):
                    raise RuntimeError(f"fathom policy {name} ended with {done.returncode}")
            spread = Spread.of(wall[1:])
            note = f"{Spread.of(cpu[1:]).text(2, ' s')} of CPU; {POLICIES} policies, {PODS} pods, {FLOWS} flows"
            title = f"policy: {name} of a repository, from process start"
            found.append(Row(title, spread.text(2, " s"), f"≤ {BAR:g} s", spread.median <= BAR, note))
    return found
