"""Rings and maps far too small for a burst: what was seen and what was lost add up to what was made.

The counters of a loss name no connection, so they hold what the whole machine lost. The sums must be equal whenever the
kernel's own counters say that nothing but the burst used the network. If others never stop, the test cannot tell.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from installation import Totals, nothing_left_in_the_kernel
from traffic_load import Plan

if TYPE_CHECKING:
    from installation import Installation
    from traffic_load import Made

pytestmark = pytest.mark.root

TRIES = 4
SMALL = {"FATHOM_RING_BYTES": "65536", "FATHOM_TCP_SOCKETS": "64", "FATHOM_FLOW_ENTRIES": "64"}
#: 200 connections open at a time, and each UDP exchange over sockets of its own: more than 64 of both.
BURST = Plan(
    clients=4,
    threads=2, together=100, connections=1500, exchanges=1500, exchanges_each=1, pause_s=0, lasting=False,
)  # fmt: skip


@dataclass(frozen=True)
class Account:
    """Made, and seen plus lost, each as TCP events, UDP packets both ways, and bytes sent and received at both ends.
    ``alone``: nothing else used the network meanwhile."""

    made: dict[str, int]
    told: dict[str, int]
    lost: dict[str, int]
    alone: bool


def used() -> Counter[str]:
    """What TCP and UDP did so far, over all network namespaces that have a process (``/proc/PID/net/snmp``)."""
    namespaces: dict[int, Path] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            namespaces[(process / "ns/net").stat().st_ino] = process
    found: Counter[str] = Counter()
    for process in namespaces.values():
        with contextlib.suppress(OSError):
            lines = [line.split() for line in (process / "net/snmp").read_text().splitlines()]
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                found.update({names[0] + name: int(value) for name, value in zip(names[1:], values[1:], strict=True)})
    return found


def burst(installation: Installation) -> Account:
    """One burst, and what the store has of it afterwards."""
    used_before = used()
    time.sleep(2.2)  # so that what was lost before is in the store
    status = installation.status()
    before, losses_before = status["items"][0], status["loss"]
    began = time.time()
    made = installation.traffic(BURST).finish()
    installation.observed_until(made.ended_ns / 1e9)
    status, used_now = installation.status(), used()
    losses, seen = status["loss"], records(status["items"][0]) - records(before)
    answer = installation.edges(began - 1, time.time())
    lost = {
        "events": lost_in(losses, "tcp", "count") - lost_in(losses_before, "tcp", "count"),
        "packets": lost_in(losses, "flow", "packets") - lost_in(losses_before, "flow", "packets"),
        "sent": lost_in(losses, "", "bytes_sent") - lost_in(losses_before, "", "bytes_sent"),
        "received": lost_in(losses, "", "bytes_received") - lost_in(losses_before, "", "bytes_received"),
    }
    tcp, udp = Totals.of(answer["items"], "TCP"), Totals.of(answer["items"], "UDP")
    told = {
        "events": seen,
        "packets": udp.packets_sent + udp.packets_received,
        "sent": tcp.bytes_sent + udp.bytes_sent,
        "received": tcp.bytes_received + udp.bytes_received,
    }
    connections, packets = len(made.connections), 2 * len(made.datagrams)
    only_this = {"Tcp:ActiveOpens": connections, "Tcp:PassiveOpens": connections, "Tcp:AttemptFails": 0}
    only_this |= {"Tcp:CurrEstab": 0, "Udp:OutDatagrams": packets, "Udp:InDatagrams": packets, "Udp:NoPorts": 0}
    alone = all(used_now[name] - used_before[name] == number for name, number in only_this.items())
    return Account(counted(made), {name: told[name] + lost[name] for name in told}, lost, alone)


def exact(installation: Installation, require: Callable[[str, str], None]) -> Account:
    """A burst with made = seen + lost. In none may anything be missing; in none that was alone may there be more, but
    for the close of a connection that was half closed for long, which the kernel's counters do not show."""
    accounts: list[Account] = []
    while len(accounts) < TRIES:
        accounts.append(burst(installation))
        assert all(accounts[-1].told[name] >= number for name, number in accounts[-1].made.items()), accounts[-1]
        if accounts[-1].told == accounts[-1].made:
            return accounts[-1]
    assert sum(account.alone for account in accounts) < 2, accounts
    require("quiet", "other programs use the network all the time, and their losses cannot be told from the burst's")
    raise AssertionError("not reached")


def counted(made: Made) -> dict[str, int]:
    """Each connection is established and closed at two ends; each byte is sent at one end and received at another."""
    carried = made.sent + made.received + sum(made.datagram_bytes)
    return {
        "events": 4 * len(made.connections),
        "packets": 4 * len(made.datagrams),
        "sent": carried,
        "received": carried,
    }


def records(node: dict[str, Any]) -> int:
    return next(int(probe["records"]) for probe in node["probes"] if probe["name"] == "tcp")


def lost_in(losses: list[dict[str, Any]], probe: str, what: str) -> int:
    return sum(int(row[what]) for row in losses if row["hop"] == "kernel" and probe in ("", row["probe"]))


def test_made_is_seen_plus_lost(installation: Installation, require: Callable[[str, str], None]) -> None:
    installation.settings.update(SMALL)
    with nothing_left_in_the_kernel():
        installation.start_both()
        account = exact(installation, require)
        assert all(number > 0 for number in account.lost.values()), account

        losses = installation.status()["loss"]
        assert {(row["probe"], row["reason"]) for row in losses} >= {("tcp", "map_full"), ("flow", "map_full")}
        table = installation.command("query", "edges", "--since", "10m")
        footer = re.search(r"window 10m · coverage \S+ % · lost (\d+)", table)
        assert footer, table
        assert int(footer[1]) >= sum(row["count"] for row in losses)
        named = re.findall(r"lost \d+ at kernel (\w+) (\w+) on node-1", table)
        assert set(named) == {(row["probe"], row["reason"]) for row in losses}
        installation.end("agent")
        installation.end("server")


def test_a_full_ring_loses_no_count(installation: Installation, require: Callable[[str, str], None]) -> None:
    """The same with room for all connections, so that it is the ring that overflows: one of a page, which is full
    before the agent that it wakes gets the CPU."""
    installation.settings.update(SMALL | {"FATHOM_TCP_SOCKETS": "4096", "FATHOM_RING_BYTES": "4096"})
    installation.start_both()
    assert exact(installation, require).lost["events"] > 100
    rows = [row for row in installation.status()["loss"] if row["probe"] == "tcp"]
    assert {row["reason"] for row in rows} == {"ring_full"}
