"""Layers of a graph: links go right where no cycle forbids it, and nothing depends on the order of the input."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fathom.cli.policy.layers import layout

NAMES = list("abcdefgh")
PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=30)


def test_a_chain_with_a_short_cut() -> None:
    found = layout(["c", "a", "b", "alone"], [("a", "b"), ("b", "c"), ("a", "c")])
    assert found.depth == {"a": 0, "alone": 0, "b": 1, "c": 2}
    assert found.way("a", "c") == [("a", "c", 1)]
    assert found.way("c", "a") == [("a", "c", 1)]
    assert found.way("a", "b") == []
    assert set(found.layers[1]) == {"b", ("a", "c", 1)}


def test_what_crosses_is_put_in_order() -> None:
    found = layout(["a", "b", "y", "z"], [("a", "z"), ("b", "y")])
    partners = {"a": "z", "b": "y"}
    assert [partners[str(place)] for place in found.layers[0]] == found.layers[1]


def test_nothing() -> None:
    assert layout([], [("a", "b")]).layers == []


@given(PAIRS, st.randoms())
def test_every_name_and_every_way_has_its_places(pairs: list[tuple[str, str]], chance: object) -> None:
    found = layout(NAMES, pairs)
    places = [place for layer in found.layers for place in layer]
    assert sorted(place for place in places if isinstance(place, str)) == NAMES
    assert len(set(places)) == len(places)
    for src, dst in pairs:
        if src != dst:
            assert found.depth[src] != found.depth[dst]
            assert set(found.way(src, dst)) <= set(places)
            assert found.way(src, dst) == found.way(dst, src)[::-1]
    mixed = list(pairs)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert layout(NAMES[::-1], mixed) == found


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=30))
def test_without_cycles_all_links_go_right(pairs: list[tuple[int, int]]) -> None:
    ordered = [(NAMES[min(pair)], NAMES[max(pair)]) for pair in pairs]
    found = layout(NAMES, ordered)
    assert all(found.depth[src] < found.depth[dst] for src, dst in ordered if src != dst)
