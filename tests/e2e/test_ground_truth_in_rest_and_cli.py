"""What programs say that they did is what store, REST and the command line say: every scenario, through all of it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from installation import lost_on_the_way

from tests.truth.ledger import TCP_COUNTERS, UDP_COUNTERS, Ledger
from tests.truth.network import Bridged
from tests.truth.scenarios import OTHERS, PROGRAMS, TCP, UDP, Stage
from tests.truth.talkers import Talkers

if TYPE_CHECKING:
    from installation import Installation

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Bridged(many=40) as net, Talkers(tmp_path) as talkers:
        yield Stage(net, talkers, set())


def _peers(net: Bridged) -> list[str]:
    """The networks in which all that the programs talk to is."""
    v4 = [str(ipaddress.ip_network(f"{a}/16", strict=False)) for a in (net.address["a"], net.void, net.nowhere)]
    v6 = str(ipaddress.ip_network(f"{net.address6['a']}/64", strict=False))
    return [*v4, v6, "239.9.9.9/32"]


def _program(item: dict[str, Any]) -> str:
    """The executable's name: what a workload is called that is no unit, container or session."""
    return str(item["workload"]).rpartition("/")[2]


def test_every_scenario_is_told_as_it_was(installation: Installation, stage: Stage) -> None:
    """``installation.edges`` asks REST and the command line, which must agree."""
    installation.start_both()
    since = time.time()
    tcp = sum((scenario(stage) for scenario in TCP), Ledger())
    rest = sum((scenario(stage) for scenario in (*UDP, *OTHERS)), Ledger())
    time.sleep(0.5)  # the last sockets close
    until = time.time()
    installation.observed_until(until)
    answers = [installation.edges(since - 1, until + 2, peer) for peer in _peers(stage.net)]
    items = [item for answer in answers for item in answer["items"] if _program(item) in PROGRAMS]
    found = Ledger.items(items, _program)
    assert tcp.differences(found.only(protocol="TCP"), TCP_COUNTERS) == []
    told = Ledger()
    told.pages = {line: page for line, page in found.pages.items() if line.protocol != "TCP"}
    assert rest.differences(told, UDP_COUNTERS) == []
    assert [loss for answer in answers for loss in lost_on_the_way(answer)] == []
