"""What is wrong with documents, said on standard error, each with its file, document, path and reason.

A refused document ends the command: without it every answer would be about something else.
"""

from __future__ import annotations

from collections.abc import Iterable

import click

from fathom.cli.output import printable
from fathom.errors import UsageError
from fathom.policy.problems import Problem

#: Lines that are printed for one input.
MOST = 50


def tell(problems: Iterable[Problem]) -> None:
    """Print ``problems``, refused ones first. Raises UsageError if there is a refused one."""
    found = sorted(problems, key=lambda problem: problem.severity != "refused")
    for problem in found[:MOST]:
        click.echo(f"fathom: {printable(str(problem))}", err=True)
    if len(found) > MOST:
        click.echo(f"fathom: and {len(found) - MOST} more", err=True)
    refused = sum(problem.severity == "refused" for problem in found)
    if refused:
        raise UsageError(
            f"{refused} {'document was' if refused == 1 else 'documents were'} refused",
            affects="nothing was answered: without them it would be about something else",
            do="correct or remove them",
        )
