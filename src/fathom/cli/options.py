"""Options that several commands share, with one spelling and one meaning each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fathom.cli.units import moment, seconds_of
from fathom.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from click 8.4 on
    """A duration such as ``30s`` or ``1h30m``; its value is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of ``value``; fails as click does if it is no duration."""
        try:
            return value if isinstance(value, float) else seconds_of(str(value))
        except UsageError as error:
            self.fail(f"{error.what}; {error.do}", param, ctx)


class Moment(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from click 8.4 on
    """A time: a duration ago (``5m``) or RFC 3339; its value is the text, which the server understands too."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """``value`` itself; fails as click does if it is no time."""
        try:
            return moment(str(value))
        except UsageError as error:
            self.fail(f"{error.what}; {error.do}", param, ctx)


def output_option(*formats: str) -> Callable[[F], F]:
    """``-o``, one of ``formats``; the first is the default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format." + (" json and yaml carry base units." if "json" in formats else ""),
    )


def server_options(function: F) -> F:
    """``--server`` and ``--token-file``."""
    function = click.option(
        "--token-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="File with the server's key. Default: FATHOM_TOKEN (the key itself), else the local server's admin.token.",
    )(function)
    return click.option(
        "--server",
        metavar="URL",
        envvar="FATHOM_SERVER",
        show_envvar=True,
        default="http://127.0.0.1:8600",
        show_default=True,
        help="The server.",
    )(function)


def no_headers_option(function: F) -> F:
    """``--no-headers``."""
    return click.option("--no-headers", is_flag=True, help="Tables without their first and last line.")(function)
