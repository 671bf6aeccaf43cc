"""Where the audit learns who existed: an inventory for each cluster, the same object as long as nothing changed."""

from __future__ import annotations

from typing import Protocol

from fathom.policy.inventory import Inventory, Records


class Inventories(Protocol):
    """Called from one thread at a time."""

    def at(self, cluster: str, since_s: int) -> Inventory:
        """Who existed in ``cluster`` from ``since_s`` (epoch seconds) on; the same object while it is the newest.

        Raises what a store raises.
        """
        ...

    def renew(self) -> None:
        """Give a new object at the next call, although nothing changed: the index of the old one has grown."""
        ...


class FixedInventories:
    """The same records for every cluster: for tests, and where nothing tells who exists."""

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
