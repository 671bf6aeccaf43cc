"""``fathom policy audit``: policies that a server judges on every batch, without enforcing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fathom.cli.options import no_headers_option, output_option, server_options
from fathom.cli.policy.options import live_options

if TYPE_CHECKING:
    from fathom.cli.output import Column
    from fathom.server.audit_answers import Audit

_SCOPES = ("together", "alone", "all")
#: Denials that `status` shows of one set.
_SHOWN = 20


@click.group()
def command() -> None:
    """Judge policies on live traffic, without enforcing them.

    A server that knows a set of policies judges every batch of its agents against it: together with what is enforced,
    and each policy by itself. What would be denied is kept with its evidence. Nothing in a cluster is touched.
    """


@command.command()
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="PATH...")
@click.option("--enforced", is_flag=True, help="They are in force already: judge the other sets together with them.")
@live_options
@server_options
def add(name: str, paths: tuple[str, ...], enforced: bool, **given: Any) -> None:
    """Register the policies in PATH... (files, directories, - for standard input, kube: for a live cluster) as NAME.

    A set of that name is replaced and begins anew; the same again changes nothing.
    """
    from fathom.cli.ask import ask
    from fathom.cli.output import printable
    from fathom.cli.policy.inputs import policy_texts
    from fathom.cli.policy.livecluster import Access

    documents = "\n---\n".join(policy_texts(paths, Access(given["kubeconfig"], given["context"])).values())
    registered = ask(
        given["server"],
        given["token_file"],
        lambda client: client.register_audit(name, documents, enforced=enforced),
    )
    made = registered.audit
    for place in made.not_understood:
        click.echo(f"fathom: {printable(place)}", err=True)
    what = "in force, and judged along" if made.enforced else f"judged since {made.since}"
    click.echo(f"{made.name}: {len(made.policies)} policies, {what}")


@command.command(name="list")
@output_option("table", "wide", "json", "yaml")
@no_headers_option
@server_options
def list_(server: str, token_file: str | None, output: str, no_headers: bool) -> None:
    """All registered sets, and how much traffic each would newly deny."""
    from fathom.cli.ask import ask, show

    answer = ask(server, token_file, lambda client: client.audits())
    show(answer, _columns(), output, headers=not no_headers)
    if answer.waiting and output in ("table", "wide") and not no_headers:
        click.echo(f"{answer.waiting} facts are still to be judged")


@command.command()
@click.argument("name")
@server_options
def remove(server: str, token_file: str | None, name: str) -> None:
    """Forget the set NAME with all that was found. Nothing changes in a cluster."""
    from fathom.cli.ask import ask

    ask(server, token_file, lambda client: client.remove_audit(name))
    click.echo(f"{name}: forgotten")


@command.command()
@click.argument("name", required=False, default="")
@click.option("-f", "--follow", is_flag=True, help="Denials as they are found, until Ctrl-C; of all sets without NAME.")
@click.option(
    "--scope",
    type=click.Choice(_SCOPES),
    default="together",
    show_default=True,
    help="What the set denies with what is enforced, what single policies deny, or both.",
)
@click.option("--need", default="24h", show_default=True, metavar="TIME", help="How long is enough to promote a set.")
@output_option("table", "wide", "json", "yaml")
@no_headers_option
@server_options
def status(server: str, token_file: str | None, name: str, follow: bool, output: str, **given: Any) -> None:
    """What the set NAME would have denied, with its policies and the evidence; and what speaks against enforcing it."""
    from fathom.cli.ask import ask
    from fathom.cli.policy import auditing

    scope, headers = given["scope"], not given["no_headers"]
    if follow:
        headers = headers and output in ("table", "wide")
        ask(server, token_file, lambda client: auditing.follow(client, name, scope, output, headers=headers))
        return
    if not name:
        raise click.UsageError("Name a set, or follow all with -f.")
    found = ask(server, token_file, lambda client: auditing.look(client, name, scope, given["need"], _SHOWN))
    auditing.show_status(found, output, headers=headers)


def _columns() -> list[Column[Audit]]:
    from datetime import UTC, datetime

    from fathom.cli.output import Column
    from fathom.cli.trust import ago

    now = datetime.now(UTC)
    return [
        Column("NAME", lambda a: a.name),
        Column("STATE", lambda a: "enforced" if a.enforced else "audited"),
        Column("POLICIES", lambda a: str(len(a.policies)), number=True),
        Column("SINCE", lambda a: ago(a.since, now)),
        Column("FLOWS", lambda a: str(a.flows), number=True),
        Column("DENIED", lambda a: str(a.denied), number=True),
        Column("UNKNOWN", lambda a: str(a.unknown), number=True),
        Column("MISSED", lambda a: str(a.missed), number=True),
        Column("SEEN UNTIL", lambda a: ago(a.seen_until, now), wide=True),
        Column("NOT UNDERSTOOD", lambda a: str(len(a.not_understood)), number=True, wide=True),
    ]
