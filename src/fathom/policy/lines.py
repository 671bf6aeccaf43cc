"""Places in documents as lines of their files, for people and for tools that annotate files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fathom.policy.documents import Loader, parts
from fathom.policy.problems import Place

_STEP = re.compile(r'\[(\d+)\]|\["(.*?)"\]|\.?([^.\[\]]+)')


class Lines:
    """Looks up lines in ``texts`` (by file name), each document decoded once."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._parts: dict[str, list[tuple[int, str]]] = {}
        self._documents: dict[tuple[str, int], tuple[int, Any]] = {}

    def of(self, place: Place) -> int:
        """The line (from 1) at which ``place`` begins, or the nearest that holds it; 0 where its file is not known.

        The document must be one that ``documents.read`` took.
        """
        if place.file not in self._texts:
            return 0
        key = place.file, place.document
        if key not in self._documents:
            self._documents[key] = self._read(*key)
        first, node = self._documents[key]
        if not first:
            return 0
        line = first + (node.start_mark.line if node is not None else 0)
        for number, quoted, name in _STEP.findall(place.path):
            mark, node = _below(node, int(number) if number else quoted or name)
            if node is None:
                break
            line = first + mark.line
        return line

    def _read(self, file: str, document: int) -> tuple[int, Any]:
        """(line of the document's start, its root node)."""
        if file not in self._parts:
            self._parts[file] = list(_numbered(self._texts[file]))
        if document >= len(self._parts[file]):
            return 0, None
        first, part = self._parts[file][document]
        loader = Loader(part)
        try:
            node = loader.get_single_node()
        except yaml.YAMLError:  # JSON that is no YAML, such as with tabs: the document's start is known
            node = None
        finally:
            loader.dispose()
        return first, node


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """(line at which it starts, text) of each document."""
    line, counted = 1, 0
    for start, part in parts(text):
        line += text.count("\n", counted, start)
        counted = start
        yield line, part


def _below(node: Any, step: int | str) -> tuple[Any, Any]:
    """(mark of where it begins, node) of a field or an element; (None, None) where there is none."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return key.start_mark, value
    return None, None
