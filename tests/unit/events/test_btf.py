"""BTF to numpy, on an object compiled for the purpose and on damaged copies of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.errors import UsageError
from fathom.events.btf import Btf

ROOT = Path(__file__).resolve().parents[3]
SOURCE = """
typedef unsigned long long ns_t;
typedef unsigned char enum_t;
typedef struct { unsigned char octets[16]; } address_t;
typedef struct { char text[16]; } comm_t;
#define DOC(text) __attribute__((btf_decl_tag("doc:" text)))
enum sample_kind { SAMPLE_KIND_FIRST = 1, SAMPLE_KIND_LAST = 7 };
struct inner { int low; short high; short pad; };
struct DOC("A sample") sample {
	ns_t time DOC("when");
	address_t where;
	comm_t who;
	struct inner inner;
	unsigned short ports[2];
	enum_t kind;
};
struct bits { unsigned a : 3; unsigned b : 5; };
const struct sample *sample_anchor;
const enum sample_kind *kind_anchor;
const struct bits *bits_anchor;
const volatile int first_knob = 3;
const volatile long long second_knob = 4;
int run(void *context) { return first_knob + second_knob; }
"""


class Quiet(bytes):
    """Bytes that do not fill the screen when a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("btf")
    source, made = folder / "sample.c", folder / "sample.o"
    source.write_text(SOURCE)
    subprocess.run(["clang", "-target", "bpf", "-g", "-O2", "-c", source, "-o", made], check=True)
    return Quiet(made.read_bytes())


def test_struct_becomes_a_dtype_with_units_and_sentences(compiled: bytes) -> None:
    record = Btf(compiled).struct("sample")
    assert (record.size, record.doc) == (56, "A sample")
    assert [(f.name, f.offset, f.size, f.unit, f.doc) for f in record.fields] == [
        ("time", 0, 8, "ns", "when"),
        ("where", 8, 16, "address", ""),
        ("who", 24, 16, "text", ""),
        ("inner", 40, 8, "", ""),
        ("ports", 48, 4, "", ""),
        ("kind", 52, 1, "enum", ""),
    ]
    assert record.dtype.itemsize == 56
    assert record.dtype["where"] == np.dtype("V16")
    assert record.dtype["who"] == np.dtype("S16")
    assert record.dtype["inner"]["high"] == np.dtype("<i2")
    assert record.dtype["ports"].shape == (2,)


def test_holes_are_found_inside_and_at_the_end(compiled: bytes) -> None:
    assert Btf(compiled).struct("sample").holes == ((53, 56),)
    assert Btf(compiled).struct("inner").holes == ()


def test_layout_changes_with_any_field(compiled: bytes) -> None:
    btf = Btf(compiled)
    assert btf.struct("sample").layout != btf.struct("inner").layout
    assert "kind:52:1:enum_t" in btf.struct("sample").layout


def test_enum_words(compiled: bytes) -> None:
    assert Btf(compiled).enum("sample_kind") == {1: "first", 7: "last"}


def test_globals_lie_where_the_symbols_say(compiled: bytes) -> None:
    """Not where BTF says: before the object is linked all its offsets are 0."""
    btf = Btf(compiled)
    places = {btf.global_offset(".rodata", "first_knob"), btf.global_offset(".rodata", "second_knob")}
    assert {size for _, size in places} == {4, 8}
    assert len({offset for offset, _ in places}) == 2


@pytest.mark.parametrize("ask", ["absent", "sample_anchor"])
def test_what_is_not_there_is_said(compiled: bytes, ask: str) -> None:
    btf = Btf(compiled, "sample.o")
    with pytest.raises(UsageError, match=r"sample\.o"):
        btf.global_offset(".rodata", ask)
    with pytest.raises(UsageError, match="no struct"):
        btf.struct(ask)
    with pytest.raises(UsageError, match="no enum"):
        btf.enum(ask)


def test_bit_fields_are_refused(compiled: bytes) -> None:
    with pytest.raises(UsageError, match="bit fields"):
        Btf(compiled).struct("bits")


def test_a_file_that_is_missing_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        Btf.of(tmp_path / "absent.o")
    (tmp_path / "text.o").write_text("not an object")
    with pytest.raises(UsageError, match="not a BPF object"):
        Btf.of(tmp_path / "text.o")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_objects_are_refused_and_never_crash(compiled: bytes, data: st.DataObject) -> None:
    damaged = bytearray(compiled)
    for _ in range(data.draw(st.integers(1, 40))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        btf = Btf(bytes(damaged[: cut or len(damaged)]))
        for name in btf.structs():
            assert btf.struct(name).dtype.itemsize >= 0
    except UsageError:
        return
