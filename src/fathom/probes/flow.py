"""The flow probe: packets and bytes of all that sockets send and receive other than TCP.

The kernel counts by socket and peer; here the idle map is drained, its CPUs are summed, and the direction is decided:
who sent first. A pair that was silent for ``SILENCE_NS`` begins anew, as connection tracking has it. Of a socket that
existed before the probe, and a pair that was seen in its first ``SILENCE_NS``, nobody knows who began: ``unknown``.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from fathom.events.observations import OBSERVATION, Direction, OwnerSource, Verdict
from fathom.kernel import _libbpf
from fathom.kernel.cgroups import open_root
from fathom.kernel.objects import Spec
from fathom.probes.probe import LossCount, Records, loss_of
from fathom.probes.settings import ProbeSettings

#: nf_conntrack_udp_timeout_stream of Linux: after this long a pair's next packet begins a new flow.
SILENCE_NS = 120 * 10**9
_SENT = 1
HOOKS = {
    "flow_create": _libbpf.CGROUP_INET_SOCK_CREATE,
    "flow_release": _libbpf.CGROUP_INET_SOCK_RELEASE,
    "flow_ingress": _libbpf.CGROUP_INET_INGRESS,
    "flow_egress": _libbpf.CGROUP_INET_EGRESS,
}
_SUMMED = ("packets_sent", "packets_received", "bytes_sent", "bytes_received")


class FlowProbe:
    """Attached to the root of cgroup2, until closed. Implements ``fathom.probes.probe.Probe``.

    Each ``drain`` flips the maps, so what it gives was counted since the last one.
    """

    name = "flow"

    def __init__(self, settings: ProbeSettings) -> None:
        self._stack = ExitStack()
        self._active = 0
        self._fill = 0.0
        self._pairs: dict[bytes, tuple[int, int]] = {}  # key to (direction, last seen)
        self._holders: dict[int, tuple[Any, ...]] = {}
        try:
            self._load(settings)
        except BaseException:
            self._stack.close()
            raise

    @classmethod
    def open(cls, settings: ProbeSettings) -> Self:
        """Load and attach. Raises PrivilegeError, FeatureMissing (no cgroup2), VerifierError or KernelError."""
        return cls(settings)

    def _load(self, settings: ProbeSettings) -> None:
        root = open_root()
        self._stack.callback(os.close, root)
        entries = settings.flow_entries_here
        spec = Spec.of("flow").sized(flows_0=entries, flows_1=entries, flow_sockets=settings.flow_sockets_here)
        loaded = self._stack.enter_context(spec.load())
        self._key = loaded.btf.struct("flow_key").dtype
        counts, refused = loaded.btf.struct("flow_counts").dtype, loaded.btf.struct("refused").dtype
        self.record = np.dtype(
            [("time", "<u8")]
            + [(name, self._key[name]) for name in self._key.names or () if name != "pad"]
            + [(name, "<u8") for name in _SUMMED]
            + [(name, counts[name]) for name in ("first", "first_direction", "owner_source")]
            + [("cgroup", "<u8"), ("comm", "S16"), ("pid", "<u4"), ("netns", "<u4"), ("direction", "u1")]
        )
        self._maps = [loaded.map(f"flows_{i}", self._key, counts) for i in (0, 1)]
        word = np.dtype("<u4")
        self._index = loaded.map("flow_active", word, word)
        self._lost = {
            name: loaded.map(name, word, refused)
            for name in ("flows_0_refused", "flows_1_refused", "flow_sockets_refused")
        }
        self._barrier = loaded.map("flow_barrier", word, word)
        self._inner = loaded.map("flow_inner", word, word)
        holders = self._stack.enter_context(Spec.of("owners").load())
        self._holder = holders.btf.struct("flow_holder").dtype
        self._iterator = self._stack.enter_context(holders.attach("owners"))
        for program, hook in HOOKS.items():
            self._stack.enter_context(loaded.attach_cgroup(program, root, hook))
        self._began = time.monotonic_ns()

    def drain(self) -> Records:
        """Flows since the last call: who, with whom, packets and bytes both ways, summed over CPUs. An owned array."""
        idle = self._maps[self._active]
        self._active ^= 1
        self._index.update(b"\0\0\0\0", self._active.to_bytes(4, "little"))
        # Returns when every program that read the old index has ended; see bpf/flow/flow.bpf.c.
        self._barrier.update(b"\0\0\0\0", self._inner.fd.to_bytes(4, "little"))
        keys, values = idle.read(delete=True)
        self._fill = max(self._fill, len(keys) / idle.entries)
        return self._merge(keys, values)

    def _merge(self, keys: Records, values: Records) -> Records:
        rows = np.zeros(len(keys), self.record)
        if not len(keys):
            return rows
        rows["time"] = time.monotonic_ns()
        for name in self._key.names or ():
            if name != "pad":
                rows[name] = keys[name]
        for name in _SUMMED:
            rows[name] = values[name].sum(axis=1)
        # The CPU that made the flow has its owner and who was first; two made it at once, the earlier one is right.
        first = np.where(values["first"] == 0, np.iinfo(np.uint64).max, values["first"])
        maker = values[np.arange(len(keys)), first.argmin(axis=1)]
        for name in ("first", "first_direction", "owner_source"):
            rows[name] = maker[name]
        for name in ("cgroup", "comm", "pid", "netns"):
            rows[name] = maker["owner"][name]
        self._own(rows)
        self._direct(keys, rows)
        return rows

    def _own(self, rows: Records) -> None:
        """Owners of sockets that existed before the probe, from the files that processes hold."""
        unknown = np.flatnonzero(rows["owner_source"] == OwnerSource.UNKNOWN)
        if not unknown.size:
            return
        if not set(rows["socket"][unknown].tolist()) <= self._holders.keys():
            held = np.frombuffer(self._iterator.read(), self._holder)
            owners = zip(*(held["owner"][name].tolist() for name in ("cgroup", "comm", "pid", "netns")), strict=True)
            self._holders = dict(zip(held["socket"].tolist(), owners, strict=True))
        for index in unknown.tolist():
            owner = self._holders.get(int(rows["socket"][index]))
            if owner:
                for name, value in zip(("cgroup", "comm", "pid", "netns"), owner, strict=True):
                    rows[name][index] = value
                rows["owner_source"][index] = OwnerSource.TASK_FILE

    def _direct(self, keys: Records, rows: Records) -> None:
        """Who sent first, remembered over flips for as long as the pair talks."""
        now = time.monotonic_ns()
        sure = (rows["owner_source"] == OwnerSource.SOCKET) | (rows["first"] > self._began + SILENCE_NS)
        fresh = np.where(rows["first_direction"] == _SENT, Direction.EGRESS, Direction.INGRESS)
        fresh = np.where(sure, fresh, Direction.UNKNOWN).tolist()
        size = self._key.itemsize
        raw = keys.tobytes()
        directions = []
        for index, begun in enumerate(rows["first"].tolist()):
            pair = raw[index * size : (index + 1) * size]
            known = self._pairs.get(pair)
            direction = fresh[index] if known is None or begun > known[1] + SILENCE_NS else known[0]
            self._pairs[pair] = (direction, now)
            directions.append(direction)
        rows["direction"] = directions
        # Two maps' worth of pairs are remembered, the silent ones forgotten first.
        if len(self._pairs) > 2 * self._maps[0].entries:
            self._pairs = {pair: seen for pair, seen in self._pairs.items() if now - seen[1] < SILENCE_NS}
            for pair in list(self._pairs)[: max(0, len(self._pairs) - 2 * self._maps[0].entries)]:
                del self._pairs[pair]

    def observe(self, records: Records) -> Records:
        """Rows of ``OBSERVATION``, one a flow; a flow is not a connection, so ``connections`` is 0."""
        rows = np.zeros(len(records), OBSERVATION)
        for name in ("time", "cgroup", "netns", "pid", "comm", "owner_source", "family", "protocol", "direction"):
            rows[name] = records[name]
        for name in ("local", "remote", "local_port", "remote_port", *_SUMMED):
            rows[name] = records[name]
        rows["verdict"] = Verdict.FORWARDED
        rows["latency"] = -1
        return rows

    def snapshot(self) -> Records:
        """Nothing: every drain tells all."""
        return np.zeros(0, OBSERVATION)

    def losses(self) -> dict[str, LossCount]:
        """``map_full``: packets of flows that found no room. ``owners_full``: sockets whose owner is not known."""
        read = {name: self._loss(name) for name in self._lost}
        return {
            "map_full": read["flows_0_refused"] + read["flows_1_refused"],
            "owners_full": read["flow_sockets_refused"],
        }

    def _loss(self, name: str) -> LossCount:
        row = self._lost[name].lookup(b"\0\0\0\0")
        return LossCount(0, 0, 0, 0) if row is None else loss_of(row)

    def fill(self) -> float:
        """How full the drained map was at worst since the last call, 0..1."""
        fill, self._fill = self._fill, 0.0
        return fill

    def close(self) -> None:
        """Detach and let go of everything."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
