"""A real Kubernetes cluster on this host (tools/kube), with its network policies enforced, as tests use it."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

Doc = dict[str, Any]
TOOLS = Path(__file__).parents[2] / "tools" / "kube"
_DEFAULT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fathom-kube"
CACHE = Path(os.environ.get("FATHOM_KUBE_CACHE") or _DEFAULT)
BRIDGE = "fkube0"
SERVER = "https://10.210.0.1:6443"
#: Kinds that an inventory is read of.
KINDS = (
    "namespaces,nodes,pods,services,endpointslices,deployments,replicasets,statefulsets,daemonsets,jobs,cronjobs,"
    "replicationcontrollers"
)
PROGRAMS = ("containerd", "runc", "iptables", "ipset", "jq", "openssl", "ip")
PATIENCE_S = 60


def missing() -> str:
    """Why no cluster can start here, ``""`` if it can."""
    if os.geteuid() != 0:
        return "a cluster needs root"
    targets = ("kube", "agnhost", "coredns", "pause", "images", "netpol", "crds")
    absent = [name for name in targets if not (CACHE / "stamps" / name).exists()]
    if absent:
        return f"not built: {', '.join(absent)} (tools/kube/build.sh {' '.join(absent)})"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"{', '.join(absent)} of tools/packages-kube.txt is missing" if absent else ""


def as_list(documents: Iterable[Doc]) -> str:
    """The documents as one List, in JSON."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})


class Cluster:
    """A cluster of two nodes. ``api`` speaks to its API server as an administrator."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environment = {**os.environ, "FATHOM_KUBE_STATE": str(state), "FATHOM_KUBE_CACHE": str(CACHE)}
        self.environment |= {"NODES": "2", "POLICY": "1"}
        self.api = httpx.Client()

    def up(self) -> None:
        """Start it; there may be none on this host yet."""
        done = self._script("up.sh")
        assert done.returncode == 0, f"{done.stderr}\n{self.logs()}"
        pki = self.state / "pki"
        trusted = ssl.create_default_context(cafile=pki / "ca.crt")
        trusted.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self.api = httpx.Client(base_url=SERVER, verify=trusted, trust_env=False, timeout=30)

    def down(self) -> None:
        """End it and all that it started."""
        self.api.close()
        done = self._script("down.sh")
        assert (done.returncode, done.stderr) == (0, "")

    def logs(self) -> str:
        """The end of every log."""
        parts = [(path.name, path.read_text(errors="replace")[-800:]) for path in sorted(self.state.glob("log/*.log"))]
        return "\n".join(f"== {name}\n{text}" for name, text in parts)

    def _script(self, name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([TOOLS / name], env=self.environment, capture_output=True, text=True, timeout=300)

    def command(self, *arguments: str) -> list[str]:
        return [str(CACHE / "bin" / "kubectl"), "--kubeconfig", str(self.state / "admin.conf"), *arguments]

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """The standard output of kubectl."""
        done = subprocess.run(
            self.command(*arguments), input=given, capture_output=True, text=True, timeout=2 * PATIENCE_S
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, documents: Iterable[Doc]) -> None:
        self.kubectl("apply", "-f", "-", given=as_list(documents))

    def get(self, *what: str) -> str:
        """Objects of all namespaces, as ``kubectl get -o json`` writes them."""
        return self.kubectl("get", "--all-namespaces", "-o", "json", *what)

    def items(self, *what: str) -> list[Doc]:
        found: list[Doc] = json.loads(self.get(*what))["items"]
        return found

    def adopt(self, process: subprocess.Popen[Any]) -> None:
        """Let a process end with the cluster, whatever becomes of the test."""
        group = next(Path("/sys/fs/cgroup").glob("**/fathom-kube/system/etcd")).with_name("outside")
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text(str(process.pid))
