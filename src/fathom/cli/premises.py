"""What must be true before ``fathom up`` starts anything: root, a data directory of its own, free ports.

Everything is said in words that name who is in the way; nothing is changed but the data directory.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import shlex
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from fathom.cli.caller import Caller, acting_as
from fathom.errors import FathomError, PrivilegeError, UsageError


def require_root(again: str) -> None:
    """Raises PrivilegeError, with the command ``again`` to type, unless this process is root."""
    if os.geteuid() != 0:
        raise PrivilegeError(
            "fathom up must be started as root",
            affects="nothing was started: programs cannot be loaded into the kernel without it",
            do=f"type: sudo {again}   (the server and your data will still belong to you)",
        )


def require_extension(affects: str) -> None:
    """Raises FathomError if this installation has no part that talks to the kernel (a pure wheel)."""
    if importlib.util.find_spec("fathom.kernel._libbpf") is None:
        raise FathomError(
            "this installation of Fathom has no kernel part",
            affects=affects,
            do="on a Linux node install its Linux wheel; in a source tree type: make setup",
        )


def require_runnable(who: Caller) -> None:
    """Raises FathomError unless ``who``, as whom the server will run, can run this very program."""
    mine = Path(__file__)
    with acting_as(who):
        needed = (Path(sys.executable), Path(os.__file__), mine)
        hidden = [path for path in needed if not os.access(path, os.R_OK, effective_ids=True)]
    if hidden:
        raise FathomError(
            f"{who.name} cannot read {hidden[0]}",
            affects=f"nothing was started: the server runs as {who.name}, who called sudo",
            do="install Fathom (and Python) where that user can read it, or start it as root without sudo",
        )


def require_capabilities(missing: Sequence[str], what: str) -> None:
    """Raises PrivilegeError if ``missing`` names any capability; ``what`` cannot be done then."""
    if missing:
        raise PrivilegeError(
            f"this process lacks {', '.join(missing)}",
            affects=f"{what}: nothing can be attached to the kernel",
            do=f"type: sudo {shlex.join(sys.argv)}",
        )


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: ``host`` (an IP address or a name) and ``port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def here(self) -> Address:
        """An address by which this machine reaches it: loopback where it listens on all addresses."""
        return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)


def address(text: str) -> Address:
    """The address written as ``host:port``, ``[v6]:port``, ``:port`` (all addresses) or ``port`` (loopback).

    Raises UsageError if ``text`` is none of them.
    """
    host, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is no address to listen on", do="write for example 127.0.0.1:8600 or 8600")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif host.startswith("["):
        raise UsageError(f"{text!r} is no address to listen on", do="close the bracket: [::1]:8600")
    elif ":" in host:
        raise UsageError(f"{text!r} is ambiguous", do=f"write [{host}]:{port}")
    return Address(host or ("0.0.0.0" if colon else "127.0.0.1"), int(port))


def require_free(where: Address, what: str, option: str) -> None:
    """Raises FathomError, naming the process that holds it where that can be seen, if ``where`` is taken.

    Raises UsageError if this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((where.host, where.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(
                    f"cannot listen on {where} ({what}): {error.strerror}", do=f"change {option}"
                ) from error
            by = _holder(where.port)
            raise FathomError(
                f"port {where.port} ({what}) is taken" + (f" by {by}" if by else ""),
                affects="nothing was started",
                do=f"end that program, or choose another port with {option}",
            ) from error


def claim(where: Address, what: str, option: str) -> socket.socket:
    """Hold ``where``, found free, against another ``fathom up`` that finds it free too: a child takes it only later.

    A name in the abstract namespace of unix(7), which a network namespace has as it has ports. Held until what is
    returned is closed. Raises FathomError if another one holds it.
    """
    name = f"\0fathom up {where}"
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(name)
        lock.listen()
    except OSError as error:
        lock.close()
        raise FathomError(
            f"port {where.port} ({what}) is taken by another fathom up{_claimer(name)}",
            affects="nothing was started",
            do=f"end that program, or choose another port with {option}",
        ) from error
    return lock


def _claimer(name: str) -> str:
    """`` (pid N)`` of who holds a claim, or ``""``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(0.5)
        try:
            asking.connect(name)
            pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return ""  # gone meanwhile, or asked by many
    return f" (pid {pid})"


def _holder(port: int) -> str:
    """``name (pid N)`` of the process that listens on TCP ``port`` in this network namespace, or ``""``."""
    inodes = {inode for name in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / name, port)}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) in wanted:  # noqa: PTH115 - "socket:[N]" is no path
                process = link.parent.parent
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue  # closed meanwhile, or another user's: then the holder stays unnamed
    return ""


def _listening(table: Path, port: int) -> list[str]:
    """Inodes that listen on ``port`` in a /proc/net/tcp table (format: Documentation/networking/proc_net_tcp)."""
    rows = [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []
    return [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]


class DataDir:
    """The data directory, made if needed, owned by ``who``, locked for this process until ``close``."""

    def __init__(self, path: Path, who: Caller) -> None:
        self.path = path
        self.who = who
        try:
            with acting_as(who):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
                (path / "log").mkdir(exist_ok=True, mode=0o700)
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._lock = os.open(path / "up.lock", flags, 0o600)
        except OSError as error:
            raise FathomError(
                f"{who.name} cannot write to the data directory {path}: {error.strerror}",
                affects="nothing was started",
                do="choose a directory that can be written with --data-dir",
            ) from error
        self._hold()

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 20, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise FathomError(
                f"Fathom is already up on {self.path}" + (f" (pid {pid})" if pid.isdigit() else ""),
                affects="nothing was started; the other one goes on",
                do="ask it with: fathom query edges    or give another --data-dir and other ports",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._lock)

    def __enter__(self) -> DataDir:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
