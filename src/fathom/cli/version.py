"""``fathom version``: which Fathom this is, for a person or for a script."""

from __future__ import annotations

import platform

import click

import fathom
from fathom.cli.options import output_option
from fathom.cli.output import document


@click.command()
@output_option("text", "json", "yaml")
def command(output: str) -> None:
    """Print the version."""
    facts = {"version": fathom.__version__, "python": platform.python_version(), "kernel": platform.release()}
    if output == "text":
        click.echo(f"fathom {facts['version']} (Python {facts['python']}, Linux {facts['kernel']})")
    else:
        click.echo(document(facts, output))
