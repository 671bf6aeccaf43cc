"""What is not acknowledged yet, in order: on disk within a bound, in memory within another. Knows no network.

A batch that falls off the bound, cannot be read back, or is refused for good leaves a *tombstone*: a batch with the
same id that holds no facts, but what was lost (and the losses that the batch itself told). So a loss is told by the
same exactly-once delivery as the facts it stands for: had the server already written the batch, it acknowledges the
tombstone by its id, and nothing is counted as lost. Ids keep no holes.

All methods block on the disk; the client calls them from one thread of their own.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from fathom.errors import TemporaryError, WireError
from fathom.events.batches import Batch, BatchId, Clock, Loss
from fathom.events.edges import Edge
from fathom.link.spool import BLOCK, Key, Spool, Stored, size_on_disk
from fathom.wire import batches as wire

_LOG = logging.getLogger(__name__)
#: Rows of losses in one tombstone; above, their buckets are merged.
_MAX_LOSSES = 4096


@dataclass(slots=True)
class Payload:
    """An encoded batch. ``edges`` and their ``ids`` are known only for a batch of this process."""

    head: bytes
    edge_part: bytes
    edges: tuple[Edge, ...] = ()
    ids: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return len(self.head) + len(self.edge_part)


@dataclass(slots=True)
class Item:
    """A batch on its way. ``payload`` is None while it is on disk only; ``sent`` since the last rewind."""

    stored: Stored
    payload: Payload | None
    on_disk: bool
    tombstone: bool = False
    sent: bool = False
    attempts: int = 0

    @property
    def key(self) -> Key:
        return self.stored.key


@dataclass(slots=True)
class Totals:
    """Counts since start."""

    facts_dropped: int = 0
    files_damaged: int = 0
    losses: Counter[tuple[str, str]] = field(default_factory=Counter)  # (hop, reason) -> facts


class Outbox:
    """Batches that no server acknowledged, oldest first."""

    def __init__(self, node: str, open_spool: Callable[[], Spool], *, disk_bytes: int, memory_bytes: int) -> None:
        """Take over what the spool holds from earlier starts.

        A spool that the disk refuses is tried again at each ``put``; until then everything is in memory. Raises
        UsageError if another agent holds the spool.
        """
        self._node, self._open_spool = node, open_spool
        self._disk_limit, self._memory_limit = disk_bytes, memory_bytes
        self._spool: Spool | None = None
        self._items: dict[tuple[str, int], Item] = {}
        self._generation = 1
        self._owed: tuple[Loss, ...] = ()
        self.disk_bytes = self.memory_bytes = 0
        self.writable = True
        self.totals = Totals()
        self._attach()
        self._make_room(0)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: Item) -> bool:
        return self._items.get((item.key.boot, item.key.sequence)) is item

    def put(self, batch: Batch) -> None:
        """Keep ``batch``, with losses that are still owed. When this returns, it survives the death of the process
        (unless the disk refuses it: then it is in memory, and ``writable`` is False)."""
        if self._owed:
            batch = replace(batch, losses=_merged((*batch.losses, *self._owed)))
            self._owed = ()
        try:
            payload = _encode(batch)
        except WireError as error:
            _LOG.error("batch %s cannot be sent, its facts are counted as lost: %s", batch.id, error.what)
            batch = self._without_facts(batch, (), "agent", "unsendable")
            payload = _encode(batch)
        if self._spool is None:
            self._attach()
        item = self._item(batch, payload)
        if item.stored.size > self._disk_limit:
            self._bury(item, "spool", "larger_than_spool")
        else:
            self._make_room(item.stored.size)
            self._save(item)
        if item.on_disk:
            self._save_what_the_disk_refused()
        self._shed_memory()

    def next(self) -> tuple[Item, Payload] | None:
        """The oldest item that was not sent since the last rewind, now taken as sent, and what to send.

        Raises TemporaryError if it cannot be read from the disk just now.
        """
        for item in self._items.values():
            if not item.sent:
                payload = self._load(item)
                item.sent = True
                item.attempts += 1
                return item, payload
        return None

    def rewind(self) -> None:
        """Take everything as not sent."""
        for item in self._items.values():
            item.sent = False

    def acknowledged(self, boot: str, sequence: int) -> None:
        """The server has it: forget it. Harmless if it is not known."""
        if item := self._items.pop((boot, sequence), None):
            self._forget(item)

    def refused(self, boot: str, sequence: int, reason: str) -> None:
        """The server will never take it: leave a tombstone, or if even that was refused, owe its losses."""
        item = self._items.get((boot, sequence))
        if item is None:
            return
        if item.tombstone:
            self._owed = _merged((*self._owed, *wire.decode(self._load(item).head).losses))
            self.acknowledged(boot, sequence)
        else:
            self._bury(item, "server", reason)
            item.sent = False

    def close(self) -> None:
        """Write what is in memory only, as far as the disk takes it, and let go of the spool."""
        if self._spool:
            self._save_what_the_disk_refused()
            self._spool.close()

    # -- bounds

    def _attach(self) -> None:
        """Open the spool, and put what it holds before what is only in memory."""
        try:
            spool = self._open_spool()
        except OSError as error:
            self._disk_refused(error)
            return
        try:
            earlier = spool.scan()
        except OSError as error:
            spool.close()
            self._disk_refused(error)
            return
        self._spool = spool
        self._generation = 1 + max((stored.key.generation for stored in earlier), default=0)
        present, self._items = list(self._items.values()), {}
        for stored in earlier:
            self._items[stored.key.boot, stored.key.sequence] = Item(stored, None, on_disk=True)
            self.disk_bytes += stored.size
        for item in present:
            item.stored = replace(item.stored, key=replace(item.key, generation=self._generation))
            self._items[item.key.boot, item.key.sequence] = item

    def _item(self, batch: Batch, payload: Payload) -> Item:
        bucket = int(batch.facts["bucket"].min()) if len(batch.facts) else batch.clock.wall_ns // 1_000_000_000
        key = Key(self._generation, batch.id.sequence, batch.id.boot)
        item = Item(Stored(key, bucket, len(batch.facts), size_on_disk(payload.size)), payload, on_disk=False)
        self._items[key.boot, key.sequence] = item
        self.memory_bytes += payload.size
        return item

    def _make_room(self, needed: int) -> None:
        """Let the oldest facts on disk go until ``needed`` more bytes are within the bound."""
        self._drop_oldest(lambda: self.disk_bytes + needed > self._disk_limit, lambda item: item.on_disk, "spool_full")

    def _shed_memory(self) -> None:
        """Bring memory under its bound: copies of what is on disk go first, newest first, since the oldest is sent
        next; then the oldest facts that the disk refused."""
        for item in reversed(self._items.values()):
            if self.memory_bytes <= self._memory_limit:
                return
            if item.on_disk:
                self._drop_copy(item)
        limit = max(self._memory_limit, _MIN_MEMORY)
        self._drop_oldest(lambda: self.memory_bytes > limit, lambda item: not item.on_disk, "disk_refused")

    def _drop_oldest(self, above: Callable[[], bool], where: Callable[[Item], bool], reason: str) -> None:
        """Let the oldest facts go until ``above`` is no longer so; as few as possible.

        A tombstone takes a block. Where the batch took no more, only folding it with an earlier one gives room.
        """
        items = [item for item in self._items.values() if where(item)]
        earlier: Item | None = None
        try:
            for item in items:
                if not above():
                    return
                small = item.stored.size <= BLOCK
                if not item.tombstone:
                    self._bury(item, "spool", reason)
                    if small and earlier and above():
                        self._fold(earlier, item)
                earlier = item
            for item, following in pairwise(item for item in items if item in self):
                if not above():
                    return
                self._fold(item, following)
        except TemporaryError as error:
            _LOG.warning("%s; the spool stays above its bound for now", error)

    def _fold(self, item: Item, following: Item) -> None:
        """Let the tombstone ``following`` tell the losses of ``item`` too. If the server had ``item`` already, these
        losses are told although nothing was lost: the one case in which a loss is overstated."""
        losses = wire.decode(self._load(item).head).losses
        batch = wire.decode(self._load(following).head)
        self._replace(following, replace(batch, losses=_merged((*losses, *batch.losses))))
        self.acknowledged(item.key.boot, item.key.sequence)

    # -- tombstones

    def _bury(self, item: Item, hop: str, reason: str) -> None:
        payload = self._load(item)
        if item.tombstone:
            return  # it could not be read
        batch = wire.decode(payload.head)
        _LOG.warning("batch %s is dropped (%s): %d facts are counted as lost", batch.id, reason, len(batch.facts))
        self._replace(item, self._without_facts(batch, _per_bucket(batch, hop, reason), hop, reason))

    def _without_facts(self, batch: Batch, losses: tuple[Loss, ...], hop: str, reason: str) -> Batch:
        """``batch`` with losses only. Losses that cannot be sent are left out of a batch that cannot be encoded."""
        facts = len(batch.facts)
        self.totals.facts_dropped += facts
        self.totals.losses[hop, reason] += facts
        if hop == "agent":
            bucket = max(batch.clock.wall_ns, 0) // 1_000_000_000
            return Batch(batch.id, batch.clock, losses=(Loss(bucket, hop, "", reason, facts),))
        return Batch(batch.id, batch.clock, losses=_merged((*batch.losses, *losses)))

    def _replace(self, item: Item, batch: Batch) -> None:
        """Put ``batch`` in the place of ``item``'s, on disk in one step."""
        self._drop_copy(item)
        if item.on_disk:
            self.disk_bytes -= item.stored.size
        payload = _encode(batch)
        item.stored = replace(item.stored, size=size_on_disk(payload.size))
        item.payload, item.tombstone = payload, True
        self.memory_bytes += payload.size
        was_on_disk, item.on_disk = item.on_disk, False
        if not self._save(item) and was_on_disk:
            self._remove_file(item)  # its facts are counted as lost: they must not be sent
            self._save(item)  # there may be room now

    # -- disk and memory

    def _load(self, item: Item) -> Payload:
        """Raises TemporaryError if the file cannot be read just now; a damaged one becomes a tombstone."""
        if item.payload is None and self._spool is not None:
            try:
                head, edge_part = self._spool.read(item.stored)
                wire.decode(head)
                return Payload(head, edge_part)
            except WireError as error:
                self._set_aside(item, error)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise TemporaryError(f"spool file {item.stored.name} cannot be read: {error.strerror}") from error
                self._set_aside(item, error)
        if item.payload is None:
            raise AssertionError(f"{item.stored.name} is neither in memory nor on disk")
        return item.payload

    def _set_aside(self, item: Item, error: Exception) -> None:
        """``item`` cannot be read back: keep its file, tell its loss from its name."""
        if self._spool:
            try:
                kept = self._spool.set_aside(item.stored)
                _LOG.error("%s; kept as %s; %d facts are counted as lost", error, kept, item.stored.facts)
            except OSError as second:
                _LOG.error(
                    "%s; it cannot be set aside: %s; %d facts are counted as lost", error, second, item.stored.facts
                )
        facts, key = item.stored.facts, item.key
        self.totals.files_damaged += 1
        self.totals.facts_dropped += facts
        self.totals.losses["spool", "damaged"] += facts
        wall = item.stored.bucket
        self._replace(
            item,
            Batch(
                BatchId(self._node, key.boot, key.sequence),
                Clock(0, 0, wall * 1_000_000_000),
                losses=(Loss(wall, "spool", "", "damaged", facts),),
            ),
        )

    def _save(self, item: Item) -> bool:
        if self._spool is None or item.payload is None:
            return False
        try:
            self._spool.write(item.stored, item.payload.head, item.payload.edge_part)
        except OSError as error:
            self._disk_refused(error)
            return False
        if not self.writable:
            _LOG.info("the spool can be written again")
        self.writable = item.on_disk = True
        self.disk_bytes += item.stored.size
        return True

    def _save_what_the_disk_refused(self) -> None:
        for item in self._items.values():
            if not item.on_disk and not self._save(item):
                return

    def _drop_copy(self, item: Item) -> None:
        if item.payload:
            self.memory_bytes -= item.payload.size
            item.payload = None

    def _forget(self, item: Item) -> None:
        self._drop_copy(item)
        if item.on_disk:
            self.disk_bytes -= item.stored.size
            self._remove_file(item)

    def _remove_file(self, item: Item) -> None:
        if self._spool is None:
            return
        try:
            self._spool.remove(item.stored)
        except OSError as error:  # it will be sent again after a restart; the server knows its id
            _LOG.error("spool file %s cannot be removed: %s", item.stored.name, error)

    def _disk_refused(self, error: OSError) -> None:
        if self.writable:
            _LOG.error("the spool cannot be written (%s): batches are kept in memory only", error)
        self.writable = False


