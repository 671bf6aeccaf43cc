"""The server away for longer than memory holds: the spool keeps all, or says exactly what it let go at its bound."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from installation import PREFIX, Totals, epoch, lost_on_the_way, matches, until
from traffic_load import Plan

if TYPE_CHECKING:
    from installation import Installation

pytestmark = pytest.mark.root

#: Bytes of batches that also stay in memory: less than one batch.
MEMORY = "512"
#: The smallest spool there can be.
SPOOL = "65536"


def test_an_outage_longer_than_memory_loses_nothing(installation: Installation) -> None:
    installation.settings["FATHOM_LINK_MEMORY_BYTES"] = MEMORY
    installation.start_both()
    before = installation.traffic(Plan(seed=1))
    time.sleep(1.5)
    installation.kill("server")
    until("ten intervals wait on disk", lambda: len(installation.spooled()) >= 10)
    assert sum(path.stat().st_size for path in installation.spooled()) > 5 * int(MEMORY)
    first = before.stop()

    waiting = installation.metric("fathom_batches_total") + 2
    until("the load's last interval is on disk", lambda: installation.metric("fathom_batches_total") >= waiting)
    installation.kill("agent")  # what is on disk survives that too
    held = len(installation.spooled())
    installation.start("agent")
    assert len(installation.spooled()) >= held > 10
    second = installation.traffic(Plan(seed=2))
    time.sleep(3)

    installation.start("server")
    time.sleep(1)
    made = (first, second.stop())
    installation.observed_until(made[1].ended_ns / 1e9)
    answer = installation.edges(first.began_ns / 1e9 - 1, time.time())
    matches(answer["items"], *made)
    assert lost_on_the_way(answer) == []
    installation.end("agent")
    assert installation.spooled() == []


def settled(installation: Installation) -> dict[str, Any]:
    """The answer about all edges since ever once no batch waits, with what the agent counted (``sent_bytes``, …) before
    and after it was asked: on a machine that is quiet both are the same."""
    names = ("sent_bytes", "received_bytes", "sent_packets", "received_packets", "facts")
    began = installation.metric("fathom_batches_total")
    before = {name: installation.metric(f"fathom_{name}_total") for name in names}

    def delivered() -> bool:
        return installation.metric("fathom_batches_total") > began + 1 and not installation.spooled()

    until("nothing waits", delivered)
    answer = installation.edges(time.time() - 3600, time.time(), peer="")
    answer["stored_facts"] = installation.status()["ingest"]["facts"]
    answer["before"], answer["after"] = before, {name: installation.metric(f"fathom_{name}_total") for name in names}
    return answer


def test_what_falls_off_the_spool_is_told_exactly(installation: Installation) -> None:
    """A loss at the spool carries facts, packets and bytes (connections are not in it), of all that the node saw: what
    is stored and what is lost add up to what the agent counted itself, and the load's share of it is accounted for."""
    installation.start("server")  # makes the keys
    installation.end("server")
    installation.start("agent", FATHOM_SPOOL_BYTES=SPOOL)
    traffic = installation.traffic(Plan(clients=10, ports=40, pause_s=0))
    until("facts fell off", lambda: installation.metric("fathom_lost_events_total") > 0)
    time.sleep(3)
    assert sum(path.stat().st_blocks * 512 for path in installation.spooled()) <= int(SPOOL)
    installation.start("server")
    time.sleep(1)
    made = traffic.stop()
    installation.observed_until(made.ended_ns / 1e9)

    answer = settled(installation)
    assert {(row["hop"], row["reason"]) for row in answer["loss"]} == {("spool", "spool_full")}
    lost = {
        name: sum(row[name] for row in answer["loss"]) for name in ("count", "packets", "bytes_sent", "bytes_received")
    }
    assert lost["count"] > 0
    everything = [Totals.of(answer["items"], protocol) for protocol in {edge["protocol"] for edge in answer["items"]}]
    told = {
        "sent_bytes": sum(sums.bytes_sent for sums in everything) + lost["bytes_sent"],
        "received_bytes": sum(sums.bytes_received for sums in everything) + lost["bytes_received"],
    }
    for name, number in told.items():
        assert answer["before"][name] <= number <= answer["after"][name]
    packets = sum(sums.packets_sent + sums.packets_received for sums in everything) + lost["packets"]
    counted = [sum(answer[when][f"{way}_packets"] for way in ("sent", "received")) for when in ("before", "after")]
    assert counted[0] <= packets <= counted[1]
    assert answer["before"]["facts"] <= answer["stored_facts"] + lost["count"] <= answer["after"]["facts"]

    load = [edge for edge in answer["items"] if edge["peer_address"].startswith(PREFIX)]
    tcp, udp = Totals.of(load, "TCP"), Totals.of(load, "UDP")
    absent = made.sent + made.received + sum(made.datagram_bytes) - tcp.bytes_sent - udp.bytes_sent
    assert 0 < absent <= lost["bytes_sent"]
    assert 0 < 4 * len(made.datagrams) - udp.packets_sent - udp.packets_received <= lost["packets"]
    assert len(made.connections) > Totals.of(load, "TCP", "egress").connections
    gaps = [(epoch(gap["since"]), epoch(gap["until"])) for gap in answer["window"]["coverage"]["gaps"]]
    assert gaps  # what fell off is not called observed
    installation.end("agent")
    assert installation.spooled() == []
