"""Records as people and programs see them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fathom.errors import UsageError
from fathom.events.batches import Clock
from fathom.events.btf import Btf
from fathom.events.catalogue import KINDS
from fathom.events.render import address_text, moments, protocol_name, to_dicts
from fathom.kernel.objects import FOLDER

CLOCK = Clock(monotonic_ns=1_000, boot_ns=0, wall_ns=1_700_000_000_000_001_000)
MAPPED = bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 7))


def _records(of: str, /, **values: Any) -> npt.NDArray[np.void]:
    record = KINDS[of]
    row = np.zeros(1, Btf.of(FOLDER / f"{record.stem}.bpf.o").struct(record.record).dtype)
    for name, value in values.items():
        row[name] = value
    return row


def test_tcp_event_of_a_v4_mapped_socket() -> None:
    row = _records(
        "tcp", time=2_000_000_000, kind=2, direction=1, latency=1_500, duration=0, srtt=28, socket=0xABC, before=0,
        local=np.void(MAPPED), remote=np.void(bytes(15) + b"\1"), local_port=4000, remote_port=80,
        pid=7, comm=b"curl", owner_source=1, bytes_sent=9,
    )  # fmt: skip
    (event,) = to_dicts(row, "tcp", CLOCK)
    assert json.loads(json.dumps(event)) == event
    assert event == {
        "kind": "tcp", "protocol": "TCP", "time": "2023-11-14T22:13:22.000000Z", "event": "closed",
        "direction": "egress", "reason": "", "latency": 1.5e-06, "duration": None, "bytes_sent": 9, "bytes_received": 0,
        "packets_sent": 0, "packets_received": 0, "retransmits": 0, "srtt": 2.8e-05, "connection": "abc",
        "before": False, "local_address": "10.0.0.7", "local_port": 4000, "remote_address": "::1", "remote_port": 80,
        "pid": 7, "comm": "curl", "owner_source": "connect", "cgroup": 0, "netns": 0,
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_those_of_the_catalogue(kind: str) -> None:
    (event,) = to_dicts(_records(kind), kind, CLOCK)
    assert list(event) == [*KINDS[kind].same, *(shown.name for shown in KINDS[kind].shown)]


def test_number_without_a_word_is_shown_as_number() -> None:
    (event,) = to_dicts(_records("flow", protocol=47), "flow", CLOCK)
    assert event["protocol"] == "47"
    assert protocol_name(47) == "47"


def test_no_records_no_events() -> None:
    assert to_dicts(_records("tcp")[:0], "tcp", CLOCK) == []


def test_unknown_kind_names_those_that_are() -> None:
    with pytest.raises(UsageError, match="use one of: tcp, flow"):
        to_dicts(_records("tcp"), "dns", CLOCK)


def test_names_that_are_not_text_do_not_stop_anybody() -> None:
    (event,) = to_dicts(_records("tcp", comm=b"\xff\xfe"), "tcp", CLOCK)
    assert event["comm"] == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("octets", "text"),
    [(MAPPED, "10.0.0.7"), (bytes(16), "::"), (b"\xfe\x80" + bytes(13) + b"\1", "fe80::1")],
)
def test_addresses(octets: bytes, text: str) -> None:
    assert address_text(octets) == text


def test_moments_follow_the_wall_clock() -> None:
    assert moments(np.array([1_000, 1_999], np.uint64), CLOCK) == [
        "2023-11-14T22:13:20.000001Z",
        "2023-11-14T22:13:20.000001Z",
    ]
