"""``fathom record``: a recording is one file with the traffic, the inventory, the coverage and the losses of a window.

It is taken from a server or from a store, or made of other recordings and of plain files; ``fathom policy`` and
``fathom seccomp`` read it with no server. Each command is a module of its own, imported when it runs.
"""

from __future__ import annotations

import click

from fathom.cli.main import Commands

#: Name → one line, as in ``fathom.cli.main``.
LINES = {
    "export": "Take a recording from a server, or from a store.",
    "import": "Make one recording of several, or of manifests, flows and system calls.",
    "info": "Say what a recording holds.",
}


@click.group(cls=Commands, package="fathom.cli.record", lines=LINES)
def command() -> None:
    """Make a recording, one file of traffic and inventory, and say what is in it.

    `fathom policy` answers from it with --recording, with no server and no cluster.
    """
