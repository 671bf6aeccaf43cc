"""What waits on disk: its bounds, its damage, and the account of everything that could not be kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fathom.errors import TemporaryError, UsageError
from fathom.events.batches import Batch, BatchId, Loss, Observed
from fathom.link.doubles import sample_batch
from fathom.link.outbox import Outbox
from fathom.link.spool import Spool, Stored
from fathom.wire import batches as wire

BLOCK = 4096


class FailingSpool(Spool):
    """A spool whose disk refuses writes while ``full``, and reads with ``read_errno``."""

    full = False
    read_errno = 0

    def write(self, stored: Stored, head: bytes, edges: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(stored, head, edges)

    def read(self, stored: Stored) -> tuple[bytes, bytes]:
        if self.read_errno:
            raise OSError(self.read_errno, os.strerror(self.read_errno))
        return super().read(stored)


def open_outbox(
    directory: Path, *, disk: int = 1 << 20, memory: int = 1 << 20, spool: Callable[[], Spool] | None = None
) -> Outbox:
    return Outbox("node-1", spool or (lambda: Spool(directory)), disk_bytes=disk, memory_bytes=memory)


def drain(outbox: Outbox) -> list[Batch]:
    """All batches, as a server that knows no edge would get them."""
    found = []
    while (item := outbox.next()) is not None:
        found.append(wire.decode(item[1].head + item[1].edge_part))
    outbox.rewind()
    return found


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.batch"))


def account(found: list[Batch], hop: str, reason: str) -> tuple[int, int]:
    """(facts there, facts told as lost)"""
    losses = [loss for batch in found for loss in batch.losses if (loss.hop, loss.reason) == (hop, reason)]
    return sum(len(batch.facts) for batch in found), sum(loss.count for loss in losses)


def test_what_was_put_survives_the_process(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    for sequence in (1, 2, 3):
        outbox.put(sample_batch(sequence))
    outbox._spool.close()  # type: ignore[union-attr]  # as a killed process does: nothing else happens
    again = open_outbox(tmp_path)
    assert [batch.id.sequence for batch in drain(again)] == [1, 2, 3]
    assert all(len(batch.edges) == 3 for batch in drain(again))
    again.acknowledged("aa", 2)
    assert [batch.id.sequence for batch in drain(again)] == [1, 3]
    assert len(files(tmp_path)) == 2


def test_earlier_boots_come_first_in_the_order_of_their_starts(tmp_path: Path) -> None:
    for boot in ("zz", "mm", "aa"):
        outbox = open_outbox(tmp_path)
        for sequence in (1, 2, 11):
            outbox.put(sample_batch(sequence, boot=boot))
        outbox.close()
    order = [(batch.id.boot, batch.id.sequence) for batch in drain(open_outbox(tmp_path))]
    assert order == [(boot, sequence) for boot in ("zz", "mm", "aa") for sequence in (1, 2, 11)]


def test_half_a_file_is_removed_since_put_had_not_returned(tmp_path: Path) -> None:
    (tmp_path / "00000001-0000000000000000001-aa-1-3.batch.partial").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("of a person")
    assert drain(open_outbox(tmp_path)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "notes.txt"]


def test_two_agents_cannot_share_a_spool(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    with pytest.raises(UsageError, match="in use by another agent"):
        open_outbox(tmp_path)
    outbox.close()
    open_outbox(tmp_path).close()


def test_memory_keeps_its_bound_and_gives_up_the_newest_copies(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, memory=2000)
    for sequence in range(1, 51):
        outbox.put(sample_batch(sequence))
        assert outbox.memory_bytes <= 2000
    in_memory = [item.key.sequence for item in outbox._items.values() if item.payload]
    assert in_memory == list(range(1, len(in_memory) + 1))
    assert len(in_memory) > 1
    assert [batch.id.sequence for batch in drain(outbox)] == list(range(1, 51))


# -- the bound on disk


def test_above_the_bound_the_oldest_facts_go_and_each_is_counted(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, disk=20 * BLOCK)
    for sequence in range(1, 61):
        outbox.put(sample_batch(sequence, edges=200))  # several blocks each
        assert sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in files(tmp_path)) <= 20 * BLOCK
    found = drain(outbox)
    kept, lost = account(found, "spool", "spool_full")
    assert kept + lost == 60 * 200
    assert lost > 0
    assert outbox.totals.facts_dropped == lost
    newest = [batch.id.sequence for batch in found if len(batch.facts)]
    assert newest == list(range(61 - len(newest), 61))


def test_a_tombstone_says_what_was_lost_when_and_keeps_what_the_batch_told(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, disk=5 * BLOCK)
    told = Loss(1_700_000_000, "kernel", "tcp", "ring_full", 7, 1, 2, 3)
    first = sample_batch(1, edges=100, losses=(told,), observed=(Observed(1, 2),))
    first.facts["bucket"] = [1_700_000_010, 1_700_000_020] * 50
    first.facts["bytes_received"] = [1, 2] * 50
    for large in (first, sample_batch(2, edges=100), sample_batch(3, edges=100)):
        outbox.put(large)
    tombstone = drain(outbox)[0]
    assert tombstone.id == BatchId("node-1", "aa", 1)
    assert (len(tombstone.facts), tombstone.observed, tombstone.edges) == (0, (), ())
    assert tombstone.losses == (
        told,
        Loss(1_700_000_010, "spool", "", "spool_full", 50, 100, 5000, 50),
        Loss(1_700_000_020, "spool", "", "spool_full", 50, 100, 5000, 100),
    )


def test_tombstones_above_the_bound_are_folded_without_forgetting_a_loss(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, disk=4 * BLOCK)
    for sequence in range(1, 101):
        outbox.put(sample_batch(sequence))
        assert len(files(tmp_path)) <= 4
    outbox.close()
    kept, lost = account(drain(open_outbox(tmp_path, disk=4 * BLOCK)), "spool", "spool_full")
    assert (kept, lost) == (9, 291)  # three batches and one tombstone fill four blocks


def test_a_smaller_bound_at_the_next_start_is_kept(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    for sequence in range(1, 21):
        outbox.put(sample_batch(sequence))
    outbox.close()
    again = open_outbox(tmp_path, disk=5 * BLOCK)
    assert len(files(tmp_path)) <= 5
    assert account(drain(again), "spool", "spool_full") == (12, 48)


def test_a_batch_larger_than_the_spool_costs_only_itself(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, disk=16 * BLOCK)
    outbox.put(sample_batch(1))
    outbox.put(sample_batch(2, edges=5000))
    found = drain(outbox)
    assert account(found, "spool", "larger_than_spool") == (3, 5000)
    assert [len(batch.facts) for batch in found] == [3, 0]


def test_many_kinds_of_losses_are_merged_within_a_bound(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, disk=2 * BLOCK)
    many = tuple(Loss(1_700_000_000 + number, "kernel", "tcp", "ring_full", 1) for number in range(5000))
    outbox.put(sample_batch(1, losses=many))
    outbox.put(sample_batch(2))
    outbox.put(sample_batch(3))
    outbox.refused("aa", 1, "invalid")
    losses = [loss for batch in drain(outbox) for loss in batch.losses]
    assert sum(loss.count for loss in losses if loss.reason == "ring_full") == 5000
    assert len(losses) < 10


# -- refused, unsendable


def test_a_refused_tombstone_is_told_by_the_next_batch(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.put(sample_batch(1))
    outbox.refused("aa", 1, "invalid")
    assert account(drain(outbox), "server", "invalid") == (0, 3)
    outbox.refused("aa", 1, "invalid")
    assert drain(outbox) == []
    assert files(tmp_path) == []
    outbox.put(sample_batch(2))
    assert account(drain(outbox), "server", "invalid") == (3, 3)
    outbox.refused("zz", 9, "unknown")  # harmless
    outbox.acknowledged("zz", 9)


def test_a_batch_that_cannot_be_encoded_is_counted_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = open_outbox(tmp_path)
    broken = sample_batch(1)
    broken.facts["bytes_sent"][1] = -1
    outbox.put(broken)
    outbox.put(sample_batch(2))
    assert account(drain(outbox), "agent", "unsendable") == (3, 3)
    assert "bytes_sent is negative" in caplog.text


# -- damage


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "magic", "gone"])
def test_a_damaged_file_is_kept_aside_counted_and_said(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = open_outbox(tmp_path)
    for sequence in (1, 2, 3):
        outbox.put(sample_batch(sequence))
    outbox.close()
    victim = files(tmp_path)[1]
    data = bytearray(victim.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    elif harm == "cut":
        del data[-1:]
    elif harm == "empty":
        data.clear()
    elif harm == "magic":
        data[0] ^= 1
    again = open_outbox(tmp_path)
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(data)
    found = drain(again)
    assert [batch.id.sequence for batch in found] == [1, 2, 3]
    assert account(found, "spool", "damaged") == (6, 3)
    assert found[1].losses[0].bucket == 1_700_000_020
    assert again.totals.files_damaged == 1
    assert "3 facts are counted as lost" in caplog.text
    aside = tmp_path / "damaged" / victim.name
    assert aside.exists() == (harm != "gone")
    if harm != "gone":
        assert aside.read_bytes() == bytes(data)
    again.close()
    assert account(drain(open_outbox(tmp_path)), "spool", "damaged") == (6, 3)  # told once, not once more


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, memory=0)
    for sequence in range(1, 41):
        outbox.put(sample_batch(sequence))
    for path in files(tmp_path):
        path.write_bytes(b"")
    assert account(drain(outbox), "spool", "damaged") == (0, 120)
    assert len(list((tmp_path / "damaged").iterdir())) == 16


def test_a_disk_that_cannot_read_a_file_loses_it_a_process_without_handles_does_not(tmp_path: Path) -> None:
    spool = FailingSpool(tmp_path)
    outbox = open_outbox(tmp_path, memory=0, spool=lambda: spool)
    outbox.put(sample_batch(1))
    spool.read_errno = errno.EMFILE
    with pytest.raises(TemporaryError, match="Too many open files"):
        outbox.next()
    spool.read_errno = errno.EIO
    assert account(drain(outbox), "spool", "damaged") == (0, 3)


# -- a disk that refuses


def test_a_full_disk_means_memory_within_a_bound_then_counted_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = FailingSpool(tmp_path)
    outbox = open_outbox(tmp_path, memory=1 << 20, spool=lambda: spool)
    spool.full = True
    for sequence in range(1, 41):
        outbox.put(sample_batch(sequence, edges=1000))
        assert outbox.memory_bytes <= 1 << 20
    assert not outbox.writable
    kept, lost = account(drain(outbox), "spool", "disk_refused")
    assert kept + lost == 40_000
    assert lost > 0
    assert caplog.text.count("kept in memory only") == 1


def test_when_the_disk_takes_files_again_memory_is_written_too(tmp_path: Path) -> None:
    spool = FailingSpool(tmp_path)
    outbox = open_outbox(tmp_path, spool=lambda: spool)
    spool.full = True
    for sequence in (1, 2):
        outbox.put(sample_batch(sequence))
    assert files(tmp_path) == []
    spool.full = False
    outbox.put(sample_batch(3))
    assert outbox.writable
    assert len(files(tmp_path)) == 3
    outbox.close()
    assert [batch.id.sequence for batch in drain(open_outbox(tmp_path))] == [1, 2, 3]


def test_a_tombstone_that_does_not_fit_replaces_its_batch_all_the_same(tmp_path: Path) -> None:
    spool = FailingSpool(tmp_path)
    outbox = open_outbox(tmp_path, spool=lambda: spool)
    outbox.put(sample_batch(1))
    spool.full = True
    outbox.refused("aa", 1, "invalid")
    assert files(tmp_path) == []  # the facts are counted as lost, so they must not come back
    assert account(drain(outbox), "server", "invalid") == (0, 3)
    spool.full = False
    outbox.close()
    assert account(drain(open_outbox(tmp_path)), "server", "invalid") == (0, 3)


def test_a_spool_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    earlier = open_outbox(directory)
    earlier.put(sample_batch(1, boot="old"))
    earlier.close()
    refusals = 2

    def flaky() -> Spool:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise OSError(errno.EROFS, "Read-only file system")
        return Spool(directory)

    outbox = open_outbox(directory, spool=flaky)
    outbox.put(sample_batch(1))
    assert not outbox.writable
    assert [batch.id.boot for batch in drain(outbox)] == ["aa"]
    outbox.put(sample_batch(2))
    assert outbox.writable
    assert [(batch.id.boot, batch.id.sequence) for batch in drain(outbox)] == [("old", 1), ("aa", 1), ("aa", 2)]
    outbox.close()
    assert len(files(directory)) == 3


def test_losses_of_an_outage_are_those_of_made_minus_kept_whatever_happens(tmp_path: Path) -> None:
    """Bound, damage, refusal and restarts together: made = there + told as lost."""
    made = 0
    for start in range(6):
        outbox = open_outbox(tmp_path, disk=12 * BLOCK, memory=1000 * start)
        for sequence in range(1, 8):
            outbox.put(sample_batch(sequence, boot=f"b{start}", edges=sequence))
            made += sequence
        outbox.refused(f"b{start}", 7, "invalid")
        outbox.close()
        victim = files(tmp_path)[-2]
        victim.write_bytes(victim.read_bytes()[:-3])
    found = drain(open_outbox(tmp_path, disk=12 * BLOCK))
    there = sum(len(batch.facts) for batch in found)
    told = sum(loss.count for batch in found for loss in batch.losses)
    assert there + told == made


def test_fsync_keeps_the_same_files(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path, spool=lambda: Spool(tmp_path, fsync=True))
    outbox.put(sample_batch(1))
    outbox.close()
    assert [batch.id.sequence for batch in drain(open_outbox(tmp_path))] == [1]


def test_the_spool_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    open_outbox(tmp_path / "spool").close()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
