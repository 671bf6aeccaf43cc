"""Where the audit learns who existed: an inventory for each cluster, the same object as long as nothing changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fathom.policy.inventory import Inventory, Records
from fathom.store.interface import SECONDS_PER_HOUR, Store, Window
from fathom.store.inventories import joined

#: The end of time, as far as a window goes.
_LATEST_S = 1 << 40
#: An inventory begins so long before the first moment that is asked about: late batches seldom need another.
_BEFORE_S = SECONDS_PER_HOUR


class Inventories(Protocol):
    """Called from one thread at a time."""

    def at(self, cluster: str, since_s: int) -> Inventory:
        """Who existed in ``cluster`` from ``since_s`` (epoch seconds) on; the same object while it is the newest.

        Raises what a store raises.
        """
        ...

    def renew(self) -> None:
        """Give new objects from the next call on, although nothing changed: the index of an old one has grown."""
        ...


@dataclass(frozen=True)
class _Made:
    """An inventory, of which revision of the store's, and from when on it knows who existed."""

    inventory: Inventory
    revision: int
    since_s: int


class StoreInventories:
    """The store's own inventory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: dict[str, _Made] = {}

    def at(self, cluster: str, since_s: int) -> Inventory:
        """See ``Inventories.at``."""
        held, revision = self._made.get(cluster), self._store.inventory_revision()
        if held is None or held.revision != revision or held.since_s > since_s:
            begin = (since_s // SECONDS_PER_HOUR) * SECONDS_PER_HOUR - _BEFORE_S
            records = self._store.inventory(Window(max(begin, 0), _LATEST_S))
            everywhere = records.get("", Records())
            mine = joined(records.get(cluster, Records()), everywhere) if cluster else _alone(records, everywhere)
            held = self._made[cluster] = _Made(Inventory(mine), revision, begin)
        return held.inventory

    def renew(self) -> None:
        """See ``Inventories.renew``."""
        self._made.clear()


def _alone(records: dict[str, Records], everywhere: Records) -> Records:
    """Where traffic names no cluster: the objects of the only cluster that there is, if there is only one."""
    named = [held for name, held in records.items() if name]
    return joined(named[0], everywhere) if len(named) == 1 else everywhere


class FixedInventories:
    """The same records for every cluster: the double for tests."""

    def __init__(self, records: Records | None = None) -> None:
        self._records = records or Records()
        self._made = Inventory(self._records)

    def at(self, cluster: str, since_s: int) -> Inventory:  # noqa: ARG002
        """See ``Inventories.at``."""
        return self._made

    def renew(self) -> None:
        """See ``Inventories.renew``."""
        self.set(self._records)

    def set(self, records: Records) -> None:
        """Others exist from now on."""
        self._records, self._made = records, Inventory(records)
