"""From the options of a command to where its questions go: to files, or to a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import click
from click.core import ParameterSource

from fathom.cli.policy.inputs import read_material
from fathom.cli.policy.local import Local
from fathom.cli.policy.remote import About, Remote
from fathom.errors import UsageError
from fathom.policy.options import Options

#: Options of files; of a server alone; of how to read what the API leaves open.
_FILES = ("manifests", "flows")
_SERVER = ("server", "token_file", "since", "until", "node", "cluster")
_READING = ("block_pods", "host_network", "icmp", "dnat", "established")


def open_door(given: Mapping[str, Any]) -> Local | Remote:
    """The door for the options of ``source_options`` and ``reading_options``: a server, where no file is named.

    Raises UsageError if options exclude one another, or an input cannot be read.
    """
    reading = Options(**{name: given[name] for name in _READING if name in given})
    if not any(given[name] for name in _FILES):
        about = {name: given[name] for name in About.__annotations__ if given[name] is not None}
        return Remote(given["server"], given["token_file"], cast(About, about), reading)
    context = click.get_current_context()
    for name in _SERVER:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            spelled = "--" + name.replace("_", "-")
            raise UsageError(f"{spelled} is about a server, and files were named", do="give one or the other")
    return Local(read_material(given["manifests"], given["flows"], given["workload"]), reading)
