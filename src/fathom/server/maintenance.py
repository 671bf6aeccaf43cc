"""What the store needs now and then: hours rolled up, old days dropped. One small step at a time.

Old days go in the writer's turn. Hours are added up beside it: the store itself lets the writer wait only while the
sums are put down.

A step that fails is told and tried again at the next turn; it never ends the server, and ingest goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fathom.errors import FathomError
from fathom.server.ingest import Ingest
from fathom.server.meters import Meters
from fathom.server.settings import ServerSettings
from fathom.store.interface import SECONDS_PER_DAY, Store

_LOG = logging.getLogger(__name__)


class Maintenance:
    """Looks after ``store`` until cancelled."""

    def __init__(
        self, store: Store, ingest: Ingest, settings: ServerSettings, meters: Meters, now_s: Callable[[], float]
    ) -> None:
        self._store, self._ingest, self._settings, self._meters, self._now_s = store, ingest, settings, meters, now_s
        self._dropped_before = 0

    async def run(self) -> None:
        """One turn each ``maintenance_s`` seconds."""
        while True:
            await self.turn()
            await asyncio.sleep(self._settings.maintenance_s)

    async def turn(self) -> None:
        """Do what is due."""
        try:
            await self._drop()
            now_s = int(self._now_s())
            for hour in await self._ingest.between_batches(lambda: self._store.due(now_s)):
                await asyncio.to_thread(self._store.roll, hour)
                self._meters.rolled += 1
        except FathomError as error:
            self._meters.maintenance_failed += 1
            _LOG.warning("maintenance of the store failed, it is tried again: %s", error)
        except Exception:
            self._meters.maintenance_failed += 1
            _LOG.exception("maintenance of the store failed by a defect, it is tried again")

    async def _drop(self) -> None:
        """Forget what is older than the retention; once for each day that ends."""
        today = int(self._now_s()) // SECONDS_PER_DAY * SECONDS_PER_DAY
        facts = today - self._settings.retention_days * SECONDS_PER_DAY
        if facts == self._dropped_before:
            return
        hours = today - max(self._settings.hours_retention_days, self._settings.retention_days) * SECONDS_PER_DAY
        await self._ingest.between_batches(lambda: self._store.drop_before(facts, hours_before_s=hours))
        self._dropped_before = facts
