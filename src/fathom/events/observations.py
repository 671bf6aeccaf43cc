"""The observation: what a probe's reducer hands to the agent, one row per thing seen, the same for every probe.

Identity is still the kernel's (cgroup, pid, addresses); ``fathom.identity`` turns it into workloads later.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np


class Direction(IntEnum):
    """Who opened it, seen from the local socket."""

    UNKNOWN = 0
    EGRESS = 1
    INGRESS = 2


class Verdict(IntEnum):
    """What became of it."""

    UNKNOWN = 0
    FORWARDED = 1
    FAILED = 2
    DROPPED = 3


class Reason(IntEnum):
    """Why it failed; ``NONE`` where it did not. Names in lower case are those of ``fathom.events.edges.FAILURES``."""

    NONE = 0
    REFUSED = 1
    RESET = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    ABANDONED = 5
    LOCAL_ERROR = 6


class OwnerSource(IntEnum):
    """How the owning process is known, best first. A guess is never shown as a fact: LISTENER is the last resort."""

    UNKNOWN = 0
    CONNECT = 1  # the process that called connect
    CLOSE = 2  # the process that closed the socket
    TASK_FILE = 3  # the process that holds the socket's file, from iter/task_file
    ACCEPT = 4  # accept's exit
    LISTENER = 5  # the process that called listen
    SOCKET = 6  # the process that created the socket
    PACKET = 7  # the process that sent the packet


#: One row. ``time`` CLOCK_MONOTONIC ns. ``local`` and ``remote`` are 16 bytes: IPv6, or IPv4 as ``::ffff:a.b.c.d``
#: (``family`` 4 or 6 says which it is for a person). ``protocol`` is the IP protocol number. ``latency_*`` are of
#: ``latency_count`` handshakes, ns, all in one bucket of ``fathom.events.latency``. Counters are deltas: rows add up.
#: A row may stand for many things that count alike; columns in which those differ (``time``, a client's port,
#: ``local``) are then those of the first.
OBSERVATION = np.dtype(
    [
        ("time", "<i8"),
        ("cgroup", "<u8"),
        ("netns", "<u4"),
        ("pid", "<u4"),
        ("comm", "S16"),
        ("local", "V16"),
        ("remote", "V16"),
        ("local_port", "<u2"),
        ("remote_port", "<u2"),
        ("owner_source", "u1"),
        ("family", "u1"),
        ("protocol", "u1"),
        ("direction", "u1"),
        ("verdict", "u1"),
        ("reason", "u1"),
        ("connections", "<i8"),
        ("failures", "<i8"),
        ("bytes_sent", "<i8"),
        ("bytes_received", "<i8"),
        ("packets_sent", "<i8"),
        ("packets_received", "<i8"),
        ("retransmits", "<i8"),
        ("latency_count", "<i8"),
        ("latency_sum", "<i8"),
        ("latency_min", "<i8"),
        ("latency_max", "<i8"),
    ],
    align=True,  # numpy is several times slower on words that lie askew
)

#: What says who and where, in words: columns that a reducer moves as they are.
WORDS = (
    ("time", 0, "<u8"), ("cgroup", 0, "<u8"), ("netns", 0, "<u4"), ("pid", 0, "<u4"),
    ("comm", 0, "<u8"), ("comm", 8, "<u8"), ("local", 0, "<u8"), ("local", 8, "<u8"),
    ("remote", 0, "<u8"), ("remote", 8, "<u8"), ("local_port", 0, "<u2"), ("remote_port", 0, "<u2"),
    ("owner_source", 0, "u1"), ("family", 0, "u1"),
)  # fmt: skip


def words(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    """A view of records of ``dtype`` (which has the columns of ``WORDS``) as plain words ``w0``, ``w1``, …

    Bytes and text move several times as fast that way: numpy has no fast path for them.
    """
    fields: Mapping[str, Any] = dtype.fields or {}
    return np.dtype(
        {
            "names": [f"w{index}" for index in range(len(WORDS))],
            "formats": [word for _, _, word in WORDS],
            "offsets": [fields[name][1] + offset for name, offset, _ in WORDS],
            "itemsize": dtype.itemsize,
        }
    )
