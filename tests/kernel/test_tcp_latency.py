"""A delay in the handshake shows as that latency, at both ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

PEER = Path(__file__).with_name("tun_peer.py")


@pytest.mark.parametrize("seconds", [0.08, 0.3])
def test_delayed_handshake(
    watch: Any, netns: Callable[..., str], require: Callable[[str, str], None], seconds: float
) -> None:
    if not Path("/dev/net/tun").exists():
        require("tun", "there is no /dev/net/tun")
    place = netns()
    command = ["ip", "netns", "exec", place, sys.executable, PEER, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["connect", "accept"]

    def mine(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [e for e in events if e["local_address"] == "10.88.0.1" and e["remote_address"] == "10.88.0.2"]

    events = mine(watch.until(lambda events: len(mine(events)) >= 4))
    opened = {e["direction"]: e["latency"] for e in events if e["event"] == "established"}
    assert opened == {
        "egress": pytest.approx(seconds, rel=0.1, abs=0.005),
        "ingress": pytest.approx(seconds, rel=0.1, abs=0.005),
    }
    closed = {e["direction"]: e for e in events if e["event"] == "closed"}
    assert {side: e["latency"] for side, e in closed.items()} == opened
    assert {e["reason"] for e in closed.values()} == {"reset"}
