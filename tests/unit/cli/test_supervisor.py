"""The process tree of ``fathom up`` with stand-ins for its parts: small Python programs that behave or misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from fathom.cli.children import Pace, Part, ended
from fathom.cli.logs import Log
from fathom.cli.supervisor import Supervisor
from fathom.errors import FathomError

QUICK = Pace(ready=10, poll=0.005, stop=5, restart_first=0.01, restart_most=0.02)
#: Says that it is ready, then waits; ends politely on SIGTERM.
CALM = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: (print("goodbye"), sys.exit(0)))
teller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
teller.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
teller.send(b"READY=1")
while True:
    signal.pause()
"""
STUBBORN = CALM.replace('lambda *_: (print("goodbye"), sys.exit(0))', "signal.SIG_IGN")


def part(folder: Path, name: str, program: str = CALM) -> Part:
    """A part named ``name``, whose program is given a path of that name."""
    return Part(name, (sys.executable, "-u", "-c", program, str(folder / name)))


def logs(folder: Path):
    return lambda name: Log(folder / f"{name}.log", nullcontext)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_starts_all_then_runs_the_body_then_leaves_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor([part(tmp_path, "server"), part(tmp_path, "agent")], logs(tmp_path), QUICK)
    seen: list[int] = []

    async def body(s: Supervisor) -> None:
        assert [child.state for child in s.children] == ["ready", "ready"]
        seen.extend(child.pid or 0 for child in s.children)
        assert all(alive(pid) for pid in seen)

    await supervisor.run(body)
    assert len(set(seen)) == 2
    assert not any(alive(pid) for pid in seen)
    assert (tmp_path / "agent.log").read_text() == "goodbye\n", "it was asked to end, not killed"


async def test_a_child_that_dies_is_started_again_and_counted(tmp_path: Path) -> None:
    supervisor = Supervisor([part(tmp_path, "agent")], logs(tmp_path), QUICK)

    async def body(s: Supervisor) -> None:
        (child,) = s.children
        for number in (1, 2, 3):
            old = child.pid
            assert old is not None
            os.kill(old, signal.SIGKILL)
            await until(lambda n=number: child.restarts == n and child.state == "ready")
            assert child.pid not in (None, old)
            assert child.last_end == "was killed by SIGKILL"

    await supervisor.run(body)
    assert (tmp_path / "agent.log").read_text().count("starting it again in") == 3


async def test_why_a_child_ended_by_itself_is_kept_for_the_screen(tmp_path: Path) -> None:
    gone = "import pathlib, sys; p = pathlib.Path(sys.argv[1])\n" + CALM.replace(
        "while True:",
        "if p.with_name('again').exists(): sys.exit('fathom: the disk is full\\n  to do: free some')\nwhile True:",
    )
    supervisor = Supervisor([part(tmp_path, "server", gone)], logs(tmp_path), QUICK)

    async def body(s: Supervisor) -> None:
        (child,) = s.children
        (tmp_path / "again").touch()
        os.kill(child.pid or 0, signal.SIGKILL)
        await until(lambda: child.restarts >= 2)
        assert child.last_end == "ended with status 1 (the disk is full)"

    await supervisor.run(body)


async def test_a_child_that_never_becomes_ready_ends_all_with_its_own_words(tmp_path: Path) -> None:
    program = "import sys; print('loading'); sys.exit('fathom: port 8600 is taken\\n  to do: give another')"
    pids: list[int] = []
    supervisor = Supervisor([part(tmp_path, "agent"), part(tmp_path, "server", program)], logs(tmp_path), QUICK)

    async def body(_: Supervisor) -> None:
        pids.append(0)

    with pytest.raises(FathomError) as caught:
        await supervisor.run(body)
    assert caught.value.what == "port 8600 is taken\n  to do: give another"
    assert pids == [], "the body must not run"
    assert all(child.pid is None for child in supervisor.children)


async def test_a_child_that_is_never_ready_in_time_is_told_and_ended(tmp_path: Path) -> None:
    program = "import time; time.sleep(600)"
    supervisor = Supervisor([part(tmp_path, "agent", program)], logs(tmp_path), Pace(ready=0.2, poll=0.01, stop=5))

    async def body(_: Supervisor) -> None:
        raise AssertionError("must not run")

    with pytest.raises(FathomError, match="agent was not ready"):
        await supervisor.run(body)
    assert supervisor.children[0].pid is None


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor([part(tmp_path, "agent", STUBBORN)], logs(tmp_path), Pace(ready=10, poll=0.005, stop=0.2))
    pids: list[int] = []

    async def body(s: Supervisor) -> None:
        pids.append(s.children[0].pid or 0)

    await supervisor.run(body)
    assert pids[0] > 0
    assert not alive(pids[0])
    assert "did not end in 0.2 s; killed" in (tmp_path / "agent.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_the_body_and_the_children(tmp_path: Path, number: signal.Signals) -> None:
    supervisor = Supervisor([part(tmp_path, "agent")], logs(tmp_path), QUICK)
    pids: list[int] = []

    async def body(s: Supervisor) -> None:
        pids.append(s.children[0].pid or 0)
        os.kill(os.getpid(), number)
        await asyncio.sleep(600)

    await supervisor.run(body)
    assert supervisor.signal == number
    assert not alive(pids[0])


async def test_what_the_body_raises_passes_through_and_leaves_no_child(tmp_path: Path) -> None:
    supervisor = Supervisor([part(tmp_path, "agent")], logs(tmp_path), QUICK)
    pids: list[int] = []

    async def body(s: Supervisor) -> None:
        pids.append(s.children[0].pid or 0)
        raise FathomError("the screen broke")

    with pytest.raises(FathomError, match="the screen broke"):
        await supervisor.run(body)
    assert not alive(pids[0])


async def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from contextlib import nullcontext
from pathlib import Path
sys.path[:0] = {sys.path!r}
from fathom.cli.children import Part
from fathom.cli.logs import Log
from fathom.cli.supervisor import Supervisor
folder = Path({str(tmp_path)!r})
def part(name):
    return Part(name, (sys.executable, "-c", {CALM!r}))
async def body(s):
    print(*(child.pid for child in s.children), flush=True)
    await asyncio.sleep(600)
asyncio.run(Supervisor([part("server"), part("agent")], lambda n: Log(folder / (n + ".log"), nullcontext)).run(body))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        process.kill()
    await until(lambda: not any(alive(pid) for pid in pids))


async def test_children_have_their_own_session_so_that_ctrl_c_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    supervisor = Supervisor([part(tmp_path, "agent")], logs(tmp_path), QUICK)

    async def body(s: Supervisor) -> None:
        pid = s.children[0].pid or 0
        assert os.getsid(pid) == pid != os.getsid(0)

    await supervisor.run(body)


@pytest.mark.usefixtures("root")
async def test_an_unprivileged_part_has_no_capability_and_cannot_gain_one(tmp_path: Path) -> None:
    calm = part(tmp_path, "server")
    bare = Part(calm.name, calm.argv, unprivileged=True)
    supervisor = Supervisor([bare], logs(tmp_path), QUICK)
    facts: dict[str, str] = {}

    async def body(s: Supervisor) -> None:
        text = Path(f"/proc/{s.children[0].pid}/status").read_text()
        facts.update(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    await supervisor.run(body)
    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert facts["NoNewPrivs"] == "1"


def test_how_a_process_ended_is_said_in_words() -> None:
    assert ended(0) == "ended with status 0"
    assert ended(3) == "ended with status 3"
    assert ended(-9) == "was killed by SIGKILL"
