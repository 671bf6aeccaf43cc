"""What the commands of ``fathom policy`` stand on: policies and manifests from files, flows from JSON lines.

Everything that is wrong with an input is told, with its place; what was refused ends the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def read_material(manifest_paths: Sequence[str], flows: str | None, workload: str | None) -> Material:
    """The inventory of manifests with flows, or none; only those of ``workload`` where it is given.

    Raises UsageError if a document or a line is refused, or there is nothing that the policies could be about.
    """
    if not manifest_paths:
        raise UsageError(
            "no inventory: flows name pods, and nothing says who they are",
            do="name manifests by --manifests (kubectl get ns,nodes,pods,deploy,sts,ds,svc,endpointslices -A -o yaml)",
        )
    inventory = _inventory(manifest_paths)
    material = Material(inventory, from_dicts([]) if flows is None else _flows(flows))
    return material if workload is None else about(material, workload)


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
