"""The command ``fathom``: the tree of commands, and the one place that prints an error and sets an exit status.

It imports nothing but click before a command is chosen, so that ``fathom --help`` and completion answer at once.

Exit status: 0 done (also when the reader of a pipe left), 1 failed, 2 wrong usage, 70 a defect of Fathom, 130 Ctrl-C.
Commands that answer by their status, as diff does (``ANSWERING``): 0 nothing, 1 something, above 1 an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete

from fathom.errors import FathomError, UsageError

#: Name → one line. Kept here so that the list of commands needs no import; a test compares it with the commands.
COMMANDS = {
    "up": "Show who talks to whom on this machine: agent, server and a live table.",
    "agent": "Run the node agent: probes in the kernel, reduced and sent to a server.",
    "server": "Run the server: receive, store, answer.",
    "trace": "Print connections or flows straight from this kernel; needs no server.",
    "query": "Ask the server for edges, workloads or events.",
    "status": "Say how server, nodes, coverage and loss are.",
    "doctor": "Say what this kernel can and cannot do for Fathom, and what to do about it.",
    "record": "Make a recording, one file of traffic and inventory, and say what is in it.",
    "policy": "Prove network policies on recorded traffic: generate, evaluate, replay, diff, explain.",
    "seccomp": "Make seccomp profiles from recorded system calls, and compare them.",
    "completion": "Print the completion script of a shell.",
    "version": "Print the version.",
}
#: Commands whose status 1 is an answer: their failures have status 2.
ANSWERING = frozenset((("seccomp", "diff"), ("policy", "replay"), ("policy", "diff"), ("record", "info")))
#: The variable by which a shell asks for completions.
COMPLETE = "_FATHOM_COMPLETE"
_STDOUT, _STDERR = 1, 2
_OK, _FAILED, _USAGE, _DEFECT, _INTERRUPTED = 0, 1, 2, 70, 130


class Commands(click.Group):
    """A group that imports the module of a command only when it is run, and lists commands without importing.

    ``lines`` are the names with one line each; the command ``name`` is ``command`` of the module ``package.name``.
    """

    def __init__(self, *args: Any, package: str = "fathom.cli", lines: Mapping[str, str] = COMMANDS, **more: Any):
        super().__init__(*args, **more)
        self.package, self.lines = package, lines

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, in the order in which a newcomer needs them."""
        return list(self.lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command ``cmd_name``, or None if there is none."""
        if cmd_name not in self.lines:
            return None
        command: click.Command = import_module(f"{self.package}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands from ``lines``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Command names and options that start with ``incomplete``."""
        names = [CompletionItem(name, help=text) for name, text in self.lines.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """What every workload on this machine really does, measured from the kernel.

    Start with `sudo fathom up`. Servers are chosen by --server or FATHOM_SERVER, keys by --token-file or FATHOM_TOKEN.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (default: those of the process) and return its exit status."""
    _hold_standard_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    failed = _USAGE if tuple(given[:2]) in ANSWERING else _FAILED
    status = _OK
    try:
        status = _run(given)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return reader_left(status)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return _USAGE if isinstance(error, click.UsageError) else failed
    except FathomError as error:
        _say(str(error))
        return _USAGE if isinstance(error, UsageError) else failed
    except Exception as error:
        return _unwritten(error, failed) if isinstance(error, OSError) and _of_output(error) else _defect(error)


def _hold_standard_streams() -> None:
    """Where one was closed (``>&-``), nothing else that is opened may get its number; output then fails, as a write
    to a full disk does."""
    while (number := os.open(os.devnull, os.O_RDONLY)) <= _STDERR:
        pass
    os.close(number)
    if getattr(sys, "stdout", None) is None:
        sys.stdout = open(_STDOUT, "w", closefd=False)  # noqa: SIM115 - a number; open as long as the process


def _run(arguments: list[str]) -> int:
    """Run the command; its status is what it returns, if that is a number. click's own ``main`` would hide errors."""
    if instruction := os.environ.get(COMPLETE):
        return shell_complete(cli, {}, "fathom", COMPLETE, instruction)
    try:
        with cli.make_context("fathom", arguments) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else _OK


def reader_left(status: int = _OK) -> int:
    """Whoever read our output has gone, as in ``| head``: that is no error, and changes no answer (``status``)."""
    _forget_output()
    return status


def _of_output(error: OSError) -> bool:
    """Whether ``error`` came from writing output: from ``click.echo``, or from the flush in ``main``."""
    frames = []
    trace = error.__traceback__
    while trace:
        frames.append(trace.tb_frame.f_code)
        trace = trace.tb_next
    return click.echo.__code__ in frames or frames == [main.__code__]


def _unwritten(error: OSError, status: int) -> int:
    _forget_output()
    _say(str(FathomError(f"cannot write the output: {error.strerror}", affects="some or all of it is missing")))
    return status


def _forget_output() -> None:
    """Python must not flush at exit what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _defect(error: Exception) -> int:
    import traceback

    if os.environ.get("FATHOM_DEBUG"):
        traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}:{place.lineno}"  # noqa: PTH119 - not a path to open
    what = f"this is a defect of Fathom: {type(error).__name__}: {error} ({where})"
    _say(str(FathomError(what, do="report it, with what FATHOM_DEBUG=1 prints")))
    return _DEFECT


def _say(text: str) -> None:
    click.echo(f"fathom: {text}", err=True)


if __name__ == "__main__":
    sys.exit(main())
