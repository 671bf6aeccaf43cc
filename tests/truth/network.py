"""Network namespaces for tests: made with unique names, always taken away, also those that a killed test left."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self


def ip(*arguments: str) -> str:
    """Run iproute2. Raises RuntimeError with its words if it fails."""
    done = subprocess.run(("ip", *arguments), capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def sweep() -> None:
    """Take away what test processes that are gone left behind."""
    for line in ip("netns", "list").splitlines():
        found = re.match(r"truth-(\d+)-", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            ip("netns", "delete", line.split()[0])


class Namespaces:
    """Namespaces with ``lo`` up, named after ``names`` (attribute access gives the real name)."""

    def __init__(self, *names: str) -> None:
        sweep()
        self._mark = secrets.token_hex(2)
        self.real = {name: f"truth-{os.getpid()}-{self._mark}-{name}" for name in names}
        self._made: list[str] = []

    def __getitem__(self, name: str) -> str:
        return self.real[name]

    def __enter__(self) -> Self:
        try:
            for real in self.real.values():
                ip("netns", "add", real)
                self._made.append(real)
                ip("-n", real, "link", "set", "lo", "up")
            self.join()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def join(self) -> None:
        """Connect them; here they stay apart."""

    def remove(self) -> None:
        """Take them away, with all that is in them."""
        while self._made:
            subprocess.run(("ip", "netns", "delete", self._made.pop()), timeout=30, check=False)

    def set(self, name: str, key: str, value: str) -> None:
        """A setting under /proc/sys of a namespace."""
        path = "/proc/sys/" + key.replace(".", "/")
        script = f"echo '{value}' > {path}"
        subprocess.run(("ip", "netns", "exec", self.real[name], "sh", "-c", script), timeout=30, check=True)


class Bridged(Namespaces):
    """Three namespaces a, b, c on one network: a and b by veth on a bridge in c, which has an address too.

    ``address[name]`` and ``address6[name]``; from a and b, ``void`` is a network whose packets c drops without a word,
    ``nowhere`` one that c calls unreachable. ``many`` are more addresses of b.
    """

    def __init__(self, many: int = 0) -> None:
        super().__init__("a", "b", "c")
        net = secrets.randbelow(200) + 20
        self.address = {name: f"10.{net}.0.{i}" for i, name in enumerate("abc", 1)}
        self.address6 = {name: f"fd00:fa:{net:x}::{i}" for i, name in enumerate("abc", 1)}
        self.many = [f"10.{net}.1.{i}" for i in range(1, many + 1)]
        self.void, self.nowhere = f"10.{net + 1}.0.1", f"10.{net + 2}.0.1"
        self._net = net

    def join(self) -> None:
        """Bridge, veths, addresses, routes."""
        a, b, c = (self.real[name] for name in "abc")
        ip("-n", c, "link", "add", "br0", "type", "bridge")
        ip("-n", c, "link", "set", "br0", "up")
        for name, real in (("a", a), ("b", b)):
            ip("-n", real, "link", "add", "eth0", "type", "veth", "peer", "name", f"to-{name}", "netns", c)
            ip("-n", c, "link", "set", f"to-{name}", "master", "br0", "up")
            ip("-n", real, "link", "set", "eth0", "up")
        for name, device in (("a", "eth0"), ("b", "eth0"), ("c", "br0")):
            real = self.real[name]
            ip("-n", real, "address", "add", f"{self.address[name]}/16", "dev", device)
            ip("-n", real, "-6", "address", "add", f"{self.address6[name]}/64", "dev", device, "nodad")
        for address in self.many:
            ip("-n", b, "address", "add", f"{address}/32", "dev", "eth0")
        self.set("c", "net.ipv4.ip_forward", "1")
        self.set("c", "net.ipv4.icmp_ratelimit", "0")
        ip("-n", c, "route", "add", "blackhole", f"10.{self._net + 1}.0.0/16")
        ip("-n", c, "route", "add", "unreachable", f"10.{self._net + 2}.0.0/16")
        for real in (a, b):
            ip("-n", real, "route", "add", "10.0.0.0/8", "via", self.address["c"])
        for real in (a, b, c):
            ip("-n", real, "route", "add", "224.0.0.0/4", "dev", "br0" if real == c else "eth0")
