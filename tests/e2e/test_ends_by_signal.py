"""Told to end, server and agent end well, and nothing at all is lost: the open interval is handed over first."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from installation import epoch, lost_on_the_way, matches, nothing_left_in_the_kernel, until

if TYPE_CHECKING:
    from installation import Installation

pytestmark = pytest.mark.root


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_told_to_end_hands_over_all_that_it_saw(
    installation: Installation, number: signal.Signals
) -> None:
    installation.settings["FATHOM_INTERVAL_S"] = "60"  # so that only the end can hand it over
    with nothing_left_in_the_kernel():
        installation.start_both()
        traffic = installation.traffic()
        time.sleep(1.5)
        made = traffic.stop()
        installation.end("agent", number)
        assert installation.spooled() == []
        answer = installation.edges(made.began_ns // 10**9 - 60, time.time())
        matches(answer["items"], made)
        assert lost_on_the_way(answer) == []
        assert epoch(installation.status()["items"][0]["last_seen"]) >= made.ended_ns / 1e9
        installation.end("server", number)


def test_both_told_to_end_under_load_lose_nothing(installation: Installation) -> None:
    """The server ends, the load goes on, the agent ends with nobody to send to; both come back."""
    installation.start_both()
    traffic = installation.traffic()
    time.sleep(1.2)
    installation.end("server", signal.SIGINT)
    time.sleep(1.2)
    made = traffic.stop()
    installation.end("agent", signal.SIGINT)
    assert installation.spooled() != []
    installation.start("server")
    installation.start("agent")
    until("the spool drains", lambda: not installation.spooled())
    installation.observed_until(made.ended_ns / 1e9)
    answer = installation.edges(made.began_ns // 10**9 - 1, time.time())
    matches(answer["items"], made)
    assert lost_on_the_way(answer) == []
