"""``fathom query``: edges, workloads and events of a server, as a person or a program wants them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fathom.cli.options import Moment, no_headers_option, output_option, server_options

F = TypeVar("F", bound=Callable[..., Any])


def _filters(function: F) -> F:
    """The filters that edges and workloads share, named as in REST."""
    for option in (
        click.option("--cursor", metavar="TEXT", help="Go on where the last answer ended (its `more` line)."),
        click.option(
            "--limit", metavar="N", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Rows at most."
        ),
        click.option(
            "--verdict", type=click.Choice(["forwarded", "failed", "dropped", "unknown"]), help="What became of it."
        ),
        click.option(
            "--direction",
            type=click.Choice(["egress", "ingress", "unknown"]),
            help="Who opened it, seen from the workload.",
        ),
        click.option("--port", metavar="N", type=click.IntRange(0, 65_535), help="The server's port."),
        click.option("--protocol", metavar="NAME", help="TCP, UDP, ICMP, ICMPv6, or a number."),
        click.option("--peer", metavar="NAME", help="The other side: a name (* stands for any text), address or CIDR."),
        click.option("--workload", metavar="NAME", help="name or kind/name; * stands for any text."),
        click.option("--until", type=Moment(), metavar="TIME", help="End of the window. Default: now."),
        click.option(
            "--since",
            type=Moment(),
            default="5m",
            show_default=True,
            metavar="TIME",
            help="Start of the window: a duration ago (5m) or RFC 3339.",
        ),
    ):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Ask the server for edges, workloads or events."""


@command.command()
@_filters
@output_option("table", "wide", "json", "yaml")
@no_headers_option
@server_options
def edges(server: str, token_file: str | None, output: str, no_headers: bool, **filters: Any) -> None:
    """Who talks to whom: one line for each workload, direction, peer, protocol, port and verdict."""
    from fathom.cli.ask import ask, show
    from fathom.cli.columns import edge_columns

    answer = ask(server, token_file, lambda client: client.edges(**_given(filters)))
    show(answer, edge_columns(), output, headers=not no_headers, asked=lately(filters))


@command.command()
@_filters
@output_option("table", "wide", "json", "yaml")
@no_headers_option
@server_options
def workloads(server: str, token_file: str | None, output: str, no_headers: bool, **filters: Any) -> None:
    """What each workload did, all its edges together."""
    from fathom.cli.ask import ask, show
    from fathom.cli.columns import workload_columns

    answer = ask(server, token_file, lambda client: client.workloads(**_given(filters)))
    show(answer, workload_columns(), output, headers=not no_headers, asked=lately(filters))


def lately(filters: dict[str, Any]) -> str:
    """The duration of the window, if it ends now and was given as one; else nothing."""
    since = filters.get("since") or "5m"
    return "" if filters.get("until") or filters.get("cursor") or ":" in since else since


def _given(filters: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given."""
    return {name: value for name, value in filters.items() if value is not None}


@command.command()
@click.option(
    "-f", "--follow", is_flag=True, help="Live events as they come, until Ctrl-C or --limit; no --since then."
)
@click.option("--kind", type=click.Choice(["tcp", "flow"]), help="The probe.")
@click.option("--workload", metavar="NAME", help="name or kind/name.")
@click.option("--pid", metavar="N", type=click.IntRange(1), help="Process id.")
@click.option("--comm", metavar="NAME", help="Process name as the kernel has it.")
@click.option("--address", metavar="ADDRESS", help="Address or CIDR of either side.")
@click.option("--port", metavar="N", type=click.IntRange(1, 65_535), help="Port of either side.")
@click.option("--node", metavar="NAME", help="Only this node.")
@click.option("--since", type=Moment(), metavar="TIME", help="A duration ago (5m) or RFC 3339.  [default: 5m]")
@click.option("--until", type=Moment(), metavar="TIME", help="End of the window.  [default: now]")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 10_000), help="Events at most.  [default: 100; with -f: no limit]"
)
@click.option("--cursor", metavar="TEXT", help="Go on where the last answer ended (its `more` line).")
@output_option("table", "wide", "json", "yaml")
@no_headers_option
@server_options
def events(
    server: str, token_file: str | None, output: str, no_headers: bool, follow: bool, limit: int | None, **filters: Any
) -> None:
    """Recent events, asked live from the nodes that hold them; with -f those that happen now."""
    from fathom.cli import following
    from fathom.cli.ask import ask

    wanted = _given(filters)
    if not follow:
        answer = ask(server, token_file, lambda client: client.events(limit=limit or 100, **wanted))
        following.show_recent(answer, output, headers=not no_headers, asked=lately(filters))
        return
    for name in ("since", "until", "cursor"):
        if name in wanted:
            raise click.UsageError(f"--{name} and --follow exclude one another.")
    ask(server, token_file, lambda client: following.follow(client, output, limit, headers=not no_headers, **wanted))
