"""Options that the commands of ``fathom policy`` share, with one spelling and one meaning each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fathom.cli.options import Moment, server_options

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(allow_dash=True)


def paths_option(*names: str, help: str) -> Callable[[F], F]:
    """Files, directories or ``-``, any number."""
    return click.option(*names, multiple=True, type=_PATH, metavar="PATH", help=help)


def policies_option(function: F) -> F:
    """``--policies``."""
    text = "File or directory of policies, - for standard input, kube: for a live cluster. Repeat it for more."
    return paths_option("--policies", help=text)(function)


def live_options(function: F) -> F:
    """``--kubeconfig`` and ``--context``: which live cluster ``kube:`` is."""
    for option in (
        click.option("--context", metavar="NAME", help="The context that kube: alone means.  [default: kubectl's own]"),
        click.option("--kubeconfig", metavar="FILE", help="kubectl's configuration, for kube:.  [default: its own]"),
    ):
        function = option(function)
    return function


def source_options(function: F) -> F:
    """Where the inventory and the flows come from: a recording, files, or a server."""
    for option in (
        live_options,
        server_options,
        click.option("--cluster", metavar="NAME", help="Only this cluster (server, recording)."),
        click.option("--node", metavar="NAME", help="Only what this node saw (server, recording)."),
        click.option(
            "--until", type=Moment(), metavar="TIME", help="End of the window (server, recording).  [default: its end]"
        ),
        click.option(
            "--since",
            type=Moment(),
            metavar="TIME",
            help="Start of the window (server, recording): RFC 3339, or a duration before now, or before the end of the"
            " recording.  [default: 24h before now; all of the recording]",
        ),
        click.option(
            "--workload",
            metavar="NAME",
            help="Only flows of this workload, at either end: name, kind/name or namespace/kind/name; * stands for any"
            " text.",
        ),
        click.option("--flows", type=_PATH, metavar="FILE", help="JSON lines of flows, - for standard input."),
        paths_option(
            "--manifests",
            help="File or directory of Kubernetes manifests, kube: for a live cluster: the inventory. Repeatable.",
        ),
        click.option(
            "--recording",
            type=click.Path(),
            metavar="FILE",
            help="A recording: inventory, flows, coverage and losses in one file.",
        ),
    ):
        function = option(function)
    return function


def reading_options(function: F) -> F:
    """How to read what the API leaves open, as in ``fathom.policy.options``."""
    for name, choices, text in (
        ("--established", ("evaluate", "allowed"), "Flows that opened no connection in the window."),
        ("--dnat", ("after", "before"), "Egress rules see a service's backend, or its own address."),
        ("--icmp", ("rules", "allowed", "unknown"), "ICMP, which the API leaves open."),
        ("--host-network", ("node", "pod", "unknown"), "What a pod on the host's network is to selectors."),
        ("--block-pods", ("match", "never"), "Whether an ipBlock matches pods by their addresses."),
    ):
        function = click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=text)(
            function
        )
    return function


def limit_option(function: F) -> F:
    """``--limit``."""
    return click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(1, 100_000),
        default=1_000,
        show_default=True,
        help="Rows of each table at most; what is left out is counted.",
    )(function)
