"""Names of files are bytes; names of workloads are text that passes on every wire."""

from __future__ import annotations

import os

import msgspec
import pytest

from fathom.identity.workloads import Workloads


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"nginx", "nginx"),
        ("café".encode(), "café"),
        (b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
    ],
)
def test_a_name_that_is_no_text_is_told_as_far_as_it_is(name: bytes, told: str) -> None:
    workloads = Workloads("node", "", 16)
    number = workloads.number("process", os.fsdecode(name), os.fsdecode(name))
    assert (workloads.table[number].name, workloads.table[number].container) == (told, told)
    assert workloads.number("process", os.fsdecode(name), os.fsdecode(name)) == number
    assert msgspec.json.decode(msgspec.json.encode(workloads.table[number]))["name"] == told
