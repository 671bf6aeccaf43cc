"""Raw records against a filter, by columns: pid, process name, address or network, port, workload.

It relies on the names that all probes share (``pid comm cgroup local remote local_port remote_port``); a record that
lacks what is asked for does not match.
"""

from __future__ import annotations

import ipaddress

import numpy as np
import numpy.typing as npt

from fathom.agent.questions import EventFilter
from fathom.errors import UsageError
from fathom.events.batches import Clock
from fathom.events.edges import Workload
from fathom.events.observations import OBSERVATION
from fathom.events.rows import take
from fathom.identity.identities import Identities

Records = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]
_COMM = 15  # the kernel keeps so many bytes of a name


class Matcher:
    """One filter, checked once. Raises UsageError if its address is no address or network."""

    def __init__(self, wanted: EventFilter) -> None:
        self.wanted = wanted
        self._network = _network(wanted.address) if wanted.address else None

    def kind(self, kind: str) -> bool:
        """Whether records of the probe ``kind`` can match."""
        return self.wanted.kind in ("", kind)

    def mask(self, records: Records, identities: Identities, now: Clock) -> Mask:
        """Which of ``records`` match."""
        wanted = self.wanted
        mask = np.ones(records.size, np.bool_)
        if wanted.pid:
            mask &= _equal(records, "pid", wanted.pid)
        if wanted.port:
            mask &= _equal(records, "local_port", wanted.port) | _equal(records, "remote_port", wanted.port)
        if wanted.comm:
            name = wanted.comm.encode()[:_COMM].ljust(16, b"\0")
            mask &= _octets(records, "comm", b"\xff" * 16, name)
        if self._network:
            low, keep = self._network
            mask &= _octets(records, "local", keep, low) | _octets(records, "remote", keep, low)
        if wanted.workload and mask.any():
            mask[mask] = self._workload(take(records, mask), identities, now)
        return mask

    def _workload(self, records: Records, identities: Identities, now: Clock) -> Mask:
        table, numbers = workloads(records, identities, now)
        wanted = np.zeros(len(table), np.bool_)
        for number in set(numbers.tolist()):
            wanted[number] = self.wanted.workload in (table[number].name, str(table[number]))
        return wanted[numbers]


def workloads(records: Records, identities: Identities, now: Clock) -> tuple[list[Workload], npt.NDArray[np.int32]]:
    """Whose ``records`` are: the table of workloads and each record's number in it."""
    rows = np.zeros(records.size, OBSERVATION)
    names = records.dtype.names or ()
    for name in ("time", "cgroup", "pid"):
        if name in names:
            rows[name] = records[name]
    if "comm" in names:
        rows["comm"] = _bytes(records, "comm").view("S16").ravel()
    return identities.resolve(rows, now)


def _equal(records: Records, name: str, value: int) -> Mask:
    if name not in (records.dtype.names or ()):
        return np.zeros(records.size, np.bool_)
    return np.asarray(records[name] == value, np.bool_)


def _octets(records: Records, name: str, keep: bytes, value: bytes) -> Mask:
    """Where the 16 bytes of ``name``, of which ``keep`` tells the bits that count, are ``value``."""
    if name not in (records.dtype.names or ()):
        return np.zeros(records.size, np.bool_)
    octets = _bytes(records, name) & np.frombuffer(keep, np.uint8)
    return np.asarray((octets == np.frombuffer(value, np.uint8)).all(axis=1), np.bool_)


def _bytes(records: Records, name: str) -> npt.NDArray[np.uint8]:
    """A field of 16 bytes as an array of shape (records, 16)."""
    return np.ascontiguousarray(records[name]).view(np.uint8).reshape(records.size, 16)


def _network(text: str) -> tuple[bytes, bytes]:
    """First address and mask, 16 bytes each; IPv4 as IPv4 in IPv6."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not an address or a network", do="write 10.0.0.1, 10.0.0.0/8 or fd00::/8"
        ) from error
    if isinstance(network, ipaddress.IPv6Network):
        return network.network_address.packed, network.netmask.packed
    mapped = bytes(10) + b"\xff\xff"
    return mapped + network.network_address.packed, b"\xff" * 12 + network.netmask.packed
