"""The agent killed ten times under load: what was observed is in the store, once; what was not is a named gap.

How exact a stretch is: TCP events carry their own time, so what was made in the whole seconds of a stretch is what the
store has in them, give or take the connections that were being made just as a second began or ended. What ``flow``
counts, and which accepted connections are open, is read at the end of an interval, a tick late at most, so these may be
off by what was made in that tick at the start and at the end of a stretch.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from installation import NETWORK, epoch, lost_on_the_way, nothing_left_in_the_kernel, rfc3339, until

if TYPE_CHECKING:
    from installation import Installation
    from traffic_load import Made

pytestmark = pytest.mark.root

#: Settings of ``Installation``: one fact's interval.
INTERVAL_S = 1
#: How late a turn may come on a busy machine with two cores: the loop's tick is 0.1 s.
LATE_S = 0.6


@dataclass(frozen=True)
class Death:
    """When the agent was killed, and when another one was started and was ready, epoch seconds."""

    killed: float
    started: float
    ready: float


def killed_and_started_again(installation: Installation, chance: random.Random, *, writing: bool) -> Death:
    until("an interval of this agent ended", lambda: installation.metric("fathom_batches_total") >= 1)
    time.sleep(chance.uniform(0.0, 1.0))
    if writing:
        installation.kill_as_it_writes("agent")
    else:
        installation.kill("agent")
    killed = time.time()
    time.sleep(chance.uniform(1.0, 1.2))  # holes shorter than a second are not named
    started = time.time()
    installation.start("agent")
    return Death(killed, started, time.time())


def gaps_of(answer: dict[str, Any]) -> list[tuple[int, int]]:
    coverage = answer["window"]["coverage"]
    assert coverage["gaps_omitted"] == 0
    return [(epoch(gap["since"]), epoch(gap["until"])) for gap in coverage["gaps"]]


def by_second(
    installation: Installation, answer: dict[str, Any], protocol: str, direction: str, counted: str
) -> Counter[int]:
    """What was ``counted`` in each second of the answer's window, over its edges of ``protocol`` and ``direction``."""
    found: Counter[int] = Counter()
    window = {name: answer["window"][name] for name in ("since", "until")}
    for edge in answer["items"]:
        if edge["protocol"] == protocol and direction in ("", edge["direction"]):
            for point in installation.get(f"edges/{edge['id']}/series", step="1s", **window)["items"]:
                found[epoch(point["time"])] += point[counted]
    return found


def connected(made: Made, since: float, until_s: float) -> tuple[int, int]:
    """Connections whose handshake lay within the stretch for certain, and those of which it may have."""
    rows = [(began / 1e9, established / 1e9) for began, established, *_ in made.connections]
    certain = sum(since <= began and established < until_s for began, established in rows)
    return certain, sum(since < established and began < until_s for began, established in rows)


def ended(made: Made, since: float, until_s: float) -> tuple[int, int]:
    """Connections whose accepting end counts in the stretch for certain, and those that may: open ones are read when
    an interval ended, a tick late at most, and count in it."""
    rows = [(began / 1e9, closed / 1e9) for began, _, closed, *_ in made.connections]
    certain = sum(since + LATE_S <= began and closed < until_s - 0.05 for began, closed in rows)
    return certain, sum(since - 0.05 < closed and began < until_s + LATE_S for began, closed in rows)


def asked(made: Made, since: float, until_s: float) -> int:
    return sum(since <= began / 1e9 and ended / 1e9 < until_s for began, ended, *_ in made.datagrams)


def test_ten_kills_of_the_agent_lose_nothing_that_was_observed(installation: Installation) -> None:
    chance = random.Random(time.time_ns())
    with nothing_left_in_the_kernel():
        installation.start_both()
        traffic = installation.traffic()
        deaths = [killed_and_started_again(installation, chance, writing=number % 2 == 0) for number in range(10)]
        time.sleep(1.5)
        made = traffic.stop()
        installation.observed_until(made.ended_ns / 1e9)
        assert installation.status()["problems"] == []
        node = installation.status()["items"][0]
        first, last = epoch(node["first_seen"]), epoch(node["last_seen"])
        installation.end("agent")
        assert installation.spooled() == []

        answer = installation.edges(first, last)
        assert lost_on_the_way(answer) == []
        gaps = gaps_of(answer)
        assert len(gaps) == len(deaths), (gaps, deaths)
        for (gap_start, gap_end), death in zip(gaps, deaths, strict=True):
            assert death.killed - INTERVAL_S - LATE_S - 1 <= gap_start <= death.killed
            assert death.started <= gap_end <= death.ready + 1
        table = installation.command("query", "edges", "--since", rfc3339(first), "--until", rfc3339(gaps[1][1]))
        for gap_start, gap_end in gaps[:2]:
            assert f"gap: node-1 from {rfc3339(gap_start)} to {rfc3339(gap_end)}" in table
        observed = zip([first, *(end for _, end in gaps)], [*(start for start, _ in gaps), last], strict=True)
        holds_what_was_made(installation, answer, made, list(observed))
        installation.end("server")


def holds_what_was_made(
    installation: Installation, answer: dict[str, Any], made: Made, observed: list[tuple[int, int]]
) -> None:
    """Compares each stretch of ``observed`` with the log of the load."""
    opened = by_second(installation, answer, "TCP", "egress", "connections")
    accepted = by_second(installation, answer, "TCP", "ingress", "connections")
    packets = by_second(installation, answer, "UDP", "", "packets_sent")
    certain = 0
    for start, end in observed:
        least, most = connected(made, start, end)
        assert least <= sum(opened[second] for second in range(start, end)) <= most, (start, end)
        certain += least
        least, most = ended(made, start, end)
        assert least <= sum(accepted[second] for second in range(start, end)) <= most, (start, end)
        stored = sum(packets[second] for second in range(start, end))
        assert 2 * asked(made, start + LATE_S, end - LATE_S) <= stored, (start, end)
        assert stored <= 2 * asked(made, start - LATE_S, end + LATE_S), (start, end)
    assert certain > 500
    for second in opened:  # nothing twice, also where the agent died
        assert opened[second] <= connected(made, second, second + 1)[1], second
    for second in accepted:
        assert accepted[second] <= ended(made, second, second + 1)[1], second


def test_edges_of_the_load_are_those_of_its_network(installation: Installation) -> None:
    """What the comparison above stands on: no other traffic of this machine uses the load's addresses."""
    installation.start_both()
    until("an interval ends", lambda: installation.metric("fathom_batches_total") >= 2)
    assert installation.edges(time.time() - 60, time.time(), peer=NETWORK)["items"] == []
