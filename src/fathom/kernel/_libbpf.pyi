"""The one binding: libbpf and bpf(2), thin. Descriptors are ints that the caller closes; errors are OSError."""

from typing import Any

CGROUP_INET_INGRESS: int
CGROUP_INET_EGRESS: int
CGROUP_INET_SOCK_CREATE: int
CGROUP_INET_SOCK_RELEASE: int
TRACE_ITER: int

class Object:
    """An opened, then loaded, BPF object."""

    def programs(self) -> list[tuple[str, str]]:
        """(name, section) of each program."""
    def maps(self) -> list[tuple[str, int, int, int, int]]:
        """(name, type, key size, value size, entries) of each map."""
    def set_initial(self, map: str, offset: int, data: bytes, /) -> None:
        """Write ``data`` into the initial value of a global section, before load."""
    def set_max_entries(self, map: str, entries: int, /) -> None:
        """Size a map, before load."""
    def reuse_map(self, map: str, fd: int, /) -> None:
        """Use the map behind ``fd`` in place of this one, before load."""
    def set_autoload(self, program: str, on: bool, /) -> None:
        """Leave a program out, before load."""
    def load(self) -> str:
        """Load all; gives libbpf's messages. Raises OSError(errno, messages) if the kernel refuses."""
    def program_fd(self, program: str, /) -> int: ...
    def map_fd(self, map: str, /) -> int: ...
    def close(self) -> None: ...

class Ring:
    """A ring buffer's mapping."""

    def used(self) -> int:
        """Bytes of the ring in use. Raises ValueError if it is closed."""
    def drain(
        self, buffer: Any, record_size: int, offsets: tuple[int, ...], /
    ) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Copy what was committed when the call began into a writable buffer, as far as it fits: how many records, and
        of each column of 64 bits at ``offsets`` (four at most) the least and the greatest.

        Raises ValueError if the ring is closed, holds a record of another size, or a record has no such column.
        """
    def close(self) -> None: ...

def open(path: str, /) -> Object: ...
def attach_raw(program: int, name: str | None, /) -> int:
    """Raw tracepoint ``name``, or the one that a tp_btf program was loaded for (None): descriptor of the link."""

def attach_link(program: int, target: int, type: int, /) -> int:
    """bpf_link_create: descriptor of the link."""

def read_iterator(link: int, /) -> bytes:
    """Run the iterator to its end; all that it wrote."""

def map_lookup(fd: int, key: bytes, value_size: int, /) -> bytes | None: ...
def map_update(fd: int, key: bytes, value: bytes, /) -> None: ...
def map_delete(fd: int, key: bytes, /) -> None: ...
def read_map(fd: int, keys: Any, values: Any, key_size: int, value_size: int, delete: bool, /) -> int:
    """All entries of a hash by batches into two writable buffers; how many. ``value_size`` is that of all CPUs."""

def ring(fd: int, size: int, /) -> Ring: ...
def possible_cpus() -> int: ...
def test_run(program: int, context: bytes, repeat: int, packet: bytes = b"", /) -> tuple[int, int]:  # noqa: PT028
    """BPF_PROG_TEST_RUN on ``context`` or, for programs of the network, on ``packet``: (return value, ns a run)."""

def ids(kind: int, /) -> list[int]:
    """Ids of all programs (0), maps (1) or links (2) of this kernel."""

def probe(what: int, type: int, /) -> bool:
    """Does this kernel have program type (0) or map type (1) ``type``?"""
