"""Text to documents: YAML (several in one text) and JSON, Lists taken apart, within bounds.

Why not ``yaml.safe_load``: it does not take unquoted scalars for what kubectl takes them for (``scalars``), keeps the
last of two equal keys, and lets a few lines of aliases grow without bound. Here equal keys are refused, and size, depth
and growth by aliases are bounded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

import yaml

from fathom.policy.problems import Place, Problem, Refused
from fathom.policy.scalars import plain


@dataclass(frozen=True)
class Limits:
    """Bounds of what is read; beyond them a text or document is refused with its reason.

    Characters of a text and of one document in YAML; values and field names of a document in YAML, aliases followed;
    objects and lists of a document in JSON (opening brackets, also those in its strings); depth; documents of one text,
    elements of Lists too.
    """

    text_bytes: int = 64 << 20
    document_bytes: int = 8 << 20
    values: int = 2_000_000
    containers: int = 4_000_000
    depth: int = 64
    documents: int = 200_000


LIMITS = Limits()


@dataclass(frozen=True)
class Document:
    """One decoded object and where it stands."""

    place: Place
    data: Any


_MARKER = re.compile(r"^(?:---|\.\.\.)(?=\s|$)", re.MULTILINE)
_INDENT = re.compile(r"^[ \t\-?:]+", re.MULTILINE)
_CORE = "tag:yaml.org,2002:"


def read(text: str, file: str = "-", limits: Limits = LIMITS) -> tuple[list[Document], list[Problem]]:
    """The documents of ``text``, elements of Lists each as a document of their own, and what was refused.

    Empty documents are skipped. A document that cannot be decoded is one problem; the others are still read.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    if len(text) > limits.text_bytes:
        reason = f"{len(text)} characters are more than the bound of {limits.text_bytes}; split the file"
        return documents, [Problem(Place(file), reason)]
    for index, (_, part) in enumerate(parts(text)):
        place = Place(file, index)
        try:
            data = _decode(part, place, limits)
            if data is not None:
                documents.extend(islice(_unlist(data, place), limits.documents + 1 - len(documents)))
        except Refused as refused:
            problems.append(refused.problem)
        if len(documents) > limits.documents or index >= limits.documents:
            problems.append(Problem(place, f"more than {limits.documents} documents in one text; split the file"))
            return documents[: limits.documents], problems
    return documents, problems


def parts(text: str) -> Iterator[tuple[int, str]]:
    """(offset, text) of each document: a marker at the start of a line cannot stand inside anything else."""
    start = 0
    for marker in _MARKER.finditer(text):
        part = text[start : marker.start()]
        if part.strip() and not _only_comments(part):
            yield start, part
        start = marker.end()
    part = text[start:]
    if part.strip() and not _only_comments(part):
        yield start, part


def _only_comments(part: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith(("#", "%")) for line in part.splitlines())


def _decode(part: str, place: Place, limits: Limits) -> Any:
    if part.lstrip()[:1] in ("{", "["):
        decoded = _decode_json(part, place, limits)
        if decoded is not _NOT_JSON:
            return decoded
    if len(part) > limits.document_bytes:
        reason = f"{len(part)} characters of YAML are more than the bound of {limits.document_bytes} for one document"
        raise Refused(place, f"{reason}; split it, or give it as JSON")
    return _decode_yaml(part, place, limits)


_NOT_JSON = object()


def _decode_json(part: str, place: Place, limits: Limits) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Refused(
                place, f"one of the fields {', '.join(sorted({k[:40] for k, _ in pairs}))[:300]} stands twice"
            )
        return found

    def refuse(word: str) -> NoReturn:
        raise Refused(place, f"{word} is not JSON")

    if part.count("[") + part.count("{") > limits.containers:
        raise Refused(place, f"more than {limits.containers} objects and lists; split the file")
    try:
        data = json.loads(part, object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        raise Refused(place, f"nested deeper than {limits.depth}") from None
    except ValueError:
        return _NOT_JSON  # YAML's flow style looks like JSON; its decoder says what is wrong
    if _depth_over(data, limits.depth):
        raise Refused(place, f"nested deeper than {limits.depth}")
    return data


def _depth_over(data: Any, depth: int) -> bool:
    level: list[Any] = [data]
    for _ in range(depth + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, (dict, list)))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, (dict, list)))
        if not below:
            return False
        level = below
    return True


def _decode_yaml(part: str, place: Place, limits: Limits) -> Any:
    try:
        if _may_be_deep(part, limits.depth) or _may_be_many(part, limits.values):
            _check_events(part, place, limits)
        loader = Loader(part)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise Refused(place, f"not YAML: {_first_line(error)}") from None
    except (ValueError, RecursionError, UnicodeError) as error:
        raise Refused(place, f"not YAML: {type(error).__name__}") from None
    if node is None:
        return None
    return _Builder(place, limits).build(node, 0)


