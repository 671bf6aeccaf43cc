"""The tcp probe: connections, failures and closes from the state machine, and the connections that are open.

What its records mean is decided here and nowhere else. It refuses to guess: the direction comes from the state machine
or from a live listener, the owner from a process that really held the socket, and an accepted connection is counted
only once its owner is known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Self

import numpy as np
import numpy.typing as npt

from fathom.events.observations import OBSERVATION, Direction, Verdict, words
from fathom.events.rows import joined, take
from fathom.kernel.fold import Fold, Folded, span
from fathom.kernel.objects import Object, Spec
from fathom.probes.probe import LossCount, Records, loss_of
from fathom.probes.settings import ProbeSettings
from fathom.probes.told import COUNTERS, Told

ESTABLISHED, CLOSED, FAILED, OPEN = range(1, 5)
#: In this order: the second does what the kernel left the first out of.
PROGRAMS = ("tcp_state", "tcp_state_again", "tcp_destroy")
_TCP = 6
_LOST = {"ring_full": "tcp_events_refused", "map_full": "tcp_sockets_refused", "unseen": "tcp_unseen_refused"}
_SHARED = ("tcp_sockets", "tcp_listeners", "tcp_listeners_refused", "tcp_overflowed")
_TO = words(OBSERVATION)
_WORDS = _TO.names or ()
#: Plain numbers: looking up a member of an enum costs as much as an array operation.
_INGRESS, _WAS_FORWARDED, _HAS_FAILED = int(Direction.INGRESS), np.uint8(Verdict.FORWARDED), np.uint8(Verdict.FAILED)
#: Columns that tell events apart: whose it is and with whom, what happened, and the server's port, which is at the
#: other end of an egress and at this end of an ingress. By the number of the direction.
_WHO = ("cgroup", "netns", "pid", "comm", "owner_source", "remote", "family", "kind", "reason", "before")
_APART = (_WHO, (*_WHO, "remote_port"), (*_WHO, "local_port"))
#: How many groups wait at most for more of their kind.
_MOST = 4_096


Counts = npt.NDArray[np.int64]


def fold_of(record: np.dtype[np.void]) -> Fold:
    """What makes events of ``record`` (``struct tcp_event``) count alike."""
    return Fold(record, selector="direction", apart=_APART, summed=COUNTERS, latency="latency", most=_MOST)


class TcpProbe:
    """Attached to this kernel, until closed. Implements ``fathom.probes.probe.Probe``."""

    name = "tcp"

    def __init__(self, settings: ProbeSettings) -> None:
        self._stack = ExitStack()
        self._fill = 0.0
        self._told = Told()
        self._told_of_lost = LossCount(0, 0, 0, 0)
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
        sized = {"tcp_sockets": settings.tcp_sockets_here}
        self._object = self._stack.enter_context(Spec.of("tcp").sized(tcp_events=settings.ring_bytes, **sized).load())
        btf = self._object.btf
        self.record = btf.struct("tcp_event").dtype
        refused, word = btf.struct("refused").dtype, np.dtype("<u4")
        self._lost = {reason: self._object.map(name, word, refused) for reason, name in _LOST.items()}
        self._refusals = self._object.map("tcp_refusals", btf.struct("tcp_refusal").dtype, refused)
        self._fold, self._from = fold_of(self.record), words(self.record)
        self._ring = self._object.ring("tcp_events", self.record, ("time", "socket"))
        self._drained = np.zeros(0, self.record)
        self._stack.callback(self._ring.close)
        for program in PROGRAMS:
            self._stack.enter_context(self._object.attach(program))
        self._iterator = self._stack.enter_context(self._rows_object(sized).attach("tcp_open"))
        self._iterator.read()  # listeners first: they prove which of the older connections were accepted
        self._told.tell(self.rows())
        self._object.map("tcp_looked", word, np.dtype("<u8")).update(bytes(4), np.uint64(time.monotonic_ns()).tobytes())

    def _rows_object(self, sized: dict[str, int]) -> Object:
        share = {name: self._object.map_fd(name) for name in _SHARED}
        return self._stack.enter_context(Spec.of("sockets").sized(**sized).load(share=share))

    def drain(self, most: int | None = None) -> Records:
        """Events since the last call, at ``most`` so many: ``struct tcp_event``. An owned array; never blocks."""
        records, fill = self._ring.drain(most)
        self._fill = max(self._fill, fill)
        self._drained = records
        return records

    @property
    def wakeup_fd(self) -> int:
        """Becomes readable when the ring gets half full."""
        return self._ring.fd

    def times(self, records: Records) -> tuple[int, int]:
        """Least and greatest time (ns) of ``records``, of which there is one at least."""
        return self._ring.spans[0] if records is self._drained else span(records, "time")

    def _oldest(self, records: Records) -> int:
        return (self._ring.spans[1] if records is self._drained else span(records, "socket"))[0]

    def rows(self) -> Records:
        """One ``struct tcp_event`` of kind OPEN for each connection that a process holds now, with totals.

        Of several holders the youngest: a worker is younger than the server that forked it. Raises KernelError.
        """
        rows = np.frombuffer(self._iterator.read(), self.record)[::-1]
        _, first = np.unique(rows["socket"], return_index=True)
        return rows[first]

    def snapshot(self) -> Records:
        """``OBSERVATION`` rows of what open connections carried since last told, and of accepted ones new here.

        Call ``drain`` and ``observe`` first. Raises KernelError.
        """
        rows = self.rows()
        observations = self._observe(self._fold.singly(rows), self._told.deltas(rows))
        self._told.tell(rows)
        if self._told.missing(rows["socket"]):
            self._told_of_lost += self._told.bury(self._tracked())
        return observations

    def _tracked(self) -> npt.NDArray[np.uint64]:
        """``socket`` of every connection that the kernel tracks now."""
        value = self._object.btf.struct("tcp_socket").dtype
        _, values = self._object.map("tcp_sockets", np.dtype("<u8"), value).read()
        sockets: npt.NDArray[np.uint64] = values["event"]["socket"]
        return sockets

    def observe(self, records: Records, *, hold: bool = False) -> Records:
        """Rows of ``OBSERVATION``: opened and failed connections, and what closed ones carried since last told.

        One row for all records that count alike. An accepted connection is none yet when it is established: its owner
        is not known.
        """
        parts: list[Records] = []
        if len(self._told) and len(records):
            told = self._told.known(records, self._oldest(records))
            if told.any():
                alone = take(records, told)
                parts.append(self._observe(self._fold.singly(alone), self._told.deltas(alone)))
                self._told.forget(alone["socket"][alone["kind"] == CLOSED])
                records = take(records, ~told)
        while len(records):
            records = records[self._fold.add(records) :]
            if len(records):
                parts.append(self._folded())
        if not hold:
            parts.append(self._folded())
        return parts[0] if len(parts) == 1 else joined(parts, OBSERVATION)

    def _folded(self) -> Records:
        folded = self._fold.take()
        return self._observe(folded, (folded.sums, np.zeros(len(folded.rows), np.bool_)))

    def _observe(self, folded: Folded, carried: tuple[Mapping[str, Counts], npt.NDArray[np.bool_]]) -> Records:
        """``carried``: what each group adds by counter, and whether its connections were counted before."""
        records, (deltas, counted) = folded.rows, carried
        rows = np.zeros(len(records), OBSERVATION)
        here, there = rows.view(_TO), records.view(self._from)
        for name in _WORDS:
            here[name] = there[name]
        kind, direction = np.ascontiguousarray(records["kind"]), np.ascontiguousarray(records["direction"])
        established, failed = kind == ESTABLISHED, kind == FAILED
        # An accepted connection counts when its owner is known: at its close, or in a snapshot.
        ingress = direction == _INGRESS
        accepted = ingress & ~(established | failed | counted) & (records["before"] == 0)
        opened = established | accepted
        rows["protocol"] = _TCP
        rows["direction"] = direction
        rows["verdict"] = np.where(failed, _HAS_FAILED, _WAS_FORWARDED)
        rows["connections"] = opened * folded.count
        measured = opened & (folded.latency_max > 0)
        rows["latency_count"] = measured * folded.count
        rows["latency_sum"] = measured * folded.latency_sum
        rows["latency_min"] = measured * folded.latency_min
        rows["latency_max"] = measured * folded.latency_max
        if failed.any():
            rows["reason"] = np.where(failed, records["reason"], np.uint8(0))
            rows["failures"] = failed * folded.count
        for name in COUNTERS:
            rows[name] = deltas[name] * ~established
        return take(rows, ~(established & ingress)) if (established & ingress).any() else rows

    def losses(self) -> dict[str, LossCount]:
        """Events that never arrived, with the bytes that their connections carried and that nobody was told of.

        ``ring_full``: no room in the ring. ``map_full``: of connections too many to track. ``unseen``: of connections
        whose beginning or end the kernel ran no program for; what those carried is not known. What a close that was
        not drained yet carried may be taken off until it is: bytes may fall, and rise again. Raises KernelError.
        """
        full = self._loss("ring_full") - self._told_of_lost  # the kernel's count holds also what was told before
        if full.count and len(self._told):
            full -= self._told.absent(self._tracked())
        return {"ring_full": full, "map_full": self._loss("map_full"), "unseen": self._loss("unseen")}

    def _loss(self, reason: str) -> LossCount:
        row = self._lost[reason].lookup(b"\0\0\0\0")
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
