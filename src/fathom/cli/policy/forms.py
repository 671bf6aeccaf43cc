"""One answer in the form that was asked for: a table, JSON, SARIF or Markdown.

Each form is a module with a function for each kind of answer, imported when it is wanted.
"""

from __future__ import annotations

from typing import Any, Literal

from fathom.cli.output import document
from fathom.cli.policy.inputs import Policies

#: Kinds of answers: names of functions of ``tables``, ``sarif`` and ``markdown``.
Kind = Literal["replayed", "differences", "covered", "exposure"]


def text(kind: Kind, answer: Any, output: str, policies: Policies, before: Policies | None = None) -> str:
    """``answer`` (of the struct that ``kind`` stands for) as ``output`` says. ``before``: the policies that were there
    before, for what a set without policies cannot point at."""
    found: str
    if output == "json":
        found = document(answer, "json")
    elif output == "sarif":
        from fathom.cli.policy import sarif
        from fathom.policy.lines import Lines

        shown = policies if policies.set.policies or before is None else before
        found = getattr(sarif, kind)(answer, sarif.Sources(shown.set, Lines(shown.texts)))
    elif output == "markdown":
        from fathom.cli.policy import markdown

        found = getattr(markdown, kind)(answer)
    else:
        from fathom.cli.policy import tables

        found = getattr(tables, kind)(answer, wide=output == "wide")
    return found
