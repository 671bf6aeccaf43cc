"""The binding and what Python makes of it, on objects compiled for the purpose."""

from __future__ import annotations

import select
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathom.errors import KernelError, UsageError, VerifierError
from fathom.kernel import _libbpf
from fathom.kernel.maps import Map
from fathom.kernel.objects import Object, Spec

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

ROOT = Path(__file__).resolve().parents[2]
WORD, LONG = np.dtype("<u4"), np.dtype("<u8")
SOURCE = """
#include "loss.h"
char LICENSE[] SEC("license") = "GPL";
struct record { ns_t number; bytes_t pad[3]; };
struct odd { ns_t number; };
const struct odd *odd_anchor;
const volatile __u64 step = 1;
RING(ring, struct record, 4096);
BOUNDED(hash, BPF_MAP_TYPE_HASH, __u64, __u64, 8);
BOUNDED(per_cpu, BPF_MAP_TYPE_PERCPU_HASH, __u64, __u64, 8192);
__u64 next;

/* TEST_RUN calls it with a packet of 64 bytes, each of them the command. */
SEC("socket")
int emit(struct __sk_buff *skb)
{
	struct record record = {}, *reserved;
	__u8 command = 0;

	bpf_skb_load_bytes(skb, 0, &command, 1);
	next += step;
	record.number = next;
	if (command == 1) {
		reserved = RESERVE(ring, 2, 30, 400);
		if (!reserved)
			return 1;
		*reserved = record;
		bpf_ringbuf_discard(reserved, 0);
		return 2;
	}
	if (command == 2) {
		struct odd odd = {};

		return bpf_ringbuf_output(&ring, &odd, sizeof(odd), 0) ? 1 : 0;
	}
	if (command == 3)
		return INSERT(hash, &next, &next, BPF_ANY, 1, 20, 300) ? 0 : 1;
	return OUTPUT(ring, &record, 1, 10, 100) ? 0 : 1;
}
"""
REFUSED = """
#include "kernel.h"
char LICENSE[] SEC("license") = "GPL";
SEC("socket")
int wild(struct __sk_buff *skb)
{
	return *(int *)((void *)skb + 4096);
}
"""
OUTPUT, DISCARD, ODD, INSERT = (bytes([n]) * 64 for n in range(4))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def make(source: str) -> Path:
        folder = tmp_path_factory.mktemp("bpf")
        (folder / "made.bpf.c").write_text(source)
        machine = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(
            ["clang", "-target", "bpf", "-mcpu=v3", "-g", "-O2", "-I", ROOT / "bpf/include",
             "-idirafter", f"/usr/include/{machine}", "-c", folder / "made.bpf.c", "-o", folder / "made.bpf.o"],
            check=True,
        )  # fmt: skip
        return folder / "made.bpf.o"

    return make


@pytest.fixture(scope="module")
def path(build: Callable[[str], Path]) -> Path:
    return build(SOURCE)


def _run(loaded: Object, command: bytes = OUTPUT, times: int = 1) -> list[int]:
    fd = loaded.program_fd("emit")
    return [_libbpf.test_run(fd, b"", 1, command)[0] for _ in range(times)]


def _loss(loaded: Object, name: str) -> list[int]:
    counters = loaded.btf.struct("refused").dtype
    row = loaded.map(name, WORD, counters).lookup(bytes(4))
    assert row is not None
    return [int(row[field].sum()) for field in counters.names or ()]


def test_ring_gives_what_was_committed_and_counts_what_it_refused(path: Path) -> None:
    with Spec(path).load() as loaded:
        ring = loaded.ring("ring", loaded.btf.struct("record").dtype)
        results = _run(loaded, times=150)
        room = 4096 // (32 + 8)
        assert results == [0] * results.count(0) + [1] * results.count(1)
        assert results.count(0) in (room - 1, room)
        records, fill = ring.drain()
        assert records["number"].tolist() == list(range(1, len(records) + 1))
        assert len(records) == results.count(0)
        assert fill > 0.95
        assert _loss(loaded, "ring_refused") == [n * results.count(1) for n in (1, 1, 10, 100)]
        empty, fill = ring.drain()
        assert (len(empty), fill) == (0, 0.0)
        ring.close()


