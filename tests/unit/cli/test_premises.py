from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fathom.cli.caller import Caller, acting_as, caller
from fathom.cli.premises import Address, DataDir, address, require_free, require_root
from fathom.errors import FathomError, PrivilegeError, UsageError

ME = caller({})
NOBODY = Caller(65534, 65534, "nobody", Path("/nonexistent"), (65534,))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8600", "127.0.0.1", 8600),
        ("[::1]:8600", "::1", 8600),
        (":8600", "0.0.0.0", 8600),
        ("8600", "127.0.0.1", 8600),
        ("localhost:1", "localhost", 1),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert address(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", "x", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "::1:8600", "a:b", "²", "[::1", "[::1:8600"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        address(text)


def test_how_this_machine_reaches_what_listens_everywhere() -> None:
    assert str(address(":8600").here) == "127.0.0.1:8600"
    assert str(address("[::]:8600").here) == "[::1]:8600"


def test_a_taken_port_names_its_holder_and_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = Address("127.0.0.1", holder.getsockname()[1])
        with pytest.raises(FathomError) as caught:
            require_free(taken, "REST", "--listen")
        assert f"(pid {os.getpid()})" in caught.value.what
        assert "--listen" in caught.value.do
    require_free(taken, "REST", "--listen")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"192\.0\.2\.1"):
        require_free(Address("192.0.2.1", 8600), "REST", "--listen")


def test_a_data_directory_is_made_private_and_held_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with DataDir(path, ME):
        assert path.stat().st_mode & 0o777 == 0o700
        with pytest.raises(FathomError, match=rf"already up on .*pid {os.getpid()}"):
            DataDir(path, ME)
    DataDir(path, ME).close()


def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FathomError, match="cannot write to the data directory"):
        DataDir(tmp_path / "file" / "data", ME)


@pytest.mark.usefixtures("root")
def test_under_sudo_the_data_belongs_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)  # the folders above may be closed to that user
    with DataDir(Path("data"), NOBODY):
        made = [tmp_path / "data", tmp_path / "data/log", tmp_path / "data/up.lock"]
        assert {p.stat().st_uid for p in made} == {65534}
        assert os.geteuid() == 0, "root again"


@pytest.mark.usefixtures("root")
def test_acting_as_a_user_cannot_write_where_that_user_cannot(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with acting_as(NOBODY), pytest.raises(PermissionError):
        (tmp_path / "x").write_text("")
    (tmp_path / "x").write_text("")


@pytest.mark.usefixtures("root")
def test_sudo_names_the_user_behind_root() -> None:
    assert caller({"SUDO_UID": "65534"}).name == "nobody"
    assert caller({"SUDO_UID": "0"}).data_dir == Path("/var/lib/fathom")
    with pytest.raises(UsageError, match="4000000000"):
        caller({"SUDO_UID": "4000000000"})


def test_a_users_data_lies_at_home() -> None:
    assert Caller(1000, 1000, "u", Path("/h/u"), ()).data_dir == Path("/h/u/.local/share/fathom")


def test_without_root_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrivilegeError) as caught:
        require_root("fathom up")
    assert "sudo fathom up" in caught.value.do
