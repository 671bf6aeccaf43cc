"""The server killed ten times under load: what the load made is in the store, all of it, once."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from installation import epoch, lost_on_the_way, matches, nothing_left_in_the_kernel

if TYPE_CHECKING:
    from installation import Installation

pytestmark = pytest.mark.root


def killed_and_started_again(installation: Installation, way: int, chance: random.Random) -> int:
    """Kill the server (0) when a batch was just committed, (1) at some moment after that batch came again, (2) at some
    moment, perhaps before it was ready. How many batches were seen to come twice."""
    came_twice = 0
    if way < 2:
        installation.wait_ready("server")
    if way == 0:
        installation.kill_as_it_writes("server")
    else:
        time.sleep(chance.uniform(0.0, 1.2))
        came_twice = installation.status()["ingest"]["duplicates"] if way == 1 else 0
        installation.kill("server")
    time.sleep(chance.uniform(0.0, 0.5))
    installation.start("server", ready=False)
    return came_twice


def test_ten_kills_of_the_server_lose_nothing_and_double_nothing(installation: Installation) -> None:
    chance = random.Random(time.time_ns())
    with nothing_left_in_the_kernel():
        installation.start_both()
        traffic = installation.traffic()
        came_twice = sum(killed_and_started_again(installation, number % 3, chance) for number in range(10))
        installation.wait_ready("server")
        made = traffic.stop()
        installation.observed_until(made.ended_ns / 1e9)

        assert installation.status()["problems"] == []
        node = installation.status()["items"][0]
        answer = installation.edges(epoch(node["first_seen"]), epoch(node["last_seen"]))
        matches(answer["items"], made)
        assert len(made.connections) > 1000
        print(f"{came_twice} batches came twice")
        assert answer["window"]["coverage"] == {
            "share": 1.0,
            "node_seconds": answer["window"]["coverage"]["observed_seconds"],
            "observed_seconds": answer["window"]["coverage"]["node_seconds"],
            "gaps": [],
            "gaps_omitted": 0,
        }
        assert lost_on_the_way(answer) == []
        installation.end("agent")
        assert installation.spooled() == []
        installation.end("server")
