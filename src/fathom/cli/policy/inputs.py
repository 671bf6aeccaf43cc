"""What the commands of ``fathom policy`` stand on: policies, manifests, flows of JSON lines, recordings, live clusters.

Everything that is wrong with an input is told, with its place; what was refused ends the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from fathom.cli.files import MOST_TOGETHER, read_text, read_texts
from fathom.cli.policy import livecluster
from fathom.cli.policy.livecluster import HERE, Access, is_live
from fathom.cli.policy.problems import tell
from fathom.errors import UsageError
from fathom.policy import manifests, policysets
from fathom.policy.flows import Flows, from_dicts, read_lines
from fathom.policy.inventory import Inventory
from fathom.policy.material import Material, about
from fathom.policy.model import PolicySet


@dataclass(frozen=True)
class Policies:
    """A set of policies, and the texts that it was read from, by file; not ``given``: those that a server enforces."""

    set: PolicySet
    texts: Mapping[str, str]
    given: bool = True


#: No policy at all; those that a server has registered as enforced.
NONE, REGISTERED = Policies(PolicySet(), {}), Policies(PolicySet(), {}, given=False)


def policy_texts(paths: Sequence[str], access: Access) -> dict[str, str]:
    """The texts of files, directories and live clusters. Raises FathomError if one cannot be read."""
    texts = read_texts([path for path in paths if not is_live(path)])
    for path in dict.fromkeys(path for path in paths if is_live(path)):
        texts |= livecluster.read_policies(path, access).texts
    return texts


def read_policies(
    paths: Sequence[str], access: Access = HERE, *, option: str = "--policies", empty: bool = False
) -> Policies:
    """The policies in files, directories and live clusters.

    Raises UsageError if a document is refused, or there is no policy at all (unless it may be ``empty``); FathomError
    if a cluster cannot be read.
    """
    if not paths:
        raise UsageError("no policies", do=f"name files or directories by {option}")
    texts = policy_texts(paths, access)
    found = policysets.read_texts(texts.items())
    tell(found.problems)
    if not found.policies and not empty:
        raise UsageError(
            f"no policy in {', '.join(paths)}",
            affects="nothing was answered: without a policy everything is allowed",
            do=f"name files or directories of policies by {option}",
        )
    return Policies(found, texts)


@dataclass(frozen=True)
class Files:
    """The files that an answer stands on, and which part of them counts; None where it was not given."""

    manifests: Sequence[str] = ()
    flows: str | None = None
    recording: str | None = None
    since: str | None = None
    until: str | None = None
    workload: str | None = None
    node: str | None = None
    cluster: str | None = None
    kubeconfig: str | None = None
    context: str | None = None

    @property
    def access(self) -> Access:
        """How live clusters are reached."""
        return Access(self.kubeconfig, self.context)


def read_material(files: Files) -> Material:
    """The inventory of manifests or of a recording, and its flows or those of a file.

    Objects of ``manifests`` that a recording does not know are added to it. Raises UsageError if a document or a line
    is refused, or there is nothing that the policies could be about; StoreError if the recording cannot be used.
    """
    found = _given(files) if files.recording is None else _recorded(files, files.recording)
    return found if files.workload is None else about(found, files.workload)


def _given(files: Files) -> Material:
    if not files.manifests:
        raise UsageError(
            "no inventory: flows name pods, and nothing says who they are",
            do="name a recording by --recording, or manifests by --manifests"
            " (files, or kube: for the cluster that kubectl speaks to)",
        )
    inventory, at = _inventory(files)
    flows = from_dicts([]) if files.flows is None else _flows(files.flows)
    return Material(inventory, flows, as_of=at)


def _recorded(files: Files, file: str) -> Material:
    from fathom.cli.windows import part_of
    from fathom.store.material import material, whole
    from fathom.store.opening import open_recording

    added, at = _inventory(files) if files.manifests else (None, 0)
    store = open_recording(Path(file))
    try:
        window = part_of(whole(store), files.since, files.until)
        found = material(
            store,
            window,
            node=files.node or "",
            cluster=files.cluster or "",
            manifests=None if added is None else added.records,
        )
    finally:
        store.close()
    if files.flows is None:
        if found.beyond and (files.since or files.until):
            _tell_beyond(found.beyond)
        return replace(found, as_of=at)
    return replace(found, as_of=at, flows=_flows(files.flows), window=(0, 0), nodes=(), gaps=(), share=None, losses=())


def _tell_beyond(count: int) -> None:
    flows = "1 flow" if count == 1 else f"{count:,} flows"
    click.echo(
        f"fathom: {flows} may also be of other time than was asked for: sums are not divided, and count whole", err=True
    )


def _inventory(files: Files) -> tuple[Inventory, int]:
    """The inventory, and when a live cluster that is part of it was read (epoch seconds; 0: none is)."""
    paths, at = files.manifests, 0
    texts = read_texts([path for path in paths if not is_live(path)])
    for path in dict.fromkeys(path for path in paths if is_live(path)):
        live = livecluster.read_manifests(path, files.access)
        texts |= live.texts
        at = live.at
    found = manifests.read_texts(texts.items())
    tell(found.records.problems)
    records = found.records
    if not (records.pods or records.workloads):
        raise UsageError(f"no pod or workload in {', '.join(paths)}", do="name Kubernetes manifests by --manifests")
    return found, at


def _flows(file: str) -> Flows:
    found, problems = read_lines(read_text(file, MOST_TOGETHER), file)
    tell(problems)
    return found