def _first_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"{what} (line {mark.line + 1} of the document)" if mark is not None else what


def _may_be_deep(part: str, depth: int) -> bool:
    """A cheap upper bound: brackets open at once, and the furthest column at which a block can begin."""
    indent = max((m.end() - m.start() for m in _INDENT.finditer(part)), default=0)
    brackets = part.count("[") + part.count("{")
    return indent > depth or brackets > depth


def _may_be_many(part: str, values: int) -> bool:
    """A cheap upper bound: each value or field name comes after one of these signs, two after one in ``{a, b}``."""
    return 2 * sum(part.count(sign) for sign in ",:?[{-\n") + 2 > values


def _check_events(part: str, place: Place, limits: Limits) -> None:
    """Depth and number of values, before any of them takes memory."""
    depth = count = 0
    for event in yaml.parse(part, Loader=Loader):
        if isinstance(event, yaml.NodeEvent):
            count += 1
            if count > limits.values:
                raise Refused(place, f"more than {limits.values} values; split it, or give it as JSON")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > limits.depth:
                raise Refused(place, f"nested deeper than {limits.depth}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class Loader(yaml.CSafeLoader):
    """Composes nodes in C; tags of plain scalars are decided in ``_Builder``."""

    def resolve(self, _kind: Any, _value: Any, _implicit: Any) -> str:
        return ""


class _Builder:
    """Nodes to plain values, counting what aliases multiply."""

    def __init__(self, place: Place, limits: Limits) -> None:
        self.place = place
        self.limits = limits
        self.left = limits.values

    def build(self, node: Any, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Refused(self.place, f"more than {self.limits.values} values, aliases followed")
        if depth > self.limits.depth:
            raise Refused(self.place, f"nested deeper than {self.limits.depth}")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in ("", _CORE + "seq", _CORE + "map"):
            raise Refused(self.place, f"the tag {node.tag[:64]!r} is not read")
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, depth + 1) for item in node.value]
        return self._mapping(node, depth)

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise Refused(self.place, f"a field name must be a string (line {key_node.start_mark.line + 1})")
            if key_node.value == "<<" and not key_node.style:
                merged = {**self._merge(value_node, depth), **merged}
                continue
            key = self._key(key_node)
            if key in found:
                raise Refused(self.place, f"field {key[:64]!r} stands twice (line {key_node.start_mark.line + 1})")
            found[key] = self.build(value_node, depth + 1)
        return {**merged, **found} if merged else found

    def _key(self, node: Any) -> str:
        """A field's name. What is no text unquoted becomes text, as kubectl makes it."""
        self.left -= 1
        found = self._scalar(node)
        if isinstance(found, bool):
            return str(found).lower()
        if found is None or isinstance(found, float):
            raise Refused(self.place, f"a field name must be a string (line {node.start_mark.line + 1})")
        return str(found)

    def _merge(self, node: Any, depth: int) -> dict[str, Any]:
        value = self.build(node, depth + 1)
        sources = value if isinstance(value, list) else [value]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, dict):
                raise Refused(self.place, "<< must name an object or a list of objects")
            merged = {**source, **merged}
        return merged

    def _scalar(self, node: Any) -> Any:
        value, tag = node.value, node.tag
        if tag and tag != "!":
            if tag == _CORE + "str":
                return value
            if tag not in (_CORE + "int", _CORE + "float", _CORE + "bool", _CORE + "null"):
                raise Refused(self.place, f"the tag {tag[:64]!r} is not read")
        elif tag == "!" or node.style:
            return value
        found = plain(value)
        if isinstance(found, float) and not math.isfinite(found):
            raise Refused(self.place, f"{value} is no number of JSON (line {node.start_mark.line + 1})")
        return found


def _unlist(data: Any, place: Place) -> Iterator[Document]:
    """A List's elements, each with its place; anything else as it is."""
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield Document(place.at(index), item)
        return
    if isinstance(data, dict) and isinstance(data.get("kind"), str) and data["kind"].endswith("List"):
        items = data.get("items")
        if isinstance(items, list):
            kind = data["kind"][: -len("List")]
            for index, item in enumerate(items):
                if isinstance(item, dict) and kind and "kind" not in item:  # typed lists leave it out
                    item = {"kind": kind, "apiVersion": data.get("apiVersion"), **item}
                yield from _unlist(item, place.at("items", index))
            return
    yield Document(place, data)
