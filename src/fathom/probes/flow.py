"""The flow probe: packets and bytes of all that sockets send and receive other than TCP.

The kernel counts by socket and peer, in two pairs of maps of which one is active (bpf/flow). Here they are flipped,
the idle pair is drained, its CPUs are summed, owners are put in, and the direction is decided. It sees what sockets
send and receive and nothing else: packets that are forwarded, or wrapped by a tunnel, pass no socket.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from fathom.events.observations import OBSERVATION, OwnerSource, Verdict
from fathom.kernel import _libbpf
from fathom.kernel.cgroups import open_root
from fathom.kernel.fold import span
from fathom.kernel.objects import Object, Spec
from fathom.probes.conversations import Conversations
from fathom.probes.probe import LossCount, Records, loss_of
from fathom.probes.settings import ProbeSettings

#: The two that know sockets come first: what they know is there when packets begin to be counted.
SOCKET_HOOKS = {
    "flow_create": _libbpf.CGROUP_INET_SOCK_CREATE,
    "flow_release": _libbpf.CGROUP_INET_SOCK_RELEASE,
}
PACKET_HOOKS = {
    "flow_ingress": _libbpf.CGROUP_INET_INGRESS,
    "flow_egress": _libbpf.CGROUP_INET_EGRESS,
}
_SUMMED = ("packets_sent", "packets_received", "bytes_sent", "bytes_received")
_KEY = ("socket", "local", "remote", "local_port", "remote_port", "protocol", "family", "message")
_OWNER = ("cgroup", "comm", "pid", "netns", "owner_source", "kernel")
_SAME = ("time", "cgroup", "netns", "pid", "comm", "owner_source", "family", "protocol", "direction", "local", "remote")
_WORD = np.dtype("<u4")
_CLOCK_MONOTONIC_COARSE = 6  # include/uapi/linux/time.h


class FlowProbe:
    """Attached to the root of cgroup2, until closed. Implements ``fathom.probes.probe.Probe``.

    With ``cgroup``, a directory, attached there: then it sees the sockets that are made in it or below.
    """

    name = "flow"
    wakeup_fd: int | None = None

    def __init__(self, settings: ProbeSettings, cgroup: Path | None = None) -> None:
        self._stack = ExitStack()
        self._active = 0
        self._refused = 0
        self._ownerless = False
        # The coarse clocks tick as jiffies do: TICK_NSEC of the kernel.
        self._tick_ns = np.uint64(round(time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1e9))
        try:
            self._load(settings, cgroup)
        except BaseException:
            self._stack.close()
            raise

    @classmethod
    def open(cls, settings: ProbeSettings) -> Self:
        """Load and attach. Raises PrivilegeError, FeatureMissing (no cgroup2), VerifierError or KernelError."""
        return cls(settings)

    def _load(self, settings: ProbeSettings, cgroup: Path | None) -> None:
        root = open_root() if cgroup is None else os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stack.callback(os.close, root)
        entries = settings.flow_entries_here
        spec = Spec.of("flow").sized(
            flows_0=entries,
            flows_1=entries,
            flow_owners_0=entries,
            flow_owners_1=entries,
            flow_sockets=settings.flow_sockets_here,
        )
        loaded = self._stack.enter_context(spec.load())
        self._open_maps(loaded)
        shared = {name: loaded.map_fd(name) for name in ("flow_sockets", "flow_sockets_refused")}
        holders = Spec.of("owners").sized(flow_sockets=settings.flow_sockets_here).load(share=shared)
        self._iterator = self._stack.enter_context(self._stack.enter_context(holders).attach("owners"))
        for program, hook in SOCKET_HOOKS.items():
            self._stack.enter_context(loaded.attach_cgroup(program, root, hook))
        self._iterator.read()
        for program, hook in PACKET_HOOKS.items():
            self._stack.enter_context(loaded.attach_cgroup(program, root, hook))
        self._conversations = Conversations(time.monotonic_ns())

    def _open_maps(self, loaded: Object) -> None:
        btf = loaded.btf
        self.record = btf.struct("flow_event").dtype
        key, counts, owner = (btf.struct(f"flow_{name}").dtype for name in ("key", "counts", "owner"))
        cookie, refused = np.dtype("<u8"), btf.struct("refused").dtype
        self._flows = [loaded.map(f"flows_{i}", key, counts) for i in (0, 1)]
        self._owners = [loaded.map(f"flow_owners_{i}", cookie, owner) for i in (0, 1)]
        self._index = loaded.map("flow_active", _WORD, _WORD)
        self._used = loaded.map("flow_used", _WORD, np.dtype("<u8"))
        self._barrier = loaded.map("flow_barrier", _WORD, _WORD)
        self._inner = loaded.map("flow_inner", _WORD, _WORD)
        names = ("flows_0", "flows_1", "flow_owners_0", "flow_owners_1", "flow_sockets")
        self._lost = {name: loaded.map(f"{name}_refused", _WORD, refused) for name in names}

    def drain(self, most: int | None = None) -> Records:  # noqa: ARG002 - a map is read whole
        """Flows since the last call, ``struct flow_event``: who, with whom, packets and bytes both ways. An own copy.

        Waits until no program runs that may still write to what it reads: some milliseconds. Raises KernelError.
        """
        idle = self._active
        self._active ^= 1
        self._index.update(_word(0), _word(self._active))
        self._barrier.update(_word(0), _word(self._inner.fd))
        keys, counts = self._flows[idle].read(delete=True)
        sockets, owners = self._owners[idle].read(delete=True)
        self._used.update(_word(idle), bytes(8))
        now = time.monotonic_ns()
        rows = self._merge(keys, counts)
        created = _own(rows, sockets, owners)
        rows["direction"] = self._conversations.judge(rows, created)
        self._ownerless |= bool(((rows["owner_source"] == OwnerSource.UNKNOWN) & (rows["kernel"] == 0)).any())
        refused = self.losses()["map_full"].count
        if refused != self._refused:
            self._refused = refused
            self._conversations.missed(now)
        return rows

    def times(self, records: Records) -> tuple[int, int]:
        """Least and greatest time (ns) of ``records``, of which there is one at least."""
        return span(records, "time")

    def _merge(self, keys: Records, counts: Records) -> Records:
        rows = np.zeros(len(keys), self.record)
        if not len(keys):
            return rows
        counts = counts.reshape(len(keys), -1)
        for name in _KEY:
            rows[name] = keys[name]
        for name in _SUMMED:
            rows[name] = counts[name].sum(axis=1)
        # Set by the one CPU that made the entry.
        rows["first"] = counts["first"].max(axis=1)
        rows["direction"] = counts["direction"].max(axis=1)
        rows["time"] = rows["first"] + _ticks(counts) * self._tick_ns
        return rows

    def observe(self, records: Records, *, hold: bool = False) -> Records:  # noqa: ARG002 - nothing is held back
        """Rows of ``OBSERVATION``, one a flow. A flow is not a connection, so ``connections`` is 0."""
        rows = np.zeros(len(records), OBSERVATION)
        for name in (*_SAME, "local_port", "remote_port", *_SUMMED):
            rows[name] = records[name]
        rows["verdict"] = Verdict.FORWARDED
        return rows

    def snapshot(self) -> Records:
        """No rows: a drain tells all. Looks for owners again where a drain found none. Raises KernelError."""
        if self._ownerless:
            self._ownerless = False
            self._iterator.read()
        return np.zeros(0, OBSERVATION)

    def losses(self) -> dict[str, LossCount]:
        """``map_full``: packets of flows that found no room. ``owners_full``: sockets whose owner was not kept, which
        loses nothing but a name."""
        lost = {name: self._loss(name) for name in self._lost}
        owners = lost["flow_owners_0"] + lost["flow_owners_1"] + lost["flow_sockets"]
        return {"map_full": lost["flows_0"] + lost["flows_1"], "owners_full": owners}

    def _loss(self, name: str) -> LossCount:
        row = self._lost[name].lookup(_word(0))
        return LossCount(0, 0, 0, 0) if row is None else loss_of(row)

    def fill(self) -> float:
        """How full the map is that counts now, 0..1. Raises KernelError."""
        used = self._used.lookup(_word(self._active))
        return 0.0 if used is None else int(used) / self._flows[0].entries

    def close(self) -> None:
        """Detach and let go of everything."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ticks(counts: Records) -> npt.NDArray[np.uint64]:
    """Ticks from the first packet to the last. They are counted in 32 bits and wrap; one CPU may be a tick behind."""
    first = counts["first_tick"].max(axis=1, keepdims=True)
    passed = (counts["last_tick"] - first).astype(np.int32)
    used = (counts["packets_sent"] > 0) | (counts["packets_received"] > 0)
    ticks: npt.NDArray[np.uint64] = np.where(used & (passed > 0), passed, 0).max(axis=1).astype(np.uint64)
    return ticks


def _own(rows: Records, sockets: npt.NDArray[np.uint64], owners: Records) -> npt.NDArray[np.int64]:
    """Put the owner of each row's socket in; gives when the sockets were made, 0 where that is not known."""
    created = np.zeros(len(rows), np.int64)
    if not sockets.size:
        return created
    order = np.argsort(sockets)
    at = order[np.minimum(np.searchsorted(sockets, rows["socket"], sorter=order), sockets.size - 1)]
    found = sockets[at] == rows["socket"]
    for name in _OWNER:
        rows[name][found] = owners[name][at[found]]
    created[found] = owners["created"][at[found]]
    return created


def _word(number: int) -> bytes:
    return number.to_bytes(4, "little")
