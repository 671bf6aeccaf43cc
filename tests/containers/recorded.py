"""Workloads that run in containers, recorded once under each runtime, and the profiles that Fathom makes of that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from bundle import Bundle, Container, Runtime
from recording import STRACE, row
from workloads import POSTGRES, Workload, workloads

FATHOM = Path(sys.executable).with_name("fathom")
HERE = Path(__file__).parent


class Recorded:
    """``names`` of the workloads; their recordings and profiles are made when they are first asked for."""

    names = ("shell", "python", "postgresql", "nginx", "go")

    def __init__(self, root: Path, place: Path) -> None:
        self.root, self.place = root, place
        self._files: dict[str, list[Path]] = {}
        self._runs = 0

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        """By name."""
        binary, database = self.place / "server", self.place / "database"
        environment = os.environ | {
            "CGO_ENABLED": "0",
            "GOCACHE": str(self.root.with_name("go")),
            "GOTOOLCHAIN": "local",
        }
        subprocess.run(["go", "build", "-o", str(binary), str(HERE / "server.go")], check=True, env=environment)
        folder = self.place / "initdb"
        folder.mkdir()
        initdb = next(self.root.glob("usr/lib/postgresql/*/bin/initdb")).relative_to(self.root)
        options = ["-D", "/work/data", "-U", "postgres", "--no-sync", "--locale=C.UTF-8", "--auth=trust"]
        runtime = Runtime("runc", self.place / "state-runc")
        status, output = self._run(runtime, [f"/{initdb}", *options], folder, user=POSTGRES)
        assert status == 0, output
        (folder / "data").rename(database)
        return workloads(self.root, binary, database)

    def _run(self, runtime: Runtime, arguments: Sequence[str], folder: Path, user: int) -> tuple[int, str]:
        os.chown(folder, user, user)
        bundle = Bundle(self.root, arguments, [(folder, "/work")], user=user)
        with Container(runtime, bundle, self.place) as container:
            return container.wait(), container.output()

    def folder(self, workload: Workload) -> Path:
        """A new folder for one run, prepared."""
        self._runs += 1
        folder = self.place / f"{workload.name}-{self._runs}"
        folder.mkdir()
        workload.prepare(folder)
        os.chown(folder, workload.user, workload.user)
        return folder

    def run(
        self,
        runtime: Runtime,
        workload: Workload,
        folder: Path,
        *,
        before: Sequence[str] = (),
        seccomp: dict[str, Any] | None = None,
        no_new_privileges: bool = True,
        probes: Sequence[Sequence[str]] = (),
    ) -> list[tuple[int, str]]:
        """Run the workload and have it do all its work; it must end well. Meanwhile run ``probes`` in its container:
        exit status and output of each."""
        bundle = Bundle(
            self.root,
            [*before, *workload.arguments],
            [(folder, "/work")],
            seccomp,
            workload.user,
            no_new_privileges,
            environment=workload.environment,
        )
        with ExitStack() as stack:
            container = stack.enter_context(Container(runtime, bundle, self.place))
            told = []
            workload.drive(container, folder)
            if workload.ends is not None:
                told = [container.execute(*probe) for probe in probes]
                container.tell(workload.ends)
            status = container.wait()
            assert status == workload.status, container.output()
            return told

    def files(self, name: str) -> list[Path]:
        """Two recordings of a workload, one under each runtime, as files of JSON lines."""
        if name not in self._files:
            workload = self.workloads[name]
            made = []
            for program in ("runc", "crun"):
                folder = self.folder(workload)
                self.run(Runtime(program, self.place / f"state-{program}"), workload, folder, before=STRACE)
                file = self.place / f"{name}-{program}.jsonl"
                file.write_text(row(folder, f"test/{name}", program, workload.arguments[0]) + "\n")
                made.append(file)
            self._files[name] = made
        return self._files[name]

    def calls(self, name: str) -> set[str]:
        """All that was recorded of a workload."""
        return {call for file in self.files(name) for call in json.loads(file.read_text())["calls"]}

    def profile(self, name: str, *options: str) -> dict[str, Any]:
        """What ``fathom seccomp generate`` makes of both recordings."""
        files = [str(file) for file in self.files(name)]
        done = subprocess.run(
            [FATHOM, "seccomp", "generate", *files, *options], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found
