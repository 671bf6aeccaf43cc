"""``fathom agent``: joins what does not know one another: probes, identity, the loop, the link, the local API.

A probe that the kernel refuses does not stop the other; status says so. It refuses to start when all are refused.
Memory is counted, so OpenSSL is kept out before asyncio would load it; capabilities go before numpy is imported, whose
threads would keep them: hence the imports inside functions, in this order.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.errors import FathomError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from fathom.agent.keys import LocalKey
    from fathom.agent.settings import AgentSettings
    from fathom.link.settings import LinkClientSettings
    from fathom.probes.probe import Probe
    from fathom.probes.settings import ProbeSettings

_LOG = logging.getLogger("fathom.agent")


@click.command()
@click.option(
    "--server-link", "link_server", metavar="ADDRESS", help="The server's link, host:port.  [default: 127.0.0.1:8601]"
)
@click.option(
    "--join-token-file",
    "link_token_file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="File with the server's join token (its DATA_DIR/join.token).  [default: DATA_DIR/join.token]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/var/lib/fathom"),
    show_default=True,
    help="Where batches wait that no server has acknowledged, and the local API's key (agent.token).",
)
@click.option("--listen", metavar="ADDRESS", help="/metrics, health, local API.  [default: 127.0.0.1:8602]")
@click.option("--node", metavar="NAME", help="Name of this node.  [default: the host's name]")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings, TOML. Each is also read from FATHOM_<NAME>; see the reference of settings.",
)
def command(data_dir: Path, listen: str | None, config: Path | None, **flags: Any) -> None:
    """Run the node agent: probes in the kernel, reduced and sent to a server.

    Needs root or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and is better with CAP_SYS_PTRACE; gives up the other
    capabilities at the start. It dials the server and never listens for it. SIGTERM ends it: the open interval is sent
    first.
    """
    from fathom.agent.frugal import settle

    settle()
    from fathom.cli.premises import require_extension
    from fathom.cli.running import log_to_stderr

    log_to_stderr(os.environ)
    require_extension("the agent was not started")
    probes, agent, link = _settings(data_dir, listen, config, flags)
    from fathom.agent import privilege
    from fathom.agent.keys import open_key

    key = open_key(data_dir)  # while the directory can still be written, whoever owns it
    for sentence in privilege.without():
        _LOG.warning("%s", sentence)
    privilege.drop()
    import asyncio

    asyncio.run(_run(probes, agent, link, key))


def _settings(
    data_dir: Path, listen: str | None, config: Path | None, flags: dict[str, Any]
) -> tuple[ProbeSettings, AgentSettings, LinkClientSettings]:
    from fathom.agent.settings import AgentSettings
    from fathom.cli.premises import address
    from fathom.link.settings import LinkClientSettings
    from fathom.probes.settings import ProbeSettings
    from fathom.settings import load

    groups = (ProbeSettings, AgentSettings, LinkClientSettings)
    env = {
        "FATHOM_SPOOL_DIR": str(data_dir / "spool"),
        "FATHOM_LINK_TOKEN_FILE": str(data_dir / "join.token"),
        **os.environ,
    }
    where = address(listen) if listen else None
    agent = {
        "node": flags["node"],
        "api_host": where.host if where else None,
        "api_port": where.port if where else None,
    }
    link = {name: flags[name] for name in ("link_server", "link_token_file")}
    return (
        load(ProbeSettings, env=env, file=config, beside=groups),
        load(AgentSettings, flags=agent, env=env, file=config, beside=groups),
        load(LinkClientSettings, flags=link, env=env, file=config, beside=groups),
    )


async def _run(probes: ProbeSettings, settings: AgentSettings, link: LinkClientSettings, key: LocalKey) -> None:
    """Open everything, turn until a signal, close everything in the reverse order."""
    from contextlib import ExitStack
    from secrets import token_hex

    from fathom import __version__, notify
    from fathom.agent.agent import Agent
    from fathom.agent.clock import SystemClock
    from fathom.agent.local_api import LocalApi
    from fathom.cli.running import on_end
    from fathom.identity.identities import Bounds, Identities
    from fathom.identity.own import OwnProcesses
    from fathom.link.client import LinkClient
    from fathom.wire.messages import AgentHello

    clock, boot = SystemClock(), token_hex(8)
    bounds = Bounds(
        workloads=settings.max_workloads, kept_s=settings.names_kept_s, lookups_per_s=settings.lookups_per_s
    )
    identities = Identities(settings.node, settings.cluster, bounds=bounds, own=OwnProcesses(settings.own_root_pid))
    with ExitStack() as stack:
        opened, refused = _open(probes, stack)
        hello = AgentHello(identities.node, boot, __version__, tuple(probe.name for probe in opened))
        sink = LinkClient(link, hello, clock.now)
        agent = Agent(settings, opened, identities, sink, clock, refused=refused, boot=boot)
        sink.answerer = agent
        async with sink, LocalApi(agent, key):
            on_end(agent.stop)
            _LOG.info("node %s: probes %s attached", agent.node, ", ".join(hello.features))
            notify.ready()
            await agent.run()


def _open(settings: ProbeSettings, stack: ExitStack) -> tuple[list[Probe], dict[str, str]]:
    """The probes that this kernel runs, to be closed with ``stack``, and why it refused the others.

    Raises the first refusal if there is no other.
    """
    from fathom.agent.frugal import give_back
    from fathom.probes.flow import FlowProbe
    from fathom.probes.tcp import TcpProbe

    opened: list[Probe] = []
    refused: dict[str, str] = {}
    errors: list[FathomError] = []
    for name, open_probe in (("tcp", TcpProbe.open), ("flow", FlowProbe.open)):
        try:
            probe: Probe = open_probe(settings)
            stack.callback(probe.close)
            opened.append(probe)
        except FathomError as error:
            _LOG.error("probe %s: %s", name, error)
            refused[name] = error.what
            errors.append(error)
    if not opened:
        raise errors[0]
    give_back()  # loading takes 11 MiB for a moment
    return opened, refused
