"""A second agent or server on the same data or the same ports is refused in words; the first one goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from installation import Installation, free_ports, lost_on_the_way, matches

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.root


def refused(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(timeout=30) not in (0, -6, -9, -11)


def test_a_second_agent_on_the_same_spool_is_refused(installation: Installation) -> None:
    installation.start_both()
    traffic = installation.traffic()
    link, data = f"127.0.0.1:{installation.link}", str(installation.data)
    refused(
        installation.spawn(
            "second", ("agent", "--data-dir", data, "--server-link", link, "--listen", f"127.0.0.1:{free_ports(4)[3]}")
        )
    )
    assert "in use by another agent" in installation.log("second")
    refused(
        installation.spawn(
            "third",
            ("agent", "--data-dir", data + "2", "--server-link", link, "--listen", f"127.0.0.1:{installation.api}"),
        )
    )
    assert f"127.0.0.1:{installation.api}" in installation.log("third")
    time.sleep(0.5)
    made = traffic.stop()
    installation.observed_until(made.ended_ns / 1e9)
    answer = installation.edges(made.began_ns // 10**9 - 1, time.time())
    matches(answer["items"], made)
    assert lost_on_the_way(answer) == []


def test_a_second_server_is_refused(installation: Installation) -> None:
    installation.start_both()
    traffic = installation.traffic()
    rest, link = free_ports(5)[3:]
    refused(
        installation.spawn(
            "second",
            ("server", "--data-dir", str(installation.data), "--listen", f"127.0.0.1:{rest}",
             "--link", f"127.0.0.1:{link}"),
        )
    )  # fmt: skip
    assert f"another server uses {installation.data}" in installation.log("second")
    for name, listen, agents in (("rest", installation.rest, link), ("link", rest, installation.link)):
        refused(
            installation.spawn(
                name,
                ("server", "--data-dir", str(installation.data) + name, "--listen", f"127.0.0.1:{listen}",
                 "--link", f"127.0.0.1:{agents}"),
            )
        )  # fmt: skip
        assert str({"rest": listen, "link": agents}[name]) in installation.log(name)
        assert "taken" in installation.log(name)
    made = traffic.stop()
    installation.observed_until(made.ended_ns / 1e9)
    answer = installation.edges(made.began_ns // 10**9 - 1, time.time())
    matches(answer["items"], made)
