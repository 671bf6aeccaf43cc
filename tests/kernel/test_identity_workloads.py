"""Who it was, with this kernel: real cgroups, real processes, seen by the real tcp probe."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from fathom.events.edges import Workload
from fathom.identity.cgroups import mounted
from fathom.identity.identities import Identities
from fathom.identity.own import OwnProcesses
from fathom.identity.workloads import OWN
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import TcpProbe

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]
_COUNT = count()
CONTAINER = "f00d" * 16
#: Joins a cgroup if one is given, connects to a port, says so, and waits until its input ends.
CLIENT = """
import os, socket, sys
if sys.argv[2]:
    with open(sys.argv[2] + "/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("connected", flush=True)
if len(sys.argv) == 3:
    sys.stdin.read()
"""


@pytest.fixture
def tree(require: Callable[[str, str], None]) -> Iterator[Path]:
    """A cgroup of this test under the real mount; all below it is removed again."""
    mount = mounted()
    if mount is None or not os.access(mount, os.W_OK):
        require("root", "cgroup2 is not mounted here, or cannot be written")
    assert mount is not None
    made = mount / f"fathom-identity-{os.getpid()}-{next(_COUNT)}.slice"
    made.mkdir()
    yield made
    for folder in sorted((path for path in made.rglob("*") if path.is_dir()), reverse=True):
        remove(folder)
    remove(made)


def remove(cgroup: Path) -> None:
    """The kernel lets go of a cgroup some time after its last process was reaped."""
    for _ in range(200):
        try:
            cgroup.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.01)
        else:
            return
    cgroup.rmdir()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


class Watch:
    """The probe and names for what it saw of connections to ``port``."""

    def __init__(self, probe: TcpProbe, port: int, root: int = 1 << 22) -> None:
        self.probe = probe
        self.port = port
        self.identities = Identities("here", own=OwnProcesses(root))

    def egress(self, wanted: int = 1) -> list[Workload]:
        """The workloads that connected, once ``wanted`` connections were seen."""
        rows, numbers = self.rows(wanted)
        table = self.identities.workloads.table
        return [table[number] for number in numbers[:wanted]] if rows.size else []

    def rows(self, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        found: list[np.ndarray] = []
        end = time.monotonic() + 5
        while sum(part.size for part in found) < wanted and time.monotonic() < end:
            rows = self.probe.observe(self.probe.drain())
            found.append(rows[(rows["remote_port"] == self.port) & (rows["connections"] == 1)])
            time.sleep(0.01)
        rows = np.concatenate(found)
        assert rows.size == wanted
        return rows, self.identities.resolve(rows)[1]


@pytest.fixture
def watch(listener: socket.socket) -> Iterator[Watch]:
    with TcpProbe.open(ProbeSettings(ring_bytes=1 << 18)) as probe:
        yield Watch(probe, listener.getsockname()[1])


def client(port: int, cgroup: Path | str = "", *, short: bool = False) -> subprocess.Popen[str]:
    """A process that has connected."""
    arguments = [sys.executable, "-c", CLIENT, str(port), str(cgroup), *(["short"] if short else [])]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "connected\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()


@pytest.mark.parametrize(
    ("path", "kind", "name", "container"),
    [
        ("system.slice/probe-me.service", "unit", "probe-me.service", ""),
        ("system.slice/probe-me.service/inner", "unit", "probe-me.service", ""),
        (f"docker/{CONTAINER}", "container", CONTAINER[:12], CONTAINER),
        (f"system.slice/docker-{CONTAINER}.scope", "container", CONTAINER[:12], CONTAINER),
        ("user.slice/user-1234.slice/session-5.scope", "session", "user-1234-session-5", ""),
    ],
)
def test_a_cgroup_names_its_processes(
    tree: Path, watch: Watch, path: str, kind: str, name: str, container: str
) -> None:
    (tree / path).mkdir(parents=True)
    process = client(watch.port, tree / path)
    try:
        assert watch.egress() == [Workload(node="here", kind=kind, name=name, container=container)]
    finally:
        end(process)


def test_a_cgroup_that_is_gone_keeps_its_name(tree: Path, watch: Watch) -> None:
    unit = tree / "short-lived.service"
    unit.mkdir()
    process = client(watch.port, unit)
    assert [str(workload) for workload in watch.egress()] == ["unit/short-lived.service"]
    end(process)
    process = client(watch.port, unit)
    end(process)
    remove(unit)
    assert [str(workload) for workload in watch.egress()] == ["unit/short-lived.service"]


def test_the_executable_where_the_cgroup_says_nothing(watch: Watch) -> None:
    process = client(watch.port)
    try:
        (workload,) = watch.egress()
        real = Path(f"/proc/{process.pid}/exe").resolve().name
        assert (workload.kind, workload.name) == ("process", real)
    finally:
        end(process)


def test_the_kernels_name_where_the_process_is_gone(watch: Watch) -> None:
    process = client(watch.port, short=True)
    end(process)
    with suppress(ProcessLookupError):
        os.kill(process.pid, 0)
    (workload,) = watch.egress()
    assert (workload.kind, workload.name) == ("process", Path(sys.executable).name[:15])
    assert watch.identities.fallbacks["gone"] == 1


def test_own_processes_are_told_apart(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with TcpProbe.open(ProbeSettings(ring_bytes=1 << 18)) as probe:
        watch = Watch(probe, port, root=os.getpid())
        process = client(port)
        with socket.create_connection(("127.0.0.1", port)):
            _, numbers = watch.rows(2)
        end(process)
        assert numbers.tolist() == [OWN, OWN]
    with TcpProbe.open(ProbeSettings(ring_bytes=1 << 18)) as probe:
        watch = Watch(probe, port, root=1 << 22)
        with socket.create_connection(("127.0.0.1", port)):
            _, numbers = watch.rows(1)
        assert numbers[0] != OWN


def test_ids_of_the_kernel_are_inodes_of_the_tree(tree: Path, watch: Watch) -> None:
    """What ``bpf_get_current_cgroup_id`` says is what ``stat`` says."""
    unit = tree / "numbered.service"
    unit.mkdir()
    process = client(watch.port, unit)
    rows, _ = watch.rows(1)
    end(process)
    assert int(rows["cgroup"][0]) == unit.stat().st_ino
