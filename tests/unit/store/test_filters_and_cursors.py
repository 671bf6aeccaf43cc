from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import UsageError
from fathom.store import cursors, filters
from fathom.store.interface import EdgeQuery, Window
from fathom.store.sqlite.reader import glob

QUERY = EdgeQuery(Window(5, 9), workload="a*")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("10.0.0.1", "00000000000000000000ffff0a000001"),
        ("::ffff:10.0.0.1", "00000000000000000000ffff0a000001"),
        ("fd00::1", "fd000000000000000000000000000001"),
        ("fe80::1%eth0", "fe800000000000000000000000000001"),
        ("x.example", ""),
        ("", ""),
        ("10.0.0.256", ""),
        ("10.0.0.0/8", ""),
    ],
)
def test_an_address_has_one_key(text, key):
    assert filters.address_key(text) == key


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_network_is_a_range_of_keys(number, bits):
    address = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    (text, (low, high)), *_ = filters.conditions(EdgeQuery(Window(0, 1), peer=f"{address}/{bits}"), glob)
    assert text == "(peer_key >= ? AND peer_key <= ?)"
    assert low <= filters.address_key(address) <= high
    assert int(high, 16) - int(low, 16) == 2 ** (32 - bits) - 1


@given(st.text(), st.text(), st.text())
def test_what_a_person_types_never_becomes_part_of_a_statement(workload, peer, protocol):
    query = EdgeQuery(Window(0, 1), workload=workload, peer=peer, protocol=protocol, node=peer)
    for text, values in filters.conditions(query, glob):
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz_ ()=?<>ANDORGLB")
        assert text.count("?") == len(values)


def test_only_the_star_is_special():
    assert glob("name", "a[b]?*") == ("name GLOB ?", "a[[]b][?]*")


keys = st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(), st.integers())


@given(keys, st.integers(0, 2**33), st.integers(0, 2**33))
def test_a_cursor_gives_back_what_was_sealed(key, since, until):
    query = EdgeQuery(Window(since, until), workload="a*")
    text = cursors.seal("store", "edges", query, key)
    assert text.isascii()
    asked = EdgeQuery(Window(0, 1), workload="a*", limit=7, cursor=text)
    assert cursors.unseal("store", "edges", asked) == (Window(since, until), key)


@pytest.mark.parametrize(
    ("store", "question", "changes"),
    [
        ("other", "edges", {}),
        ("store", "workloads", {}),
        ("store", "edges", {"workload": "b"}),
        ("store", "edges", {"order": "traffic"}),
        ("store", "edges", {"port": 1}),
    ],
)
def test_a_cursor_is_good_for_its_question_only(store, question, changes):
    text = cursors.seal("store", "edges", QUERY, (1,))
    fields = {"window": QUERY.window, "workload": "a*", "cursor": text, **changes}
    with pytest.raises(UsageError):
        cursors.unseal(store, question, EdgeQuery(**fields))


@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_change_is_noticed(noise, at):
    text = cursors.seal("store", "edges", QUERY, (1, "x"))
    changed = text[:at] + noise.decode("latin-1") + text[at + len(noise) :]
    if changed.rstrip("=") != text:
        with pytest.raises(UsageError):
            cursors.unseal("store", "edges", EdgeQuery(Window(0, 1), workload="a*", cursor=changed))
