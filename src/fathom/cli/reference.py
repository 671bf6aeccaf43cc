"""The reference page of the command line, made from the command tree, so that it cannot differ from the program."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from fathom.cli.main import cli

_INTRODUCTION = """\
# The command line

Made from the program by `fathom.cli.reference`; a test fails when this page and the program differ.

Exit status: 0 done (also when the reader of a pipe left), 1 failed, 2 wrong usage, 70 a defect of Fathom, 130 Ctrl-C.
Errors go to standard error in three parts: what happened, what is affected, what to do. `NO_COLOR` is respected.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION, *_command(cli, click.Context(cli, info_name="fathom"))]
    return "\n".join(parts).rstrip("\n") + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    if context.parent is not None:
        yield f"{'#' * len(context.command_path.split())} `{context.command_path}`\n"
        yield _prose(command.help or "")
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```\n{context.command_path} {usage}\n```\n"
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    rows = [record for option in options if (record := option.get_help_record(context))]
    if rows:
        yield "| option | meaning |\n| --- | --- |"
        for spelling, meaning in rows:
            yield f"| `{_cell(spelling)}` | {_cell(meaning)} |"
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _command(child, click.Context(child, info_name=name, parent=context))


def _prose(text: str) -> str:
    """click's help text as Markdown: a block after ``\\b`` keeps its line breaks."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if "\b" in block:
            lines = (line.strip() for line in block.replace("\b", "").strip().splitlines())
            blocks.append("\n".join(("```", *lines, "```")))
        else:
            blocks.append(" ".join(line.strip() for line in block.splitlines()))
    return "\n\n".join(blocks) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    click.echo(page(), nl=False)
