"""One question to a server, and its answer on the terminal: what ``query`` and ``status`` share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from fathom.cli.access import key_for
from fathom.cli.output import Column, document, table
from fathom.cli.trust import footer
from fathom.client import Client
from fathom.server.answers import Answer

T = TypeVar("T")
A = TypeVar("A")


def ask(server: str, token_file: str | None, question: Callable[[Client], Awaitable[A]]) -> A:
    """What ``question`` returns when it is given a client of ``server``.

    Raises what the client raises (``fathom.errors``), and AuthenticationError if there is no key.
    """
    key = key_for(server, token_file, os.environ)

    async def run() -> A:
        async with Client(server, key) as client:
            return await question(client)

    return asyncio.run(run())


def show(
    answer: Answer[T], columns: Sequence[Column[T]], output: str, *, headers: bool = True, asked: str = ""
) -> None:
    """Print ``answer`` as ``output`` says; below a table stands how far it can be trusted (see ``footer``)."""
    if output in ("json", "yaml"):
        click.echo(document(answer, output))
        return
    text = table(answer.items, columns, wide=output == "wide", headers=headers)
    click.echo(text or "Nothing in this window.", err=not text and not headers)
    if headers:
        click.echo("\n" + "\n".join(footer(answer, asked)))
