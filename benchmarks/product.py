"""The real agent and server as processes of their own, and what they cost."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_PIDFD_GETFD = 438
_RINGBUF = 27
REST, LINK, LOCAL = 18600, 18601, 18602


@dataclass(frozen=True)
class Cost:
    """What a process used up: CPU seconds, of that in the kernel, and resident memory now."""

    cpu_s: float
    rss_mib: float


class Product:
    """``fathom server`` and ``fathom agent`` on loopback, until the end of ``with``."""

    def __init__(self, *, server: bool = True, **settings: object) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fathom-bench-")
        data = Path(self._folder.name)
        env = {**os.environ, **{f"FATHOM_{name.upper()}": str(value) for name, value in settings.items()}}
        fathom = [sys.executable, "-P", "-m", "fathom.cli.main"]
        self._log = (data / "log").open("wb")
        self._server = None
        if server:
            self._server = subprocess.Popen(
                [*fathom, "server", "--data-dir", data, "--listen", f"127.0.0.1:{REST}", "--link", f"127.0.0.1:{LINK}"],
                env=env, stdout=self._log, stderr=self._log,
            )  # fmt: skip
            self._wait(f"http://127.0.0.1:{REST}/healthz")
        self.started = time.monotonic()
        self.agent = subprocess.Popen(
            [*fathom, "agent", "--data-dir", data, "--server-link", f"127.0.0.1:{LINK}",
             "--listen", f"127.0.0.1:{LOCAL}"],
            env=env, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self.key = (data / "admin.token").read_text().strip() if server else ""
        self._wait(f"http://127.0.0.1:{LOCAL}/readyz")

    def _wait(self, url: str) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(url, timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{url} did not answer\n{(Path(self._folder.name) / 'log').read_text()}")

    def get(self, path: str) -> dict[str, Any]:
        """A REST answer of the server."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{REST}{path}", headers={"Authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    def local(self, path: str) -> bytes:
        """An answer of the agent's local API."""
        key = (Path(self._folder.name) / "agent.token").read_text().strip()
        request = urllib.request.Request(f"http://127.0.0.1:{LOCAL}{path}", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bytes(answer.read())

    def metrics(self) -> str:
        """The agent's /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{LOCAL}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def ring_fd(self) -> int:
        """A descriptor of the agent's ring buffer, for a generator to write into; the caller closes it."""
        for entry in Path(f"/proc/{self.agent.pid}/fdinfo").iterdir():
            if f"map_type:\t{_RINGBUF}\n" in entry.read_text():
                pidfd = os.pidfd_open(self.agent.pid)
                fd = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
                os.close(pidfd)
                if fd >= 0:
                    return int(fd)
        raise RuntimeError("the agent has no ring buffer")

    def cost(self) -> Cost:
        """The agent's cost so far."""
        return cost(self.agent.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.agent, self._server):
            if process:
                process.send_signal(signal.SIGTERM)
                process.wait(15)
        self._log.close()
        self._folder.cleanup()


def cost(pid: int) -> Cost:
    """Of any process: its threads' run time by the scheduler, and VmRSS."""
    run = sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
    rss = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return Cost(run / 1e9, int(rss.split()[1]) / 1024)
