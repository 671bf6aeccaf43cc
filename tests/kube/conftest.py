"""One cluster for all tests, and what the tests of policy have beside theirs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.with_name("policy")), str(HERE.with_name("e2e"))]

if TYPE_CHECKING:
    from canary import Canary
    from inhabitants import Place
    from kube_cluster import Cluster


@pytest.fixture(scope="session")
def cluster(require: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two nodes that enforces policies; it goes with the session."""
    from kube_cluster import Cluster, missing

    if reason := missing():
        require("kube", reason)
    here = Cluster(tmp_path_factory.mktemp("kube") / "state")
    try:
        here.up()
        yield here
    finally:
        here.down()


@pytest.fixture(scope="session")
def places(cluster: Cluster) -> Iterator[list[Place]]:
    """Where probes start and end: pods, pods on the nodes' networks, and addresses outside."""
    from inhabitants import settle, the_outside

    with the_outside(cluster):
        yield settle(cluster)


@pytest.fixture(scope="session")
def canary(cluster: Cluster) -> Canary:
    """Knows when a change of policies is in force."""
    from canary import Canary

    return Canary(cluster)
