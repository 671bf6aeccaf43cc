from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fathom.cli import access
from fathom.cli.access import key_for, loopback
from fathom.cli.caller import Caller
from fathom.client import Client
from fathom.errors import AuthenticationError, UsageError

HERE = "http://127.0.0.1:8600"
AWAY = "https://fathom.example:8600"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a user who has started a server."""
    monkeypatch.setattr(access, "caller", lambda _: Caller(1000, 1000, "u", tmp_path, ()))
    monkeypatch.setattr(access, "SYSTEM_DATA", tmp_path / "system")
    folder = tmp_path / ".local/share/fathom"
    folder.mkdir(parents=True)
    (folder / "admin.token").write_text("local-key\n")
    return folder


def test_a_file_comes_before_the_environment_comes_before_the_local_key(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("from-file\n")
    env = {"FATHOM_TOKEN": "from-env"}
    assert key_for(HERE, str(tmp_path / "k"), env) == "from-file"
    assert key_for(HERE, None, env) == "from-env"
    assert key_for(HERE, None, {}) == "local-key"
    assert key_for(AWAY, None, env) == "from-env"


def test_the_local_key_is_not_sent_to_another_users_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "listeners", lambda _host, _port: {0, 65_534})
    with pytest.raises(AuthenticationError, match="user 65534 of this machine listens at"):
        key_for(HERE, None, {})
    assert key_for(HERE, None, {"FATHOM_TOKEN": "given"}) == "given"


def test_who_listens_is_read_from_the_kernels_tables(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        port = server.getsockname()[1]
        assert access.listeners("127.0.0.1", port) == access.listeners("localhost", port) == {os.geteuid()}
        assert access.listeners("a-name", port) == {os.geteuid()}
        assert access.listeners("127.0.0.1", 1) == set()
    assert access.listeners("127.0.0.1", 1, tmp_path) == set()


@pytest.mark.parametrize(
    ("listens", "asked", "meant"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
        ("::1", "::1", True),
        ("127.0.0.1", "::1", False),
    ],
)
def test_who_listens_elsewhere_is_not_meant(listens: str, asked: str, meant: bool) -> None:
    with socket.socket(socket.AF_INET6 if ":" in listens else socket.AF_INET) as server:
        server.bind((listens, 0))
        server.listen()
        assert access.listeners(asked, server.getsockname()[1]) == ({os.geteuid()} if meant else set())


def test_the_local_key_is_sent_nowhere_else() -> None:
    with pytest.raises(AuthenticationError, match=r"no key for https://fathom\.example"):
        key_for(AWAY, None, {})


def test_no_key_at_all_is_told(home: Path) -> None:
    (home / "admin.token").unlink()
    with pytest.raises(AuthenticationError, match="none of"):
        key_for(HERE, None, {})


@pytest.mark.parametrize("text", [b"", b"two words", b"\xff\xfe", "ü".encode()])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "k").write_bytes(text)
    with pytest.raises(UsageError, match="k"):
        key_for(HERE, str(tmp_path / "k"), {})
    with pytest.raises(UsageError, match="cannot read"):
        key_for(HERE, str(tmp_path / "absent"), {})


@pytest.mark.parametrize(
    ("server", "here"),
    [
        (HERE, True), ("http://[::1]:1", True), ("http://localhost", True), ("http://127.9.9.9", True),
        (AWAY, False),
        ("http://127.0.0.1.example", False), ("http://10.0.0.1", False), ("http://127.0.0.1@evil", False),
    ],
)  # fmt: skip
def test_what_is_loopback(server: str, here: bool) -> None:
    assert loopback(server) == here


@pytest.mark.parametrize("text", ["é", "se cret", "sec\nret", "sec\x7fret", "sec\udcffret"])
def test_a_variable_that_holds_no_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError, match="FATHOM_TOKEN holds no key") as caught:
        key_for(HERE, None, {"FATHOM_TOKEN": text})
    assert text not in str(caught.value)


NO_SERVERS = ["", "127.0.0.1:8600", "ftp://x", "http://", "http://[::1", "http://h:99999", "http://h:x", "http://h:0"]


@pytest.mark.parametrize("server", NO_SERVERS)
def test_what_is_no_server(server: str) -> None:
    with pytest.raises(UsageError, match="is no server"):
        loopback(server)
    with pytest.raises(UsageError, match="is no server"):
        Client(server, "key")
