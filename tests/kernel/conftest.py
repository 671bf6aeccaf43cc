"""What tests against this kernel share: attached probes, programs that cause known events, places to do it in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.events.batches import Clock
from fathom.events.render import to_dicts
from fathom.kernel.cgroups import cgroup2_mount
from fathom.kernel.maps import Map
from fathom.kernel.objects import Object
from fathom.probes.settings import ProbeSettings
from fathom.probes.tcp import TcpProbe

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = count(os.getpid())


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """``compiled("bpf/tcp/trigger.c")``: the path of the program made from it."""

    def make(source: str) -> str:
        program = tmp_path_factory.mktemp("compiled") / Path(source).stem
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, ROOT / source], check=True)
        return str(program)

    return make


@pytest.fixture(scope="session")
def trigger(compiled: Callable[[str], str]) -> Callable[..., tuple[int, int, int]]:
    """Run the tcp probe's trigger: pid, local port, errno of connect."""
    program = compiled("bpf/tcp/trigger.c")

    def run(mode: str, address: str, port: int, netns: str = "") -> tuple[int, int, int]:
        inside = ["ip", "netns", "exec", netns] if netns else []
        done = subprocess.run(
            [*inside, program, mode, address, str(port)], capture_output=True, text=True, check=True, timeout=30
        )
        pid, local_port, errno = map(int, done.stdout.split())
        return pid, local_port, errno

    return run


class Watch:
    """The tcp probe and all that it has told since it was opened."""

    def __init__(self, probe: TcpProbe) -> None:
        self.probe = probe
        self.records = np.zeros(0, probe.record)
        self.observations: list[Any] = []

    def look(self) -> None:
        records = self.probe.drain()
        self.records = np.concatenate((self.records, records))
        self.observations.append(self.probe.observe(records))

    def until(self, wanted: Callable[[list[dict[str, Any]]], bool], seconds: float = 180.0) -> list[dict[str, Any]]:
        """The events, once ``wanted`` holds of them; all that came if it never does."""
        end = time.monotonic() + seconds
        while True:
            self.look()
            events = self.events()
            if wanted(events) or time.monotonic() > end:
                return events
            time.sleep(0.01)

    @property
    def object(self) -> Object:
        return self.probe._object

    def entries(self) -> tuple[Map, Any, Any]:
        """The table of connections: itself, keys, values."""
        table = self.object.map("tcp_sockets", np.dtype("<u8"), self.object.btf.struct("tcp_socket").dtype)
        return (table, *table.read())

    def unseen(self) -> int:
        """How many connections were counted whose beginning or end was not shown."""
        return self.probe.losses()["unseen"].count

    def looked(self, time_ns: int) -> None:
        """As if the probe had been there since ``time_ns``: nothing that is accepted is older than that."""
        word = np.dtype("<u4")
        self.object.map("tcp_looked", word, np.dtype("<u8")).update(bytes(4), np.uint64(time_ns).tobytes())

    def events(self) -> list[dict[str, Any]]:
        return to_dicts(self.records, "tcp", Clock(0, 0, 0))

    def of_port(self, port: int, *kinds: str, number: int = 1, seconds: float = 180.0) -> list[dict[str, Any]]:
        """Events of connections to a server at ``port``, and of these ``kinds``, once there are ``number``, or after
        ``seconds``."""
        end = {"egress": "remote_port", "ingress": "local_port", "unknown": "local_port"}

        def mine(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [e for e in events if e[end[e["direction"]]] == port and (not kinds or e["event"] in kinds)]

        return mine(self.until(lambda events: len(mine(events)) >= number, seconds))


@pytest.fixture
def watch(root: None) -> Iterator[Watch]:  # noqa: ARG001
    """The tcp probe, freshly attached."""
    with TcpProbe.open(ProbeSettings()) as probe:
        yield Watch(probe)


@pytest.fixture
def cgroup(root: None, require: Callable[[str, str], None]) -> Iterator[Callable[[str], tuple[Path, int]]]:  # noqa: ARG001
    """``cgroup("a")``: a new cgroup's directory and id. Removed afterwards; nothing may run in it then."""
    made: list[Path] = []

    def make(name: str) -> tuple[Path, int]:
        path = cgroup2_mount() / f"fathom-test-{next(NUMBERS)}-{name}"
        try:
            path.mkdir()
        except OSError as error:
            require("cgroup2", f"no cgroup can be made: {error}")
        made.append(path)
        return path, path.stat().st_ino

    yield make
    for path in made:
        _remove(path)


def _remove(path: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            path.rmdir()
            return
        time.sleep(0.02)
    path.rmdir()


@pytest.fixture
def netns(root: None, require: Callable[[str, str], None]) -> Iterator[Callable[..., str]]:  # noqa: ARG001
    """``netns("ip link add …", …)``: a new network namespace with loopback up and these commands run in it."""
    made: list[str] = []

    def make(*commands: str) -> str:
        name = f"fathom-test-{next(NUMBERS)}"
        done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
        if done.returncode:
            require("netns", f"no network namespace can be made: {done.stderr.strip()}")
        made.append(name)
        for command in ("ip link set lo up", *commands):
            subprocess.run(["ip", "netns", "exec", name, *command.split()], check=True)
        return name

    yield make
    for name in made:
        subprocess.run(["ip", "netns", "del", name], check=True)
