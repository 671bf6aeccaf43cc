"""``fathom trace``: its options, its output, and the loss at its end. ``tracing`` does the work.

Numpy is imported after capabilities were given up, so the imports stand inside functions.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fathom.cli.options import Duration, no_headers_option, output_option

F = TypeVar("F", bound=Callable[..., Any])


def _options(function: F) -> F:
    for option in (
        no_headers_option,
        output_option("table", "wide", "json", "yaml"),
        click.option("--port", metavar="N", type=click.IntRange(1, 65_535), help="Port of either side."),
        click.option("--address", metavar="ADDRESS", help="Address or CIDR of either side, such as 10.0.0.0/8."),
        click.option("--comm", metavar="NAME", help="Process name as the kernel has it (15 bytes)."),
        click.option("--pid", metavar="N", type=click.IntRange(1), help="Process id."),
        click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many events."),
        click.option("--duration", type=Duration(), help="End after this time, such as 30s.  [default: until Ctrl-C]"),
    ):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Print connections or flows straight from this kernel; needs no server.

    Needs root or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN. What was lost on the way is said at the end.
    """


@command.command()
@_options
def tcp(**options: Any) -> int:
    """TCP connections: established, closed, failed, with latency, bytes and who."""
    return _trace("tcp", **options)


@command.command()
@_options
def flow(**options: Any) -> int:
    """Everything that sockets send and receive other than TCP, summed a second at a time."""
    return _trace("flow", **options)


def _trace(kind: str, duration: float | None, count: int | None, output: str, no_headers: bool, **wanted: Any) -> int:
    from fathom.agent import privilege
    from fathom.cli.eventlines import EventLines
    from fathom.cli.premises import require_capabilities, require_extension
    from fathom.probes.settings import ProbeSettings
    from fathom.settings import load

    require_extension("fathom trace: nothing was traced")
    settings = load(ProbeSettings, env=os.environ)
    require_capabilities(privilege.missing(), "fathom trace")
    for sentence in privilege.without():
        click.echo(f"fathom trace: {sentence}", err=True)
    privilege.drop()
    from fathom.agent.questions import EventFilter
    from fathom.cli.tracing import trace

    lines = EventLines(output)
    headers = lines.is_table and not no_headers

    def begin() -> None:
        if headers:
            click.echo(lines.header())

    def show(event: dict[str, Any]) -> None:
        click.echo(lines.line(event))

    wish = EventFilter(kind=kind, **{name: value for name, value in wanted.items() if value is not None})
    seen = trace(kind, settings, wish, (begin, show), duration=duration, count=count)
    _conclude(seen, sys.stdout if headers else sys.stderr)
    return 130 if seen.interrupted else 0


def _conclude(seen: Any, stream: Any) -> None:
    """The last line: how many, how long, what was lost."""
    from fathom.cli.output import coloured
    from fathom.cli.units import duration

    left_out = f" · {seen.left_out} not matching" if seen.left_out else ""
    text = f"{seen.shown} events{left_out} · {duration(seen.seconds)} · lost {seen.lost}"
    for reason, loss in (seen.losses or {}).items():
        text += f"\n  lost {loss.count} at kernel {reason}: {loss.packets} packets, "
        text += f"{loss.bytes_sent} B sent, {loss.bytes_received} B received"
    click.echo(click.style(text, fg="yellow") if seen.lost and coloured(stream) else text, file=stream)
