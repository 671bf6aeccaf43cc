"""Ids of cgroups become paths; the tree is walked seldom, and names outlive what they name."""

from __future__ import annotations

from pathlib import Path

from fathom.identity.cgroups import CgroupTree


def made(root: Path, path: str) -> int:
    directory = root / path
    directory.mkdir(parents=True)
    return directory.stat().st_ino


def test_an_id_is_found_by_walking(cgroups: Path) -> None:
    inner = made(cgroups, "system.slice/a.service/inner")
    tree = CgroupTree(cgroups)
    assert tree.path(inner, 0.0) == "/system.slice/a.service/inner"
    assert tree.path(cgroups.stat().st_ino, 0.0) == "/"
    assert tree.path((cgroups / "system.slice").stat().st_ino, 0.0) == "/system.slice"
    assert tree.walks == 1


def test_a_hint_saves_the_walk_but_is_checked(cgroups: Path) -> None:
    service = made(cgroups, "a.service")
    other = made(cgroups, "b.service")
    tree = CgroupTree(cgroups)
    assert tree.path(service, 0.0, "/a.service") == "/a.service"
    assert tree.walks == 0
    assert tree.path(other, 0.0, "/a.service") == "/b.service"
    assert tree.walks == 1


def test_walks_are_bounded_in_rate(cgroups: Path) -> None:
    tree = CgroupTree(cgroups, walk_every_s=1.0)
    assert [tree.path(9_999_999, t) for t in (0.0, 0.1, 0.5, 0.9)] == ["", "", "", ""]
    assert tree.walks == 1
    late = made(cgroups, "late.service")
    assert tree.path(late, 0.95) == ""
    assert tree.path(late, 1.0) == "/late.service"
    assert tree.walks == 2


def test_a_name_is_kept_for_a_time_after_death(cgroups: Path) -> None:
    short = made(cgroups, "short.service")
    tree = CgroupTree(cgroups, kept_s=60.0)
    assert tree.path(short, 0.0) == "/short.service"
    (cgroups / "short.service").rmdir()
    tree.walk(50.0)
    assert tree.path(short, 55.0) == "/short.service"
    tree.walk(100.0)
    assert short in tree
    tree.walk(116.0)
    assert short not in tree
    assert tree.path(short, 116.5) == ""


def test_without_cgroup2_nothing_is_known() -> None:
    tree = CgroupTree(None)
    assert tree.path(1, 0.0, "/") == ""
    tree.walk(1.0)
    assert len(tree) == 0
