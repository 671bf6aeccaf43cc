"""Draining a full ring: ours into one array, against libbpf's callback with memcpy, in turn on the same ring."""

from __future__ import annotations

import ctypes
import subprocess
import time

from benchmarks.load import BUILD, HERE
from benchmarks.load.generator import Generator
from benchmarks.report import Row, Spread, pairs, ratio
from fathom.kernel.objects import Spec

ROUNDS, RING = 41, 4 << 20


def run() -> list[Row]:
    BUILD.mkdir(exist_ok=True)
    library = BUILD / "drain.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "drain.c", "-lbpf"], check=True)
    peer = ctypes.CDLL(str(library))
    peer.drain_open.restype = ctypes.c_void_p
    with Spec.of("tcp").sized(tcp_events=RING).load() as loaded:
        record = loaded.btf.struct("tcp_event").dtype
        ring = loaded.ring("tcp_events", record)
        fd = loaded.map_fd("tcp_events")
        events = RING // (record.itemsize + 8)
        callback = ctypes.c_void_p(peer.drain_open(fd))
        buffer = ctypes.create_string_buffer(RING)
        with Generator(fd) as generator:

            def ours() -> float:
                generator.burst(events)
                start = time.thread_time_ns()
                records, _ = ring.drain()
                spent = time.thread_time_ns() - start
                assert len(records) == events, len(records)
                return spent / events

            def theirs() -> float:
                generator.burst(events)
                start = time.thread_time_ns()
                drained = peer.drain_all(callback, buffer, RING)
                spent = time.thread_time_ns() - start
                assert drained == events, drained
                return spent / events

            base, own = pairs(theirs, ours, ROUNDS)
        peer.drain_close(callback)
        ring.close()
    spread = ratio(base, own)
    note = f"{Spread.of(own).median:.0f} ns and {Spread.of(base).median:.0f} ns an event of {record.itemsize} bytes"
    return [
        Row("ring drain / libbpf C callback with memcpy", spread.text(), "≤ 1.2", spread.median <= 1.2, note),
    ]
