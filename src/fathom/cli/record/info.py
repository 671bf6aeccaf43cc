"""``fathom record info``: what a recording holds, how far it can be trusted, and whether it is whole."""

from __future__ import annotations

from pathlib import Path

import click

from fathom.cli.options import output_option


@click.command()
@click.argument("file", type=click.Path())
@output_option("table", "json", "yaml")
def command(file: str, output: str) -> None:
    """Say what a recording holds.

    The whole file is read: exit status 0 means that it is what was taken, 2 that it cannot be used: damaged, cut short,
    changed, something else, or of a newer Fathom.
    """
    from fathom.cli.output import document
    from fathom.cli.record.summary import lines, summary

    found = summary(Path(file))
    click.echo("\n".join(lines(found)) if output == "table" else document(found, output))
