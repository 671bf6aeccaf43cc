"""``fathom policy generate``: a policy for each workload from recorded traffic, each rule with its evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.cli.options import output_option
from fathom.cli.policy.options import source_options
from fathom.errors import FathomError, UsageError

if TYPE_CHECKING:
    from fathom.policy.answers import Generation
    from fathom.policy.flows import Flows
    from fathom.policy.generate import Choices

#: Groups of flows that were left out which are told on standard error.
_MOST_TOLD = 20
#: Files of earlier runs that are told by name.
_MOST_OLDER = 5
_LIMIT = 100_000
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


@click.command()
@click.option(
    "--form",
    type=click.Choice(["networkpolicy", "cilium"]),
    default="networkpolicy",
    show_default=True,
    help="NetworkPolicy or CiliumNetworkPolicy.",
)
@click.option(
    "--direction",
    type=click.Choice(["both", "ingress", "egress"]),
    default="both",
    show_default=True,
    help="What the policies isolate.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="A workload (name, Kind/name or namespace/Kind/name; * stands for any text) or a pod (namespace/pod)."
    " Repeatable.",
)
@click.option(
    "--merge-ports",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="N",
    help="N adjacent ports or more become one range.  [default: never]",
)
@click.option(
    "--spread",
    type=click.IntRange(1, 1 << 16),
    default=4,
    show_default=True,
    metavar="N",
    help="Addresses that a block may hold for each one that was seen.",
)
@click.option("--widen", is_flag=True, help="Peers become all pods of their namespace.")
@click.option(
    "--minimum",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Connections that something must have been seen for.",
)
@click.option("--exclude", metavar="FROM/TO", help="Leave out what was seen only between two RFC 3339 times.")
@click.option(
    "--server-port",
    multiple=True,
    type=click.IntRange(1, 65_535),
    metavar="N",
    help="A port of the ephemeral range that is a server's. Repeatable.",
)
@click.option("--evidence", type=click.Path(dir_okay=False), metavar="FILE", help="Write what is behind each rule.")
@click.option("--output-dir", type=click.Path(file_okay=False), help="Write NAMESPACE/NAME.yaml for each policy here.")
@source_options
@output_option("yaml", "json")
def command(output: str, evidence: str | None, output_dir: str | None, **given: Any) -> None:
    """Write a policy for each workload, from recorded traffic.

    What a flow does not prove is not allowed: flows that were dropped, whose ends are not known or that would make a
    server of a client are left out, and named on standard error. --evidence writes JSON lines: each rule with the flows
    behind it, then what was left out. --workload is as --only, out of all flows; for one --node there are no policies.
    """
    from fathom.cli.policy.door import open_door
    from fathom.policy import questions

    choices = questions.whole(_choices(given), workload=given["workload"], node=given["node"])
    door = open_door({**given, "workload": None, "node": None})
    made = door.generate(choices, _LIMIT)
    _tell(made)
    if evidence is not None:
        _write_evidence(Path(evidence), made, door.flows)
    if not made.documents:
        raise FathomError("no policy could be made", affects=f"all {made.left_out_flows} flows were left out")
    if output_dir is not None:
        _write_documents(Path(output_dir), made, output)
    else:
        click.echo(_written(list(made.documents), output), nl=False)


def _choices(given: dict[str, Any]) -> Choices:
    from fathom.policy.generate import Choices
    from fathom.policy.history import Limits
    from fathom.policy.model import DIRECTIONS

    directions = DIRECTIONS if given["direction"] == "both" else (given["direction"],)
    excluded = None if given["exclude"] is None else _span(given["exclude"])
    limits = Limits(given["minimum"], excluded, frozenset(given["server_port"]))
    only, spread, merge = given["only"], given["spread"], given["merge_ports"]
    return Choices(given["form"], directions, only, spread, merge, given["widen"], limits)


def _span(text: str) -> tuple[int, int]:
    """Epoch seconds of ``FROM/TO``. Raises UsageError if it is no span."""
    from datetime import datetime

    begin, _, end = text.partition("/")
    try:
        times = [datetime.fromisoformat(part) for part in (begin, end)]
    except ValueError:
        times = []
    if not times or any(time.tzinfo is None for time in times) or times[0] >= times[1]:
        raise UsageError(
            f"{text!r} is no span of time", do="write for example 2026-01-31T00:00:00Z/2026-01-31T06:00:00Z"
        )
    return int(times[0].timestamp()), int(times[1].timestamp())


def _tell(made: Generation) -> None:
    """What was left out, and how much is allowed beyond what was seen."""
    from fathom.cli.policy import words

    flows = words.counted(made.used, "flow")
    click.echo(f"fathom: {words.counted(len(made.documents), 'policy', 'policies')} from {flows}", err=True)
    click.echo(f"fathom: allowed beyond what was seen: {made.beyond:,} pairs of an end and a port", err=True)
    if made.left_out_flows:
        click.echo(f"fathom: left out: {words.counted(made.left_out_flows, 'flow')}", err=True)
    for group in made.left_out[:_MOST_TOLD]:
        click.echo(f"  {group.src} > {group.dst} {words.port(group)}: {group.verdict}", err=True)
    hidden = made.left_out_groups - _MOST_TOLD
    if hidden > 0:
        click.echo(f"  and {hidden} more: --evidence FILE lists them", err=True)


def _write_evidence(file: Path, made: Generation, flows: Flows | None) -> None:
    """Each rule with the flows behind it, then the groups of flows that were left out."""
    import msgspec

    from fathom.cli.files import write_text

    def lines() -> Iterator[str]:
        for item in made.evidence:
            told = msgspec.to_builtins(item)
            if flows is None:
                del told["flows"]  # numbers of flows that only the server has
            else:
                told["flows"] = [flows.to_dict(number) for number in item.flows]
            yield msgspec.json.encode(told).decode()
        for group in made.left_out:
            yield msgspec.json.encode({"left_out": group}).decode()

    write_text(file, "".join(f"{line}\n" for line in lines()))


def _write_documents(folder: Path, made: Generation, output: str) -> None:
    from fathom.cli.files import file_name, others, write_text
    from fathom.cli.output import printable
    from fathom.cli.policy import words

    texts = _texts(made.documents, output)
    written: set[Path] = set()
    for document in made.documents:
        space, name = (document["metadata"][key] for key in ("namespace", "name"))
        if not (_NAME.fullmatch(space) and _NAME.fullmatch(name)):
            raise FathomError(f"{space}/{name} cannot be the name of a file", affects="policies after it")
        file = folder / space / file_name(name, output)
        write_text(file, next(texts))
        written.add(file)
    click.echo(f"fathom: {len(made.documents)} files below {folder}", err=True)
    older, whole = others(folder, written)
    if older:
        count = words.counted(len(older), "file") if whole else f"more than {len(older):,} files"
        click.echo(f"fathom: {count} there that this run did not write, which commands read with them:", err=True)
        for name in older[:_MOST_OLDER]:
            click.echo(f"  {printable(name)}", err=True)
        if len(older) > _MOST_OLDER:
            click.echo(f"  and {len(older) - _MOST_OLDER:,} more", err=True)


def _texts(documents: Iterable[dict[str, Any]], output: str) -> Iterator[str]:
    """Each document as a file of its own."""
    from fathom.policy.yamltext import blocks

    return blocks(documents) if output == "yaml" else (_written([document], output) for document in documents)


def _written(documents: list[dict[str, Any]], output: str) -> str:
    from fathom.cli.output import document
    from fathom.policy.generate import to_yaml

    if output == "yaml":
        return to_yaml(documents)
    listed = {"apiVersion": "v1", "kind": "List", "items": documents}
    return document(documents[0] if len(documents) == 1 else listed, "json") + "\n"
