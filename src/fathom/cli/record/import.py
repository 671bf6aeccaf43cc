"""``fathom record import``: one recording of several, or of manifests, flows and system calls."""

from __future__ import annotations

import click

from fathom.cli.policy.options import paths_option
from fathom.cli.record.export import target_of


@click.command()
@click.argument("file", type=click.Path())
@click.argument("recordings", nargs=-1, type=click.Path(), metavar="[RECORDING]...")
@paths_option("--manifests", help="File or directory of Kubernetes manifests: the inventory. Repeatable.")
@paths_option("--flows", help="JSON lines of flows, - for standard input. Repeatable.")
@paths_option("--syscalls", help="JSON lines of system calls, - for standard input. Repeatable.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def command(
    file: str,
    recordings: tuple[str, ...],
    manifests: tuple[str, ...],
    flows: tuple[str, ...],
    syscalls: tuple[str, ...],
    force: bool,
) -> None:
    """Make one recording of several, or of manifests, flows and system calls.

    Recordings of one store may overlap: nothing is counted twice. Recordings of several stores are added up, and
    refused where that could count something twice. Objects and system calls from files are added to recordings; of an
    object that a recording holds, what that says is kept, and a difference is told. Flows from files make a recording
    of their own.
    """
    from fathom.cli.record.importing import Sources, made
    from fathom.cli.record.summary import lines

    found = made(target_of(file), Sources(recordings, manifests, flows, syscalls), force=force)
    click.echo("\n".join(lines(found)))
