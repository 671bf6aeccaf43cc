"""``fathom record export``: a recording from a server, or straight from a store, which may be written meanwhile."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from fathom.cli.options import Moment, server_options
from fathom.errors import UsageError


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--store",
    metavar="URL",
    help="Take it from this store, sqlite:///DIRECTORY, instead of from a server; a server may run on it meanwhile.",
)
@click.option(
    "--since",
    type=Moment(),
    metavar="TIME",
    help="Start of the window: RFC 3339, or a duration before now (--store: before its end).  [default: 24h before now;"
    " all of the store]",
)
@click.option("--until", type=Moment(), metavar="TIME", help="End of the window.  [default: now; the store's end]")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@server_options
def command(
    file: str, store: str | None, since: str | None, until: str | None, force: bool, server: str, token_file: str | None
) -> None:
    """Take a recording from a server, or from a store.

    It is written to FILE.part, and put in its place when it is whole: what a server sent is read again before.
    """
    from fathom.cli.record.summary import lines
    from fathom.cli.record.taking import from_server, from_store

    target = target_of(file)
    if store is not None:
        _not_both()
        found = from_store(store, target, (since, until), force=force)
    else:
        found = from_server(server, token_file, target, (since, until), force=force)
    click.echo("\n".join(lines(found)))


def target_of(file: str) -> Path:
    """The file to be made. Raises UsageError if ``file`` names none."""
    if file == "-":
        raise UsageError(
            "a recording cannot go to standard output", affects="nothing was asked", do="name a file, or ./- for that"
        )
    if file.endswith("/") or Path(file).name in ("", ".", ".."):
        raise UsageError(f"{file!r} names no file", affects="nothing was asked", do="name a file")
    return Path(file)


def _not_both() -> None:
    context = click.get_current_context()
    for name in ("server", "token_file"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} is about a server, and --store was given", do="give one")
