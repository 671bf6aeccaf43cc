"""Spec, Object, Link: a BPF object from its file to its hooks.

A ``Spec`` is the same for the same file and needs no root; settings are put on it. An ``Object`` is a Spec that this
kernel accepted. A ``Link`` is a program at its hook. Object and Link are context managers; nothing is pinned.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fathom.errors import FeatureMissing, KernelError, PermanentError, PrivilegeError, UsageError, VerifierError
from fathom.events.btf import Btf
from fathom.kernel import _libbpf
from fathom.kernel.maps import Map

#: BPF_MAP_TYPE_* of include/uapi/linux/bpf.h
_PER_CPU = frozenset((5, 6, 10, 21))
#: Before each record of a ring: BPF_RINGBUF_HDR_SZ of include/uapi/linux/bpf.h.
_HEADER = 8
FOLDER = Path(_libbpf.__file__).with_name("objects")


@dataclass(frozen=True)
class Spec:
    """What to load: the object's file, sizes of maps by name, constants by name, and programs to leave out."""

    path: Path
    entries: dict[str, int] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stem: str) -> Self:
        """The object that was built from ``bpf/*/<stem>.bpf.c``. Raises UsageError if it was not built."""
        path = FOLDER / f"{stem}.bpf.o"
        if not path.exists():
            raise UsageError(f"there is no BPF object {stem}", do="install the Linux wheel, or run make setup")
        return cls(path)

    def sized(self, **entries: int) -> Spec:
        """The same with these maps sized (entries; bytes for a ring)."""
        return replace(self, entries={**self.entries, **entries})

    def load(self, *, share: dict[str, int] | None = None) -> Object:
        """Load it into the kernel, with the maps in ``share`` (name to descriptor) used in place of its own.

        Raises PrivilegeError without CAP_BPF and CAP_PERFMON, FeatureMissing where the kernel lacks BTF or a map or
        program type, VerifierError where the verifier refuses, KernelError for anything else.
        """
        return Object(self, share or {})


