"""A program for the fuzzer: texts are read as policies and as manifests, and what is understood is judged.

    python tests/policy/fuzz_target.py -runs=100000 -seed=1 FOLDER

FOLDER gets a first set of texts if it is empty, and then those that reach new code. Options are libFuzzer's.
"""

from __future__ import annotations

import inspect
import random
import sys
from pathlib import Path
from types import ModuleType

import atheris
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import Judge
from strategies import Tape, make_cluster, make_policy

from fathom.policy import (
    cilium,
    cilium_peers,
    clusternetworkpolicy,
    documents,
    fields,
    labels,
    manifests,
    metadata,
    names,
    networkpolicy,
    policysets,
)

READERS = (
    *(cilium, cilium_peers, clusternetworkpolicy, documents, fields, labels, manifests, metadata, names),
    *(networkpolicy, policysets),
)


def watch(module: ModuleType) -> None:
    """Count coverage in every function of a module."""
    for item in vars(module).values():
        if getattr(item, "__module__", "") != module.__name__:
            continue
        for found in vars(item).values() if inspect.isclass(item) else (item,):
            if inspect.isfunction(found):
                atheris.instrument_func(found)


def first_texts(folder: Path) -> None:
    """Policies of every kind, and the documents of a cluster."""
    rng = random.Random(1)
    docs = [make_policy(Tape(rng.randbytes(200)), 1) for _ in range(120)]
    docs += [item.doc for item in make_cluster(Tape(rng.randbytes(400)))]
    for number, doc in enumerate(docs):
        (folder / f"first-{number}").write_text(yaml.safe_dump(doc))


def main() -> None:
    """Fuzz until libFuzzer's options end it; it leaves the process by itself."""
    folder = Path(sys.argv[-1])
    if not any(folder.iterdir()):
        first_texts(folder)
    judge = Judge(random.Random(1))

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        judge.text(text)
        manifests.read_texts([("fuzz", text)])

    for module in READERS:
        watch(module)
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