#: What memory takes of batches that the disk refused, even if no copies are kept otherwise.
_MIN_MEMORY = 1024 * 1024


def _encode(batch: Batch) -> Payload:
    ids = tuple(edge.id for edge in batch.edges)
    return Payload(wire.encode_head(batch), wire.encode_edges(batch.edges), batch.edges, ids)


def _per_bucket(batch: Batch, hop: str, reason: str) -> tuple[Loss, ...]:
    facts = batch.facts
    if len(facts) == 0:
        return ()
    buckets, where, counts = np.unique(facts["bucket"], return_inverse=True, return_counts=True)
    sums = np.zeros((4, len(buckets)), np.int64)
    for row, name in zip(sums, ("packets_sent", "packets_received", "bytes_sent", "bytes_received"), strict=True):
        np.add.at(row, where, facts[name])
    return tuple(
        Loss(bucket, hop, "", reason, count, sent + received, bytes_sent, bytes_received)
        for bucket, count, sent, received, bytes_sent, bytes_received in zip(
            buckets.tolist(), counts.tolist(), *sums.tolist(), strict=True
        )
    )


def _merged(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """Losses of the same kind and bucket added up; with too many rows, buckets merged into the first."""
    rows = tuple(losses)
    first = min((loss.bucket for loss in rows), default=0)
    sums: dict[tuple[int, str, str, str], list[int]] = {}
    for coarse in (False, True):
        sums.clear()
        for loss in rows:
            key = (first if coarse else loss.bucket, loss.hop, loss.probe, loss.reason)
            row = sums.setdefault(key, [0, 0, 0, 0])
            for index, number in enumerate((loss.count, loss.packets, loss.bytes_sent, loss.bytes_received)):
                row[index] += number
        if len(sums) <= _MAX_LOSSES:
            break
    return tuple(Loss(*key, *numbers) for key, numbers in sums.items())