class Object:
    """A Spec that this kernel accepted. Close it, or use it in ``with``: its programs and maps go with it."""

    def __init__(self, spec: Spec, share: dict[str, int]) -> None:
        self.spec = spec
        self.name = spec.path.name.removesuffix(".bpf.o")
        self.btf = Btf.of(spec.path)
        self._object = self._open()
        try:
            self._prepare(share)
            self.messages = self._load()
        except BaseException:
            self._object.close()
            raise
        self._maps = {name: rest for name, *rest in self._object.maps()}

    def _open(self) -> _libbpf.Object:
        try:
            return _libbpf.open(str(self.spec.path))
        except OSError as error:
            raise KernelError(f"cannot open {self.spec.path.name}: {error}", errno=error.errno or 0) from error

    def _prepare(self, share: dict[str, int]) -> None:
        for name, entries in self.spec.entries.items():
            self._object.set_max_entries(name, entries)
        for name, value in self.spec.constants.items():
            offset, size = self.btf.global_offset(".rodata", name)
            section = next(m[0] for m in self._object.maps() if m[0].endswith(".rodata"))
            self._object.set_initial(section, offset, value.to_bytes(size, "little"))
        for name in self.spec.without:
            self._object.set_autoload(name, False)
        for name, fd in share.items():
            self._object.reuse_map(name, fd)

    def _load(self) -> str:
        try:
            return self._object.load()
        except OSError as error:
            raise refusal(self.name, error.errno or 0, str(error.strerror)) from error

    def programs(self) -> dict[str, str]:
        """Program name to section."""
        return dict(self._object.programs())

    def program_fd(self, name: str) -> int:
        """Descriptor of a program; it belongs to this object."""
        return self._object.program_fd(name)

    def map_fd(self, name: str) -> int:
        """Descriptor of a map; it belongs to this object."""
        return self._object.map_fd(name)

    def map(self, name: str, key: np.dtype[Any], value: np.dtype[Any]) -> Map:
        """The map ``name`` as arrays. Raises UsageError if its sizes are not those of ``key`` and ``value``."""
        kind, key_size, value_size, entries = self._maps[name]
        if (key_size, value_size) != (key.itemsize, value.itemsize):
            raise UsageError(f"map {name} has {key_size}+{value_size} bytes, not {key.itemsize}+{value.itemsize}")
        return Map(name, self._object.map_fd(name), entries, key, value, per_cpu=kind in _PER_CPU)

    def ring(self, name: str, record: np.dtype[Any], watched: Sequence[str] = ()) -> Ring:
        """The ring buffer ``name``, mapped. Raises KernelError if it cannot be mapped."""
        return Ring(self._object.map_fd(name), self._maps[name][3], record, watched)

    def attach(self, name: str) -> Link:
        """Attach a program where its section says: ``tp_btf/…``, ``raw_tp/…``, ``iter/…``.

        Raises KernelError (FeatureMissing, PrivilegeError) if the kernel refuses.
        """
        section = self.programs()[name]
        try:
            if section.startswith("iter/"):
                return Link(name, _libbpf.attach_link(self.program_fd(name), 0, _libbpf.TRACE_ITER))
            target = None if section.startswith("tp_btf/") else section.partition("/")[2]
            return Link(name, _libbpf.attach_raw(self.program_fd(name), target))
        except OSError as error:
            raise refusal(name, error.errno or 0, f"attach to {section}: {error.strerror}") from error

    def attach_cgroup(self, name: str, cgroup_fd: int, kind: int) -> Link:
        """Attach a cgroup program to the cgroup behind ``cgroup_fd``. Raises as ``attach`` does."""
        try:
            return Link(name, _libbpf.attach_link(self.program_fd(name), cgroup_fd, kind))
        except OSError as error:
            raise refusal(name, error.errno or 0, f"attach to the cgroup: {error.strerror}") from error

    def close(self) -> None:
        """Let go of programs and maps; links keep their program until they are closed too."""
        self._object.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Link:
    """A program at its hook, until closed."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd

    def read(self) -> bytes:
        """Run an iterator's program to its end: all that it wrote. Raises KernelError if the kernel refuses."""
        try:
            return _libbpf.read_iterator(self.fd)
        except OSError as error:
            raise KernelError(f"iterator {self.name}: {error.strerror}", errno=error.errno or 0) from error

    def close(self) -> None:
        """Detach."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Ring:
    """A ring buffer of records of one dtype.

    ``spans``: least and greatest of each of the columns ``watched`` (unsigned, 64 bits) in what was drained last;
    without meaning if that was nothing. The descriptor ``fd`` becomes readable when the ring gets half full.
    """

    def __init__(self, fd: int, size: int, record: np.dtype[Any], watched: Sequence[str] = ()) -> None:
        self.fd = fd
        self.size = size
        self.record = record
        self.spans: tuple[tuple[int, int], ...] = ()
        fields: Mapping[str, Any] = record.fields or {}
        self._offsets = tuple(int(fields[name][1]) for name in watched)
        try:
            self._ring = _libbpf.ring(fd, size)
        except OSError as error:
            raise KernelError(f"cannot map a ring buffer: {error.strerror}", errno=error.errno or 0) from error

    def drain(self, most: int | None = None) -> tuple[np.ndarray[Any, np.dtype[Any]], float]:
        """What was committed when the call began: an owned array of (at ``most`` so many) records, oldest first, and
        how full the ring was (0..1)."""
        # Straight into the array that is given away, which is no larger than what is there: fresh memory costs more
        # than the copy.
        used = self._ring.used()
        room = used // (self.record.itemsize + _HEADER) + 1 if used else 0
        room = room if most is None else min(room, most)
        buffer = np.empty(room * self.record.itemsize, np.uint8)
        count, self.spans = self._ring.drain(buffer, self.record.itemsize, self._offsets)
        return buffer[: count * self.record.itemsize].view(self.record), used / self.size

    def close(self) -> None:
        """Unmap it."""
        self._ring.close()


_NOISE = re.compile(r"^(processed \d|verification time|stack depth|-- |libbpf:|mark_|peak_|arg#|\s*$)")


def refusal(name: str, errno: int, text: str) -> PermanentError:
    """The error that says what a person needs to know of what the kernel answered when it refused ``name``."""
    if errno == 1 or (errno == 13 and "-- BEGIN PROG LOAD LOG --" not in text):
        return PrivilegeError(
            f"the kernel does not let this process load {name}: {os.strerror(errno)}",
            do="run it as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; `fathom doctor` says more",
        )
    if "-- BEGIN PROG LOAD LOG --" in text:
        body = text.split("-- BEGIN PROG LOAD LOG --", 1)[1].split("-- END PROG LOAD LOG --", 1)[0]
        program = re.search(r"prog '([^']+)': BPF program load failed", text)
        lines = [line.strip() for line in body.splitlines() if not _NOISE.match(line.strip())]
        with tempfile.NamedTemporaryFile("w", prefix="fathom-verifier-", suffix=".log", delete=False) as log:
            log.write(text)
        return VerifierError(
            program[1] if program else name, lines[-1] if lines else "", log_path=log.name, errno=errno
        )
    if "vmlinux BTF" in text or "kernel BTF" in text:
        return FeatureMissing("BTF (/sys/kernel/btf/vmlinux)", minimum="5.2 with CONFIG_DEBUG_INFO_BTF", errno=errno)
    last = next((line for line in reversed(text.splitlines()) if line.strip()), os.strerror(errno))
    return KernelError(f"the kernel refused {name}: {last}", errno=errno)
