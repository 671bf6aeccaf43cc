"""What is needed of ELF to read a compiled BPF object without libbpf: its sections and where its globals lie.

Format: ELF-64, System V ABI chapter 4, little-endian only. Raises ValueError, IndexError or struct.error on anything
else; ``fathom.events.btf`` makes one error of them.
"""

from __future__ import annotations

import struct

_HEADER, _SYMBOL = "<IIQQQQIIQQ", "<IBBHQQ"
_SYMTAB = 2


def section(data: bytes, wanted: str) -> bytes:
    """The bytes of section ``wanted``. Raises ValueError if there is none."""
    for name, header in _sections(data):
        if name == wanted:
            return data[header[4] : header[4] + header[5]]
    raise ValueError(f"no section {wanted}")


def place(data: bytes, symbol: str) -> tuple[str, int, int]:
    """(section, offset, size) of the global ``symbol``. Raises ValueError if there is none.

    BTF does not know it before the object is linked: there the offsets are 0.
    """
    sections = _sections(data)
    for _, header in sections:
        if header[1] != _SYMTAB:
            continue
        names = sections[header[6]][1][4]
        for at in range(header[4], header[4] + header[5], struct.calcsize(_SYMBOL)):
            name, _, _, index, offset, size = struct.unpack_from(_SYMBOL, data, at)
            if _text(data, names + name) == symbol and 0 < index < len(sections):
                return sections[index][0], offset, size
    raise ValueError(f"no global {symbol}")


def _sections(data: bytes) -> list[tuple[str, tuple[int, ...]]]:
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a little-endian ELF-64 file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from(_HEADER, data, table + i * size) for i in range(count)]
    names = headers[names_at][4]
    return [(_text(data, names + header[0]), header) for header in headers]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
