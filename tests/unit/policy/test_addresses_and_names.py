"""Addresses and blocks as numbers, and patterns over DNS names."""

from __future__ import annotations

import pytest

from fathom.policy.addresses import Address, address, block
from fathom.policy.cells import Cells
from fathom.policy.model import NamePattern
from fathom.policy.names import canonical, matches


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "1.2.3.4.5", "010.0.0.1", "1.2.3.4/8", "::1%eth0", "300.1.1.1"])
def test_what_is_no_address(text: str) -> None:
    assert address(text) is None


def test_a_mapped_address_is_its_ipv4_address() -> None:
    assert address("::ffff:10.0.0.1") == address("10.0.0.1") == Address(4, 10 << 24 | 1)
    assert str(address("2001:DB8:0::1")) == "2001:db8::1"
    assert block("::ffff:10.0.0.0/104") == block("10.0.0.0/8")


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "::/129", "/8", "x/8"])
def test_what_is_no_block(text: str) -> None:
    assert block(text) is None


def test_blocks_mask_host_bits_and_know_the_whole() -> None:
    found = block("10.1.2.3/8")
    assert found is not None
    assert found == block("10.0.0.0/8")
    assert not found.whole
    whole = block("::/0")
    assert whole is not None
    assert whole.whole


def test_cells_cut_where_any_block_begins_or_ends() -> None:
    wide, narrow = block("10.0.0.0/8"), block("10.1.0.0/16")
    assert wide is not None
    assert narrow is not None
    cells = Cells([wide, narrow])
    texts = ("9.9.9.9", "10.0.0.1", "10.1.0.1", "10.2.0.1", "11.0.0.0")
    places = [cells.cell(one) for text in texts if (one := address(text))]
    assert places == [0, 1, 2, 3, 4]
    must, may = cells.blocks([narrow], "external", pods=True)
    assert must[: cells.count].tolist() == [False, False, True, False, False, False, False]
    assert may[cells.unknown]


@pytest.mark.parametrize(
    ("style", "text", "name", "covered"),
    [
        ("exact", "a.b", "a.b", True),
        ("exact", "a.b", "x.a.b", False),
        ("glob", "*", "anything.at.all", True),
        ("glob", "*.", "anything.at.all", False),
        ("glob", "*.", "anything", True),
        ("glob", "*.b", "a.b", True),
        ("glob", "*.b", "x.a.b", False),
        ("glob", "**.b", "x.a.b", True),
        ("glob", "**.b", "b", False),
        ("glob", "a*z.b", "az.b", True),
        ("glob", "a*z.b", "abcz.b", True),
        ("glob", "a*z*.b", "azq.b", True),
        ("glob", "a*z.b", "abc.b", False),
        ("subdomains", "*.b", "x.a.b", True),
        ("subdomains", "*.b", "b", False),
    ],
)
def test_patterns(style: str, text: str, name: str, covered: bool) -> None:
    assert matches(NamePattern(style, text), canonical(name.upper() + ".")) is covered  # type: ignore[arg-type]


def test_a_pattern_of_stars_is_not_slow() -> None:
    assert not matches(NamePattern("glob", "*a" * 100 + "b"), "a" * 250)
