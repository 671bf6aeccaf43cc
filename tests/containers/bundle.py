"""OCI containers for tests, by runc or crun alone: made, run in the foreground, entered, ended, always taken away.

A bundle is made from nothing but a root file system (read-only, shared by all) and what the test mounts. Source of the
format: OCI runtime specification 1.0, config.md and config-linux.md. Capabilities, masked and read-only paths are those
that Docker, containerd and CRI-O give a container that asks for nothing.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: Longest that anything here is waited for.
PATIENCE_S = 30.0
#: Above the cgroups of all containers of this test run.
CGROUP = f"/fathom-test-{os.getpid()}"
CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP"
        " SETUID SYS_CHROOT"
    ).split()
]
_MASKED = "/proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug /sys/firmware"
_READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger"
_MOUNTS = (
    ("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ("/tmp", "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=1777", "size=65536k"]),
)
_CGROUP2_ALONE = ["unshare", "--mount", "sh", "-c", 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"', "sh"]


@dataclass(frozen=True)
class Bundle:
    """What to run. ``mounts`` are (source, place) pairs, bound for writing. ``network``: the path of a network
    namespace, "" for a new one with ``lo`` alone. ``cgroup``: the path of its cgroup, "" for one by the container's id.
    ``identity``: its id, "" for a random one, as container engines make them (64 hexadecimal digits)."""

    root: Path
    arguments: Sequence[str]
    mounts: Sequence[tuple[Path, str]] = ()
    seccomp: Mapping[str, Any] | None = None
    user: int = 0
    no_new_privileges: bool = True
    network: str = ""
    cgroup: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""

    def document(self, identity: str) -> dict[str, Any]:
        """``config.json``."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **self.environment}
        bound = [
            {"destination": place, "type": "bind", "source": str(source), "options": ["rbind", "rw"]}
            for source, place in self.mounts
        ]
        network = {"type": "network", **({"path": self.network} if self.network else {})}
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": self.user, "gid": self.user},
                "args": list(self.arguments),
                "env": [f"{key}={value}" for key, value in environment.items()],
                "cwd": "/",
                "capabilities": {
                    kind: CAPABILITIES if not self.user or kind == "bounding" else []
                    for kind in ("bounding", "effective", "permitted")
                },
                "noNewPrivileges": self.no_new_privileges,
            },
            "root": {"path": str(self.root), "readonly": True},
            "hostname": identity[:12],
            "mounts": [
                {"destination": place, "type": kind, "source": source, "options": options}
                for place, kind, source, options in _MOUNTS
            ]
            + bound,
            "linux": {
                "namespaces": [*({"type": kind} for kind in ("pid", "ipc", "uts", "mount")), network],
                "cgroupsPath": self.cgroup or f"{CGROUP}/{identity}",
                "resources": {},
                "maskedPaths": _MASKED.split(),
                "readonlyPaths": _READ_ONLY.split(),
                **({"seccomp": dict(self.seccomp)} if self.seccomp else {}),
            },
        }


class Runtime:
    """``runc`` or ``crun``, with a place of its own for its state."""

    def __init__(self, program: str, state: Path) -> None:
        self.program, self.state = program, state
        # crun refuses a host where both versions of cgroups have controllers: show it a host with cgroup2 alone.
        hybrid = Path("/sys/fs/cgroup/unified/cgroup.controllers").exists()
        self._inside = _CGROUP2_ALONE if hybrid and program == "crun" else []

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs the runtime."""
        return [*self._inside, self.program, "--root", str(self.state), *arguments]

    def call(self, *arguments: str) -> str:
        """Run it. Fails with its words if it fails."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, f"{self.program} {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def version(self) -> str:
        """The first line of what it says about itself."""
        return self.call("--version").splitlines()[0]


class Container:
    """A container that runs from the moment of entering until it ends or the context does."""

    def __init__(self, runtime: Runtime, bundle: Bundle, folder: Path, wrapper: Sequence[str] = ()) -> None:
        self.runtime, self.bundle = runtime, bundle
        self.identity = bundle.identity or secrets.token_hex(32)
        self.folder = folder / self.identity[:12]
        self._wrapper = list(wrapper)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        document = self.bundle.document(self.identity)
        (self.folder / "config.json").write_text(json.dumps(document))
        run = self.runtime.command("run", "--bundle", str(self.folder), self.identity)
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*self._wrapper, *run], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(
            self.runtime.command("delete", "--force", self.identity),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert self._process is not None
        self._process.wait(PATIENCE_S)
        if kind is not None:
            print(f"-- {self.runtime.program} {' '.join(self.bundle.arguments)[:200]}\n{self.output()[-4000:]}")

    def output(self) -> str:
        """What it printed so far."""
        return (self.folder / "output").read_text(errors="replace")

    def pid(self) -> int:
        """The host's number of its first process, once there is one."""

        def found() -> int:
            done = subprocess.run(self.runtime.command("state", self.identity), capture_output=True, check=False)
            state = json.loads(done.stdout) if done.returncode == 0 else {}
            return int(state["pid"]) if state.get("status") == "running" else 0

        return int(self.until("it runs", found))

    def until(self, what: str, found: Callable[[], Any]) -> Any:
        """What ``found`` gives once it is true. Fails if the container ends before, or it takes too long."""
        end = time.monotonic() + PATIENCE_S
        while not (value := found()):
            assert self._process is not None
            assert self._process.poll() is None, f"ended before {what}: {self._process.returncode}\n{self.output()}"
            assert time.monotonic() < end, f"{what}: not within {PATIENCE_S:g} s\n{self.output()}"
            time.sleep(0.02)
        return value

    def execute(self, *arguments: str, before: Sequence[str] = ()) -> tuple[int, str]:
        """Run one more program in it; its exit status and what it printed. ``before`` stands before the runtime."""
        done = subprocess.run(
            [*before, *self.runtime.command("exec", self.identity, *arguments)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to its first process."""
        self.runtime.call("kill", self.identity, str(int(number)))

    def wait(self) -> int:
        """Wait until it ends by itself; the exit status of its first process."""
        assert self._process is not None
        return self._process.wait(PATIENCE_S)


def in_network_of(pid: int) -> list[str]:
    """The beginning of a command line that runs a program of the host in the network of a process."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]


def sweep() -> list[str]:
    """Take away the cgroups above all containers, and those of test runs that are gone; gives the containers' cgroups
    that were still there, which no test may leave."""
    left: list[str] = []
    for top, folders, _ in os.walk("/sys/fs/cgroup", topdown=False):
        for name in folders:
            found = re.fullmatch(r"fathom-test-(\d+)", name)
            if found and (int(found[1]) == os.getpid() or not Path(f"/proc/{found[1]}").exists()):
                for inner, _, _ in os.walk(Path(top, name), topdown=False):
                    left += [inner] if re.fullmatch(r"[0-9a-f]{64}", Path(inner).name) else []
                    Path(inner).rmdir()
    return left
