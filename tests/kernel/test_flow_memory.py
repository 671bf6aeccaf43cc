"""What the kernel accounts for the probes' maps, here and worked out for larger machines."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from fathom.probes.flow import FlowProbe
from fathom.probes.settings import (
    FLOW_BYTES,
    FLOW_BYTES_A_CPU,
    FLOW_SOCKET_BYTES,
    TCP_SOCKET_BYTES,
    ProbeSettings,
    possible_cpus,
)
from fathom.probes.tcp import TcpProbe

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]

PER_CPU_HASH, HASH = "5", "1"


def _maps() -> dict[str, dict[str, str]]:
    """Maps that this process holds: id to what fdinfo says."""
    held = {}
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            fields = dict(re.findall(r"^(\w+):\s+(\S+)$", path.read_text(), re.MULTILINE))
            if "map_id" in fields:
                held[fields["map_id"]] = fields
    return held


def _each(maps: dict[str, dict[str, str]], kind: str, entries: int) -> list[float]:
    """Bytes an entry of the maps of this type and size."""
    return [
        int(fields["memlock"]) / entries
        for fields in maps.values()
        if (fields["map_type"], fields["max_entries"]) == (kind, str(entries))
    ]


def test_an_entry_costs_what_the_settings_reckon_with() -> None:
    before = _maps()
    settings = ProbeSettings(flow_entries=8192, flow_sockets=4096, tcp_sockets=16384)
    with FlowProbe.open(settings), TcpProbe.open(settings):
        maps = {name: fields for name, fields in _maps().items() if name not in before}
    flows, owners = _each(maps, PER_CPU_HASH, 8192), _each(maps, HASH, 8192)
    assert (len(flows), len(owners)) == (2, 2)
    assert sum(flows) + sum(owners) <= (FLOW_BYTES + FLOW_BYTES_A_CPU * possible_cpus()) * 1.01
    assert max(_each(maps, HASH, 4096)) <= FLOW_SOCKET_BYTES * 1.01
    assert max(_each(maps, HASH, 16384)) <= TCP_SOCKET_BYTES * 1.01
