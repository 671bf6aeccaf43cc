"""Address blocks: what was seen is inside, what is known for something else is outside, the bound holds."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.policy.addresses import Address
from fathom.policy.aggregation import Known, aggregate, size

near = st.integers(0xC6336400, 0xC63364FF) | st.integers(0, (1 << 32) - 1)
addresses = st.sets(
    near.map(lambda n: Address(4, n)) | st.integers(0, 255).map(lambda n: Address(6, (0x20010DB8 << 96) + n))
)


@given(addresses, addresses, st.sampled_from((1, 2, 4, 64)))
def test_blocks_hold_what_was_seen_within_the_bound(seen: set[Address], away: set[Address], spread: int) -> None:
    blocks = aggregate(seen, Known(away | seen), spread)
    networks = [ipaddress.ip_network(item) for item in blocks]
    holds = {one: sum(ipaddress.ip_address(str(one)) in network for network in networks) for one in seen | away}
    assert all(holds[one] == 1 for one in seen)
    assert all(holds[one] == 0 for one in away - seen)
    assert len(seen) <= size(blocks) <= spread * len(seen)


def test_without_spread_only_what_was_seen() -> None:
    seen = [Address(4, 0x0A000000 + n) for n in range(256)]
    assert aggregate(seen, Known()) == ("10.0.0.0/24",)
    assert aggregate(seen[1:], Known())[0] == "10.0.0.1/32"
    assert aggregate([], Known()) == ()


def test_a_spread_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        aggregate([], Known(), 0)
