"""Settings: sources in order, and what a person reads when a value is wrong."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from fathom.errors import UsageError
from fathom.settings import load, setting


@dataclass(frozen=True)
class Group:
    ring_bytes: int = setting(65536, "size", unit="bytes", minimum=4096, power_of_two=True)
    tick_s: float = setting(0.1, "tick", unit="s", minimum=0.01)
    fast: bool = setting(False, "fast")
    name: str = setting("a", "name")


def test_defaults() -> None:
    assert load(Group, env={}) == Group(65536, 0.1, False, "a")


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "fathom.toml"
    file.write_text('ring_bytes = 4096\nname = "file"\ntick_s = 1\n')
    got = load(Group, flags={"name": "flag", "tick_s": None}, env={"FATHOM_RING_BYTES": "8192"}, file=file)
    assert got == Group(8192, 1.0, False, "flag")


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("0", False), ("ON", True)])
def test_booleans_are_words(text: str, value: bool) -> None:
    assert load(Group, env={"FATHOM_FAST": text}).fast is value


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"FATHOM_RING_BYTES": "many"}, "FATHOM_RING_BYTES: 'many' is not a value for ring_bytes"),
        ({"FATHOM_RING_BYTES": "5000"}, "ring_bytes is 5000, which is not a power of two"),
        ({"FATHOM_RING_BYTES": "1024"}, "below its minimum"),
        ({"FATHOM_FAST": "perhaps"}, "FATHOM_FAST"),
    ],
)
def test_wrong_values_are_told_with_their_place(env: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(Group, env=env)


@pytest.mark.parametrize("text", ["x = ", "unknown = 1", "name = [1]"])
def test_wrong_files_are_told_with_their_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "fathom.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"fathom\.toml"):
        load(Group, env={}, file=file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read settings"):
        load(Group, env={}, file=tmp_path / "absent.toml")


@dataclass(frozen=True)
class Neighbour:
    depth: int = setting(1, "depth")


def test_groups_of_one_process_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "fathom.toml"
    file.write_text('name = "x"\ndepth = 3\n')
    assert load(Group, env={}, file=file, beside=(Neighbour,)).name == "x"
    assert load(Neighbour, env={}, file=file, beside=(Group,)).depth == 3
    with pytest.raises(UsageError, match="unknown setting 'depth'"):
        load(Group, env={}, file=file)
