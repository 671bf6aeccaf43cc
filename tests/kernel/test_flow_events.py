"""Each trigger causes exactly one flow, and the record of it is right in every field."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fathom.events.batches import Clock
from fathom.events.render import to_dicts
from fathom.kernel.cgroups import cgroup2_mount
from fathom.probes.flow import FlowProbe
from fathom.probes.settings import ProbeSettings
from tests.truth.flows import UDP6_HEAD, UDP_HEAD, Flows, cookie

pytestmark = pytest.mark.root

PORT = 49_151
PORTLESS = {"remote_port": 0, "local_port": 0}


@pytest.fixture(scope="module")
def flows(require: Callable[[str, str], None]) -> Iterator[Flows]:
    """One probe for all: each test looks at its own socket."""
    if os.geteuid() != 0:
        require("root", "this test loads programs into the kernel and needs root")
    with FlowProbe.open(ProbeSettings()) as probe:
        yield Flows(probe)


@pytest.fixture(scope="module")
def trigger(compiled: Callable[[str], str]) -> Callable[..., tuple[int, int, int]]:
    """Run it: pid, local port, cookie of its socket."""
    program = compiled("bpf/flow/trigger.c")

    def run(*arguments: object) -> tuple[int, int, int]:
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=30)
        pid, port, name = map(int, done.stdout.split())
        return pid, port, name

    return run


def _dict(flows: Flows, name: int) -> dict[str, Any]:
    rows = flows.of(name)
    assert len(rows) == 1
    return to_dicts(rows, "flow", Clock(0, 0, 0))[0]


def _own_cgroup() -> int:
    line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::"))
    return (cgroup2_mount() / line[3:].lstrip("/")).stat().st_ino


def _heard(size: int) -> dict[str, int]:
    return {"packets_received": 1, "bytes_received": size}


@pytest.mark.parametrize(
    ("arguments", "packets", "size", "expected"),
    [
        (("send", "127.0.0.1", PORT, 100), 1, 100 + UDP_HEAD, {"remote_address": "127.0.0.1"}),
        (("connected", "127.0.0.1", PORT, 0), 1, UDP_HEAD, {"remote_address": "127.0.0.1"}),
        (("send", "::1", PORT, 11), 1, 11 + UDP6_HEAD, {"remote_address": "::1"}),
        (("connected", "::ffff:127.0.0.1", PORT, 7), 1, 7 + UDP_HEAD, {"remote_address": "127.0.0.1"}),
        (("segments", "127.0.0.1", PORT, 500), 4, 1501 + 4 * UDP_HEAD, {}),
        (("segments", "::1", PORT, 500), 4, 1501 + 4 * UDP6_HEAD, {}),
        (("options", "::1", PORT, 9), 1, 9 + UDP6_HEAD + 8, {"remote_port": PORT}),
        # A raw socket hears itself on loopback.
        (("protocol", "127.0.0.1", 253, 64), 1, 84, {"protocol": "253", **PORTLESS, **_heard(84)}),
        (("protocol", "::1", 253, 64), 1, 104, {"protocol": "253", **PORTLESS, **_heard(104)}),
        (("later", "127.0.0.1", 17, 80), 1, 100, {"protocol": "UDP", **PORTLESS}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_one_flow_is_told_exactly(
    flows: Flows,
    trigger: Callable[..., tuple[int, int, int]],
    arguments: tuple[Any, ...],
    packets: int,
    size: int,
    expected: dict[str, Any],
) -> None:
    pid, port, name = trigger(*arguments)
    wanted = {
        "kind": "flow",
        "direction": "egress",
        "protocol": "UDP",
        "packets_sent": packets,
        "bytes_sent": size,
        "packets_received": 0,
        "bytes_received": 0,
        "local_port": port,
        "remote_port": PORT,
        "pid": pid,
        "comm": "trigger",
        "owner_source": "socket",
        "cgroup": _own_cgroup(),
        "netns": Path("/proc/self/ns/net").stat().st_ino,
    } | expected
    seen = _dict(flows, name)
    assert {key: seen[key] for key in wanted} == wanted


def test_a_socket_that_does_nothing_is_no_flow(flows: Flows, trigger: Callable[..., tuple[int, int, int]]) -> None:
    _, _, name = trigger("idle", "127.0.0.1", PORT, 1)
    assert len(flows.of(name)) == 0


def test_an_answer_of_icmp_was_asked_for_by_the_other(
    flows: Flows, trigger: Callable[..., tuple[int, int, int]]
) -> None:
    """Eight bytes of zero are an echo reply: whoever sends one was asked."""
    _, _, name = trigger("protocol", "127.0.0.1", socket.IPPROTO_ICMP, 8)
    rows = flows.of(name)
    sent = rows[rows["packets_sent"] > 0]
    assert len(sent) == 1
    shown = to_dicts(sent, "flow", Clock(0, 0, 0))[0]
    assert (shown["protocol"], shown["message"], shown["direction"]) == ("ICMP", "reply", "ingress")


@pytest.mark.parametrize(("host", "head"), [("127.0.0.1", UDP_HEAD), ("::1", UDP6_HEAD)])
def test_the_other_end_is_told_too(
    flows: Flows, trigger: Callable[..., tuple[int, int, int]], host: str, head: int
) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, 0))
        port = server.getsockname()[1]
        _, peer_port, _ = trigger("send", host, port, 33)
        assert len(server.recv(100)) == 33
        seen = _dict(flows, cookie(server))
    wanted = {
        "direction": "ingress",
        "local_address": host,
        "remote_address": host,
        "local_port": port,
        "remote_port": peer_port,
        "packets_received": 1,
        "bytes_received": 33 + head,
        "packets_sent": 0,
        "bytes_sent": 0,
        "pid": os.getpid(),
        "owner_source": "socket",
    }
    assert {key: seen[key] for key in wanted} == wanted


def test_tcp_is_none_of_it(flows: Flows) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        name = cookie(client)
        client.send(b"x" * 1000)
    assert len(flows.of(name)) == 0
    assert not (flows.told["protocol"] == socket.IPPROTO_TCP).any()


def test_times_are_of_the_first_and_the_last_packet(flows: Flows) -> None:
    """The last to a tick, 10 ms at most."""
    tick_ns = 10 * 10**6
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before = time.monotonic_ns()
        sock.sendto(b"", ("127.0.0.1", PORT))
        between = time.monotonic_ns()
        time.sleep(0.05)
        sock.sendto(b"", ("127.0.0.1", PORT))
        after = time.monotonic_ns()
        (row,) = flows.of(sock)
    assert before <= row["first"] <= between
    assert between + 40 * 10**6 <= row["time"] <= after + tick_ns
    observed = flows.probe.observe(flows.told[flows.told["socket"] == row["socket"]])
    assert observed["time"].tolist() == [row["time"]]
    assert observed["connections"].tolist() == [0]
    assert observed["latency_count"].tolist() == [0]
