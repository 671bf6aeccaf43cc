"""The layout of every record, read from the compiled objects: no root, no kernel."""

from __future__ import annotations

import tomllib
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from fathom.events.btf import UNITS, Btf, Struct
from fathom.events.catalogue import KINDS, NUMBER, PROTOCOLS, WORD, Kind, describe
from fathom.kernel.objects import FOLDER

ROOT = Path(__file__).resolve().parents[2]
PROBES = sorted(path.parent.name for path in ROOT.glob("bpf/*/*.bpf.c"))
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def _record(kind: Kind) -> Struct:
    return Btf.of(FOLDER / f"{kind.stem}.bpf.o").struct(kind.record)


def _probe(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "bpf" / name / "probe.toml").read_text())


def test_every_probe_has_a_kind_and_a_probe_toml() -> None:
    assert sorted(set(PROBES)) == sorted(KINDS)
    for name in KINDS:
        assert _probe(name)["record"] == KINDS[name].record
        assert (FOLDER / f"{name}.toml").read_text() == (ROOT / "bpf" / name / "probe.toml").read_text()
        sources = {path.name.removesuffix(".bpf.c") for path in (ROOT / "bpf" / name).glob("*.bpf.c")}
        assert set(_probe(name)["objects"]) == sources


@pytest.mark.parametrize("stem", sorted(path.name.removesuffix(".bpf.o") for path in FOLDER.glob("*.bpf.o")))
def test_no_struct_of_ours_has_a_hole(stem: str) -> None:
    """A hole would carry whatever lay on the kernel's stack to user space."""
    btf = Btf.of(FOLDER / f"{stem}.bpf.o")
    ours = [name for name in btf.structs() if name in _declared_structs()]
    assert ours
    assert {name: btf.struct(name).holes for name in ours} == dict.fromkeys(ours, ())


def _declared_structs() -> set[str]:
    """Names of the structs that our own headers and programs declare, without the kernel's."""
    names = set()
    for path in (*ROOT.glob("bpf/*/*.h"), *ROOT.glob("bpf/*/*.c")):
        if path.name != "kernel.h":
            for line in path.read_text().splitlines():
                if line.startswith("struct ") and line.endswith("{"):
                    names.add(line.removesuffix("{").split()[-1])
    return names


@EVERY_KIND
def test_every_number_has_a_unit_and_every_field_a_sentence(kind: Kind) -> None:
    for field in _record(kind).fields:
        if not field.padding:
            assert field.typedef in UNITS, f"{field.name} has no unit of bpf/include/units.h"
            assert field.doc, f"{field.name} has no DOC"


@EVERY_KIND
def test_enums_are_those_of_the_object(kind: Kind) -> None:
    btf = Btf.of(FOLDER / f"{kind.stem}.bpf.o")
    words = {shown.field for shown in kind.shown if shown.form == WORD}
    assert words == {field.name for field in _record(kind).fields if field.typedef == "enum_t"}
    for field in sorted(words):
        for value, name in btf.enum(f"{kind.record}_{field}").items():
            shown = kind.words[field][value]
            assert shown.lower() == name or (name == "none" and shown == ""), (field, value)


@EVERY_KIND
def test_every_field_is_shown_or_said_by_another(kind: Kind) -> None:
    record = _record(kind)
    shown = {shown.field for shown in kind.shown}
    assert {field.name for field in record.fields} == shown | kind.hidden
    assert not shown & kind.hidden
    assert all(row.doc for row in describe(kind, record))
    numbers = [row for row in kind.shown if row.form == NUMBER]
    assert all(next(f for f in record.fields if f.name == row.field).unit for row in numbers)


@EVERY_KIND
def test_a_changed_layout_raises_the_version(kind: Kind) -> None:
    """The hash of each version's layout is kept in probe.toml: a layout that changed has to be a new version."""
    probe = _probe(kind.name)
    layout = blake2b(_record(kind).layout.encode(), digest_size=8).hexdigest()
    known = probe["layouts"]
    assert known.get(str(probe["version"])) == layout, f"raise version in probe.toml and add its layout, {layout}"
    assert len(set(known.values())) == len(known)


def test_protocols_are_named_as_iana_does() -> None:
    assert PROTOCOLS[6] == "TCP"
    assert PROTOCOLS[17] == "UDP"
