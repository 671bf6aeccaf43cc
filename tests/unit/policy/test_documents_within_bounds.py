"""Texts to documents: what leaves the type string, what is refused, and that nothing grows without bound."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from fathom.policy import policysets
from fathom.policy.documents import Limits, read
from fathom.policy.generate import to_yaml
from fathom.policy.problems import Place
from fathom.policy.scalars import plain


def first(text: str) -> object:
    documents, problems = read(text)
    assert not problems, problems
    return documents[0].data


def reason(text: str, limits: Limits | None = None) -> str:
    _, problems = read(text, "f", limits or Limits())
    return problems[0].reason


def test_yaml_types_are_those_of_the_kubernetes_decoder() -> None:
    assert first("{a: yes, b: 2020-01-01, c: '1', d: 1, e: true, f: ~, g: 0x10, h: 1.5, i: on, j: Nein}") == {
        "a": True,
        "b": "2020-01-01",
        "c": "1",
        "d": 1,
        "e": True,
        "f": None,
        "g": 16,
        "h": 1.5,
        "i": True,
        "j": "Nein",
    }
    texts = ("010", "0o17", "-5", "1_000", "+3", ".5", "-", "1e3", "08", "n", "1e400", "12e4567", "1:30")
    assert [plain(text) for text in texts] == [8, 15, -5, 1000, 3, 0.5, "-", 1000, 8, False, "1e400", "12e4567", "1:30"]
    assert first("{y: a, 7: b, 'n': c}") == {"true": "a", "7": "b", "n": "c"}


def test_what_no_json_can_hold_is_refused_with_its_line() -> None:
    assert reason("a: 1\nb: .inf") == ".inf is no number of JSON (line 2)"
    assert reason("a: 1\n1.5: x") == "a field name must be a string (line 2)"


def test_text_that_would_mean_something_else_is_written_in_quotes() -> None:
    data = {
        "y": "y",
        "a": "1e3",
        "b": "0o17",
        "c": "+.5",
        "d": "web",
        "e": "10.0.0.0/8",
        "f": "off",
        "g": ".inf",
        "h": "",
    }
    text = to_yaml([data])
    assert first(text) == data
    assert text.startswith('"y": "y"\na: "1e3"\nb: "0o17"\nc: "+.5"\nd: web\n')


def test_lists_and_several_documents_are_taken_apart_with_their_places() -> None:
    text = "---\nkind: A\n---\n# nothing\n---\nkind: PodList\nitems:\n- metadata: {name: x}\n- kind: Odd\n"
    documents, problems = read(text, "f.yaml")
    assert not problems
    assert [(d.place, d.data["kind"]) for d in documents] == [
        (Place("f.yaml", 0, ""), "A"),
        (Place("f.yaml", 1, "items[0]"), "Pod"),
        (Place("f.yaml", 1, "items[1]"), "Odd"),
    ]


def test_json_and_yaml_read_alike_and_json_after_a_marker_too() -> None:
    documents, problems = read('{"kind": "A"}\n---\n{"kind": "B", "x": [1, null]}\n')
    assert not problems
    assert [d.data for d in documents] == [{"kind": "A"}, {"kind": "B", "x": [1, None]}]


def test_anchors_and_merges_are_followed() -> None:
    assert first("base: &b {x: 1, z: 2}\nmine: {<<: *b, z: 3}") == {"base": {"x": 1, "z": 2}, "mine": {"x": 1, "z": 3}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "stands twice"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ("a: !!python/object:os.system x", "tag"),
        ("? [1]\n: 2", "field name"),
        ("a: [1", "not YAML"),
        ('{"a": NaN}', "not JSON"),
        ("a: *nobody", "not YAML"),
        ("&x [*x]", "deeper"),
        ("[" * 100_000, "deeper"),
        ("- " * 100_000, "deeper"),
        ('{"a":' * 5_000, "deeper"),
        ("\x00", "not YAML"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_reason(text: str, words: str) -> None:
    assert words in reason(text)


def test_a_bomb_of_aliases_stays_within_bounds() -> None:
    names = "abcdefghij"
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"{c}: &{c} [{', '.join(['*' + p] * 10)}]\n" for p, c in itertools.pairwise(names))
    tracemalloc.start()
    try:
        assert "aliases followed" in reason(bomb, Limits(values=100_000))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_sizes_are_bounded_and_say_what_to_do() -> None:
    assert "split the file" in reason("a: " + "x" * 101, Limits(text_bytes=100))
    assert "as JSON" in reason("a: " + "x" * 101, Limits(document_bytes=100))
    assert read('{"a": "' + "x" * 200 + '"}', "f", Limits(document_bytes=100))[1] == []
    assert "documents in one text" in reason("kind: A\n---\n" * 6, Limits(documents=5))


def test_numbers_of_things_are_bounded_in_yaml_and_in_json() -> None:
    assert reason("a: 1\nb: 2", Limits(values=4)) == "more than 4 values; split it, or give it as JSON"
    assert read("a: 1\nb: 2", "f", Limits(values=5))[1] == []
    assert reason("[{}, {}, [[]]]", Limits(containers=4)) == "more than 4 objects and lists; split the file"
    assert read("[{}, {}, [[]]]", "f", Limits(containers=5))[1] == []
    documents, problems = read('{"kind": "List", "items": [{"kind": "A"}, {"kind": "B"}]}', "f", Limits(documents=1))
    assert [item.data["kind"] for item in documents] == ["A"]
    assert [str(problem) for problem in problems] == [
        "f, document 0: refused: more than 1 documents in one text; split the file"
    ]


def test_a_selector_of_a_thousand_labels_is_read_whole() -> None:
    labels = ", ".join(f"label{n}: v{n}" for n in range(1_000))
    head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n"
    found = policysets.read_texts([("f", head + f"spec: {{podSelector: {{matchLabels: {{{labels}}}}}}}")])
    assert not found.problems
    assert len(found.policies[0].subject.requirements) == 1_001


def test_the_same_policy_twice_counts_once_and_two_of_a_name_are_refused() -> None:
    head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: b}\n"
    one, two = head + "spec: {podSelector: {}}", head + "spec: {podSelector: {}, policyTypes: [Egress]}"
    assert len(policysets.read_texts([("f", one), ("g", one)]).policies) == 1
    assert "stands at f, document 0" in policysets.read_texts([("f", one), ("g", two)]).refused[0].reason


def test_policies_that_are_not_read_are_told_and_other_kinds_are_not_ours() -> None:
    text = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: x}, spec: {}}"
    found = policysets.read_texts([("f", text), ("g", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}")])
    assert [(p.place.file, p.severity) for p in found.problems] == [("f", "not-understood")]
    assert found.policies[0].unclear
    newer = "{apiVersion: networking.k8s.io/v9, kind: NetworkPolicy, metadata: {name: x}, spec: {}}"
    assert [p.severity for p in policysets.read_texts([("f", newer)]).problems] == ["not-understood"]
