"""Kernel memory is sized by the number of CPUs, and has a bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.probes.settings import (
    FLOW_BYTES,
    FLOW_BYTES_A_CPU,
    FLOW_SOCKET_BYTES,
    TCP_SOCKET_BYTES,
    ProbeSettings,
    flow_entries_for,
    flow_sockets_for,
    possible_cpus,
    tcp_sockets_for,
)


def _memory(cpus: int) -> int:
    """Bytes of all maps that grow, and of the ring."""
    return (
        ProbeSettings().ring_bytes
        + TCP_SOCKET_BYTES * tcp_sockets_for(cpus)
        + FLOW_SOCKET_BYTES * flow_sockets_for(cpus)
        + (FLOW_BYTES + FLOW_BYTES_A_CPU * cpus) * flow_entries_for(cpus)
    )


@pytest.mark.parametrize("cpus", [1, 2, 4, 8, 16])
def test_up_to_16_cpus_32_mib_are_enough(cpus: int) -> None:
    assert _memory(cpus) <= 30 << 20  # the small maps have the rest


@pytest.mark.parametrize("cpus", [64, 128, 256])
def test_large_machines_keep_some_room(cpus: int) -> None:
    assert flow_entries_for(cpus) == 1024
    assert _memory(cpus) <= 50 << 20


def test_a_setting_is_not_changed() -> None:
    settings = ProbeSettings(tcp_sockets=64, flow_entries=65, flow_sockets=66)
    assert (settings.tcp_sockets_here, settings.flow_entries_here, settings.flow_sockets_here) == (64, 65, 66)


@pytest.mark.parametrize(("text", "cpus"), [("0", 1), ("0-1", 2), ("0-127", 128), ("0-3,8-15", 16)])
def test_cpus_that_may_come_count(tmp_path: Path, text: str, cpus: int) -> None:
    possible = tmp_path / "possible"
    possible.write_text(text + "\n")
    assert possible_cpus(possible) == cpus


@pytest.mark.parametrize("text", ["", "many"])
def test_without_the_kernels_word_those_that_are_there_count(tmp_path: Path, text: str) -> None:
    possible = tmp_path / "possible"
    possible.write_text(text)
    assert possible_cpus(possible) >= 1
    assert possible_cpus(tmp_path / "absent") >= 1
