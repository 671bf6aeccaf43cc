"""Making a recording of what a person names: each input is read whole, and refused before anything is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from fathom.cli.files import MOST_TOGETHER, read_text, read_texts
from fathom.cli.output import printable
from fathom.cli.policy.problems import tell
from fathom.cli.policy.show import progress
from fathom.cli.record.interrupting import interruptible
from fathom.cli.record.summary import Summary, summary
from fathom.errors import UsageError
from fathom.policy import manifests, seccomp
from fathom.policy.flows import Seen, read_lines
from fathom.policy.imported import to_edges
from fathom.policy.inventory import Records
from fathom.store.making import Making, nobody
from fathom.store.opening import open_recording
from fathom.store.sqlite.merger import merge
from fathom.store.sqlite.plain import Plain

#: Problems, and objects, that are named.
_MOST = 10


@dataclass(frozen=True)
class Sources:
    """What the recording is made of, as it was typed."""

    recordings: Sequence[str]
    manifests: Sequence[str]
    flows: Sequence[str]
    syscalls: Sequence[str]


def made(target: Path, sources: Sources, *, force: bool) -> Summary:
    """The recording in ``target``. Raises UsageError if an input is refused or they cannot be one recording."""
    given = (*sources.recordings, *sources.manifests, *sources.flows, *sources.syscalls)
    if not given:
        raise UsageError("nothing to import", do="name recordings, or files by --manifests, --flows and --syscalls")
    if given.count("-") > 1:
        raise UsageError(f"standard input (-) is named {given.count('-')} times", do="put all but one into files")
    _check_target(target, sources.recordings)
    plain = Plain(_flows(sources.flows), _records(sources.manifests), _syscalls(sources.syscalls))
    with contextlib.ExitStack() as stack, progress("Importing") as told:
        stores = [stack.enter_context(contextlib.closing(open_recording(Path(name)))) for name in sources.recordings]
        making = Making(force=force, stopped=stack.enter_context(interruptible()), progress=told or nobody)
        left_out = merge(stores, plain, target, making, int(time.time()))
    _tell_left_out(left_out)
    return summary(target)


def _tell_left_out(objects: Sequence[str]) -> None:
    if objects:
        more = f", and {len(objects) - _MOST} more" if len(objects) > _MOST else ""
        click.echo(
            "fathom: the recordings say something else of what is in the manifests, and what they say is kept:"
            f" {', '.join(map(printable, objects[:_MOST]))}{more}",
            err=True,
        )


def _check_target(target: Path, recordings: Sequence[str]) -> None:
    """Raises UsageError if a recording is named twice, or is what would be written."""
    found: dict[tuple[int, int], str] = {}
    for name in (str(target), *recordings):
        with contextlib.suppress(OSError):  # not there: told when it is opened, or good, for the target
            status = Path(name).stat()
            key = (status.st_dev, status.st_ino)
            if key in found:
                raise UsageError(f"{name} is named twice, as {found[key]} too", do="name each once")
            found[key] = name


def _records(paths: Sequence[str]) -> Records | None:
    if not paths:
        return None
    found = manifests.read_texts(read_texts(paths).items()).records
    tell(found.problems)
    return found


def _flows(files: Sequence[str]) -> list[Seen]:
    seen: list[Seen] = []
    for file in files:
        flows, problems = read_lines(read_text(file, MOST_TOGETHER), file)
        tell(problems)
        edges, unheld = to_edges(flows)
        if unheld:
            more = f"; and {len(unheld) - _MOST} more" if len(unheld) > _MOST else ""
            raise UsageError(
                f"{file}: {'; '.join(unheld[:_MOST])}{more}",
                affects="no file was made",
                do="leave those flows out, or give `fathom policy` the file itself by --flows",
            )
        seen += edges
    untimed = {item.id for item in seen if not item.last}
    if untimed & {item.id for item in seen if item.last}:
        raise UsageError("the same flow is there with times and without", do="give all of them times, or none")
    return seen


def _syscalls(files: Sequence[str]) -> list[seccomp.SyscallSet]:
    return [item for file in files for item in seccomp.read_sets(read_text(file), place=file)]
