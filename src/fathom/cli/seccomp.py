"""``fathom seccomp``: profiles from recorded system calls, and what one profile allows that another does not.

Works on files, with no server and no cluster. It writes to standard output, or one file for each profile into a
directory; it never installs a profile anywhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from fathom.cli.files import read_text
from fathom.cli.options import output_option
from fathom.cli.output import document
from fathom.errors import FathomError, UsageError
from fathom.policy import seccomp
from fathom.policy.documents import read as read_documents

_FORMATS = ("oci", "spo", "crio-annotation")


@click.group()
def command() -> None:
    """Make seccomp profiles from recorded system calls, and compare them.

    Exit status of `diff`: 0 no difference, 1 some, 2 an error.
    """


@command.command()
@click.argument("files", nargs=-1, type=click.Path(allow_dash=True), metavar="[FILE]...")
@click.option(
    "--recording", "recordings", multiple=True, type=click.Path(), metavar="FILE", help="A recording. Repeatable."
)
@click.option(
    "--by", type=click.Choice(get_args(seccomp.By)), default="workload", show_default=True, help="One profile for each."
)
@click.option("--subject", metavar="NAME", help="Only the profile of this workload, image or executable.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="oci", show_default=True, help="Form of the profiles."
)
@click.option(
    "--default",
    type=click.Choice(get_args(seccomp.Default)),
    default="errno",
    show_default=True,
    help="What happens to every other call.",
)
@click.option(
    "--namespace", default="", metavar="NAME", help="Namespace of the objects (spo; none from the operator's 0.9 on)."
)
@click.option("--artifact", metavar="REFERENCE", help="The OCI artifact that holds the profile (crio-annotation).")
@click.option("--container", default="", metavar="NAME", help="Only for this container of the pod (crio-annotation).")
@click.option("--directory", type=click.Path(file_okay=False), help="Write one file for each profile here.")
def generate(
    files: Sequence[str], by: seccomp.By, subject: str | None, form: str, default: seccomp.Default, **more: Any
) -> None:
    """Write profiles from JSON lines of system calls (- is standard input), and from recordings.

    A profile allows what was called, and what a container runtime calls after the filter is loaded. Sets of the same
    workload, image or executable are merged, over replicas and files.
    """
    recordings: Sequence[str] = more["recordings"]
    if not (files or recordings):
        raise click.UsageError("name files of system calls, or a --recording.")
    sets = [row for file in files for row in seccomp.read_sets(read_text(file), place=file)]
    for file in recordings:
        sets += _recorded(file)
    profiles = seccomp.generate(sets, by=by, default=default)
    if subject is not None:
        profiles = [item for item in profiles if item.subject == subject]
        if not profiles:
            raise UsageError(f"no {by} {subject!r} in {', '.join((*files, *recordings))}")
    texts = _written(profiles, form, more)
    _tell_left_out(sets, by)
    for item in profiles:
        if not item.observed:
            click.echo(f"fathom: {item.subject} made no call that was seen: its profile is the base alone", err=True)
        if item.dangerous:
            click.echo(f"fathom: {item.subject} itself called: {', '.join(item.dangerous)}", err=True)
    if more["directory"]:
        _write(Path(more["directory"]), texts)
    elif len(texts) > 1 and form != "spo":
        raise UsageError(f"{len(texts)} profiles do not fit one output", do="give --directory, or --subject")
    else:
        click.echo("---\n".join(text for _, text in texts), nl=False)


@command.command()
@click.argument("before", type=click.Path(allow_dash=True))
@click.argument("after", type=click.Path(allow_dash=True))
@output_option("text", "json", "yaml")
def diff(before: str, after: str, output: str) -> int:
    """Say what AFTER allows that BEFORE does not, and the reverse. Exit status: 0 nothing, 1 something, 2 an error."""
    found = seccomp.diff(_profile(before), _profile(after))
    words = ("newly allowed", "no longer allowed")
    _show(found, words, output)
    return 1 if found else 0


@command.command()
@click.argument("profile", type=click.Path(allow_dash=True))
@click.option(
    "--architecture",
    type=click.Choice(sorted(seccomp.TOKENS)),
    default="x86_64",
    show_default=True,
    help="Whose default profile.",
)
@output_option("text", "json", "yaml")
def compare(profile: str, architecture: str, output: str) -> None:
    """Compare PROFILE with the container runtimes' default profile: what is tighter, what it would newly allow."""
    found = seccomp.diff(seccomp.runtime_default(architecture), _profile(profile))
    _show(found, ("newly allowed", "tighter: no longer allowed"), output)


