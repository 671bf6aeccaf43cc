"""Agents and servers killed with SIGKILL at random moments: each batch that ``put`` returned for is written once.

Both ends are real processes on loopback. The agent notes each batch after ``put`` returned; the server keeps a ledger
file as a store does: it knows what it has, and appends before the batch is acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fathom.link.tokens import JoinTokens, make_token

AGENT = """
import asyncio, os, sys, time
from fathom.events.batches import Clock
from fathom.link.client import LinkClient
from fathom.link.doubles import sample_batch
from fathom.link.settings import LinkClientSettings
from fathom.wire.messages import AgentHello

async def main(directory, port, boot, count):
    settings = LinkClientSettings(
        link_server=f"127.0.0.1:{port}", link_token_file=f"{directory}/join.token", spool_dir=f"{directory}/spool",
        link_memory_bytes=4096, link_backoff_max_s=0.05,
    )
    notes = os.open(f"{directory}/put", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    client = LinkClient(settings, AgentHello("node-1", boot, "0"), lambda: Clock(1, 2, time.time_ns()))
    async with client:
        for sequence in range(1, count + 1):
            await client.put(sample_batch(sequence, boot=boot))
            os.write(notes, f"{boot} {sequence}\\n".encode())
            await asyncio.sleep(0.001)
        while client.state().queued:
            await asyncio.sleep(0.01)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
"""

SERVER = """
import asyncio, os, sys
from pathlib import Path
from fathom.link.server import LinkServer
from fathom.link.settings import LinkServerSettings
from fathom.link.tokens import JoinTokens

async def main(directory, port):
    path = Path(directory, "written")
    known = set(path.read_text().splitlines()) if path.exists() else set()
    ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def write(batch):
        line = f"{batch.id.boot} {batch.id.sequence} {len(batch.facts)} {len(batch.losses)}"
        await asyncio.sleep(0.001)
        if line not in known:
            known.add(line)
            os.write(ledger, (line + "\\n").encode())
        await asyncio.sleep(0.001)

    settings = LinkServerSettings(link_listen=f"127.0.0.1:{port}")
    async with LinkServer(settings, JoinTokens.load(Path(directory, "tokens")), write, lambda: "store-1"):
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


class Ends:
    """The two processes, which can be started and killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        token = make_token()
        (directory / "join.token").write_text(token)
        JoinTokens().add(token).save(directory / "tokens")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", program, str(self.directory), str(self.port), *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with (self.directory / "output").open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    both = Ends(tmp_path)
    yield both
    for process in list(both.running):
        both.kill(process)


def wait_for_more(ends: Ends, name: str, process: subprocess.Popen[bytes]) -> None:
    """Until the file ``name`` has grown, so that each kill hits work in progress."""
    before, end = len(ends.lines(name)), time.monotonic() + 30
    while len(ends.lines(name)) <= before:
        assert process.poll() is None, (ends.directory / "output").read_text()
        assert time.monotonic() < end, f"{name} does not grow; {(ends.directory / 'output').read_text()}"
        time.sleep(0.005)


def test_ten_kills_of_each_end_lose_nothing_and_double_nothing(ends: Ends) -> None:
    chance = random.Random(os.urandom(8))
    server = ends.start(SERVER)
    for number in range(10):
        agent = ends.start(AGENT, f"b{number}", 100_000)
        wait_for_more(ends, "put", agent)
        wait_for_more(ends, "written", server)
        time.sleep(chance.uniform(0, 0.1))
        ends.kill(server)
        time.sleep(chance.uniform(0, 0.1))
        if number % 2:
            ends.kill(agent)
            server = ends.start(SERVER)
        else:
            server = ends.start(SERVER)
            wait_for_more(ends, "written", server)
            time.sleep(chance.uniform(0, 0.1))
            ends.kill(agent)
    last = ends.start(AGENT, "last", 50)
    assert last.wait(timeout=60) == 0, (ends.directory / "output").read_text()
    ends.running.remove(last)

    written = [line.split() for line in ends.lines("written")]
    times = Counter((boot, sequence) for boot, sequence, _, _ in written)
    put = {tuple(line.split()) for line in ends.lines("put")}
    assert set(times.values()) == {1}
    assert put <= set(times)
    assert len(set(times) - put) <= 10  # killed after the file was there, before the note
    assert {(facts, losses) for _, _, facts, losses in written} == {("3", "0")}
    for boot in {boot for boot, _ in times}:
        mine = sorted(int(sequence) for other, sequence in times if other == boot)
        assert mine == list(range(1, len(mine) + 1))  # no holes
    assert list((ends.directory / "spool").glob("*.batch")) == []
