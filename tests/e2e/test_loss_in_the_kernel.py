"""Rings and maps far too small for a burst: what was seen and what was lost add up to what was made.

The counters of a loss name no connection, so they hold what the whole machine lost. While nothing else uses the network
the sums are equal; other traffic at the same time can only make them larger. Hence up to ``TRIES`` tries: in none may
anything be missing, and in one the sums must be equal.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
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
    clients=tuple(f"127.77.0.{n}" for n in range(2, 6)),
    threads=2, together=100, connections=1500, exchanges=1500, exchanges_each=1, pause_s=0, lasting=False,
)  # fmt: skip


@dataclass(frozen=True)
class Account:
    """Made, and seen plus lost, each as TCP events, UDP packets both ways, and bytes sent and received at both ends."""

    made: dict[str, int]
    told: dict[str, int]
    lost: dict[str, int]


def burst(installation: Installation) -> Account:
    """One burst, and what the store has of it afterwards."""
    time.sleep(2.2)  # so that what was lost before is in the store
    status = installation.status()
    before, losses_before = status["items"][0], status["loss"]
    began = time.time()
    made = installation.traffic(BURST).finish()
    installation.observed_until(made.ended_ns / 1e9)
    status = installation.status()
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
    return Account(counted(made), {name: told[name] + lost[name] for name in told}, lost)


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


def test_made_is_seen_plus_lost(installation: Installation) -> None:
    installation.settings.update(SMALL)
    with nothing_left_in_the_kernel():
        installation.start_both()
        accounts: list[Account] = []
        while not accounts or (accounts[-1].told != accounts[-1].made and len(accounts) < TRIES):
            accounts.append(burst(installation))
            assert all(accounts[-1].told[name] >= number for name, number in accounts[-1].made.items()), accounts[-1]
        assert accounts[-1].told == accounts[-1].made, accounts
        assert all(number > 0 for number in accounts[-1].lost.values()), accounts[-1].lost

        reasons = {(row["probe"], row["reason"]) for row in installation.status()["loss"] if row["hop"] == "kernel"}
        assert reasons >= {("tcp", "map_full"), ("flow", "map_full")}
        table = installation.command("query", "edges", "--since", "10m")
        told = sum(row["count"] for row in installation.status()["loss"])
        assert re.search(rf"coverage \S+ %.* lost {told}\b", table), table
        for probe, reason in sorted(reasons)[:3]:
            assert re.search(rf"lost \d+ at kernel {probe} {reason} on node-1", table), table
        installation.end("agent")
        installation.end("server")


def test_a_full_ring_loses_no_count(installation: Installation) -> None:
    """The same with room for all connections, so that it is the ring that overflows; read once a second."""
    installation.settings.update(SMALL | {"FATHOM_TCP_SOCKETS": "4096", "FATHOM_TICK_MS": "1000"})
    installation.start_both()
    accounts: list[Account] = []
    while not accounts or (accounts[-1].told != accounts[-1].made and len(accounts) < TRIES):
        accounts.append(burst(installation))
        assert all(accounts[-1].told[name] >= number for name, number in accounts[-1].made.items()), accounts[-1]
    assert accounts[-1].told == accounts[-1].made, accounts
    rows = [row for row in installation.status()["loss"] if row["probe"] == "tcp"]
    assert {row["reason"] for row in rows} == {"ring_full"}
    assert sum(row["count"] for row in rows) > 100
