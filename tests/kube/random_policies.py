"""Random sets of NetworkPolicies for the cluster of the tests, of the same strategies as the million triples.

What this cluster cannot have is replaced: addresses by those that are here, IPv6 blocks by IPv4 ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from reference_cluster import Doc
from strategies import SPACES, Tape, closed, distinct, network_policy


def policy_set(seed: int, addresses: Sequence[str]) -> list[Doc]:
    """The policies of one seed; ``addresses`` of pods may become blocks of their own or exceptions."""
    dice = random.Random(seed)
    tape = Tape(dice.randbytes(1024))
    made = [network_policy(tape, number) for number in range(3 + tape.below(4))]
    made += [closed(tape, space) for space in SPACES if not tape.one_in(3)]
    for doc in made:
        for rule, key in rules(doc):
            rule[key] = [here(peer, dice, addresses) for peer in rule[key]]
    return distinct(made)


def rules(doc: Doc) -> Iterator[tuple[Doc, str]]:
    """Every rule that has peers, with the key of them."""
    for direction, key in (("ingress", "from"), ("egress", "to")):
        yield from ((rule, key) for rule in doc["spec"].get(direction) or [] if rule and rule.get(key))


def here(peer: Doc, dice: random.Random, addresses: Sequence[str]) -> Doc:
    """The peer, with a block of this cluster's world."""
    if "ipBlock" not in peer:
        return peer
    blocks: dict[str, Doc] = {
        "172.16.0.0/16": {"cidr": "198.18.0.0/16"},
        "172.16.0.0/12": {"cidr": "198.16.0.0/12", "except": ["198.18.7.0/24"]},
        "10.0.1.77/24": {"cidr": "10.244.1.77/24"},  # host bits
        "::/0": {"cidr": "10.244.0.0/16", "except": [f"{one}/32" for one in dice.sample(sorted(addresses), 2)]},
        "2001:db8::/32": {"cidr": f"{dice.choice(sorted(addresses))}/32"},
        "169.254.20.10/32": {"cidr": "198.18.7.9/32"},
        "192.168.0.1/32": {"cidr": "10.210.0.11/32"},
        "::ffff:172.16.0.0/112": {"cidr": "10.244.2.0/24"},
    }
    found: dict[str, Any] = blocks.get(peer["ipBlock"]["cidr"], peer["ipBlock"])
    if found.get("except") == ["172.16.0.0/16", "172.16.5.0/24"]:
        found = {**found, "except": ["198.18.0.0/16", "198.18.5.0/24"]}  # one inside of the other
    return {"ipBlock": found}
