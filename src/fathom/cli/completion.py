"""``fathom completion``: the script that a shell sources; the completions themselves come from the command tree."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fathom.cli.main import COMPLETE, cli
from fathom.errors import FathomError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  source <(fathom completion bash)
    zsh:   source <(fathom completion zsh)
    fish:  fathom completion fish | source
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise FathomError(f"no completion for {shell}", do="use bash, zsh or fish")
    click.echo(kind(cli, {}, "fathom", COMPLETE).source())
