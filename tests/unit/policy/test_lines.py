"""Places as lines: of fields, elements, documents after others, Lists, JSON and CRLF."""

from __future__ import annotations

import pytest

from fathom.policy.lines import Lines
from fathom.policy.problems import Place

TEXT = """\
# a comment
---
kind: NetworkPolicy
spec:
  ingress:
  - from: [{podSelector: {}}]
    ports:
    - {port: 80}
    -
      port: 81
---

# another
kind: List
items:
- kind: NetworkPolicy
  metadata:
    annotations:
      a.b/c: text
  spec: {}
"""
JSON = '{\n\t"spec": {\n\t"ingress": [\n{"from": []},\n{}]}}'


@pytest.mark.parametrize(
    ("document", "path", "line"),
    [
        (0, "", 3),
        (0, "kind", 3),
        (0, "spec", 4),
        (0, "spec.ingress[0]", 6),
        (0, "spec.ingress[0].ports", 7),
        (0, "spec.ingress[0].ports[1]", 10),
        (0, "spec.ingress[0].ports[1].port", 10),
        (0, "spec.ingress[0].nowhere", 6),
        (0, "spec.ingress[7].from", 5),
        (1, "", 14),
        (1, "items[0].spec", 20),
        (1, 'items[0].metadata.annotations["a.b/c"]', 19),
        (2, "", 0),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_line_of_a_place(document: int, path: str, line: int, ending: str) -> None:
    lines = Lines({"p.yaml": TEXT.replace("\n", ending)})
    assert lines.of(Place("p.yaml", document, path)) == line


def test_json_has_lines_as_far_as_yaml_can_tell() -> None:
    assert Lines({"p": JSON.replace("\t", " ")}).of(Place("p", 0, "spec.ingress[1]")) == 5
    assert Lines({"p": '{"a":\t"b",\n"c":\t[1]}'}).of(Place("p", 0, "c[0]")) in (1, 2)


def test_a_file_that_is_not_there_has_no_lines() -> None:
    assert Lines({}).of(Place("p", 0, "spec")) == 0
