"""``fathom up``: everything on one machine. The server has no capability, and it and the data belong to the caller.

This module says what the two children are; ``supervisor`` keeps them, ``screen`` shows what they find.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from fathom.agent.settings import AgentSettings
from fathom.cli.access import KEY_FILE, key_for, other_listener
from fathom.cli.becoming import confine
from fathom.cli.caller import Caller, acting_as, caller
from fathom.cli.children import Part
from fathom.cli.logs import Log
from fathom.cli.premises import (
    Address,
    DataDir,
    address,
    claim,
    require_extension,
    require_free,
    require_root,
    require_runnable,
)
from fathom.cli.supervisor import Supervisor
from fathom.errors import UsageError
from fathom.settings import load

#: How a child runs this very program; ``-P`` keeps the working directory out of its path.
_FATHOM = (sys.executable, "-P", "-m", "fathom.cli.main")


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for: where the data lies and whose it is, the three listeners, the length of an interval."""

    data: Path
    who: Caller
    rest: Address
    link: Address
    agent: Address
    store: str | None
    interval_s: int


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data, keys and logs lie. Default: ~/.local/share/fathom of the user who called sudo, "
    "/var/lib/fathom for root.",
)
@click.option("--listen", default="127.0.0.1:8600", show_default=True, metavar="ADDRESS", help="REST, for people.")
@click.option("--link", default="127.0.0.1:8601", show_default=True, metavar="ADDRESS", help="gRPC, for agents.")
@click.option("--agent-listen", default="127.0.0.1:8602", show_default=True, metavar="ADDRESS", help="The agent's own.")
@click.option("--store", metavar="URL", help="Where facts are kept. Default: SQLite files in the data directory.")
def command(data_dir: Path | None, listen: str, link: str, agent_listen: str, store: str | None) -> int:
    """Show who talks to whom on this machine: agent, server and a live table.

    Must be started as root: `sudo fathom up`. The agent keeps the capabilities that it needs to watch the kernel; the
    server runs as the user who called, and that user owns the data. `q` or Ctrl-C ends it; nothing stays in the kernel.

    Into a pipe it prints a plain table each interval.
    """
    require_extension("nothing was started")
    require_root(shlex.join(sys.argv))
    who = caller(os.environ)
    require_runnable(who)
    plan = Plan(
        data=(data_dir or who.data_dir).absolute(),
        who=who,
        rest=address(listen),
        link=address(link),
        agent=address(agent_listen),
        store=store,
        interval_s=load(AgentSettings, env=os.environ).interval_s,
    )
    places = ((plan.rest, "REST", "--listen"), (plan.link, "link", "--link"), (plan.agent, "agent", "--agent-listen"))
    if len({where.port for where, *_ in places}) < len(places):
        raise UsageError("two of --listen, --link and --agent-listen have the same port", do="give each its own")
    with DataDir(plan.data, who), ExitStack() as claims:
        for place in places:
            require_free(*place)
            claims.enter_context(claim(*place))
        confine()
        return asyncio.run(_run(plan))


async def _run(plan: Plan) -> int:
    """Make the keys, start both children, show what they find until the end is asked for; 130 if by Ctrl-C."""
    from fathom.server.keys import open_join_tokens, open_keys

    with acting_as(plan.who):  # before the children: the agent reads the join token when it starts
        open_keys(plan.data)
        open_join_tokens(plan.data)
    supervisor = Supervisor([_server(plan), _agent(plan)], partial(_log, plan))
    await supervisor.run(partial(_show, plan))
    return 130 if supervisor.signal == signal.SIGINT else 0


def _server(plan: Plan) -> Part:
    """The server: as the caller, without any capability."""
    where = ["--data-dir", str(plan.data), "--listen", str(plan.rest), "--link", str(plan.link)]
    store = ["--store", plan.store] if plan.store else []
    return Part(
        "server",
        (*_FATHOM, "server", *where, *store),
        user=plan.who,
        unprivileged=True,
        env={"HOME": str(plan.who.home), "FATHOM_LOG_FORMAT": "text"},
    )


def _agent(plan: Plan) -> Part:
    """The agent: as the caller too, since it writes into the caller's directory, but with capabilities; it gives up by
    itself those that it does not need (``fathom.agent.privilege``)."""
    return Part(
        "agent",
        (
            *_FATHOM,
            "agent",
            "--data-dir",
            str(plan.data),
            "--server-link",
            str(plan.link.here),
            "--listen",
            str(plan.agent),
        ),
        user=plan.who,
        env={"HOME": str(plan.who.home), "FATHOM_OWN_ROOT_PID": str(os.getpid())},
    )


def _log(plan: Plan, name: str) -> Log:
    return Log(plan.data / "log" / f"{name}.log", partial(acting_as, plan.who))


def _footer(plan: Plan) -> tuple[str, ...]:
    """How to end it, where everything is, how to ask."""
    program = shlex.quote(sys.argv[0]) if Path(sys.argv[0]).name == "fathom" else "fathom"
    return (
        "q quits",
        f"REST http://{plan.rest.here}/api/v1",
        f"key {plan.data / KEY_FILE}",
        f"logs {plan.data / 'log'}",
        f"{program} query edges",
        f"{program} status",
    )


async def _show(plan: Plan, supervisor: Supervisor) -> None:
    """The table, until ``q``: on a terminal drawn over itself, and the last one is left there at the end."""
    from rich.console import Console

    from fathom.cli.screen import farewell, live, plain
    from fathom.cli.watch import Watch
    from fathom.client import Client

    with acting_as(plan.who):
        key = key_for(f"http://{plan.rest.here}", str(plan.data / KEY_FILE), {})
    footer = _footer(plan)
    async with Client(f"http://{plan.rest.here}", key) as client:
        stranger = partial(other_listener, plan.rest.here.host, plan.rest.port, plan.who.uid)
        watch = Watch(client, supervisor.children, socket.gethostname(), stranger)
        if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            await plain(watch.look, footer, plan.interval_s)
            return
        console = Console(highlight=False)
        try:
            await live(watch.look, footer, console)
        finally:
            farewell(watch.view, console.width)
