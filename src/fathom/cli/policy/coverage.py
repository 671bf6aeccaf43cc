"""``fathom policy coverage``: how much of the traffic was seen, and which workloads have too little history."""

from __future__ import annotations

from typing import Any

import click

from fathom.cli.options import Duration, output_option
from fathom.cli.policy.options import limit_option, source_options


@click.command()
@click.option(
    "--need-time",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="Between the first and the last time that a workload was seen.",
)
@click.option(
    "--need-connections",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="Connections of it; of other protocols than TCP, packets.",
)
@click.option(
    "--need-share",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    metavar="SHARE",
    help="Of the window that was observed, where it is known.",
)
@click.option(
    "--need-pods",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Of its pods that were seen in flows.",
)
@source_options
@limit_option
@output_option("table", "json", "sarif", "markdown")
def command(
    need_time: float, need_connections: int, need_share: float, need_pods: float, limit: int, **given: Any
) -> None:
    """Say how much of the traffic was seen, and which workloads have too little history.

    Workloads with too little history come first, each with what is missing: a policy for them would be a guess.
    """
    from fathom.cli.policy.door import open_door
    from fathom.cli.policy.forms import text
    from fathom.cli.policy.inputs import NONE
    from fathom.policy.thin import Need

    need = Need(int(need_time), need_connections, need_share, need_pods)
    answer = open_door(given).coverage(need, limit)
    click.echo(text("covered", answer, given["output"], NONE))
