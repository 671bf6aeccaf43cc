"""What is written as YAML is read back as it was, by both readers that matter here."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fathom.policy.documents import read
from fathom.policy.yamltext import block

#: Words that a reader could take for something else, and characters that cannot stand in YAML as they are.
ODD = ["", "~", "=", "<<", "?", "a:", "/x", "\ufeff", "\x85", "\u2028", "\x7f", "\ud7ff", "\U0001f600", "\U000e0001"]
ODD += [*"on No y null 1 0x1 1e3 1_000 2026-01-31 12:30:45 *a .inf %a @a `a".split(), "a: b", "a #b", "- a"]
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(ODD)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=5))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    value = {"spec": value}
    text = block(value)
    documents, problems = read(text)
    assert (problems, [item.data for item in documents]) == ([], [value])
    assert yaml.safe_load(text) == value


def test_the_shape() -> None:
    value = {"kind": "List", "items": [{"a": [1, "1"], "b": {}}, [["x"], []], None], "yes": True}
    assert block(value) == ('kind: List\nitems:\n- a:\n  - 1\n  - "1"\n  b: {}\n- - - x\n  - []\n- null\n"yes": true\n')


@pytest.mark.parametrize("value", [1.5, b"x", {1: (2,)}])
def test_what_kubernetes_documents_do_not_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        block({"a": value})
