"""Who began: decided once, remembered over drains, and never guessed."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.events.observations import Direction
from fathom.probes.conversations import NONE, REPLY, REQUEST, SILENCE_NS, Conversations, is_group

SENT, RECEIVED, UNKNOWN = Direction.EGRESS, Direction.INGRESS, Direction.UNKNOWN
BEGAN = 1_000 * 10**9
OTHER = 3
ROW = np.dtype(
    [
        ("time", "<u8"),
        ("first", "<u8"),
        ("packets_sent", "<u8"),
        ("socket", "<u8"),
        ("local", "V16"),
        ("remote", "V16"),
        ("local_port", "<u2"),
        ("remote_port", "<u2"),
        ("protocol", "u1"),
        ("message", "u1"),
        ("direction", "u1"),
    ]
)


def packed(text: str) -> np.void:
    address = ipaddress.ip_address(text)
    octets = address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
    return np.void(octets)


def row(
    first_direction: int,
    *,
    at_s: float = 1,
    socket: int = 1,
    remote: str = "10.0.0.2",
    local: str = "10.0.0.1",
    local_port: int = 40000,
    remote_port: int = 53,
    message: int = NONE,
) -> Any:
    """A flow whose first packet came ``at_s`` seconds after the probe began."""
    made = np.zeros(1, ROW)
    made["time"] = made["first"] = BEGAN + int(at_s * 1e9)
    made["packets_sent"] = first_direction == SENT
    made["socket"], made["local"], made["remote"] = socket, packed(local), packed(remote)
    made["local_port"], made["remote_port"], made["protocol"] = local_port, remote_port, 17
    made["message"], made["direction"] = message, first_direction
    return made


def judge(conversations: Conversations, *rows: Any, created_s: float = 0.5) -> list[int]:
    """Directions, the sockets having been made ``created_s`` after the probe began (0: before it)."""
    created = np.full(len(rows), BEGAN + int(created_s * 1e9) if created_s else 0)
    return conversations.judge(np.concatenate(rows), created).tolist()


@pytest.fixture
def conversations() -> Conversations:
    return Conversations(BEGAN)


def test_nothing_is_nothing(conversations: Conversations) -> None:
    assert conversations.judge(np.zeros(0, ROW), np.zeros(0, np.int64)).tolist() == []


def test_who_sent_first(conversations: Conversations) -> None:
    assert judge(conversations, row(SENT, socket=1), row(RECEIVED, socket=2)) == [SENT, RECEIVED]


def test_it_is_remembered_whoever_is_first_later(conversations: Conversations) -> None:
    assert judge(conversations, row(SENT)) == [SENT]
    assert judge(conversations, row(RECEIVED, at_s=11)) == [SENT]
    assert judge(conversations, row(RECEIVED, at_s=21)) == [SENT]


def test_silence_does_not_turn_what_is_certain(conversations: Conversations) -> None:
    assert judge(conversations, row(SENT)) == [SENT]
    assert judge(conversations, row(RECEIVED, at_s=1000)) == [SENT]


@pytest.mark.parametrize("other", [{"socket": 2}, {"remote": "10.0.0.3"}, {"remote_port": 54}, {"local_port": 40001}])
def test_another_conversation_is_another(conversations: Conversations, other: dict[str, Any]) -> None:
    assert judge(conversations, row(SENT)) == [SENT]
    assert judge(conversations, row(RECEIVED, at_s=2, **other)) == [RECEIVED]


def test_the_local_address_makes_no_other(conversations: Conversations) -> None:
    """A server that listens to a group, or to all addresses, answers from one of them."""
    assert judge(conversations, row(RECEIVED, local="239.1.1.1")) == [RECEIVED]
    assert judge(conversations, row(SENT, at_s=2, local="10.0.0.1")) == [RECEIVED]


def test_two_rows_of_one_conversation_agree_with_the_earlier(conversations: Conversations) -> None:
    rows = row(SENT, at_s=3, local="10.0.0.1"), row(RECEIVED, at_s=2, local="10.0.0.9")
    assert judge(conversations, *rows) == [RECEIVED, RECEIVED]


def test_of_an_older_socket_nobody_knows_until_it_was_silent(conversations: Conversations) -> None:
    silence = SILENCE_NS / 1e9
    assert judge(conversations, row(SENT), created_s=0) == [UNKNOWN]
    assert judge(conversations, row(SENT, at_s=60), created_s=0) == [UNKNOWN]
    assert judge(conversations, row(RECEIVED, at_s=61 + silence), created_s=0) == [RECEIVED]


def test_a_new_peer_of_an_older_socket_is_certain_after_a_time(conversations: Conversations) -> None:
    silence = SILENCE_NS / 1e9
    assert judge(conversations, row(RECEIVED, at_s=silence - 1), created_s=0) == [UNKNOWN]
    assert judge(conversations, row(RECEIVED, at_s=silence, remote="10.0.0.7"), created_s=0) == [RECEIVED]


def test_what_a_full_map_refused_may_have_been_first(conversations: Conversations) -> None:
    conversations.missed(BEGAN + 10 * 10**9)
    assert judge(conversations, row(RECEIVED, at_s=11)) == [UNKNOWN]
    assert judge(conversations, row(RECEIVED, at_s=12, socket=2), created_s=11) == [RECEIVED]


def test_what_was_decided_stays_where_packets_were_missed(conversations: Conversations) -> None:
    assert judge(conversations, row(SENT)) == [SENT]
    conversations.missed(BEGAN + 10 * 10**9)
    assert judge(conversations, row(RECEIVED, at_s=11)) == [SENT]


@pytest.mark.parametrize("group", ["239.1.2.3", "255.255.255.255", "ff02::fb"])
def test_answers_to_a_group_were_asked_for(conversations: Conversations, group: str) -> None:
    peer = "fe80::7" if ":" in group else "10.0.0.7"
    assert judge(conversations, row(SENT, remote=group, remote_port=1900)) == [SENT]
    assert judge(conversations, row(RECEIVED, at_s=2, remote=peer, remote_port=1900)) == [SENT]
    assert judge(conversations, row(RECEIVED, at_s=2, remote=peer, remote_port=1901)) == [RECEIVED]
    assert judge(conversations, row(RECEIVED, at_s=2, remote=peer, remote_port=1900, socket=2)) == [RECEIVED]


@pytest.mark.parametrize(
    ("message", "first", "expected"),
    [
        (REQUEST, SENT, SENT),
        (REQUEST, RECEIVED, RECEIVED),
        (REPLY, SENT, RECEIVED),
        (REPLY, RECEIVED, SENT),
        (OTHER, SENT, UNKNOWN),
        (OTHER, RECEIVED, UNKNOWN),
    ],
)
def test_icmp_says_who_asks(conversations: Conversations, message: int, first: int, expected: int) -> None:
    assert judge(conversations, row(first, message=message), created_s=0) == [expected]


def test_room_is_bounded_and_the_silent_go_first() -> None:
    conversations = Conversations(BEGAN, room=100)
    for number in range(300):
        assert judge(conversations, row(RECEIVED, at_s=1 + number, socket=number + 1)) == [RECEIVED]
    # The youngest are known: what they send next is an answer.
    assert judge(conversations, row(SENT, at_s=400, socket=300)) == [RECEIVED]
    # The oldest are not: what they send might be one, and it was not silent for long enough to begin anew.
    assert judge(conversations, row(SENT, at_s=300, socket=1)) == [UNKNOWN]
    # What is received first cannot have been turned round: only received ones were forgotten.
    assert judge(conversations, row(RECEIVED, at_s=300, socket=2)) == [RECEIVED]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=60))
def test_one_direction_for_ever(packets: list[tuple[int, bool]]) -> None:
    """Whatever the order of packets and drains: the first packet of a conversation decides for all of it."""
    conversations = Conversations(BEGAN)
    decided: dict[int, int] = {}
    for number, (socket, sent) in enumerate(packets):
        (found,) = judge(conversations, row(SENT if sent else RECEIVED, at_s=1 + number, socket=socket))
        assert found == decided.setdefault(socket, SENT if sent else RECEIVED)


def test_groups_are_multicast_and_the_limited_broadcast() -> None:
    addresses = np.concatenate(
        [row(SENT, remote=text)["remote"] for text in ("224.0.0.1", "239.255.255.255", "255.255.255.255", "ff05::2")]
    )
    assert is_group(addresses).all()
    others = ("10.0.0.255", "223.255.255.255", "240.0.0.1", "255.255.255.254", "fe80::1", "::ffff:0:1")
    assert not is_group(np.concatenate([row(SENT, remote=text)["remote"] for text in others])).any()
