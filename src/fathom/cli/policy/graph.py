"""``fathom policy graph``: who talks to whom with the verdict of policies, or who may, as text or as a picture."""

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
@click.option("--static", is_flag=True, help="What policies allow between pods, not what was recorded.")
@output_option("dot", "svg", "json")
def command(policies: tuple[str, ...], limit: int, static: bool, output: str, **given: Any) -> None:
    """Draw who talks to whom, or who may.

    dot is for Graphviz; svg needs no other program, and is the same for the same graph. Without policies every flow
    is allowed.
    """
    from fathom.cli.output import document
    from fathom.cli.policy.door import open_door

    door = open_door(given)
    loaded = door.policies(policies, missing=True)
    answer = door.graph(loaded, "static" if static else "recorded", limit)
    if output == "svg":
        from fathom.cli.policy.svg import svg

        click.echo(svg(answer))
    elif output == "dot":
        from fathom.cli.policy.dot import dot

        click.echo(dot(answer))
    else:
        click.echo(document(answer, "json"))
