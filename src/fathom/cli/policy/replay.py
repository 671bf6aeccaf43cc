"""``fathom policy replay``: what policies would have denied of recorded traffic, and the rules that are absent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fathom.cli.options import output_option
from fathom.cli.policy.options import limit_option, policies_option, reading_options, source_options

if TYPE_CHECKING:
    from fathom.policy.answers import Replayed

#: Groups that rules are suggested for; groups without one that are told on standard error.
_MOST_GROUPS, _MOST_TOLD = 100_000, 20


@click.command()
@policies_option
@source_options
@reading_options
@limit_option
@click.option("--suggest", is_flag=True, help="Print the absent rules as YAML, and nothing else, whatever --limit is.")
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
        answer = door.replay(loaded, _MOST_GROUPS if suggest else limit, told)
    status = 0 if answer.none else 1
    if suggest:
        return _suggest(answer, status)
    return show(text("replayed", answer, output, loaded), status)


def _suggest(answer: Replayed, status: int) -> int:
    from fathom.cli.policy import words
    from fathom.cli.policy.show import show
    from fathom.policy.generate import to_yaml

    without = [group for group in answer.groups if not group.absent]
    if without:
        click.echo(f"fathom: no rule is suggested for {words.counted(len(without), 'group')} of flows:", err=True)
    for group in without[:_MOST_TOLD]:
        click.echo(f"  {group.src} > {group.dst} {words.port(group)}: {group.no_rule}", err=True)
    if len(without) > _MOST_TOLD:
        click.echo(f"  and {len(without) - _MOST_TOLD} more: -o json lists them", err=True)
    if answer.left_out:
        beyond = words.counted(answer.left_out, "more group")
        click.echo(f"fathom: {beyond} of flows would not be allowed: apply these rules, and replay again", err=True)
    return show(to_yaml(answer.suggestions).rstrip("\n"), status) if answer.suggestions else status
