"""Mutated policy documents and manifests: nothing crashes, and nothing that is not understood passes in silence.

``FATHOM_FUZZED`` sets how many documents the quick run reads; the slow run reads a million.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections import Counter
from typing import Any

import engine
import pytest
import yaml
from reference_cluster import Doc
from strategies import Tape, make_cluster, make_policy

from fathom.policy import manifests, policysets
from fathom.policy.documents import Document
from fathom.policy.inventory import Inventory, Records
from fathom.policy.model import PolicySet
from fathom.policy.problems import Place

QUICK = int(os.environ.get("FATHOM_FUZZED", "6000"))
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    1 << 70,
    1.5,
    "",
    "\x00",
    "x" * 300,
    "*",
    [],
    {},
    [None],
    {"a": 1},
    [[]],
    "日本",
)
MARKS = ("", "[", "{", ":", "\n", "- ", "&a ", "*a", "\x00", "'", '"', "é", "---\n", "!!int ", "<<: ")
MAPS = ("matchLabels", "labels")  # their keys are the writer's own


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Every value below, with its path."""
    found = [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += nodes(item, (*path, key))
    return found


def put(doc: Doc, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        doc = doc[key]
    doc[path[-1]] = value


def made(rng: random.Random) -> Doc:
    """A policy of any kind, or one document of a cluster."""
    tape = Tape(rng.randbytes(200))
    if rng.random() < 0.75:
        return make_policy(tape, 1)
    return rng.choice([item.doc for item in make_cluster(tape) if "apiVersion" in item.doc])


def mutated(rng: random.Random) -> Doc:
    """Some values replaced, removed, doubled or moved."""
    doc = copy.deepcopy(made(rng))
    for _ in range(rng.randrange(1, 5)):
        places = [path for path, _ in nodes(doc) if path]
        path = rng.choice(places)
        choice = rng.random()
        if choice < 0.5:
            put(doc, path, copy.deepcopy(rng.choice(JUNK)))
        elif choice < 0.7:
            put(doc, path, copy.deepcopy(rng.choice([value for _, value in nodes(doc)])))
        elif choice < 0.85 and isinstance(path[-1], str):
            put(
                doc,
                (*path[:-1], rng.choice(("spec", "from", "ports", "x", "cidr", path[-1] + "s"))),
                {"podSelector": {}},
            )
        else:
            put(doc, path, None)
    return doc


def read(doc: Any) -> PolicySet:
    """The document through both readers, and what is accepted through the compiler."""
    document = Document(Place("fuzz"), doc)
    manifests.read([document])
    found = policysets.read([document])
    if found.policies and not found.refused:
        engine.compile_policies(found, Inventory(Records()))
    return found


def run(count: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    for number in range(count):
        kind = number % 10
        if kind == 9:
            seen["texts"] += 1
            text(rng)
        elif kind in (3, 6):
            seen["strange"] += 1
            strange(rng)
        else:
            found = read(mutated(rng))
            seen["refused" if found.refused else "accepted" if found.policies else "skipped"] += 1
    return seen


def text(rng: random.Random) -> None:
    """Bytes of a text changed: it is read or refused."""
    doc = made(rng)
    written = yaml.safe_dump(doc) if rng.random() < 0.7 else json.dumps(doc)
    characters = list(written)
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(characters))
        characters[at : at + rng.randrange(3)] = rng.choice(
            ("", "[", "{", ":", "\n", "- ", "&a ", "*a", "\x00", "'", '"', "é")
        )
    policysets.read_texts([("fuzz", "".join(characters))])


def strange(rng: random.Random) -> None:
    """An unknown field, or a value of a wrong kind, somewhere in a spec: it is never taken in silence."""
    doc = copy.deepcopy(make_policy(Tape(rng.randbytes(200)), 1))
    spec = doc.get("spec") or doc["specs"][0]
    places = [(path, value) for path, value in nodes(spec) if not any(key in (*MAPS, "http") for key in path[:-1])]
    places = [(path, value) for path, value in places if not path or path[-1] != "http"]  # not understood as it is
    before = {p for p in policysets.read([Document(Place("f"), doc)]).problems if p.severity != "warning"}
    if rng.random() < 0.5:
        objects = [value for path, value in places if isinstance(value, dict) and (not path or path[-1] not in MAPS)]
        rng.choice(objects)["strange"] = {"x": 1}
    else:
        path, value = rng.choice([item for item in places if item[0]])
        put(spec, path, "text" if isinstance(value, (dict, list)) else {"strange": 1})
    after = [p for p in policysets.read([Document(Place("f"), doc)]).problems if p.severity != "warning"]
    assert set(after) - before, json.dumps(doc)


def test_mutated_documents_are_read_or_refused_and_never_crash() -> None:
    seen = run(QUICK, 7)
    assert seen["refused"] > QUICK // 10
    assert seen["accepted"] > QUICK // 50
    assert seen["strange"] == QUICK // 10 * 2


@pytest.mark.slow
def test_a_million_mutated_documents() -> None:
    seen = run(1_000_000, 11)
    print(dict(seen))
    assert sum(seen.values()) == 1_000_000
