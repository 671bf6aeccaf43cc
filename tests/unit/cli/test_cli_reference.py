from __future__ import annotations

from pathlib import Path

import click

from fathom.cli.main import COMMANDS, cli
from fathom.cli.reference import page

PAGE = Path(__file__).parents[3] / "docs/reference/cli.md"


def test_the_committed_page_is_what_the_program_says() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m fathom.cli.reference > docs/reference/cli.md"


def test_every_command_and_every_option_is_on_the_page() -> None:
    text = page()
    for name in COMMANDS:
        assert f"## `fathom {name}`" in text
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        children = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        for option in (p for child in children for p in child.params if isinstance(p, click.Option)):
            assert f"`{option.opts[0]}" in text, option.opts
            assert option.help, f"{option.opts} of {name} says nothing"