def _tell_left_out(sets: Sequence[seccomp.SyscallSet], by: seccomp.By) -> None:
    names = sorted({row.executable for row in sets if seccomp.of_runtime(row)}) if by != "executable" else []
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        click.echo(f"fathom: left out, since it is a container runtime: {', '.join(names[:5])}{more}", err=True)


def _recorded(file: str) -> list[seccomp.SyscallSet]:
    """The system calls of a recording. Raises UsageError if it holds none."""
    from fathom.store.opening import open_recording

    with contextlib.closing(open_recording(Path(file))) as store:
        window = store.extent()
        found = store.syscalls(window) if window else []
    if not found:
        raise UsageError(f"{file} holds no system calls", do="see what it holds: fathom record info")
    return found


def _written(profiles: Sequence[seccomp.Profile], form: str, more: dict[str, Any]) -> list[tuple[str, str]]:
    """(file name, text) of each profile."""
    if form == "crio-annotation":
        if not more["artifact"] or len(profiles) > 1:
            raise UsageError("an annotation names one artifact", do="give --artifact, and --subject for one profile")
        made = seccomp.to_crio_annotation(artifact=more["artifact"], container=more["container"])
        return [(f"{_name(profiles[0].subject)}.yaml", document(made, "yaml") + "\n")]
    names = [_name(item.subject) for item in profiles]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UsageError(f"several profiles would be called {', '.join(twice)}", do="choose one with --subject")
    if form == "spo":
        objects = [
            seccomp.to_spo(item, name=name, namespace=more["namespace"])
            for name, item in zip(names, profiles, strict=True)
        ]
        return [(f"{n}.yaml", document(item, "yaml") + "\n") for n, item in zip(names, objects, strict=True)]
    return [
        (f"{name}.json", document(seccomp.to_oci(item), "json") + "\n")
        for name, item in zip(names, profiles, strict=True)
    ]


def _name(subject: str) -> str:
    """A name that file systems and Kubernetes (RFC 1123: a subdomain, of words without a hyphen at an end) take."""
    words = (word.strip("-") for word in re.sub(r"[^a-z0-9.]+", "-", subject.lower()).split("."))
    return ".".join(filter(None, words))[:200].rstrip("-.") or "profile"


def _write(directory: Path, texts: Sequence[tuple[str, str]]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts:
            (directory / name).write_text(text)
    except OSError as error:
        raise FathomError(f"cannot write to {directory}: {error.strerror}") from error
    click.echo(f"{len(texts)} profiles in {directory}", err=True)


def _show(found: seccomp.Difference, words: tuple[str, str], output: str) -> None:
    if output != "text":
        click.echo(document(found, output))
        return
    for word, calls in zip(words, (found.added, found.removed), strict=True):
        click.echo(f"{word} ({len(calls)}):" + "".join(f" {call}" for call in calls))
    for word, names in (
        ("newly allowed whatever the arguments, before for some only", found.widened),
        ("still allowed for some arguments", found.narrowed),
        ("answered in another way", found.changed),
        ("new architectures", found.architectures),
    ):
        if names:
            click.echo(f"{word} ({len(names)}): {' '.join(names)}")
    if found.unnamed:
        click.echo(f"architectures that are killed now ({len(found.unnamed)}): {' '.join(found.unnamed)}")
    if found.default:
        milder = " (milder)" if found.looser else ""
        click.echo(f"default action: {' -> '.join(found.default)}{milder}")
    if found.flags:
        click.echo(f"flags: {' -> '.join(found.flags)}")


def _profile(file: str) -> seccomp.Profile:
    documents, problems = read_documents(read_text(file), file)
    if problems:
        raise UsageError(str(problems[0]))
    if len(documents) != 1:
        raise UsageError(f"{file}: holds {len(documents)} documents, not one profile")
    data = documents[0].data
    if not isinstance(data, dict):
        raise UsageError(f"{file}: not a seccomp profile")
    return seccomp.read_profile(data, place=file)
