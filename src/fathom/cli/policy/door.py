"""From the options of a command to where its questions go: to files, or to a server.

A client of servers is imported only where one is asked: files are answered within a second of the process's start.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from fathom.cli.policy.inputs import Files, read_material
from fathom.cli.policy.local import Local
from fathom.errors import UsageError
from fathom.policy.options import Options

if TYPE_CHECKING:
    from fathom.cli.policy.remote import Remote

#: Options that a server alone understands; that a recording understands too; of how to read what the API leaves open.
_SERVER = ("server", "token_file")
_RECORDED = ("since", "until", "node", "cluster")
_READING = ("block_pods", "host_network", "icmp", "dnat", "established")


def open_door(given: Mapping[str, Any]) -> Local | Remote:
    """The door for the options of ``source_options`` and ``reading_options``: a server, where no file is named.

    Raises UsageError if options exclude one another, or an input cannot be read.
    """
    _one_input()
    reading = Options(**{name: given[name] for name in _READING if name in given})
    files = Files(**{name: given[name] for name in Files.__annotations__})
    if not (files.manifests or files.flows or files.recording):
        from fathom.cli.policy.remote import About, Remote

        about = {name: given[name] for name in About.__annotations__ if given[name] is not None}
        return Remote(given["server"], given["token_file"], cast(About, about), reading, files.access)
    _exclusive(_SERVER, "a server, and files were named")
    _no_cycles()
    if not files.recording:
        _exclusive(_RECORDED, "a server or a recording, and other files were named")
    return Local(read_material(files), reading, files.access)


def _no_cycles() -> None:
    """Looks for no cyclic garbage until the command has ended: documents are trees, and to walk millions of objects
    again and again would be a quarter of the work."""
    if gc.isenabled():
        gc.disable()
        click.get_current_context().call_on_close(gc.enable)


def _one_input() -> None:
    """Raises UsageError if standard input is named more than once: it can be read only once."""
    values = click.get_current_context().params.values()
    named = [item for value in values for item in (value if isinstance(value, tuple) else (value,)) if item == "-"]
    if len(named) > 1:
        raise UsageError(f"standard input (-) is named {len(named)} times", do="put all but one into files")


def _exclusive(names: tuple[str, ...], what: str) -> None:
    """Raises UsageError if one of the options ``names`` was typed."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            spelled = "--" + name.replace("_", "-")
            raise UsageError(f"{spelled} is about {what}", do="give one or the other")
