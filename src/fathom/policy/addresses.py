"""IP addresses and blocks as numbers: one canonical form, so that two spellings of one address are one address.

IPv4-mapped IPv6 is IPv4. Host bits of a block are masked. Leading zeros are refused, since readers disagree on them.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Literal

import msgspec

Family = Literal[4, 6]
BITS: dict[int, int] = {4: 32, 6: 128}
_MAPPED = 0xFFFF << 32
#: Characters of an address at most: IPv6 with its last four bytes as IPv4 writes them.
_LONGEST = 45


class Address(msgspec.Struct, frozen=True, order=True):
    """One address: ``family`` 4 or 6 and its ``number``."""

    family: int
    number: int

    def __str__(self) -> str:
        return str(ipaddress.IPv4Address(self.number) if self.family == 4 else ipaddress.IPv6Address(self.number))


class Block(msgspec.Struct, frozen=True, order=True):
    """The addresses ``first`` to ``last`` (inclusive) of one family, less the ranges in ``excepts``."""

    family: int
    first: int
    last: int
    excepts: tuple[tuple[int, int], ...] = ()

    def holds(self, address: Address) -> bool:
        """Whether the address is in the block and in none of its exceptions."""
        number = address.number
        inside = self.family == address.family and self.first <= number <= self.last
        return inside and not any(low <= number <= high for low, high in self.excepts)

    @property
    def whole(self) -> bool:
        """Whether it is every address of its family."""
        return self.first == 0 and self.last == (1 << BITS[self.family]) - 1 and not self.excepts


def address(text: str) -> Address | None:
    """The address that ``text`` spells, or None; an IPv4-mapped IPv6 address is its IPv4 address. No zone is read."""
    if not text or len(text) > _LONGEST or not (text[0].isdigit() or ":" in text) or "%" in text:
        return None
    return _parsed(text)


@lru_cache(maxsize=1 << 16)
def _parsed(text: str) -> Address | None:
    """Each address is spelled many times: by its pod, by slices, by flows."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return _canonical(parsed)


def _canonical(parsed: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Address:
    number = int(parsed)
    if parsed.version == 6 and number >> 32 == 0xFFFF:
        return Address(4, number & 0xFFFFFFFF)
    return Address(parsed.version, number)


def block(text: str) -> Block | None:
    """The block that ``text`` spells as address/length, host bits masked, or None. IPv4-mapped blocks are IPv4."""
    head, slash, tail = text.partition("/")
    if not slash or not tail.isdigit() or not tail.isascii() or (len(tail) > 1 and tail[0] == "0") or "%" in head:
        return None
    try:
        parsed = ipaddress.ip_address(head)
    except ValueError:
        return None
    family, length = parsed.version, int(tail)
    if length > BITS[family]:
        return None
    number = int(parsed)
    if family == 6 and number >> 32 == 0xFFFF and length >= 96:
        family, length, number = 4, length - 96, number & 0xFFFFFFFF
    size = 1 << (BITS[family] - length)
    first = number & ~(size - 1)
    return Block(family, first, first + size - 1)


def single(one: Address) -> Block:
    """The block that holds this address only."""
    return Block(one.family, one.number, one.number)
