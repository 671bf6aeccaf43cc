"""``fathom policy``: questions about network policies, asked of files or of a server, with the same answers.

Each command is a module of its own, imported when it runs. What is allowed is decided in ``fathom.policy`` alone.
"""

from __future__ import annotations

import click

from fathom.cli.main import Commands

#: Name → one line, as in ``fathom.cli.main``.
LINES = {
    "evaluate": "Print the verdict of each flow, with the policies and rules that decided.",
    "generate": "Write a policy for each workload, from recorded traffic.",
    "replay": "Say what policies would have denied of recorded traffic.",
    "diff": "Say what a change of policies newly denies or allows.",
    "explain": "Say why a flow is allowed or denied, or which traffic used a rule.",
    "coverage": "Say how much of the traffic was seen, and which workloads have too little history.",
    "exposure": "List the workloads that no policy covers, and what could reach them.",
    "graph": "Draw who talks to whom, or who may.",
    "audit": "Judge policies on live traffic, without enforcing them.",
    "promote": "Print an audited set as it would be applied, if its audit proved it.",
}


@click.group(cls=Commands, package="fathom.cli.policy", lines=LINES)
def command() -> None:
    """Prove network policies on recorded traffic: generate, evaluate, replay, diff, explain.

    All works on files, with no server and no cluster: a --recording, or --manifests with --flows. Without these the
    server is asked.
    """
