"""``fathom policy evaluate``: the verdict of each flow, one JSON object a line."""

from __future__ import annotations

from typing import Any

import click

from fathom.cli.options import output_option
from fathom.cli.policy.options import policies_option, reading_options, source_options

#: Lines that are written at once.
_TOGETHER = 200


@click.command()
@policies_option
@source_options
@reading_options
@output_option("json", "table", "wide")
def command(policies: tuple[str, ...], output: str, **given: Any) -> None:
    """Print the verdict of each flow, with the policies and rules that decided.

    One JSON object a line: flow, verdict (allowed, denied-ingress, denied-egress, denied-both, unknown), and for
    egress and ingress the outcome, the tier, the policies that select the pod and the rules that match.
    """
    from itertools import islice

    from fathom.cli.output import line
    from fathom.cli.policy import tables, words
    from fathom.cli.policy.door import open_door

    door = open_door(given)
    wanted = door.policies(policies)
    if idle := door.idle(wanted):
        click.echo(f"fathom: {words.idle(idle, len(idle))}", err=True)
    found = door.evaluate(wanted)
    if output == "json":
        while part := list(islice(found, _TOGETHER)):
            click.echo("\n".join(line(item, "json") for item in part))
    else:
        click.echo(tables.verdicts(found, wide=output == "wide"))
