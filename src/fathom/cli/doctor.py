"""``fathom doctor``: what ``fathom.probes.features`` found, told to a person; loading the probes is the last test."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import click

from fathom.cli.options import output_option

if TYPE_CHECKING:
    from fathom.cli.output import Column
    from fathom.probes.features import Feature


@click.command()
@output_option("table", "json", "yaml")
def command(output: str) -> int:
    """Say what this kernel can and cannot do for Fathom, and what to do about it.

    As root it also loads and attaches each probe for a moment. Exit status 1: the main job cannot run here.
    """
    from fathom.cli.output import document, table
    from fathom.cli.premises import require_extension

    require_extension("the kernel was not examined")
    features = _examined()
    if output != "table":
        click.echo(document({"kernel": platform.release(), "machine": platform.machine(),
                             "works": _works(features), "features": features}, output))  # fmt: skip
        return 0 if _works(features) is not False else 1
    click.echo(f"Linux {platform.release()} on {platform.machine()}, {os.cpu_count()} CPUs\n")
    click.echo(table(features, _columns()))
    click.echo()
    for text in _conclusion(features):
        click.echo(text)
    return 0 if _works(features) is not False else 1


def _examined() -> list[Feature]:
    """Everything that can be asked for; the probes are tried where that is allowed."""
    from dataclasses import replace

    from fathom.agent import privilege
    from fathom.probes.features import examine, try_probe
    from fathom.probes.settings import ProbeSettings

    lacking = privilege.missing()
    features = examine()
    if lacking and os.geteuid() != 0:
        # What this user lacks says nothing about the kernel: root is asked for anyway.
        own = ("capabilities", "CAP_SYS_PTRACE")
        return [replace(f, ok=None, found=f"not root: {f.found}") if f.name in own else f for f in features]
    if lacking:
        return features
    from fathom.probes.flow import FlowProbe
    from fathom.probes.tcp import TcpProbe

    settings = ProbeSettings()
    tried = [
        try_probe("tcp", lambda: TcpProbe.open(settings)),
        try_probe("flow", lambda: FlowProbe.open(settings)),
    ]
    return features + tried


def _works(features: list[Feature]) -> bool | None:
    """Whether the main job can run: all that is needed is there and a probe attaches; None if that cannot be told."""
    probes = [feature.ok for feature in features if feature.name.startswith("probe ")]
    needed = [feature.ok for feature in features if feature.needed]
    if False in needed or (probes and True not in probes):
        return False
    return None if None in needed or not probes else True


def _columns() -> list[Column[Feature]]:
    from fathom.cli.output import Column

    words = {True: "ok", False: "MISSING", None: "?"}
    return [
        Column("", lambda f: words[f.ok]),
        Column("WHAT", lambda f: f.name),
        Column("FOUND", lambda f: f.found),
    ]


def _conclusion(features: list[Feature]) -> list[str]:
    """For each thing that is missing, what that means and what to do; then the verdict."""
    from fathom.cli.output import warning

    lines = []
    for feature in features:
        if feature.ok is False:
            lines += [warning(f"{feature.name}: {feature.means}"), f"  to do: {feature.do}" if feature.do else ""]
    unknown = [feature.name for feature in features if feature.ok is None]
    if unknown:
        lines.append(f"Could not be checked by this user: {', '.join(unknown)}. To know: sudo fathom doctor")
    verdict = {
        True: "Fathom can do its main job here: sudo fathom up",
        False: warning("Fathom cannot do its main job here, for the reasons above."),
        None: "Nothing was found that stands in the way.",
    }
    return [line for line in (*lines, verdict[_works(features)]) if line]
