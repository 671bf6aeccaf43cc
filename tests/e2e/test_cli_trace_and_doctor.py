"""``trace`` and ``doctor`` on this kernel: exact events of programs that count what they do."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

import pytest
from up_process import FATHOM, held, still_there

from fathom.cli import main as entry

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]


def begun(*arguments: str) -> subprocess.Popen[str]:
    """``fathom trace`` that is attached already: a probe that it shows proves it."""
    process = subprocess.Popen(
        [*FATHOM, "trace", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 20
    while not {"prog_id", "link_id"} <= {name for name, _ in held(process.pid)}:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing was attached"
        time.sleep(0.05)
    time.sleep(0.3)
    return process


def events(process: subprocess.Popen[str]) -> tuple[list[dict[str, object]], str]:
    """Its events and what it said at the end."""
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def test_tcp_connections_to_one_port_exactly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = begun("tcp", "--port", str(port), "-o", "json", "--duration", "3s")
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as client:
                accepted, _ = server.accept()
                client.sendall(b"x" * 100)
                assert len(accepted.recv(1000)) == 100
                accepted.close()
                client.recv(1)
    seen, said = events(process)
    opened = [event for event in seen if event["event"] == "established"]
    closed = [event for event in seen if event["event"] == "closed"]
    assert sorted(str(event["direction"]) for event in opened) == ["egress"] * 5 + ["ingress"] * 5
    assert sorted(str(event["direction"]) for event in closed) == ["egress"] * 5 + ["ingress"] * 5
    assert sum(int(str(event["bytes_sent"])) for event in closed) == 500
    assert "lost 0" in said


def test_udp_of_one_peer_exactly_and_count_ends_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        process = begun("flow", "--port", str(server.getsockname()[1]), "-o", "json", "--count", "2")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(server.getsockname())
            for _ in range(7):
                client.send(b"x" * 72)
    seen, _ = events(process)
    sent = next(event for event in seen if event["packets_sent"])
    assert (sent["direction"], sent["packets_sent"], sent["bytes_sent"]) == ("egress", 7, 7 * 100)
    assert len(seen) == 2


def test_ctrl_c_tells_the_loss_and_leaves_nothing() -> None:
    process = begun("tcp")
    things = held(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.splitlines()[0].split()[:3] == ["TIME", "EVENT", "DIRECTION"]
    assert "lost 0" in out.splitlines()[-1]
    assert err == ""
    assert not still_there(things)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tcp", "--address", "10.0.0.300"), "10.0.0.300"), (("tcp", "--duration", "soon"), "soon"),
        (("udp",), "udp"), (("tcp", "--port", "0"), "0"),
    ],
)  # fmt: skip
def test_wrong_usage_attaches_nothing(arguments: Sequence[str], says: str) -> None:
    done = subprocess.run([*FATHOM, "trace", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr


def test_doctor_says_yes_here_and_no_where_btf_is_missing() -> None:
    here = subprocess.run([*FATHOM, "doctor", "-o", "json"], capture_output=True, text=True, check=False)
    assert here.returncode == 0, here.stdout
    answer = json.loads(here.stdout)
    assert answer["works"] is True
    assert {f["name"]: f["ok"] for f in answer["features"]}["probe tcp"] is True
    blind = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"]
    there = subprocess.run([*blind, *FATHOM, "doctor"], capture_output=True, text=True, check=False)
    assert there.returncode == 1
    assert "MISSING   BTF" in there.stdout
    assert "Fathom cannot do its main job here" in there.stdout


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in entry.COMMANDS:
        assert entry.main([name, "--help"]) == 0
        assert f"fathom {name}" in capsys.readouterr().out
