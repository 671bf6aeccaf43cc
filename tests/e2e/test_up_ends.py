"""``fathom up`` and the ways in which it and its parts end: nothing is left, nothing is hidden."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installation import until
from up_process import Up, facts, held, running, still_there

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]
Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``fathom up``, as often as it is called; ends what is left at the end."""
    made: list[Up] = []

    def begin(**options: object) -> Up:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Up(folder, **options))  # type: ignore[arg-type]
        return made[-1]

    yield begin
    for up in made:
        up.close()


@pytest.fixture
def load() -> Iterator[int]:
    """Connections made all the time; gives the port."""
    program = (
        "import socket, threading, time\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "def serve():\n"
        "    while True:\n"
        "        c, _ = s.accept(); c.sendall(c.recv(9)); c.close()\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "while True:\n"
        "    with socket.create_connection(s.getsockname()) as c: c.sendall(b'x' * 9); c.recv(9)\n"
        "    time.sleep(0.002)\n"
    )
    import sys

    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGSEGV, -signal.SIGSEGV),
    ],
)  # fmt: skip
def test_the_end_of_the_supervisor_leaves_nothing(start: Start, load: int, number: signal.Signals, status: int) -> None:
    up = start().ready()
    children = up.children()
    things = held(children["agent"])
    assert {"prog_id", "map_id"} <= {name for name, _ in things}, "the agent holds programs and maps"
    assert up.signal(number) == status, up.errors
    until("no child left", lambda: not any(running(pid) for pid in children.values()))
    until("nothing left in the kernel", lambda: not still_there(things))
    assert up.errors == ""
    del load


@pytest.mark.parametrize("name", ["agent", "server"])
def test_a_killed_part_is_started_again_and_said(start: Start, load: int, name: str) -> None:
    up = start().ready()
    old = up.child(name)
    things = held(old)
    os.kill(old, signal.SIGKILL)
    until("a new one", lambda: up.child(name) not in (0, old))
    until("nothing of the old one in the kernel", lambda: not still_there(things))
    up.ready()
    until("a note on the screen", lambda: f"{name} was killed by SIGKILL; started again (1 time)" in up.output)
    log = (up.data / "log" / f"{name}.log").read_text()
    assert f"fathom up: {name} was killed by SIGKILL; starting it again in 0.5 s" in log
    until("the load in the table", lambda: str(load) in up.output)
    assert up.signal(signal.SIGTERM) == 0
    assert up.errors == ""


def test_a_stopped_part_does_not_keep_the_end_from_coming(start: Start) -> None:
    up = start().ready()
    children = up.children()
    os.kill(children["server"], signal.SIGSTOP)
    os.kill(up.process.pid, signal.SIGTERM)
    time.sleep(0.2)
    assert up.signal(signal.SIGTERM) == 0, "the second signal kills what did not end"
    assert not any(running(pid) for pid in children.values())


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    from up_process import FATHOM

    up = Up(tmp_path, program=("sh", "-c", f'"{FATHOM[0]}" -P -m fathom.cli.main "$@" | head -n 2; echo done', "sh"))
    try:
        assert up.process.wait(timeout=40) == 0
        assert up.output.splitlines()[-1] == "done"
        assert up.errors == ""
    finally:
        up.close()


def test_real_traffic_is_in_the_table_and_every_command_says_the_same(start: Start, load: int) -> None:
    up = start().ready()
    until("the load in the table", lambda: str(load) in up.output)
    rows = [line.split() for line in up.output.splitlines() if str(load) in line.split()]
    assert {row[1] for row in rows} == {"egress", "ingress"}
    edges = up.fathom("query", "edges", "--port", str(load), "--no-headers")
    assert {line.split()[1] for line in edges.stdout.splitlines()} == {"egress", "ingress"}
    for command in (["query", "workloads"], ["query", "events", "--limit", "3"], ["status"]):
        done = up.fathom(*command)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert "window 5m · coverage 100 % · lost 0" in done.stdout, command
    live = up.fathom("query", "events", "--follow", "--limit", "5", "--port", str(load), "-o", "json")
    assert (live.returncode, len(live.stdout.splitlines())) == (0, 5)


def test_only_the_agent_can_touch_the_kernel(start: Start) -> None:
    up = start().ready()
    agent, server, supervisor = (facts(pid) for pid in (up.child("agent"), up.child("server"), up.process.pid))
    assert int(server["CapPrm"], 16) == int(server["CapBnd"], 16) == int(server["CapAmb"], 16) == 0
    four = sum(1 << number for number in (12, 19, 38, 39))  # NET_ADMIN, SYS_PTRACE, PERFMON, BPF
    assert int(agent["CapPrm"], 16) == int(agent["CapBnd"], 16) == four
    assert int(supervisor["CapPrm"], 16) & 1 << 21 == 0, "CAP_SYS_ADMIN is given up"
    assert (agent["NoNewPrivs"], server["NoNewPrivs"], supervisor["NoNewPrivs"]) == ("1", "1", "1")
