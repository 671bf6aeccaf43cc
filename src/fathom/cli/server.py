"""``fathom server``: flags, environment and file into settings; the server itself is ``fathom.server.main``."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    metavar="DIRECTORY",
    help="Where the store, the keys and the join token lie.  [default: /var/lib/fathom]",
)
@click.option("--listen", metavar="ADDRESS", help="REST, for people.  [default: 127.0.0.1:8600]")
@click.option("--link", "link_listen", metavar="ADDRESS", help="gRPC, for agents.  [default: 127.0.0.1:8601]")
@click.option("--store", metavar="URL", help="Where facts are kept.  [default: SQLite files in the data directory]")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings, TOML. Each is also read from FATHOM_<NAME>; see the reference of settings.",
)
def command(
    data_dir: str | None, listen: str | None, link_listen: str | None, store: str | None, config: Path | None
) -> None:
    """Run the server: receive, store, answer.

    It needs no privilege. At the first start it makes an admin key, DATA_DIR/admin.token, and a join token for agents,
    DATA_DIR/join.token. SIGTERM ends it: what was acknowledged is on disk.
    """
    import asyncio

    from fathom.link.settings import LinkServerSettings
    from fathom.server.logs import set_up
    from fathom.server.main import run_server
    from fathom.server.settings import ServerSettings
    from fathom.settings import load

    groups = (ServerSettings, LinkServerSettings)
    flags = {"data_dir": data_dir, "listen": listen, "store": store}
    settings = load(ServerSettings, flags=flags, env=os.environ, file=config, beside=groups)
    link = load(LinkServerSettings, flags={"link_listen": link_listen}, env=os.environ, file=config, beside=groups)
    set_up(settings.log_format, settings.log_level)
    asyncio.run(run_server(settings, link))
