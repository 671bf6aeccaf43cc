"""Maps as numpy arrays: whole hashes by batches, per-CPU values summed where asked, single entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.errors import KernelError
from fathom.kernel import _libbpf


class Map:
    """One map of a loaded object. ``key`` and ``value`` are dtypes; ``per_cpu`` maps have one value a possible CPU.

    The descriptor belongs to the object: it is closed there.
    """

    def __init__(
        self, name: str, fd: int, entries: int, key: np.dtype[Any], value: np.dtype[Any], *, per_cpu: bool
    ) -> None:
        self.name = name
        self.fd = fd
        self.entries = entries
        self._key = key
        self._value = value
        self._cpus = _libbpf.possible_cpus() if per_cpu else 1
        # The kernel rounds each CPU's value up to 8 bytes.
        self._stride = (value.itemsize + 7) // 8 * 8 if per_cpu else value.itemsize
        self._buffers: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None = None

    def read(self, *, delete: bool = False) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """All entries: keys of shape (n,), values of shape (n,) or, of a per-CPU map, (n, CPUs). Copies.

        Deletes them too if asked, which is exact only while no program writes to the map. Raises KernelError if the
        kernel refuses.
        """
        whole = self._stride * self._cpus
        if self._buffers is None:
            # Not set to 0: memory that was never written is not resident.
            self._buffers = (
                np.empty(self.entries * self._key.itemsize, np.uint8),
                np.empty(self.entries * whole, np.uint8),
            )
        keys, values = self._buffers
        try:
            count = _libbpf.read_map(self.fd, keys, values, self._key.itemsize, whole, delete)
        except OSError as error:
            raise KernelError(f"cannot read map {self.name}: {error.strerror}", errno=error.errno or 0) from error
        found = keys[: count * self._key.itemsize].copy().view(self._key)
        return found, self._values(values[: count * whole].copy(), count)

    def lookup(self, key: bytes) -> npt.NDArray[Any] | None:
        """The value (or its per-CPU row) at ``key``, None where there is none. Raises KernelError if refused."""
        try:
            value = _libbpf.map_lookup(self.fd, key, self._stride * self._cpus)
        except OSError as error:
            raise KernelError(f"cannot read map {self.name}: {error.strerror}", errno=error.errno or 0) from error
        if value is None:
            return None
        row: npt.NDArray[Any] = self._values(np.frombuffer(value, np.uint8), 1)[0]
        return row

    def update(self, key: bytes, value: bytes) -> None:
        """Set an entry. Raises KernelError if the kernel refuses (map full)."""
        try:
            _libbpf.map_update(self.fd, key, value)
        except OSError as error:
            raise KernelError(f"cannot write map {self.name}: {error.strerror}", errno=error.errno or 0) from error

    def delete(self, key: bytes) -> None:
        """Remove an entry; one that is absent is no error. Raises KernelError if the kernel refuses."""
        try:
            _libbpf.map_delete(self.fd, key)
        except OSError as error:
            raise KernelError(
                f"cannot delete from map {self.name}: {error.strerror}", errno=error.errno or 0
            ) from error

    def _values(self, raw: npt.NDArray[np.uint8], count: int) -> npt.NDArray[Any]:
        if self._cpus == 1 and self._stride == self._value.itemsize:
            return raw.view(self._value)
        cells = raw.reshape(count, self._cpus, self._stride)[:, :, : self._value.itemsize]
        return np.ascontiguousarray(cells).view(self._value)[:, :, 0]
