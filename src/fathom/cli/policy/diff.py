"""``fathom policy diff``: what a change of policies newly denies or allows, recorded and statically."""

from __future__ import annotations

from typing import Any

import click

from fathom.cli.options import output_option
from fathom.cli.policy.options import limit_option, paths_option, reading_options, source_options


@click.command()
@paths_option("--old", help="File, directory or kube:, the policies before the change. Repeatable; may hold none.")
@paths_option("--new", "--policies", "new", help="File, directory or kube:, the policies after the change. Repeatable.")
@source_options
@reading_options
@limit_option
@output_option("table", "wide", "json", "sarif", "markdown")
def command(old: tuple[str, ...], new: tuple[str, ...], limit: int, output: str, **given: Any) -> int:
    """Say what a change of policies newly denies or allows.

    Two parts: the recorded traffic (where there are flows), and statically all that the pods of the inventory could
    do, with a counter-example for each difference. Exit status: 0 no difference, 1 some, 2 an error.
    """
    from fathom.cli.policy.door import open_door
    from fathom.cli.policy.forms import text
    from fathom.cli.policy.show import progress, show

    door = open_door(given)
    before = door.policies(old, option="--old", empty=True)
    after = door.policies(new, option="--new", empty=True, missing=False)
    with progress("Comparing") as told:
        answer = door.diff(before, after, limit, told)
    return show(text("differences", answer, output, after, before), 0 if answer.none else 1)
