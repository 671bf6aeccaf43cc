"""``fathom policy exposure``: the workloads that no policy covers, and what could reach them."""

from __future__ import annotations

from typing import Any

import click

from fathom.cli.options import output_option
from fathom.cli.policy.options import limit_option, policies_option, reading_options, source_options


@click.command()
@policies_option
@source_options
@reading_options
@limit_option
@output_option("table", "json", "sarif", "markdown")
def command(policies: tuple[str, ...], limit: int, output: str, **given: Any) -> None:
    """List the workloads that no policy covers, and what could reach them.

    A workload that no policy selects for ingress takes what comes: from other workloads, whose own egress may hold
    them back, from nodes, and from outside of the cluster.
    """
    from fathom.cli.policy.door import open_door
    from fathom.cli.policy.forms import text

    door = open_door(given)
    loaded = door.policies(policies, empty=True)
    click.echo(text("exposure", door.exposure(loaded, limit), output, loaded))
