"""``fathom status``: how the server, its store and its nodes are, and what is missing from the numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fathom.cli.options import Moment, no_headers_option, output_option, server_options

if TYPE_CHECKING:
    from fathom.cli.output import Column
    from fathom.server.answers import Node, Status


@click.command()
@click.option(
    "--since",
    type=Moment(),
    default="5m",
    show_default=True,
    metavar="TIME",
    help="Start of the window for coverage and loss: a duration ago (5m) or RFC 3339.",
)
@output_option("table", "wide", "json", "yaml")
@no_headers_option
@server_options
def command(server: str, token_file: str | None, since: str, output: str, no_headers: bool) -> None:
    """Say how server, nodes, coverage and loss are."""
    from fathom.cli.ask import ask, show
    from fathom.cli.output import warning

    answer = ask(server, token_file, lambda client: client.status(since=since))
    if output in ("table", "wide") and not no_headers:
        for line in _about(answer, server):
            click.echo(line)
        for problem in answer.problems:
            click.echo(warning(f"! {problem}"))
        click.echo()
    show(answer, _columns(), output, headers=not no_headers, asked="" if ":" in since else since)


def _about(answer: Status, server: str) -> list[str]:
    from fathom.cli.units import duration, size

    up = (datetime.now(UTC) - datetime.fromisoformat(answer.started)).total_seconds()
    store, ingest = answer.store, answer.ingest
    state = "writable" if store.writable else "NOT WRITABLE"
    return [
        f"server   {answer.state} · {server} · version {answer.version} · up {duration(max(up, 0))}",
        f"store    {store.engine} · {state} · {store.edges} edges · {len(store.days)} days · {size(store.bytes)}"
        f" · kept {duration(answer.retention)}",
        f"ingest   {ingest.batches} batches · {ingest.facts} facts · {ingest.duplicates} came twice"
        f" · {ingest.refused_busy + ingest.refused_invalid} refused",
        *(f"note     {note}" for note in store.notes),
    ]


def _columns() -> list[Column[Node]]:
    from fathom.cli.output import Column
    from fathom.cli.trust import ago
    from fathom.cli.units import size

    now = datetime.now(UTC)
    return [
        Column("NODE", lambda n: n.node),
        Column("STATE", lambda n: n.state),
        Column("CONNECTED", lambda n: "yes" if n.connected else "no"),
        Column("VERSION", lambda n: n.version or "-"),
        Column("LAST SEEN", lambda n: ago(n.last_seen, now)),
        Column("SKEW", lambda n: "-" if n.clock_skew is None else f"{n.clock_skew * 1000:+.0f}ms", number=True),
        Column("WAITING", lambda n: f"{n.waiting_batches} ({size(n.waiting_bytes)})"),
        Column("PROBES", lambda n: ", ".join(p.name if p.attached else f"{p.name} OFF" for p in n.probes) or "-"),
        Column("PROBLEMS", lambda n: "; ".join(n.problems) or "-"),
        Column("BATCHES", lambda n: str(n.batches), number=True, wide=True),
        Column("FIRST SEEN", lambda n: ago(n.first_seen, now), wide=True),
        Column("BOOT", lambda n: n.boot, wide=True),
    ]
