"""``fathom policy promote``: an audited set as it would be applied, if its audit proved it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fathom.cli.options import server_options

if TYPE_CHECKING:
    from fathom.client import Client
    from fathom.server.audit_answers import AuditAnswer


@click.command()
@click.argument("name")
@click.option("--need", default="24h", show_default=True, metavar="TIME", help="How long it must have been audited.")
@click.option("--force", is_flag=True, help="Print it, whatever speaks against it; that is said in the documents.")
@server_options
def command(server: str, token_file: str | None, name: str, need: str, force: bool) -> None:
    """Print the documents of the audited set NAME as they would be applied, with what the audit saw as annotations.

    Refuses while the audit saw traffic that would be denied, could not judge some, or has seen too little. Nothing is
    applied: `fathom policy promote NAME | kubectl apply -f -` does that.
    """
    from fathom.cli.ask import ask
    from fathom.cli.output import printable
    from fathom.errors import FathomError
    from fathom.policy.promote import promoted

    status, documents = ask(server, token_file, lambda client: _look(client, name, need))
    objections = ["it is registered as enforced already"] if status.audit.enforced else status.objections
    if status.waiting and not status.audit.enforced:
        objections = [*objections, f"{status.waiting} facts are still to be judged"]
    for sentence in objections:
        click.echo(f"fathom: {name}: {printable(sentence)}", err=True)
    if objections and not force:
        raise FathomError(
            f"{name} is not proved",
            affects="nothing was printed",
            do=f"look at `fathom policy audit status {name}`, or print it all the same with --force",
        )
    made, problems = promoted(documents, _evidence(status, objections), name)
    if problems:
        raise FathomError(f"{name}: {problems[0]}", do="register it anew")
    click.echo("---\n".join(map(_text, made)), nl=False)


async def _look(client: Client, name: str, need: str) -> tuple[AuditAnswer, str]:
    return await client.audit(name, need=need), await client.audit_documents(name)


def _evidence(status: AuditAnswer, objections: list[str]) -> dict[str, str]:
    """What the audit saw, as annotations."""
    audit, coverage = status.audit, status.window.coverage
    found = {
        "since": audit.since,
        "until": audit.seen_until or audit.since,
        "flows": str(audit.flows),
        "denied": str(audit.denied),
        "unknown": str(audit.unknown),
        "missed": str(audit.missed),
        "lost": str(status.lost),
        "coverage": f"{coverage.share:.4f}",
    }
    return found | ({"forced": "; ".join(objections)} if objections else {})


def _text(item: dict[str, Any]) -> str:
    """One document as YAML that every reader takes alike; a fraction, which that does not write, makes it JSON."""
    from fathom.cli.output import document
    from fathom.policy.yamltext import block

    try:
        return block(item)
    except TypeError:
        return document(item, "json") + "\n"
