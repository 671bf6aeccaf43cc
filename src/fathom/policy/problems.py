"""What is wrong with, or not understood in, a document: always with its place, never swallowed.

A document that cannot mean what it says is *refused*. A part that this code does not understand is *not understood*:
it is kept as a problem and makes the verdicts that it could change ``unknown``. A *warning* changes no verdict.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["refused", "not-understood", "warning"]


class Place(msgspec.Struct, frozen=True, order=True):
    """Where something stands: ``file``, index of the ``document`` in it (0-based), and the ``path`` inside it."""

    file: str = ""
    document: int = 0
    path: str = ""

    def at(self, *parts: str | int) -> Place:
        """The place of a field or an element below this one: ``spec.ingress[0].from``."""
        path = self.path
        for part in parts:
            if isinstance(part, int):
                path += f"[{part}]"
            elif part and (not part.replace("-", "").replace("_", "").isalnum()):
                path += f'["{part}"]'
            else:
                path += f".{part}" if path else part
        return Place(self.file, self.document, path)

    def __str__(self) -> str:
        where = f"{self.file or '-'}, document {self.document}"
        return f"{where}, {self.path}" if self.path else where


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong or not understood, with its place and the reason in words."""

    place: Place
    reason: str
    severity: Severity = "refused"

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.reason}"


class Refused(Exception):  # a signal inside the readers, never seen by a caller
    """Stops the reading of one document; the reader of the set turns it into its ``problem``."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(reason)
        self.problem = Problem(place, reason, "refused")
