"""A server and an agent as real processes on free ports of loopback, that tests start, kill, ask and end.

Everything here looks from outside: processes, signals, REST, the command line, files. Nothing of the product runs in
the test's own process, but the one call that lists what the kernel holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from traffic_load import Made, Plan

from fathom.kernel import _libbpf

FATHOM = Path(sys.executable).with_name("fathom")
#: Addresses that only the load of this test run uses: others may run beside it.
PREFIX = f"127.{64 + os.getpid() // 250 % 190}.{1 + os.getpid() % 250}"
NETWORK = f"{PREFIX}.0/24"
#: Longest that anything here is waited for.
PATIENCE_S = 40.0


def until(what: str, found: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What ``found`` gives once it is true. Fails, saying ``what`` did not come, after ``patience_s``."""
    end = time.monotonic() + patience_s
    while not (value := found()):
        assert time.monotonic() < end, f"{what}: not within {patience_s:g} s"
        time.sleep(0.05)
    return value


def epoch(text: str) -> int:
    """Epoch seconds of an RFC 3339 text."""
    return int(datetime.fromisoformat(text).timestamp())


def rfc3339(seconds: float) -> str:
    """RFC 3339 text of epoch seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Totals:
    """What a list of edges adds up to, by direction: ``egress``, ``ingress`` or both."""

    connections: int = 0
    failures: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0

    @classmethod
    def of(cls, edges: list[dict[str, Any]], protocol: str, direction: str = "") -> Totals:
        """The sums over the edges of ``protocol`` and, if given, ``direction``."""
        chosen = [e for e in edges if e["protocol"] == protocol and direction in ("", e["direction"])]
        return cls(**{name: sum(edge[name] for edge in chosen) for name in cls.__dataclass_fields__})


class Traffic:
    """The load program, running."""

    def __init__(self, plan: Plan) -> None:
        command = [sys.executable, str(Path(__file__).with_name("traffic_load.py")), json.dumps(asdict(plan))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.ports: list[int] = json.loads(self._process.stdout.readline())

    def stop(self) -> Made:
        """End it; what it made."""
        return self._made("\n")

    def finish(self) -> Made:
        """Wait until it made all that was planned; what it made."""
        return self._made(None)

    def _made(self, tell: str | None) -> Made:
        if tell:
            output, _ = self._process.communicate(tell, timeout=PATIENCE_S)
        else:
            assert self._process.stdout is not None
            output = self._process.stdout.read()
            self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0
        made = Made(**json.loads(output))
        assert made.problems == []
        assert made.accepted == len(made.connections)
        assert made.answered == len(made.datagrams)
        return made

    def kill(self) -> None:
        """For the end of a test that failed."""
        self._process.kill()
        self._process.communicate()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free, and that no connection takes by chance (below the ephemeral ones)."""
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in range(least - 1 - 10 * (os.getpid() % 900), 1024, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no port is free")


class Installation:
    """One data directory, its server and its agent."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.data = directory, directory / "data"
        self.rest, self.link, self.api = free_ports(3)
        self.settings: dict[str, str] = {
            "FATHOM_INTERVAL_S": "1",
            "FATHOM_SOCKETS_INTERVAL_S": "1",
            "FATHOM_LINK_BACKOFF_MAX_S": "0.3",
            "FATHOM_COVERAGE_GRACE_S": "0",
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        #: One connection for all questions, so that asking makes no traffic that is counted where a test counts.
        self._http = httpx.Client(trust_env=False, timeout=30, limits=httpx.Limits(keepalive_expiry=None))
        self._traffic: list[Traffic] = []

    # -- processes

    def start(self, part: str, *arguments: str, ready: bool = True, **settings: str) -> subprocess.Popen[bytes]:
        """Start ``server`` or ``agent``, with ``arguments`` after its own."""
        own = {
            "server": ("--listen", f"127.0.0.1:{self.rest}", "--link", f"127.0.0.1:{self.link}"),
            "agent": (
                "--listen", f"127.0.0.1:{self.api}", "--server-link", f"127.0.0.1:{self.link}", "--node", "node-1",
            ),
        }[part]  # fmt: skip
        process = self.spawn(part, (part, "--data-dir", str(self.data), *own, *arguments), **settings)
        self._running[part] = process
        if ready:
            self.wait_ready(part)
        return process

    def spawn(self, log: str, arguments: tuple[str, ...], **settings: str) -> subprocess.Popen[bytes]:
        """Start ``fathom`` with ``arguments``; its output goes to the file of ``log``."""
        with (self.directory / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                [FATHOM, *arguments], stdout=output, stderr=output, env=os.environ | self.settings | settings
            )

    def start_both(self, **settings: str) -> None:
        """Start the server, then the agent; both are ready, and connected."""
        self.start("server", **settings)
        self.start("agent", **settings)
        until("the agent is connected", lambda: any(n["connected"] for n in self.status()["items"]))

    def wait_ready(self, part: str) -> None:
        """Until ``part`` answers that it is ready."""
        port = self.rest if part == "server" else self.api
        process = self._running[part]

        def ready() -> bool:
            assert process.poll() is None, f"{part} ended: {self.log(part)}"
            try:
                return self._http.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(f"{part} is ready ({self.directory})", ready)

    def kill(self, part: str) -> None:
        """SIGKILL."""
        self._end(part, signal.SIGKILL)

    def kill_as_it_writes(self, part: str) -> None:
        """SIGKILL in the moment after the server committed a batch, or the agent put one into its spool: what was
        just written was most likely not acknowledged yet."""
        pattern = "store/facts-*.db-wal" if part == "server" else "spool/*.batch"

        def written() -> set[tuple[str, int, int]]:
            found = set()
            for path in self.data.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    found.add((path.name, path.stat().st_size, path.stat().st_mtime_ns))
            return found

        before, end = written(), time.monotonic() + PATIENCE_S
        while not written() - before:
            assert time.monotonic() < end, f"{part} writes nothing"
            time.sleep(0.0002)
        self.kill(part)

    def end(self, part: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End ``part`` as a person does. It must end by itself, well."""
        process = self._end(part, number)
        assert process.returncode == 0, f"{part} ended with {process.returncode}: {self.log(part)}"

    def _end(self, part: str, number: signal.Signals) -> subprocess.Popen[bytes]:
        process = self._running.pop(part)
        process.send_signal(number)
        process.wait(timeout=PATIENCE_S)
        return process

    def log(self, name: str) -> str:
        """The end of what ``name`` printed."""
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def traffic(self, plan: Plan | None = None) -> Traffic:
        """Start the load."""
        self._traffic.append(Traffic(replace(plan or Plan(), network=PREFIX)))
        return self._traffic[-1]

    def close(self) -> None:
        """Kill what is left; print what all said, for a test that failed."""
        self._http.close()
        for traffic in self._traffic:
            traffic.kill()
        for part in list(self._running):
            self.kill(part)
        for path in sorted(self.directory.glob("*.log")):
            print(f"-- {path.name}\n{self.log(path.stem)}")

    # -- questions

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """What REST answers to ``/api/v1/PATH``."""
        key = (self.data / "admin.token").read_text().strip()
        url, headers = f"http://127.0.0.1:{self.rest}/api/v1/{path}", {"Authorization": f"Bearer {key}"}
        try:
            answer = self._http.get(url, params=query, headers=headers)
        except httpx.RemoteProtocolError:  # the connection was to a server that is gone
            answer = self._http.get(url, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def status(self, since: str = "1h") -> dict[str, Any]:
        """``/api/v1/status``."""
        return self.get("status", since=since)

    def command(self, *arguments: str) -> str:
        """What ``fathom ARGUMENTS --server … --token-file …`` prints; it must end well."""
        access = ("--server", f"http://127.0.0.1:{self.rest}", "--token-file", str(self.data / "admin.token"))
        done = subprocess.run([FATHOM, *arguments, *access], capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def edges(self, since_s: float, until_s: float, peer: str = NETWORK) -> dict[str, Any]:
        """The answer about all edges of the window whose peer is in ``peer``, as REST tells it. ``items`` hold all
        pages. The command line must tell the same."""
        window = {"since": rfc3339(since_s), "until": rfc3339(min(until_s, time.time()))}
        for _ in range(20):
            answer = self._all_edges(peer=peer, limit=1000, **window)
            told = self.command(
                "query", "edges", "-o", "json", "--since", window["since"], "--until", window["until"],
                "--peer", peer, "--limit", "10000",
            )  # fmt: skip
            if answer == self._all_edges(peer=peer, limit=1000, **window):  # no batch came meanwhile
                assert json.loads(told) == answer
                return answer
        raise AssertionError(f"what was counted between {window['since']} and {window['until']} changes all the time")

    def _all_edges(self, **asked: Any) -> dict[str, Any]:
        answer = page = self.get("edges", **asked)
        while page["next_cursor"]:
            page = self.get("edges", cursor=page["next_cursor"], **asked)
            answer["items"] += page["items"]
        answer["next_cursor"] = ""
        return answer

    def metric(self, name: str) -> float:
        """The sum of one of the agent's metrics."""
        text = self._http.get(f"http://127.0.0.1:{self.api}/metrics").text
        rows = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        assert rows, f"there is no metric {name}"
        return sum(map(float, rows))

    def spooled(self) -> list[Path]:
        """The files of batches that wait."""
        return sorted((self.data / "spool").glob("*.batch"))

    def observed_until(self, moment_s: float) -> None:
        """Wait until the store holds all that was observed before ``moment_s`` (epoch), and nothing waits."""

        def there() -> bool:
            nodes = self.status()["items"]
            seen = [epoch(n["last_seen"]) - 1 for n in nodes if n["last_seen"]]  # whole seconds, rounded up
            return any(second >= moment_s for second in seen) and not self.spooled()

        until(f"the store knows what was before {rfc3339(moment_s)}", there)


def lost_on_the_way(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The losses of an answer but those of the kernel, which may be of others: they name no connection, and a machine
    that is busy with more than a test may overrun a ring. That the load is there to the last byte says the rest."""
    return [row for row in answer["loss"] if row["hop"] != "kernel"]


def matches(edges: list[dict[str, Any]], *made: Made) -> None:
    """Fails unless ``edges`` add up to exactly what ``made`` says, at both ends."""
    count = sum(len(m.connections) for m in made)
    sent, received = sum(m.sent for m in made), sum(m.received for m in made)
    egress, ingress = Totals.of(edges, "TCP", "egress"), Totals.of(edges, "TCP", "ingress")
    seen = {
        "egress": (egress.connections, egress.failures, egress.bytes_sent, egress.bytes_received),
        "ingress": (ingress.connections, ingress.failures, ingress.bytes_sent, ingress.bytes_received),
    }
    assert seen == {"egress": (count, 0, sent, received), "ingress": (count, 0, received, sent)}
    exchanges = sum(len(m.datagrams) for m in made)
    asked, answered = (sum(m.datagram_bytes[way] for m in made) for way in (0, 1))
    udp = Totals.of(edges, "UDP")
    assert (udp.packets_sent, udp.packets_received) == (2 * exchanges, 2 * exchanges)
    assert (udp.bytes_sent, udp.bytes_received) == (asked + answered, asked + answered)


# -- what the kernel holds

_KINDS = {"prog_id": 0, "map_id": 1, "link_id": 2}


def kernel_objects() -> set[tuple[str, int]]:
    """Programs, maps and links that the kernel holds now, and that no process has open: those that would be left."""
    present = {(word, number) for word, kind in _KINDS.items() for number in _libbpf.ids(kind)}
    return present - held()


def held(pid: str = "[0-9]*") -> set[tuple[str, int]]:
    """Programs, maps and links that a process has open (``/proc/PID/fdinfo``)."""
    found = set()
    for path in Path("/proc").glob(f"{pid}/fdinfo/*"):
        try:
            text = path.read_text()
        except OSError:
            continue  # closed meanwhile
        found.update(
            (word, int(number)) for word, number in re.findall(r"^(prog_id|map_id|link_id):\s*(\d+)$", text, re.M)
        )
    return found


@contextlib.contextmanager
def nothing_left_in_the_kernel() -> Iterator[None]:
    """Fails if the kernel holds programs, maps or links after the block that it did not hold before.

    What other processes have open is theirs: tests may run beside a Fathom that is at work.
    """
    before = kernel_objects()
    yield
    until("the kernel let go of everything", lambda: not kernel_objects() - before, 15)
