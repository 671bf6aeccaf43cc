"""The admin key and the join token: made once, private, hashed, and told when they are not what opens."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from fathom.errors import UsageError
from fathom.server.keys import open_join_tokens, open_keys, write_private

FILES = ["admin.token", "join.hashes", "join.token", "keys.json"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_both_and_keeps_hashes_only(tmp_path: Path) -> None:
    keys, tokens = open_keys(tmp_path), open_join_tokens(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert [mode(tmp_path / name) for name in FILES] == [0o600] * 4
    admin, join = ((tmp_path / name).read_text().strip() for name in ("admin.token", "join.token"))
    assert keys.allows(admin, "admin")
    assert tokens.verify(join)
    assert not keys.allows(join, "admin")
    assert not tokens.verify(admin)
    for name in ("keys.json", "join.hashes"):
        text = (tmp_path / name).read_text()
        assert admin not in text
        assert join not in text


def test_keys_have_256_random_bits_and_say_whose_they_are(tmp_path: Path) -> None:
    made = set()
    for n in range(5):
        (tmp_path / str(n)).mkdir()
        open_keys(tmp_path / str(n))
        made.add((tmp_path / str(n) / "admin.token").read_text().strip())
    assert len(made) == 5
    assert all(key.startswith("fathom_admin_") and len(key) == 13 + 43 for key in made)


def test_later_starts_keep_them(tmp_path: Path) -> None:
    open_keys(tmp_path), open_join_tokens(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    keys = open_keys(tmp_path)
    open_join_tokens(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before
    assert keys.allows(before["admin.token"].decode().strip(), "admin")


@pytest.mark.parametrize("wrong", ["", "x", "fathom_admin_", "k" * 10_000, "\udcff", "é"])
def test_nothing_else_opens(tmp_path: Path, wrong: str) -> None:
    keys = open_keys(tmp_path)
    key = (tmp_path / "admin.token").read_text().strip()
    assert not keys.allows(wrong, "admin")
    assert not keys.allows(key, "join")
    assert not keys.allows(key[:-1], "admin")


def test_a_key_that_was_taken_away_stays_valid(tmp_path: Path) -> None:
    open_keys(tmp_path)
    key = (tmp_path / "admin.token").read_text().strip()
    (tmp_path / "admin.token").unlink()
    assert open_keys(tmp_path).allows(key, "admin")
    assert not (tmp_path / "admin.token").exists()


def test_a_file_that_does_not_open_is_told_without_showing_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_keys(tmp_path)
    (tmp_path / "admin.token").write_text("fathom_admin_secret_of_another\n")
    with caplog.at_level(logging.WARNING):
        keys = open_keys(tmp_path)
    assert not keys.allows("fathom_admin_secret_of_another", "admin")
    assert "does not open" in caplog.text
    assert "secret_of_another" not in caplog.text


def test_files_that_others_could_read_are_private_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_keys(tmp_path), open_join_tokens(tmp_path)
    for name in FILES:
        (tmp_path / name).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        open_keys(tmp_path), open_join_tokens(tmp_path)
    assert [mode(tmp_path / name) for name in FILES] == [0o600] * 4
    assert caplog.text.count("could be read by others") == 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        json.dumps({"version": 2, "keys": []}).encode(),
        json.dumps({"version": 1, "keys": [{"name": "a", "role": "admin", "sha256": "short"}]}).encode(),
        json.dumps({"version": 1, "keys": [{"name": "a", "role": "admin"}]}).encode(),
    ],
)
def test_hashes_that_make_no_sense_let_nobody_in_and_say_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"keys\.json") as caught:
        open_keys(tmp_path)
    assert caught.value.do
    assert (tmp_path / "keys.json").read_bytes() == content


def test_join_hashes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "join.hashes").write_text("nonsense\n")
    with pytest.raises(UsageError, match="not the hash of a join token"):
        open_join_tokens(tmp_path)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    for make in (open_keys, open_join_tokens):
        with pytest.raises(UsageError, match="cannot use the keys") as caught:
            make(tmp_path / "absent")
        assert "--data-dir" in caught.value.do


def test_a_start_that_died_before_the_hash_was_kept_makes_the_key_anew(tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("fathom_admin_left_by_a_start_that_died\n")
    keys = open_keys(tmp_path)
    assert not keys.allows("fathom_admin_left_by_a_start_that_died", "admin")
    assert keys.allows((tmp_path / "admin.token").read_text().strip(), "admin")


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "admin.token").symlink_to(tmp_path / "precious")
    open_keys(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "admin.token").is_symlink()


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "inside").write_text("x")
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "d", b"new")
    assert sorted(os.listdir(tmp_path)) == ["d"]  # noqa: PTH208 - hidden files too
