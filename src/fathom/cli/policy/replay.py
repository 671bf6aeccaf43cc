"""``fathom policy replay``: what policies would have denied of recorded traffic, and the rules that are absent."""

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
@click.option("--suggest", is_flag=True, help="Print the absent rules as YAML, and nothing else.")
@output_option("table", "wide", "json", "sarif", "markdown")
def command(policies: tuple[str, ...], limit: int, suggest: bool, output: str, **given: Any) -> int:
    """Say what policies would have denied of recorded traffic.

    Exit status: 0 everything is allowed, 1 something is denied or unknown, 2 an error.
    """
    from fathom.cli.policy.door import open_door
    from fathom.cli.policy.forms import text
    from fathom.cli.policy.show import progress, show

    door = open_door(given)
    loaded = door.policies(policies)
    with progress("Replaying") as told:
        answer = door.replay(loaded, limit, told)
    status = 0 if answer.none else 1
    if suggest:
        return _suggest(answer.suggestions, sum(not group.absent for group in answer.groups), status)
    return show(text("replayed", answer, output, loaded), status)


def _suggest(suggestions: tuple[dict[str, Any], ...], without: int, status: int) -> int:
    from fathom.cli.policy.show import show
    from fathom.policy.generate import to_yaml

    if without:
        click.echo(f"fathom: for {without} groups no rule would do, or would be a guess: see -o table", err=True)
    return show(to_yaml(suggestions).rstrip("\n"), status) if suggestions else status