def test_ring_wakes_whoever_waits_as_it_gets_half_full_and_no_later(path: Path) -> None:
    size, record = 1 << 18, 32 + 8
    half = size // 2 // record + 1
    with Spec(path).sized(ring=size).load() as loaded, select.epoll() as waiting:
        ring = loaded.ring("ring", loaded.btf.struct("record").dtype)
        waiting.register(ring.fd, select.EPOLLIN | select.EPOLLET)
        for _ in range(2):
            _run(loaded, times=half - 10)
            assert waiting.poll(0.05) == []
            _run(loaded, times=20)
            assert waiting.poll(5) == [(ring.fd, select.EPOLLIN)]
            _run(loaded, times=16384 // record)
            waiting.poll(0.05)
            _run(loaded, times=100)
            assert waiting.poll(0.05) == [], "once it is past its half, a wake-up for each record would be a waste"
            ring.drain()
        ring.close()


def test_a_drain_tells_the_least_and_the_greatest_of_columns(path: Path) -> None:
    with Spec(path).load() as loaded:
        record = loaded.btf.struct("record").dtype
        ring = loaded.ring("ring", record, ("number",))
        _run(loaded, times=7)
        first = ring.drain(3)[0]["number"].tolist()
        assert (first, ring.spans) == ([1, 2, 3], ((1, 3),))
        assert (len(ring.drain()[0]), ring.spans) == (4, ((4, 7),))
        assert len(ring.drain()[0]) == 0
        ring.close()
        for wrong in ((record.itemsize - 7,), (-1,), (0,) * 5):
            beyond = loaded.ring("ring", record)
            beyond._offsets = wrong
            with pytest.raises(ValueError, match="no such columns"):
                beyond.drain()
            beyond.close()


def test_ring_wraps_and_skips_what_was_discarded(path: Path) -> None:
    with Spec(path).load() as loaded:
        ring = loaded.ring("ring", loaded.btf.struct("record").dtype)
        numbers = []
        for _ in range(60):
            _run(loaded, OUTPUT, 3)
            assert _run(loaded, DISCARD, 2) == [2, 2]
            numbers += ring.drain()[0]["number"].tolist()
        assert numbers == [n for n in range(1, 301) if (n - 1) % 5 < 3]
        ring.close()


def test_ring_of_another_record_size_is_an_error(path: Path) -> None:
    with Spec(path).load() as loaded:
        ring = loaded.ring("ring", loaded.btf.struct("record").dtype)
        assert _run(loaded, ODD) == [0]
        with pytest.raises(ValueError, match="another size"):
            ring.drain()
        ring.close()
        with pytest.raises(ValueError, match="closed"):
            ring.drain()


def test_map_that_is_full_counts_what_it_refused(path: Path) -> None:
    with Spec(path).sized(hash=4).load() as loaded:
        assert sum(_run(loaded, INSERT, 10)) == 6
        assert _loss(loaded, "hash_refused") == [6, 6, 120, 1800]


def test_constants_are_set_before_load(path: Path) -> None:
    with Spec(path, constants={"step": 7}).load() as loaded:
        ring = loaded.ring("ring", loaded.btf.struct("record").dtype)
        _run(loaded, times=3)
        assert ring.drain()[0]["number"].tolist() == [7, 14, 21]
        ring.close()


@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_whole_maps_by_batches(path: Path, count: int) -> None:
    with Spec(path).sized(hash=8192).load() as loaded:
        table = loaded.map("hash", LONG, LONG)
        for key in range(count):
            table.update(struct.pack("<Q", key), struct.pack("<Q", key * key))
        keys, values = table.read()
        assert dict(zip(keys.tolist(), values.tolist(), strict=True)) == {n: n * n for n in range(count)}
        _, values = table.read(delete=True)
        assert len(values) == count
        assert len(table.read()[0]) == 0


def test_values_of_all_cpus(path: Path) -> None:
    with Spec(path).load() as loaded:
        table = loaded.map("per_cpu", LONG, LONG)
        cpus = _libbpf.possible_cpus()
        table.update(struct.pack("<Q", 5), struct.pack(f"<{cpus}Q", *range(cpus)))
        keys, values = table.read()
        assert keys.tolist() == [5]
        assert np.asarray(values).reshape(-1).tolist() == list(range(cpus))
        found = table.lookup(struct.pack("<Q", 5))
        assert found is not None
        assert np.asarray(found).reshape(-1).tolist() == list(range(cpus))


def test_single_entries(path: Path) -> None:
    with Spec(path).sized(hash=1).load() as loaded:
        table: Map = loaded.map("hash", LONG, LONG)
        assert table.lookup(bytes(8)) is None
        table.update(bytes(8), struct.pack("<Q", 9))
        found = table.lookup(bytes(8))
        assert found is not None
        assert int(np.asarray(found).reshape(-1)[0]) == 9
        with pytest.raises(KernelError) as full:
            table.update(struct.pack("<Q", 1), bytes(8))
        assert full.value.errno == 7
        table.delete(bytes(8))
        table.delete(bytes(8))
        assert table.lookup(bytes(8)) is None


def test_wrong_sizes_and_names_are_told(path: Path) -> None:
    with Spec(path).load() as loaded:
        with pytest.raises(UsageError, match=r"hash has 8\+8 bytes, not 8\+4"):
            loaded.map("hash", LONG, WORD)
        with pytest.raises(KeyError, match="absent"):
            loaded.map_fd("absent")
    with pytest.raises(KeyError, match="absent"):
        Spec(path).sized(absent=4).load()


def test_verifier_error_has_its_last_line_and_the_whole_log(build: Callable[[str], Path]) -> None:
    with pytest.raises(VerifierError) as refused:
        Spec(build(REFUSED)).load()
    error = refused.value
    assert error.program == "wild"
    assert "invalid bpf_context access" in error.line
    log = Path(error.log_path)
    assert error.line in log.read_text()
    assert str(log) in str(error)
    log.unlink()


def test_a_file_that_is_no_object_is_told(tmp_path: Path) -> None:
    (tmp_path / "made.bpf.o").write_bytes(b"\x7fELF nothing")
    with pytest.raises((UsageError, KernelError), match="made"):
        Spec(tmp_path / "made.bpf.o").load()


def test_closed_objects_say_so_and_close_twice(path: Path) -> None:
    loaded = Spec(path).load()
    loaded.close()
    loaded.close()
    with pytest.raises(ValueError, match="closed"):
        loaded.programs()


def test_two_threads_may_drain_and_run(path: Path) -> None:
    """The ring has one reader; the producer runs while it reads."""
    with Spec(path).sized(ring=1 << 16).load() as loaded:
        ring = loaded.ring("ring", loaded.btf.struct("record").dtype)
        thread = threading.Thread(target=lambda: _run(loaded, times=5000))
        numbers = []
        thread.start()
        while thread.is_alive():
            numbers += ring.drain()[0]["number"].tolist()
        thread.join()
        numbers += ring.drain()[0]["number"].tolist()
        lost = _loss(loaded, "ring_refused")[0]
        assert len(numbers) + lost == 5000
        assert numbers == sorted(numbers)
        ring.close()


def test_ids_and_probes_of_this_kernel(path: Path) -> None:
    before = set(_libbpf.ids(1))
    with Spec(path).load():
        assert len(set(_libbpf.ids(1)) - before) >= 5
    assert _libbpf.probe(1, 1)
    with pytest.raises(OSError, match="feature probe"):
        _libbpf.probe(1, 250)
