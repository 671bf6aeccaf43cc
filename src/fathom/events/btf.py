"""From the BTF of a compiled object to numpy: the C struct is the only definition of a record.

Pure: it reads the bytes of an ELF file, needs no libbpf, no root, and no Linux. Nothing here knows any probe.

Format: BTF, Documentation/bpf/btf.rst of the Linux kernel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fathom.errors import UsageError
from fathom.events import elf

#: typedefs of bpf/include/units.h that say a unit, and the word for a person.
UNITS = {
    "ns_t": "ns",
    "bytes_t": "bytes",
    "count_t": "count",
    "cgroup_t": "cgroup id",
    "socket_t": "socket id",
    "netns_t": "network namespace inode",
    "process_t": "pid",
    "port_t": "port",
    "enum_t": "enum",
    "family_t": "IP version",
    "flag_t": "flag",
    "address_t": "address",
    "comm_t": "text",
    "us_t": "us",
    "packets_t": "packets",
}

#: What parsing of damaged bytes may raise.
_BROKEN = (struct.error, LookupError, ValueError, ArithmeticError, RecursionError, TypeError, MemoryError)
_DOC = "doc:"
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT = range(1, 12)
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(12, 20)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct: ``offset`` and ``size`` in bytes, ``unit`` as in ``UNITS`` (``""`` where it has none), and
    what the C code says of it (``DOC``)."""

    name: str
    offset: int
    size: int
    unit: str
    typedef: str
    doc: str = ""

    @property
    def padding(self) -> bool:
        """Nothing is in it; it keeps the layout free of holes."""
        return self.name.startswith("pad")


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct: its dtype has explicit offsets and the C size, holes included; ``fields`` are in order of offset."""

    name: str
    size: int
    fields: tuple[Field, ...]
    dtype: np.dtype[np.void]
    doc: str = ""

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """Bytes (start, end) that belong to no field: the kernel would send its stack there."""
        gaps, at = [], 0
        for field in self.fields:
            if field.offset > at:
                gaps.append((at, field.offset))
            at = field.offset + field.size
        return (*gaps, *(((at, self.size),) if at < self.size else ()))

    @property
    def layout(self) -> str:
        """One line that changes whenever the layout does: name, offset, size and typedef of every field."""
        return " ".join(f"{f.name}:{f.offset}:{f.size}:{f.typedef}" for f in self.fields) + f" ={self.size}"


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    value: int  # size, or the type that it refers to
    members: tuple[tuple[str, int, int], ...] = ()  # name, type or value, offset in bits
    array: tuple[int, int] = (0, 0)  # element type, length
    integer: int = 0  # encoding of an INT: bit 0 signed, bit 1 char
    bitfields: bool = False


class Btf:
    """All types of one object.

    Raises UsageError if ``data`` is not an ELF-64 little-endian file with a sound .BTF section.
    """

    def __init__(self, data: bytes, name: str = "object") -> None:
        self.name = name
        self._data = data
        try:
            self._types = _parse(elf.section(data, ".BTF"))
        except _BROKEN as error:
            raise UsageError(f"{name}: not a BPF object with BTF: {error}") from error

    @classmethod
    def of(cls, path: Path) -> Btf:
        """Of a file. Raises UsageError if it is missing or is not a BPF object."""
        try:
            return cls(path.read_bytes(), path.name)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error}") from error

    def structs(self) -> tuple[str, ...]:
        """Names of the structs that have one."""
        return tuple(t.name for t in self._types if t.kind == _STRUCT and t.name)

    def struct(self, name: str) -> Struct:
        """The struct ``name`` with its dtype. Raises UsageError if it is absent or has bit fields."""
        for index, found in enumerate(self._types):
            if found.kind == _STRUCT and found.name == name:
                try:
                    return self._struct(found, index)
                except _BROKEN as error:
                    raise UsageError(f"{self.name}: struct {name} makes no sense: {error}") from error
        raise UsageError(f"{self.name}: its BTF has no struct {name}", do="anchor it with RING or BOUNDED")

    def enum(self, name: str) -> dict[int, str]:
        """Value to name of ``enum name``; names lose the prefix that is the enum's own name, and become lower case.

        Raises UsageError if it is absent.
        """
        prefix = name.upper() + "_"
        for found in self._types:
            if found.kind == _ENUM and found.name == name:
                return {value: text.removeprefix(prefix).lower() for text, value, _ in found.members}
        raise UsageError(f"{self.name}: its BTF has no enum {name}")

    def global_offset(self, section: str, variable: str) -> tuple[int, int]:
        """(offset, size) of a global ``variable`` in ``section`` (such as ``.rodata``). Raises UsageError if absent."""
        try:
            where, offset, size = elf.place(self._data, variable)
        except _BROKEN as error:
            raise UsageError(f"{self.name}: {error}") from error
        if where != section:
            raise UsageError(f"{self.name}: global {variable} is in {where}, not in {section}")
        return offset, size

    def _docs(self, struct: int) -> dict[int, str]:
        """What DOC says of the struct (-1) and of its members by number."""
        return {
            found.members[0][1]: found.name.removeprefix(_DOC)
            for found in self._types
            if found.kind == _DECL_TAG and found.value == struct and found.name.startswith(_DOC)
        }

    def _struct(self, found: _Type, index: int) -> Struct:
        if found.bitfields:
            raise UsageError(f"{self.name}: struct {found.name} has bit fields")
        docs = self._docs(index)
        fields, formats = [], []
        for number, (name, type_id, bits) in enumerate(found.members):
            typedef = self._typedef(type_id)
            dtype = self._dtype(type_id)
            formats.append(dtype)
            unit = UNITS.get(typedef, "")
            fields.append(Field(name, bits // 8, dtype.itemsize, unit, typedef, docs.get(number, "")))
        layout: Any = {
            "names": [f.name for f in fields],
            "formats": formats,
            "offsets": [f.offset for f in fields],
            "itemsize": found.value,
        }
        return Struct(found.name, found.value, tuple(fields), np.dtype(layout), docs.get(-1, ""))

    def _typedef(self, type_id: int) -> str:
        found = self._types[type_id]
        while found.kind in (_CONST, _VOLATILE):
            found = self._types[found.value]
        return found.name if found.kind == _TYPEDEF else ""

    def _dtype(self, type_id: int) -> np.dtype[Any]:
        found = self._types[type_id]
        if found.kind == _TYPEDEF and found.name == "comm_t":
            return np.dtype("S16")
        if found.kind == _TYPEDEF and found.name == "address_t":
            return np.dtype("V16")
        if found.kind in (_TYPEDEF, _CONST, _VOLATILE, _RESTRICT, _TYPE_TAG):
            return self._dtype(found.value)
        if found.kind == _INT:
            return np.dtype(f"<{'i' if found.integer & 1 else 'u'}{found.value}")
        if found.kind == _PTR:
            return np.dtype("<u8")
        if found.kind == _ENUM:
            return np.dtype(f"<u{found.value}")
        if found.kind == _ARRAY:
            return np.dtype((self._dtype(found.array[0]), (found.array[1],)))
        if found.kind == _STRUCT:
            return self._struct(found, type_id).dtype
        raise UsageError(f"{self.name}: type {found.name or type_id} of kind {found.kind} has no dtype")


def _parse(blob: bytes) -> list[_Type]:
    magic, _version, _flags, header, types_at, types_size, names_at, names_size = struct.unpack_from("<HBBIIIII", blob)
    if magic != 0xEB9F:
        raise ValueError("wrong magic")
    names = blob[header + names_at : header + names_at + names_size]
    at, end = header + types_at, header + types_at + types_size
    if end > len(blob):
        raise ValueError("types are cut off")
    types = [_Type("void", 0, 0)]

    def text(offset: int) -> str:
        return names[offset : names.index(b"\0", offset)].decode()

    while at < end:
        name_at, info, value = struct.unpack_from("<III", blob, at)
        kind, count = (info >> 24) & 0x1F, info & 0xFFFF
        at += 12
        members: list[tuple[str, int, int]] = []
        array, integer = (0, 0), 0
        if kind == _INT:
            integer = struct.unpack_from("<I", blob, at)[0] >> 24
            at += 4
        elif kind == _ARRAY:
            element, _index, length = struct.unpack_from("<III", blob, at)
            array = (element, length)
            at += 12
        elif kind in (_STRUCT, _UNION):
            for member_name, member_type, offset in struct.iter_unpack("<III", blob[at : at + 12 * count]):
                members.append((text(member_name), member_type, offset & 0xFFFFFF if info >> 31 else offset))
            at += 12 * count
        elif kind == _ENUM:
            for member_name, number in struct.iter_unpack("<Ii", blob[at : at + 8 * count]):
                members.append((text(member_name), number, 0))
            at += 8 * count
        elif kind == _DATASEC:
            for type_id, offset, size in struct.iter_unpack("<III", blob[at : at + 12 * count]):
                members.append(("", type_id, offset << 32 | size))
            at += 12 * count
        elif kind == _FUNC_PROTO:
            at += 8 * count
        elif kind == _ENUM64:
            at += 12 * count
        elif kind == _DECL_TAG:
            members.append(("", struct.unpack_from("<i", blob, at)[0], 0))
            at += 4
        elif kind == _VAR:
            at += 4
        elif kind > _ENUM64 or kind == 0:
            raise ValueError(f"unknown kind {kind}")
        bitfields = kind in (_STRUCT, _UNION) and bool(info >> 31)
        types.append(_Type(text(name_at), kind, value, tuple(members), array, integer, bitfields))
    return types
