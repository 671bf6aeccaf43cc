"""What programs say that they did is what the probes saw: every connection, packet and byte, at both ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.truth.ledger import TCP_COUNTERS, UDP_COUNTERS, Ledger
from tests.truth.network import Bridged
from tests.truth.scenarios import (
    CLIENT,
    OTHERS,
    PROGRAMS,
    TCP,
    UDP,
    Scenario,
    Stage,
    tcp_ipv4,
    tcp_many_processes,
    tcp_mapped,
    tcp_refused,
)
from tests.truth.talkers import Talkers
from tests.truth.watch import Watch

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]


@pytest.fixture(scope="module")
def net() -> Iterator[Bridged]:
    with Bridged(many=40) as net:
        yield net


@pytest.fixture
def stage(net: Bridged, tmp_path: Path) -> Iterator[Stage]:
    with Talkers(tmp_path) as talkers:
        yield Stage(net, talkers, set())


@pytest.fixture
def watch() -> Iterator[Watch]:
    with Watch() as watch:
        yield watch


def test_nothing_is_told_of_others(stage: Stage, watch: Watch) -> None:
    """Scenarios in one window stay apart: the sum of their truths is all that was seen of their programs."""
    truth = sum((scenario(stage) for scenario in (tcp_ipv4, tcp_mapped, tcp_refused, tcp_many_processes)), Ledger())
    watch.settle()
    assert truth.differences(watch.ledger(*PROGRAMS), TCP_COUNTERS) == []


@pytest.mark.parametrize("scenario", TCP, ids=lambda scenario: scenario.__name__)
def test_tcp_is_seen_as_it_was(scenario: Scenario, stage: Stage, watch: Watch) -> None:
    truth = scenario(stage)
    watch.settle()
    assert truth.differences(watch.ledger(*PROGRAMS), TCP_COUNTERS) == []
    assert watch.losses() == {}
    clients = watch.observations()
    assert stage.pids == set(clients["pid"][clients["comm"] == CLIENT.encode()].tolist())


@pytest.mark.parametrize("scenario", [*UDP, *OTHERS], ids=lambda scenario: scenario.__name__)
def test_datagrams_are_seen_as_they_were(scenario: Scenario, stage: Stage, watch: Watch) -> None:
    truth = scenario(stage)
    watch.settle()
    assert truth.differences(watch.ledger(*PROGRAMS), UDP_COUNTERS) == []
    assert watch.losses() == {}
    clients = watch.observations()
    assert stage.pids == set(clients["pid"][clients["comm"] == CLIENT.encode()].tolist())
