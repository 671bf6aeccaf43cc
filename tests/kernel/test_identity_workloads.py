"""Who it was, with this kernel: real cgroups, real processes, seen by the real tcp probe."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from fathom.events.edges import Workload
from fathom.events.observations import Direction
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
    """The probe, drained all the time since the machine may be busy, and names for the connections that it saw."""

    def __init__(self, probe: TcpProbe, own: int = 1 << 22) -> None:
        self.identities = Identities("here", own=OwnProcesses(own))
        self._probe = probe
        self._found: list[np.ndarray] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drain)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _drain(self) -> None:
        while not self._over.wait(0.01):
            rows = self._probe.observe(self._probe.drain())
            self._found.append(rows[(rows["direction"] == Direction.EGRESS) & (rows["connections"] == 1)])

    def row(self, pid: int) -> np.ndarray:
        """The connection that ``pid`` opened last, once it was seen."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for rows in reversed(self._found.copy()):
                mine = rows[rows["pid"] == pid]
                if mine.size:
                    return mine[-1:]
            time.sleep(0.01)
        raise AssertionError(f"no connection of {pid} was seen; losses: {self._probe.losses()}")

    def number(self, pid: int) -> int:
        """The number of its workload."""
        return int(self.identities.resolve(self.row(pid))[1][0])

    def workload(self, pid: int) -> Workload:
        """Who it was."""
        return self.identities.workloads.table[self.number(pid)]


@pytest.fixture
def probe() -> Iterator[TcpProbe]:
    with TcpProbe.open(ProbeSettings()) as attached:
        yield attached


@pytest.fixture
def watch(probe: TcpProbe) -> Iterator[Watch]:
    with Watch(probe) as watching:
        yield watching


@pytest.fixture
def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


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
    tree: Path, watch: Watch, port: int, path: str, kind: str, name: str, container: str
) -> None:
    (tree / path).mkdir(parents=True)
    process = client(port, tree / path)
    try:
        assert watch.workload(process.pid) == Workload(node="here", kind=kind, name=name, container=container)
    finally:
        end(process)


def test_a_cgroup_that_is_gone_keeps_its_name(tree: Path, watch: Watch, port: int) -> None:
    unit = tree / "short-lived.service"
    unit.mkdir()
    first = client(port, unit)
    assert str(watch.workload(first.pid)) == "unit/short-lived.service"
    end(first)
    second = client(port, unit)
    end(second)
    remove(unit)
    assert str(watch.workload(second.pid)) == "unit/short-lived.service"


def test_the_executable_where_the_cgroup_says_nothing(watch: Watch, port: int) -> None:
    process = client(port)
    try:
        workload = watch.workload(process.pid)
        real = Path(f"/proc/{process.pid}/exe").resolve().name
        assert (workload.kind, workload.name) == ("process", real)
    finally:
        end(process)


def test_the_kernels_name_where_the_process_is_gone(watch: Watch, port: int) -> None:
    process = client(port, short=True)
    end(process)
    workload = watch.workload(process.pid)
    assert (workload.kind, workload.name) == ("process", Path(sys.executable).name[:15])
    assert watch.identities.fallbacks["gone"] == 1


def test_own_processes_are_told_apart(probe: TcpProbe, port: int) -> None:
    with Watch(probe, own=os.getpid()) as watch:
        child = client(port)
        with socket.create_connection(("127.0.0.1", port)):
            assert (watch.number(child.pid), watch.number(os.getpid())) == (OWN, OWN)
            strangers = Identities("here", own=OwnProcesses(1 << 22))
            assert strangers.resolve(watch.row(child.pid))[1][0] != OWN
        end(child)


def test_ids_of_the_kernel_are_inodes_of_the_tree(tree: Path, watch: Watch, port: int) -> None:
    """What ``bpf_get_current_cgroup_id`` says is what ``stat`` says."""
    unit = tree / "numbered.service"
    unit.mkdir()
    process = client(port, unit)
    row = watch.row(process.pid)
    end(process)
    assert int(row["cgroup"][0]) == unit.stat().st_ino
