"""20,000 short connections as fast as they can be made: found exactly, with the settings that everybody has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from installation import NETWORK, lost_on_the_way, matches, rfc3339
from traffic_load import Plan

if TYPE_CHECKING:
    from installation import Installation

pytestmark = pytest.mark.root

#: From four addresses, so that there are ports for all. ``Plan.connections`` is for each of the threads.
BURST = Plan(
    clients=4, threads=4, connections=5000, largest=100, pause_s=0,
    exchanges=0, lasting=False,
)  # fmt: skip


def test_twenty_thousand_short_connections_are_all_found(installation: Installation) -> None:
    del installation.settings["FATHOM_INTERVAL_S"], installation.settings["FATHOM_SOCKETS_INTERVAL_S"]
    installation.start_both()
    made = installation.traffic(BURST).finish()
    assert len(made.connections) == 20_000
    installation.observed_until(made.ended_ns / 1e9)
    since = made.began_ns / 1e9 - 10  # an interval of ten seconds begins before its first connection
    answer = installation.edges(since, made.ended_ns / 1e9 + 1)
    matches(answer["items"], made)
    assert lost_on_the_way(answer) == []

    table = installation.command("query", "edges", "--since", rfc3339(since), "--peer", NETWORK, "--no-headers")
    for direction, port in {(edge["direction"], edge["port"]) for edge in answer["items"]}:
        rows = [line for line in table.splitlines() if re.search(rf"\b{direction}\b.*\b{port}\b", line)]
        assert len(rows) == len([edge for edge in answer["items"] if edge["direction"] == direction])
        assert {int(number) for row in rows for number in re.findall(r"\b\d{3,5}\b", row)} >= {
            edge["connections"] for edge in answer["items"] if edge["direction"] == direction
        }
    series = [installation.get(f"edges/{edge['id']}/series", since=rfc3339(since)) for edge in answer["items"]]
    assert sum(point["connections"] for found in series for point in found["items"]) == 40_000
    workloads = installation.get("workloads", since=rfc3339(since), peer=NETWORK)["items"]
    assert sum(workload["connections"] for workload in workloads) == 40_000
