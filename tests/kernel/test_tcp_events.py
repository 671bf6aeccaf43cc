"""Each trigger causes exactly the events that it should, field by field."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Trigger = Callable[..., tuple[int, int, int]]
LOOPBACK = [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listens on both families; nobody accepts."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64) as server:
        yield server


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, held so that nobody will."""
    with socket.socket() as holder:
        holder.bind(("", 0))
        yield holder.getsockname()[1]


def _here() -> dict[str, Any]:
    """Where this process and its children are: the fields that all their events share."""
    line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::"))
    mount = next(x.split()[1] for x in Path("/proc/self/mounts").read_text().splitlines() if x.split()[2] == "cgroup2")
    return {
        "cgroup": (Path(mount) / line[4:]).stat().st_ino,
        "netns": Path("/proc/self/ns/net").stat().st_ino,
        "kind": "tcp",
        "protocol": "TCP",
        "before": False,
    }


def _with(event: dict[str, Any], **expected: Any) -> None:
    """``event`` has all of ``expected`` and of where we are."""
    wanted = {**_here(), **expected}
    assert {name: event[name] for name in wanted} == wanted


@pytest.mark.parametrize(("address", "shown"), LOOPBACK)
def test_connect_and_close(watch: Any, trigger: Trigger, listener: socket.socket, address: str, shown: str) -> None:
    port = listener.getsockname()[1]
    pid, local_port, errno = trigger("connect", address, port)
    assert errno == 0
    out = [e for e in watch.of_port(port, number=3) if e["direction"] == "egress"]
    assert [e["event"] for e in out] == ["established", "closed"]
    for event in out:
        _with(
            event,
            local_address=shown, remote_address=shown, local_port=local_port, remote_port=port,
            pid=pid, comm="trigger", owner_source="connect", reason="",
            bytes_sent=0, bytes_received=0, retransmits=0,
        )  # fmt: skip
    assert out[0]["connection"] == out[1]["connection"]
    assert out[0]["latency"] == out[1]["latency"]
    assert 0 < out[0]["latency"] < 1
    assert out[0]["duration"] is None
    assert 0 < out[1]["duration"] < 5


@pytest.mark.parametrize(("address", "shown"), LOOPBACK)
def test_accepted_side(watch: Any, trigger: Trigger, listener: socket.socket, address: str, shown: str) -> None:
    """Nobody accepted yet: the listener stands in, and the event says so. The direction is the state machine's."""
    port = listener.getsockname()[1]
    _, local_port, _ = trigger("connect", address, port)
    accepted = [e for e in watch.of_port(port, "established", number=2) if e["direction"] == "ingress"]
    assert len(accepted) == 1
    _with(
        accepted[0],
        local_address=shown, remote_address=shown, local_port=port, remote_port=local_port,
        pid=os.getpid(), owner_source="listener", reason="",
    )  # fmt: skip
    assert 0 < accepted[0]["latency"] < 1


@pytest.mark.parametrize(("address", "shown"), LOOPBACK)
def test_refused(watch: Any, trigger: Trigger, closed_port: int, address: str, shown: str) -> None:
    pid, _, errno = trigger("refused", address, closed_port)
    assert errno == 111
    events = watch.of_port(closed_port)
    assert [e["event"] for e in events] == ["failed"]
    _with(
        events[0],
        reason="refused", direction="egress", pid=pid, comm="trigger", owner_source="connect",
        local_address=shown, remote_address=shown, remote_port=closed_port, bytes_sent=0, duration=None,
    )  # fmt: skip
    assert events[0]["latency"] > 0


def test_local_port_of_a_failure(watch: Any, trigger: Trigger, closed_port: int) -> None:
    """The kernel has taken the port out of skc_num by then; inet_sport still has it."""
    _, local_port, _ = trigger("bound", "127.0.0.1", closed_port)
    assert [e["local_port"] for e in watch.of_port(closed_port, "failed")] == [local_port]


def test_local_error_never_left(watch: Any, trigger: Trigger, listener: socket.socket) -> None:
    """EADDRNOTAVAIL: no errno in the socket, and no segment sent."""
    port = listener.getsockname()[1]
    pid, local_port, errno = trigger("local_error", "127.0.0.1", port)
    assert errno == 99
    events = watch.of_port(port, "failed")
    assert len(events) == 1
    _with(events[0], reason="local_error", pid=pid, local_port=local_port, remote_port=port, packets_sent=0)


def _void(netns: Callable[..., str]) -> str:
    """A namespace that swallows every segment."""
    return netns("iptables -A INPUT -p tcp -j DROP")


def test_abandoned_by_its_caller(watch: Any, trigger: Trigger, netns: Callable[..., str]) -> None:
    """No errno in the socket either, but a SYN had left."""
    pid, local_port, errno = trigger("abandoned", "127.0.0.1", 7007, netns=_void(netns))
    assert errno == 115
    events = [e for e in watch.of_port(7007) if e["pid"] == pid]
    assert [e["event"] for e in events] == ["failed"]
    assert (events[0]["reason"], events[0]["local_port"], events[0]["packets_sent"]) == ("abandoned", local_port, 1)


def test_kernel_timeout(watch: Any, trigger: Trigger, netns: Callable[..., str]) -> None:
    """Where the timer came on top of a task that no program is run on, the failure is told without reason: again."""
    place = _void(netns)
    for port in range(7020, 7025):
        pid, _, errno = trigger("timeout", "127.0.0.1", port, netns=place)
        assert errno == 110
        events = [e for e in watch.of_port(port) if e["pid"] == pid]
        assert [e["event"] for e in events] == ["failed"]
        if events[0]["reason"]:
            break
    assert events[0]["reason"] == "timeout"
    assert events[0]["latency"] > 0.2


def test_unreachable_said_by_icmp(watch: Any, trigger: Trigger, netns: Callable[..., str]) -> None:
    place = netns("iptables -A INPUT -p tcp --dport 7009 -j REJECT --reject-with icmp-host-unreachable")
    pid, _, errno = trigger("unreachable", "127.0.0.1", 7009, netns=place)
    assert errno == 113
    events = [e for e in watch.of_port(7009) if e["pid"] == pid]
    assert [(e["event"], e["reason"]) for e in events] == [("failed", "unreachable")]


def test_abort_is_the_callers_and_a_reset_at_the_other_end(
    watch: Any, trigger: Trigger, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    pid, _, _ = trigger("abort", "127.0.0.1", port)
    accepted, _ = listener.accept()
    accepted.close()
    ended = watch.of_port(port, "closed", number=2)
    assert sorted((e["direction"], e["reason"], e["pid"]) for e in ended) == [
        ("egress", "abandoned", pid),
        ("ingress", "reset", os.getpid()),
    ]


def test_other_protocols_on_the_same_tracepoint_are_left_out(watch: Any, require: Callable[[str, str], None]) -> None:
    """An MPTCP socket passes the tracepoint too; its subflow is the TCP connection, once."""
    try:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    except OSError as error:
        require("mptcp", f"this kernel has no MPTCP: {error}")
    with server, socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client.connect(("127.0.0.1", port))
    opened = watch.of_port(port, "established", number=2)
    assert sorted(e["direction"] for e in opened) == ["egress", "ingress"]
