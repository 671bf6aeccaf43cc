"""Checked reading of one decoded document: wrong types are refused with their place, unknown fields are reported.

The readers of each policy kind use it instead of bare dictionaries, so that no field can be skipped by accident.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fathom.policy.problems import Place, Problem, Refused


def kind_of(value: Any) -> str:
    """The JSON word for a value's type."""
    words: dict[type, str] = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number"}
    return "null" if value is None else words.get(type(value), "number" if isinstance(value, float) else "value")


class Field:
    """One value of a document with its place; ``problems`` collects what was not understood below it.

    ``custom``: it is a custom resource, whose lists the API server lets hold no null.
    """

    __slots__ = ("_path", "custom", "document", "parent", "problems", "value")

    def __init__(
        self,
        value: Any,
        document: Place,
        problems: list[Problem],
        parent: Field | None = None,
        path: str | int | None = None,
    ) -> None:
        self.value = value
        self.document = document
        self.problems = problems
        self.parent = parent
        self.custom: bool = parent.custom if parent is not None else False
        self._path = path

    @property
    def place(self) -> Place:
        """Where this value stands."""
        if self.parent is None:
            return self.document
        return self.parent.place if self._path is None else self.parent.place.at(self._path)

    @property
    def absent(self) -> bool:
        """Missing or null."""
        return self.value is None

    def refuse(self, reason: str) -> Refused:
        """The exception to raise here."""
        return Refused(self.place, reason)

    def not_understood(self, reason: str) -> Problem:
        """Report this place as not understood, and return the problem for those that it affects."""
        problem = Problem(self.place, reason, "not-understood")
        self.problems.append(problem)
        return problem

    def warn(self, reason: str) -> None:
        """Report something that changes no verdict."""
        self.problems.append(Problem(self.place, reason, "warning"))

    def get(self, key: str) -> Field:
        """The field ``key`` of an object (absent where missing). Raises Refused if this is not an object."""
        return Field(self.mapping().get(key), self.document, self.problems, self, key)

    def has(self, key: str) -> bool:
        """Whether the object names ``key`` with a value other than null."""
        return self.mapping().get(key) is not None

    def mapping(self) -> dict[str, Any]:
        """This object; absent is empty. Raises Refused if it is something else."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.refuse(f"must be an object, is a {kind_of(self.value)}")
        return self.value

    def elements(self) -> list[Field]:
        """The elements of this list; absent is empty. Raises Refused if it is something else."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.refuse(f"must be a list, is a {kind_of(self.value)}")
        found = [Field(item, self.document, self.problems, self, index) for index, item in enumerate(self.value)]
        for item in found if self.custom else ():
            if item.value is None:
                raise item.refuse("an element of a list may not be null")
        return found

    def text(self, default: str | None = None) -> str:
        """This string. Raises Refused if it is something else, or absent where no default is given."""
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str):
            raise self.refuse(f"must be a string, is {_a(self.value)}")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """This list of strings; absent is empty."""
        return tuple(item.text() for item in self.elements())

    def integer(self, low: int, high: int) -> int:
        """This whole number within bounds. Raises Refused if it is something else."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refuse(f"must be a whole number, is {_a(value)}")
        if not low <= value <= high:
            raise self.refuse(f"must be between {low} and {high}, is {value}")
        return value

    def boolean(self, default: bool) -> bool:
        """This boolean; absent is the default."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.refuse(f"must be true or false, is {_a(self.value)}")
        return self.value

    def one_of(self, choices: tuple[str, ...]) -> str:
        """This string, which must be one of ``choices``."""
        word = self.text()
        if word not in choices:
            raise self.refuse(f"must be one of {', '.join(choices)}, is {word[:64]!r}")
        return word

    def only(self, *known: str) -> Field:
        """This object, which may have no other fields. Raises Refused if it has."""
        for field in self.unknown(frozenset(known)):
            raise field.refuse(f"unknown field: only {', '.join(known)}")
        return self

    def unknown(self, known: frozenset[str]) -> Iterator[Field]:
        """The fields of this object whose names are not ``known``; those that are null do not count."""
        for key, value in self.mapping().items():
            if not isinstance(key, str):
                raise self.refuse(f"field names must be strings, one is {_a(key)}")
            if key not in known and value is not None:
                yield Field(value, self.document, self.problems, self, key)


def _a(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, (dict, list)):
        return f"a {kind_of(value)}" if isinstance(value, list) else "an object"
    return f"{kind_of(value)} {str(value)[:64]!r}"
