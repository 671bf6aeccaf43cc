"""Who existed, from the store: read again when it changed, and only then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fathom.policy.inventory import Pod, Records
from fathom.server.inventories import StoreInventories
from fathom.store.interface import Store
from fathom.store.memory import MemoryStore
from fathom.store.opening import open_store

NOW = 1_769_860_800


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path) -> Store:
    clock: Callable[[], float] = lambda: float(NOW)  # noqa: E731
    opened = (
        MemoryStore(clock=clock) if request.param == "memory" else open_store(f"sqlite://{tmp_path}/s", clock=clock)
    )
    yield opened
    opened.close()


def pod(name: str, address: str, **given: int) -> Records:
    return Records(pods=[Pod("a", name, {}, (address,), "n1", **given)])


def test_it_is_the_same_object_until_something_changes(store: Store) -> None:
    inventories = StoreInventories(store)
    first = inventories.at("", NOW)
    assert inventories.at("", NOW + 5) is first
    assert inventories.at("", NOW - 60) is first  # it begins an hour before
    store.keep_inventory(pod("x", "10.0.0.1"))
    second = inventories.at("", NOW)
    assert second is not first
    assert second.at("10.0.0.1", NOW) == "a/x"
    assert inventories.at("", NOW) is second
    inventories.renew()
    assert inventories.at("", NOW) is not second


def test_what_is_older_is_read_when_it_is_asked_for(store: Store) -> None:
    store.keep_inventory(pod("old", "10.0.0.1", since=NOW - 90_000, until=NOW - 80_000))
    store.keep_inventory(pod("new", "10.0.0.1", since=NOW - 80_000))
    inventories = StoreInventories(store)
    assert inventories.at("", NOW).at("10.0.0.1", NOW - 85_000) == ""
    assert inventories.at("", NOW - 85_000).at("10.0.0.1", NOW - 85_000) == "a/old"
    assert inventories.at("", NOW).at("10.0.0.1", NOW - 85_000) == "a/old"  # the same object as before


def test_clusters_are_apart_and_what_has_none_is_everywhere(store: Store) -> None:
    store.keep_inventory(pod("x", "10.0.0.1"), cluster="one")
    store.keep_inventory(pod("y", "10.0.0.2"), cluster="two")
    store.keep_inventory(pod("z", "10.0.0.3"))
    inventories = StoreInventories(store)
    seen = {
        cluster: [inventories.at(cluster, NOW).at(f"10.0.0.{n}", NOW) for n in (1, 2, 3)]
        for cluster in ("one", "two", "", "three")
    }
    assert seen == {
        "one": ["a/x", "", "a/z"],
        "two": ["", "a/y", "a/z"],
        "": ["", "", "a/z"],
        "three": ["", "", "a/z"],
    }


def test_traffic_without_a_cluster_is_of_the_only_one(store: Store) -> None:
    store.keep_inventory(pod("x", "10.0.0.1"), cluster="one")
    assert StoreInventories(store).at("", NOW).at("10.0.0.1", NOW) == "a/x"
