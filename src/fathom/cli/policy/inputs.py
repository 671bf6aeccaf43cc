"""What the commands of ``fathom policy`` stand on: policies, manifests, flows of JSON lines, recordings.

Everything that is wrong with an input is told, with its place; what was refused ends the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fathom.cli.files import MOST_TOGETHER, read_text, read_texts
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


def read_policies(paths: Sequence[str], *, option: str = "--policies", empty: bool = False) -> Policies:
    """The policies in files and directories.

    Raises UsageError if a document is refused, or there is no policy at all (unless it may be ``empty``).
    """
    if not paths:
        raise UsageError("no policies", do=f"name files or directories by {option}")
    texts = read_texts(paths)
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


def read_material(files: Files) -> Material:
    """The inventory of manifests or of a recording, and its flows or those of a file.

    Objects of ``manifests`` that a recording does not know are added to it. Raises UsageError if a document or a line
    is refused, or there is nothing that the policies could be about; StoreError if the recording cannot be used.
    """
    if files.recording is not None:
        return _recorded(files, files.recording)
    if not files.manifests:
        raise UsageError(
            "no inventory: flows name pods, and nothing says who they are",
            do="name a recording by --recording, or manifests by --manifests"
            " (kubectl get ns,nodes,pods,deploy,sts,ds,svc,endpointslices -A -o yaml)",
        )
    material = Material(_inventory(files.manifests), from_dicts([]) if files.flows is None else _flows(files.flows))
    return material if files.workload is None else about(material, files.workload)


def _recorded(files: Files, file: str) -> Material:
    from fathom.cli.windows import part_of
    from fathom.store.material import material, whole
    from fathom.store.opening import open_recording

    added = _inventory(files.manifests).records if files.manifests else None
    store = open_recording(Path(file))
    try:
        window = part_of(whole(store), files.since, files.until)
        found = material(
            store,
            window,
            workload=files.workload or "",
            node=files.node or "",
            cluster=files.cluster or "",
            manifests=added,
        )
    finally:
        store.close()
    if files.flows is None:
        return found
    return replace(found, flows=_flows(files.flows), window=(0, 0), nodes=(), gaps=(), losses=())


def _inventory(paths: Sequence[str]) -> Inventory:
    found = manifests.read_texts(read_texts(paths).items())
    tell(found.records.problems)
    records = found.records
    if not (records.pods or records.workloads):
        raise UsageError(f"no pod or workload in {', '.join(paths)}", do="name Kubernetes manifests by --manifests")
    return found


def _flows(file: str) -> Flows:
    found, problems = read_lines(read_text(file, MOST_TOGETHER), file)
    tell(problems)
    return found
