"""Audited policies on the terminal: one set with its evidence, and denials as they are found."""

from __future__ import annotations

import asyncio

import click
import msgspec

from fathom.cli.output import Column, document, line, printable, table, warning
from fathom.cli.trust import footer
from fathom.client import Client
from fathom.client.audits import Scope
from fathom.server.answers import StreamLoss
from fathom.server.audit_answers import AuditAnswer, AuditDenial, AuditedPolicy, AuditOffender, AuditOffenders

#: Seconds to wait before asking again for a stream that ended.
RECONNECT_S = 1.0
_VERDICTS = ("allowed", "denied-egress", "denied-ingress", "denied-both", "unknown")


class Found(msgspec.Struct, frozen=True):
    """A set, and its evidence."""

    status: AuditAnswer
    offenders: AuditOffenders


async def look(client: Client, name: str, scope: Scope, need: str, limit: int) -> Found:
    """What a server knows of a set."""
    return Found(await client.audit(name, need=need), await client.audit_offenders(name, scope=scope, limit=limit))


def show_status(found: Found, output: str, *, headers: bool) -> None:
    """Print a set with its evidence."""
    if output in ("json", "yaml"):
        click.echo(document(found, output))
        return
    wide, status = output == "wide", found.status
    if headers:
        click.echo("\n".join([*_about(status), ""]))
    click.echo(table(status.items, _policy_columns(), wide=wide, headers=headers))
    if found.offenders.items:
        click.echo("\n" + table(found.offenders.items, offender_columns(), wide=wide, headers=headers))
    if not headers:
        return
    if found.offenders.omitted or found.offenders.left_out:
        omitted, left_out = found.offenders.omitted, found.offenders.left_out
        click.echo(warning(f"and {omitted} more rows; {left_out} flows had no room in the evidence"))
    click.echo("\n" + "\n".join(footer(status)))


def _about(status: AuditAnswer) -> list[str]:
    audit = status.audit
    state = "enforced: judged along with the others" if audit.enforced else f"audited since {audit.since}"
    lines = [f"{audit.name}   {state}"]
    counted = {v: sum(row.flows for row in status.verdicts if row.verdict == v) for v in _VERDICTS}
    if not audit.enforced:
        told = " · ".join(f"{counted[v]} {v}" for v in _VERDICTS if counted[v]) or "nothing judged yet"
        lines.append(f"flows   {told} · newly denied {audit.denied}, newly unknown {audit.unknown}")
    lines += [f"unknown   {row.flows} flows: {row.reason}" for row in status.reasons]
    if status.waiting:
        lines.append(f"waiting   {status.waiting} facts are still to be judged")
    lines += [warning(f"! {printable(one)}") for one in audit.not_understood]
    lines += [warning(f"! {printable(one)}") for one in status.objections]
    if not status.objections and not audit.enforced:
        lines.append("nothing speaks against enforcing it: fathom policy promote " + audit.name)
    return lines


def _policy_columns() -> list[Column[AuditedPolicy]]:
    def flows(policy: AuditedPolicy, *verdicts: str) -> str:
        return str(sum(row.flows for row in policy.verdicts if row.verdict in verdicts))

    return [
        Column("POLICY BY ITSELF", lambda p: p.policy, name=True),
        Column("ALLOWED", lambda p: flows(p, "allowed"), number=True),
        Column("DENIED", lambda p: flows(p, *_VERDICTS[1:4]), number=True),
        Column("UNKNOWN", lambda p: flows(p, "unknown"), number=True),
    ]


def offender_columns() -> list[Column[AuditOffender]]:
    """Columns of a table of evidence."""
    return [
        Column("SOURCE", lambda o: o.src, name=True),
        Column("DESTINATION", lambda o: o.dst, name=True),
        Column("PORT", lambda o: f"{o.protocol}/{o.port}"),
        Column("VERDICT", lambda o: o.verdict),
        Column("FLOWS", lambda o: str(o.flows), number=True),
        Column("CONNS", lambda o: str(o.connections), number=True),
        Column("LAST SEEN", lambda o: o.last_seen),
        Column("BY", lambda o: ", ".join(o.policies) or "; ".join(o.reasons) or "-", name=True),
        Column("FIRST SEEN", lambda o: o.first_seen, wide=True),
        Column("RULES", lambda o: "; ".join(o.rules) or "-", wide=True),
        Column("WHY", lambda o: "; ".join(o.reasons + o.assumptions) or "-", wide=True),
    ]


async def follow(client: Client, name: str, scope: Scope, output: str, *, headers: bool) -> None:
    """Print denials as they come, until Ctrl-C; what this reader misses goes to standard error."""
    if name:
        await client.audit(name)  # so that a name that is wrong is told
    if headers:
        click.echo("TIME                   SET   DENIED")
    while True:
        async for item in client.audit_stream(audit=name, scope=scope):
            if isinstance(item, StreamLoss):
                click.echo(warning(f"missed {item.events} denials ({item.reason})"), err=True)
            else:
                click.echo(line(item, output) if output in ("json", "yaml") else _denial(item))
        click.echo(warning("the stream ended; asking again"), err=True)
        await asyncio.sleep(RECONNECT_S)


def _denial(told: AuditDenial) -> str:
    of = told.offender
    by = ", ".join(of.policies) or "; ".join(of.reasons) or "-"
    text = (
        f"{told.time}   {told.audit}   {of.verdict}   {of.src} > {of.dst} {of.protocol}/{of.port}"
        f"   {of.flows} flows, {of.connections} connections   by {by}"
    )
    return printable(text)
