"""What ``fathom up`` says, and does not start, when something stands in its way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installation import free_ports, until
from up_process import FATHOM, Up, facts

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root")]
Start = Callable[..., Up]
NOBODY = 65534
Require = Callable[[str, str], None]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``fathom up``, as often as it is called; ends what is left at the end."""
    made: list[Up] = []

    def begin(**options: object) -> Up:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Up(folder, **options))  # type: ignore[arg-type]
        return made[-1]

    yield begin
    for up in made:
        up.close()


@pytest.fixture
def program(tmp_path: Path, require: Require) -> tuple[str, ...]:
    """A Python with Fathom that the user ``nobody`` can run as well, and pytest's folders open to that user."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/tmp") and folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    if _readable(Path(sys.executable)):
        return FATHOM
    system = Path("/usr/bin/python3")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    told = subprocess.run(
        [system, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False
    )
    packages = next((p for p in sys.path if p.endswith("site-packages")), "")
    if told.stdout.strip() != version or not _readable(Path(packages)):
        require("user", f"no Python {version} here that another user than root can read")
    subprocess.run([system, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = tmp_path / f"venv/lib/python{version}/site-packages"
    (site / "fathom.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    return (str(tmp_path / "venv/bin/python3"), *FATHOM[1:])


def _readable(path: Path) -> bool:
    """Whether everybody may read ``path``, and each folder above it."""
    real = path.resolve()
    return real.exists() and all(p.stat().st_mode & 0o005 == 0o005 or p == Path("/") for p in (real, *real.parents))


def refused(up: Up, status: int = 1) -> str:
    """Its complaint, after it ended with ``status`` without starting anything."""
    assert up.process.wait(timeout=40) == status, up.errors
    assert up.children() == {}
    parts = up.errors.splitlines()
    assert parts[0].startswith("fathom: ")
    assert any(line.startswith("  to do: ") for line in parts), up.errors
    return up.errors


def test_not_root(tmp_path: Path, program: tuple[str, ...]) -> None:
    mine = tmp_path / "run"
    mine.mkdir()
    up = Up(mine, program=program, before=("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"))
    text = refused(up)
    assert "must be started as root" in text
    assert "sudo" in text


def test_a_port_that_is_taken_names_its_holder_and_the_option(start: Start) -> None:
    ports = free_ports(3)
    for index, option in enumerate(("--listen", "--link", "--agent-listen")):
        with socket.create_server(("127.0.0.1", ports[index])):
            text = refused(start(ports=ports))
        assert f"port {ports[index]}" in text
        assert f"(pid {os.getpid()})" in text
        assert option in text


def test_an_address_that_this_machine_has_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [*FATHOM, "up", "--data-dir", str(tmp_path), "--listen", "192.0.2.1:8600"],
        env={name: value for name, value in os.environ.items() if not name.startswith("SUDO_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "192.0.2.1:8600" in done.stderr


def test_a_second_one_on_the_same_data_is_told_and_the_first_goes_on(start: Start) -> None:
    first = start().ready()
    children = first.children()
    text = refused(start(data=first.data))
    assert f"already up on {first.data} (pid {first.process.pid})" in text
    text = refused(start(ports=first.ports))
    assert "is taken by" in text
    assert first.children() == children
    assert first.signal(signal.SIGTERM) == 0


def test_two_at_once_on_the_same_ports_do_not_take_one_for_the_other(start: Start) -> None:
    """Both may find the ports free: one claims them, and the other says who has."""
    ups = [start()]
    ups.append(start(ports=ups[0].ports))
    until("one that gave up", lambda: any(up.ended for up in ups))
    for up in ups:
        if up.ended:
            assert "is taken by" in up.errors, up.errors
            assert "(pid " in up.errors
            assert up.children() == {}
        else:
            up.ready()
            assert set(up.children()) == {"server", "agent"}


def test_a_data_directory_that_cannot_be_made(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write to the data directory" in refused(start(data=tmp_path / "file/data"))


def test_a_data_directory_on_a_read_only_file_system(start: Start, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    script = f'mount -t tmpfs -o ro none "{mount}" && exec "$@"'
    up = start(data=mount / "data", before=("unshare", "-m", "sh", "-c", script, "sh"))
    assert "Read-only file system" in refused(up)


def test_too_few_capabilities(start: Start) -> None:
    up = start(before=("setpriv", "--bounding-set=-bpf,-sys_admin", "--"))
    text = refused(up)
    assert "CAP_BPF" in text


def test_a_kernel_without_btf(start: Start) -> None:
    up = start(before=("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"))
    assert "BTF" in refused(up)


def test_without_cgroup_v2_tcp_goes_on_and_status_says_so(start: Start) -> None:
    script = 'awk \'$3 == "cgroup2" {print $2}\' /proc/mounts | xargs -r umount -l && exec "$@"'
    up = start(before=("unshare", "-m", "sh", "-c", script, "sh")).ready()
    (node,) = up.ask("status")["items"]  # type: ignore[misc]
    probes = {probe["name"]: probe for probe in node["probes"]}
    assert probes["tcp"]["attached"]
    assert not probes["flow"]["attached"]
    assert "cgroup" in probes["flow"]["detail"]
    assert node["state"] == "degraded"
    assert "flow OFF" in up.fathom("status").stdout
    until("a note on the screen", lambda: "probe flow is not attached" in up.output)
    assert up.signal(signal.SIGTERM) == 0


def test_under_sudo_the_server_and_the_data_are_the_users(tmp_path: Path, program: tuple[str, ...]) -> None:
    mine = tmp_path / "run"
    mine.mkdir()
    data = mine / "data"
    mine.chmod(0o777)
    up = Up(mine, data=data, program=program, env={"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)})
    try:
        up.ready()
        assert {facts(pid)["Uid"].split()[0] for pid in up.children().values()} == {str(NOBODY)}
        assert int(facts(up.child("server"))["CapPrm"], 16) == 0
        as_user = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *program, "status",
             "--server", f"http://127.0.0.1:{up.ports[0]}", "--token-file", str(data / "admin.token")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert as_user.returncode == 0, as_user.stderr
        assert up.signal(signal.SIGTERM) == 0, up.errors
        owners = {path.stat().st_uid for path in (data, *data.rglob("*"))}
        assert owners == {NOBODY}, "nothing that the user must write later belongs to root"
        assert (data / "admin.token").stat().st_mode & 0o777 == 0o600
    finally:
        up.close()
