"""``fathom up`` as a real process on free ports, seen from outside: output, children, what the kernel holds of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
from installation import free_ports, until

from fathom.kernel import _libbpf

FATHOM = (sys.executable, "-P", "-m", "fathom.cli.main")
_KINDS = {"prog_id": 0, "map_id": 1, "link_id": 2}


class Up:
    """One ``fathom up`` whose output goes to ``folder/out`` and ``folder/err``. ``before`` comes before the command."""

    def __init__(
        self,
        folder: Path,
        *,
        data: Path | None = None,
        ports: Sequence[int] = (),
        before: Sequence[str] = (),
        program: Sequence[str] = FATHOM,
        env: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.ports = tuple(ports) or tuple(free_ports(3))
        self.killed: list[int] = []
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [*before, *program, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                env={**os.environ, "SUDO_UID": "", "NO_COLOR": "1", "FATHOM_INTERVAL_S": "2", **(env or {})},
            )  # fmt: skip

    @property
    def arguments(self) -> list[str]:
        rest, link, agent = (f"127.0.0.1:{port}" for port in self.ports)
        return ["up", "--data-dir", str(self.data), "--listen", rest, "--link", link, "--agent-listen", agent]

    @property
    def output(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def errors(self) -> str:
        return (self.folder / "err").read_text()

    def ready(self) -> Up:
        """Wait until both children answer and the agent has reached the server."""
        until("a connected node", lambda: self.ended or self._connected())
        assert not self.ended, self.errors
        return self

    def ask(self, path: str) -> dict[str, object]:
        """What REST says at ``path`` under /api/v1."""
        key = (self.data / "admin.token").read_text().strip()
        answer = httpx.get(
            f"http://127.0.0.1:{self.ports[0]}/api/v1/{path}", headers={"Authorization": f"Bearer {key}"}, timeout=10
        )
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    def fathom(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a client command against this server."""
        server = ["--server", f"http://127.0.0.1:{self.ports[0]}", "--token-file", str(self.data / "admin.token")]
        return subprocess.run(
            [*FATHOM, *arguments, *server], capture_output=True, text=True, check=False, timeout=30,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip

    def child(self, name: str) -> int:
        """Pid of the child ``server`` or ``agent``; 0 if it does not run."""
        return self.children().get(name, 0)

    def children(self) -> dict[str, int]:
        """Name to pid of what this supervisor started."""
        found = {}
        for pid, parent, command in processes():
            if parent == self.process.pid and (match := re.search(r"fathom\.cli\.main (agent|server) ", command)):
                found[match[1]] = pid
        return found

    def signal(self, number: signal.Signals) -> int:
        """Send ``number`` to the supervisor; its exit status (negative: killed by that signal)."""
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=30)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def close(self) -> None:
        """For the end of a test, however it ended."""
        if not self.ended:
            self.process.kill()
            self.process.wait()

    def _connected(self) -> bool:
        try:
            return any(node["connected"] for node in self.ask("status")["items"])  # type: ignore[attr-defined]
        except (httpx.HTTPError, OSError):
            return False


def processes() -> list[tuple[int, int, str]]:
    """(pid, parent, command line) of all processes that are not zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # ended meanwhile
        if state != "Z":
            found.append((int(folder.name), int(parent), command))
    return found


def running(pid: int) -> bool:
    """Whether ``pid`` is a process that is not a zombie."""
    return any(found == pid for found, _, _ in processes())


def held(pid: int) -> set[tuple[str, int]]:
    """Programs, maps and links that ``pid`` holds, as (kind, id), from /proc/PID/fdinfo."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = info.read_text().splitlines()
        except OSError:
            continue  # closed meanwhile
        for line in lines:
            name, _, value = line.partition(":")
            if name in _KINDS:
                found.add((name, int(value)))
    return found


def still_there(things: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Which of ``things`` the kernel still has."""
    now = {name: set(_libbpf.ids(kind)) for name, kind in _KINDS.items()}
    return {(name, number) for name, number in things if number in now[name]}


def facts(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
