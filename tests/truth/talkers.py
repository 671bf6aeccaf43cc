"""Starts talkers as programs with names of their own, inside a network namespace, and hears what they tell."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.truth.ledger import Ledger

_HERE = Path(__file__).parent


class Talkers:
    """Makes programs: copies of the interpreter, so that each has an executable, and a comm, of its own.

    ``folder`` must not be on a file system that forbids execution.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Talker] = []

    def start(self, program: str, namespace: str, **plan: Any) -> Talker:
        """Start the program (its name has at most 15 characters) in a namespace of ``ip netns``, "" for this one."""
        return self._start(program, namespace, "talker.py", json.dumps(plan))

    def wire(self, namespaces: tuple[str, str], **plan: Any) -> Talker:
        """Start a wire between two namespaces: see ``wire``."""
        return self._start("truth-wire", "", "wire.py", json.dumps({"namespaces": namespaces, **plan}))

    def _start(self, program: str, namespace: str, script: str, argument: str) -> Talker:
        executable = self._folder / program
        if not executable.exists():
            shutil.copy2(Path(sys.executable).resolve(), executable)
        enter = ["nsenter", f"--net=/var/run/netns/{namespace}"] if namespace else []
        talker = Talker(program, [*enter, str(executable), "-S", "-E", str(_HERE / script), argument])
        self._running.append(talker)
        return talker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for talker in self._running:
            talker.end()


class Talker:
    """One running program."""

    def __init__(self, program: str, command: list[str]) -> None:
        self.program = program
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={"PATH": os.environ["PATH"], "PYTHONHOME": sys.base_prefix},
        )
        self.pid = self._process.pid
        self.pids: set[int] = set()
        self._heard = b""

    def ready(self, timeout_s: float = 20) -> Any:
        """Wait until it says that others may begin; gives what it says."""
        return self._hear("ready", timeout_s)

    def go(self) -> None:
        """Tell one that holds on to go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def did(self, timeout_s: float = 50) -> Ledger:
        """Wait for its end; gives what it did."""
        told = self._hear("did", timeout_s, whole=True)
        self.pids = set(told["pids"])
        assert self._process.wait(timeout_s) == 0
        return Ledger.told(self.program, told["did"])

    def end(self) -> None:
        """Kill it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _hear(self, wanted: str, timeout_s: float, *, whole: bool = False) -> Any:
        deadline = time.monotonic() + timeout_s
        out = self._process.stdout
        assert out is not None
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard = rest
                told = json.loads(line)
                if wanted in told:
                    return told if whole else told[wanted]
                continue
            if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"{self.program} did not say {wanted!r} in {timeout_s} s")
            data = out.read(1 << 20)
            if not data:
                raise RuntimeError(f"{self.program} ended with {self._process.wait()} before it said {wanted!r}")
            self._heard += data
