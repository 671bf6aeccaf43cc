"""``fathom policy explain``: why a flow is allowed or denied, and which traffic used a rule."""

from __future__ import annotations

import re
from typing import Any

import click

from fathom.cli.options import output_option
from fathom.cli.policy.options import limit_option, policies_option, reading_options, source_options
from fathom.errors import UsageError


@click.group()
def command() -> None:
    """Say why a flow is allowed or denied, or which traffic used a rule."""


@command.command()
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@click.argument("port", metavar="[PROTOCOL/]PORT")
@click.option("--at", metavar="TIME", help="When, as RFC 3339: labels and addresses of then count.  [default: any]")
@click.option("--name", metavar="NAME", help="The DNS name that the destination was looked up by.")
@policies_option
@source_options
@reading_options
@output_option("text", "json")
def flow(source: str, destination: str, port: str, at: str | None, name: str | None, **given: Any) -> None:
    """Say why one flow has its verdict; it need not have been recorded.

    An end is namespace/pod, namespace/Kind/name, namespace/Service/name, Node/name, an address or a DNS name.
    The port is 80, TCP/80, UDP/53, or a protocol without ports such as ICMP.
    """
    from fathom.cli.output import document
    from fathom.cli.policy import tables
    from fathom.cli.policy.door import open_door

    asked: dict[str, Any] = {"src": source, "dst": destination, **_port(port)}
    if at is not None:
        asked |= {"first_seen": at, "last_seen": at}
    if name is not None:
        asked["name"] = name
    door = open_door(given)
    loaded = door.policies(given["policies"])
    answer = door.explain_flow(loaded, asked)
    click.echo(document(answer, "json") if given["output"] == "json" else tables.explained(answer))


def _port(text: str) -> dict[str, Any]:
    """The fields ``protocol`` and ``port`` of ``80``, ``TCP/80``, ``ICMP``. Raises UsageError if it is none."""
    found = re.fullmatch(r"(?:([A-Za-z][A-Za-z0-9]*|\d+(?=/))(?:/|\Z))?(\d{1,5})?", text)
    if not found or not text:
        raise UsageError(f"{text!r} is no port", do="write for example 80, TCP/80, UDP/53, ICMP")
    protocol, number = found.groups()
    return {"protocol": protocol or "TCP"} | ({"port": int(number)} if number else {})


@command.command()
@click.argument("policy", required=False, default="", metavar="[POLICY")
@click.argument("path", required=False, default="", metavar="[PATH]]")
@policies_option
@source_options
@reading_options
@limit_option
@click.option("--unused", is_flag=True, help="Only rules that decided nothing: candidates to remove.")
@output_option("table", "wide", "json")
def rule(policy: str, path: str, unused: bool, output: str, **given: Any) -> None:
    """Say which recorded traffic matched each rule, when last, and how much of it the rule decided.

    A rule that decided nothing is a candidate to remove: nothing matched it, other rules had decided before it, or what
    matched it was not let through.

    POLICY is namespace/name, or 'Kind namespace/name'; PATH a place in it, such as spec.ingress[0].
    """
    from fathom.cli.output import document
    from fathom.cli.policy import tables
    from fathom.cli.policy.door import open_door
    from fathom.policy.questions import RulesAsked

    door = open_door(given)
    loaded = door.policies(given["policies"])
    answer = door.explain_rule(loaded, RulesAsked(policy, path, unused), given["limit"])
    click.echo(document(answer, "json") if output == "json" else tables.rules(answer, wide=output == "wide"))
