"""The tcp probe: connections, failures and closes from the state machine, and the connections that are open.

What its records mean is decided here and nowhere else. It refuses to guess: the direction comes from the state machine
or from a live listener, the owner from a process that really held the socket, and an accepted connection is counted
only once its owner is known.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

import numpy as np
import numpy.typing as npt

from fathom.events.observations import OBSERVATION, Direction, Verdict
from fathom.kernel.objects import Spec
from fathom.probes.probe import LossCount, Records, loss_of
from fathom.probes.settings import ProbeSettings

ESTABLISHED, CLOSED, FAILED, OPEN, LISTENING = range(1, 6)
_TCP = 6
_SAME = ("cgroup", "netns", "pid", "comm", "owner_source", "family", "local_port", "remote_port", "local", "remote")


class TcpProbe:
    """Attached to this kernel, until closed. Implements ``fathom.probes.probe.Probe``."""

    name = "tcp"

    def __init__(self, settings: ProbeSettings) -> None:
        self._stack = ExitStack()
        self._fill = 0.0
        self._listeners: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        try:
            self._load(settings)
        except BaseException:
            self._stack.close()
            raise

    @classmethod
    def open(cls, settings: ProbeSettings) -> Self:
        """Load and attach. Raises PrivilegeError, FeatureMissing, VerifierError or KernelError."""
        return cls(settings)

    def _load(self, settings: ProbeSettings) -> None:
        sockets = settings.tcp_sockets_here
        state = self._stack.enter_context(
            Spec.of("tcp").sized(tcp_events=settings.ring_bytes, tcp_sockets=sockets).load()
        )
        btf = state.btf
        self.record = btf.struct("tcp_event").dtype
        refused = btf.struct("refused").dtype
        word = np.dtype("<u4")
        self._sockets = state.map("tcp_sockets", np.dtype("<u8"), btf.struct("tcp_socket").dtype)
        self._lost = {
            name: state.map(name, word, refused)
            for name in ("tcp_events_refused", "tcp_sockets_refused", "tcp_untracked_refused")
        }
        self._refusals = state.map("tcp_refusals", btf.struct("tcp_refused_key").dtype, refused)
        shared = {"tcp_sockets": self._sockets, "tcp_sockets_refused": self._lost["tcp_sockets_refused"]}
        rows = self._stack.enter_context(Spec.of("sockets").sized(tcp_sockets=sockets).load(share=shared))
        self._ring = state.ring("tcp_events", self.record)
        self._stack.callback(self._ring.close)
        for program in ("tcp_state", "tcp_destroy"):
            self._stack.enter_context(state.attach(program))
        self._iterator = self._stack.enter_context(rows.attach("sockets"))

    def drain(self) -> Records:
        """Events since the last call, ``struct tcp_event``. An owned array; never blocks."""
        records, fill = self._ring.drain()
        self._fill = max(self._fill, fill)
        return records

    def rows(self) -> Records:
        """One ``struct tcp_event`` for each connection and listener that is open now. Raises KernelError."""
        rows = np.frombuffer(self._iterator.read(), self.record)
        listening = rows[rows["kind"] == LISTENING]
        self._listeners = np.unique(_place(listening))
        return rows

    def snapshot(self) -> Records:
        """What open connections carried since it was last told, and accepted ones whose owner is known only now."""
        rows = self.rows()
        return self._reduce(rows[rows["kind"] == OPEN])

    def observe(self, records: Records) -> Records:
        """Rows of ``OBSERVATION``: opened and failed connections, and what closed ones carried since last told."""
        accepted_only = (records["kind"] == ESTABLISHED) & (records["direction"] == Direction.INGRESS)
        return self._reduce(records[~accepted_only])

    def _reduce(self, records: Records) -> Records:
        rows = np.zeros(len(records), OBSERVATION)
        for name in _SAME:
            rows[name] = records[name]
        kind, ingress = records["kind"], records["direction"] == Direction.INGRESS
        failed, ended = kind == FAILED, (kind == CLOSED) | (kind == OPEN)
        first_told = ended & ingress & (records["told"] == 0) & (records["before"] == 0)
        opened = (kind == ESTABLISHED) | first_told
        rows["time"] = records["time"]
        rows["protocol"] = _TCP
        rows["direction"] = self._directions(records)
        rows["verdict"] = np.where(failed, Verdict.FAILED, Verdict.FORWARDED)
        rows["reason"] = records["reason"]
        rows["connections"] = opened
        rows["failures"] = failed
        rows["latency"] = np.where(opened & (records["latency"] > 0), records["latency"].astype(np.int64), -1)
        rows["bytes_sent"] = np.where(ended, records["bytes_sent"] - records["told_sent"], 0)
        rows["bytes_received"] = np.where(ended, records["bytes_received"] - records["told_received"], 0)
        over = (kind == CLOSED) | failed
        for name in ("packets_sent", "packets_received", "retransmits"):
            rows[name] = np.where(over, records[name], 0)
        return rows

    def _directions(self, records: Records) -> npt.NDArray[np.uint8]:
        """As the state machine said; of what existed before, ingress if a listener holds its port in its namespace."""
        directions = records["direction"].copy()
        unknown = np.flatnonzero(directions == Direction.UNKNOWN)
        if unknown.size and self._listeners.size:
            found = np.isin(_place(records[unknown]), self._listeners)
            directions[unknown[found]] = Direction.INGRESS
        return directions

    def losses(self) -> dict[str, LossCount]:
        """``ring_full``: events that found no room. ``map_full``: of connections that were too many to track, how they
        opened (one) and how they ended (one, with what they carried)."""
        read = {name: self._loss(name) for name in self._lost}
        return {
            "ring_full": read["tcp_events_refused"],
            "map_full": read["tcp_sockets_refused"] + read["tcp_untracked_refused"],
        }

    def _loss(self, name: str) -> LossCount:
        row = self._lost[name].lookup(b"\0\0\0\0")
        return LossCount(0, 0, 0, 0) if row is None else loss_of(row)

    def refusals(self) -> tuple[Records, list[LossCount]]:
        """Who lost what to a full ring: keys (cgroup, kind, direction, reason) and a loss for each."""
        keys, values = self._refusals.read()
        return keys, [loss_of(value) for value in values]

    def fill(self) -> float:
        """How full the ring was at the worst drain since the last call, 0..1."""
        fill, self._fill = self._fill, 0.0
        return fill

    def close(self) -> None:
        """Detach and let go of everything."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(records: Records) -> npt.NDArray[np.uint64]:
    """(network namespace, local port) as one number."""
    places: npt.NDArray[np.uint64] = records["netns"].astype(np.uint64) << np.uint64(16) | records["local_port"]
    return places
