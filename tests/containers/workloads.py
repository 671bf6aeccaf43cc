"""The workloads: how each is started, what it is asked while it runs, and how one knows that all of it worked.

The same work is done by a container that is recorded and by one under the profile made of the recording.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle import PATIENCE_S, Container, in_network_of

PORT = 8080
_SMALL, _LARGE = b"small\n", bytes(range(256)) * 4096
#: What initdb and the server of PostgreSQL run as, in the containers' /etc/passwd.
POSTGRES = 70


@dataclass(frozen=True)
class Workload:
    """``prepare`` fills the folder that the container has as ``/work``; ``drive`` works with the running container and
    fails if an answer is wrong; then it ends by itself or by ``ends`` with ``status``. ``environment`` as in OCI."""

    name: str
    arguments: Sequence[str]
    prepare: Callable[[Path], None]
    drive: Callable[[Container, Path], None]
    ends: signal.Signals | None = None
    status: int = 0
    user: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ask(container: Container, *requests: tuple[str, str, str]) -> list[list[object]]:
    """[status, SHA-256 of the body] of each request to the container's web server."""
    script = [sys.executable, str(Path(__file__).with_name("asks.py")), str(PORT), json.dumps(requests)]
    done = subprocess.run(
        [*in_network_of(container.pid()), *script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr + container.output()
    told: list[list[object]] = json.loads(done.stdout)
    return told


def listens(container: Container, port: int = PORT) -> None:
    """Wait until something in the container listens on the TCP port."""
    table = Path(f"/proc/{container.pid()}/net")

    def found() -> bool:
        if not table.exists():
            return False  # it has just ended: container.until tells it
        lines = [line.split() for name in ("tcp", "tcp6") for line in (table / name).read_text().splitlines()[1:]]
        return any(line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == port for line in lines)

    container.until(f"port {port} is open", found)


# ---- a shell

_SCRIPT = """
cd /work
for n in 3 1 2; do echo "line $n"; done | sort > sorted
grep -c line sorted
cat sorted | sed 's/line/row/' | tr 'a-z' 'A-Z' | tail -n 1
mkdir -p made/deep && cp sorted made/deep/copy && mv made/deep/copy made/moved && ln -s moved made/link
ls -l made | wc -l; find made -name 'mo*'; cmp sorted made/link && echo same
rm -r made; test -e made || echo gone
(sleep 0.2; echo late) & first=$!
trap 'echo told' USR1; kill -USR1 $$; wait $first
dd if=/dev/zero bs=1024 count=64 2> /dev/null | sha256sum | cut -c 1-8
printf '%s\\n' "$(date +%Y | wc -c)" "$(id -u)" "$(expr 6 \\* 7)"; uname > /dev/null; ps | grep -c sh
exit 7
"""
_PRINTED = f"3\nROW 3\n4\nmade/moved\nsame\ngone\ntold\nlate\n{_digest(bytes(65536))[:8]}\n5\n0\n42\n"


def _nothing(folder: Path) -> None:
    del folder


def _shell_drive(container: Container, folder: Path) -> None:
    container.wait()
    assert container.output().startswith(_PRINTED), container.output()
    assert (folder / "sorted").read_text() == "line 1\nline 2\nline 3\n"


# ---- web servers


def _pages(folder: Path) -> None:
    (folder / "www").mkdir()
    (folder / "www/small.txt").write_bytes(_SMALL)
    (folder / "www/large.bin").write_bytes(_LARGE)


_GET = [("GET", "/small.txt", ""), ("GET", "/large.bin", ""), ("HEAD", "/small.txt", ""), ("GET", "/absent", "")]
_GOT: list[list[object]] = [[200, _digest(_SMALL)], [200, _digest(_LARGE)], [200, _digest(b"")]]


def _serves_files(container: Container) -> None:
    told = ask(container, *_GET)
    assert told[:3] == _GOT
    assert told[3][0] == 404


def _python_drive(container: Container, folder: Path) -> None:
    del folder
    listens(container)
    _serves_files(container)
    assert ask(container, ("GET", "/", ""), ("POST", "/", "x"))[1][0] == 501
    assert '"GET /small.txt HTTP/1.1" 200' in container.output()


_NGINX = f"""
user www-data; worker_processes 2; error_log /work/error.log; pid /work/pid;
events {{ worker_connections 64; }}
http {{
  access_log /work/access.log; sendfile on; client_max_body_size 1k;
  client_body_temp_path /work/body; proxy_temp_path /work/proxy; fastcgi_temp_path /work/fastcgi;
  uwsgi_temp_path /work/uwsgi; scgi_temp_path /work/scgi;
  server {{ listen {PORT}; root /work/www; gzip on; gzip_types text/plain; location /list {{ autoindex on; }} }}
}}
"""


def _nginx_prepare(folder: Path) -> None:
    _pages(folder)
    (folder / "nginx.conf").write_text(_NGINX)


def _nginx_drive(container: Container, folder: Path) -> None:
    listens(container)
    _serves_files(container)
    assert [row[0] for row in ask(container, ("POST", "/small.txt", "x"), ("POST", "/", "x" * 2048))] == [405, 413]
    before = _children(container)
    container.tell(signal.SIGHUP)
    # Until the old ones leave they take connections, of which they close those that ask too late.
    container.until("the workers are others", lambda: len(_children(container) - before) == 2)
    container.until("the old workers leave", lambda: all(map(_leaves, _children(container) & before)))
    _serves_files(container)
    log = (folder / "access.log").read_text().splitlines()
    served = ["200", "200", "200", "404"]
    assert [line.split('"')[2].split()[0] for line in log] == [*served, "405", "413", *served]
    assert not [x for x in (folder / "error.log").read_text().splitlines() if "[alert]" in x or "not permitted" in x]


def _children(container: Container) -> set[str]:
    pid = container.pid()
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _leaves(pid: str) -> bool:
    """Whether an nginx worker says that it is shutting down, or is gone; strace, which may be there too, is none."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"worker process" not in title or b"shutting down" in title
    except (FileNotFoundError, ProcessLookupError):
        return True


def _go_drive(container: Container, folder: Path) -> None:
    del folder
    listens(container)
    _serves_files(container)
    wanted = _digest((_digest(bytes(1 << 20)) + "\n").encode())
    assert ask(container, ("GET", "/work", ""), ("GET", "/work", "")) == [[200, wanted]] * 2


# ---- PostgreSQL

_SQL = """
create table numbers(n int primary key, word text);
insert into numbers select n, md5(n::text) from generate_series(1, 50000) n;
create index on numbers(word);
set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
select count(*), sum(n) from numbers where word > '8';
set work_mem = '64kB';
select word from (select * from numbers order by word desc offset 1) sorted limit 1;
begin; delete from numbers where n > 40000; rollback; delete from numbers where n > 45000;
select count(*) from numbers; vacuum analyze numbers; checkpoint; select pg_sleep(0.1);
listen bell; notify bell; create extension if not exists plpgsql;
do $$ begin perform pg_switch_wal(); end $$;
select n from numbers where n = 4711 for update;
"""


def _postgres_drive(container: Container, folder: Path) -> None:
    del folder
    listens(container, 5432)
    words = sorted(hashlib.md5(str(n).encode()).hexdigest() for n in range(1, 50001))
    numbers = [n for n in range(1, 50001) if hashlib.md5(str(n).encode()).hexdigest() > "8"]
    told = _psql(container, _SQL)
    assert told.split("\n")[:4] == [f"{len(numbers)}|{sum(numbers)}", words[-2], "45000", ""], told
    assert "4711" in told
    assert _psql(container, "select count(*) from numbers") == "45000\n"
    _psql(container, "create table more as select n from generate_series(1, 5000) n")
    looked = "select autoanalyze_count from pg_stat_user_tables where relname = 'more'"
    container.until("it looks after its tables by itself", lambda: int(_psql(container, looked)))


def _psql(container: Container, text: str) -> str:
    """What psql, which is not a part of the workload, prints from outside of the container."""
    root = container.bundle.root
    programs = [path.relative_to(root) for path in root.glob("usr/lib/postgresql/*/bin/psql")]
    command = ["chroot", str(root), f"/{programs[0]}", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres"]
    done = subprocess.run(
        [*in_network_of(container.pid()), *command, "-v", "ON_ERROR_STOP=1", "postgres"],
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr + container.output()
    return done.stdout


def workloads(root: Path, binary: Path, database: Path) -> dict[str, Workload]:
    """All workloads by name. ``binary``: the compiled server.go; ``database``: what initdb made, owned by POSTGRES."""
    place = next(root.glob("usr/lib/postgresql/*/bin")).relative_to(root)
    settings = {
        "data_directory": "/work/data",
        "unix_socket_directories": "/tmp",
        "autovacuum_naptime": "1s",
        "max_connections": "20",
        "shared_buffers": "16MB",
        "checkpoint_timeout": "30s",
    }
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def with_binary(folder: Path) -> None:
        _pages(folder)
        shutil.copy2(binary, folder / "server")

    def with_database(folder: Path) -> None:
        subprocess.run(["cp", "-a", str(database), str(folder / "data")], check=True)

    found = [
        Workload("shell", ["/bin/sh", "-c", _SCRIPT], _nothing, _shell_drive, status=7),
        Workload(
            "python",
            ["/usr/bin/python3", "-u", "-m", "http.server", str(PORT), "--directory", "/work/www"],
            _pages,
            _python_drive,
            signal.SIGINT,
        ),
        Workload(
            "postgresql",
            [f"/{place}/postgres", "-D", "/work/data", *options],
            with_database,
            _postgres_drive,
            signal.SIGINT,
            user=POSTGRES,
        ),
        Workload(
            "nginx",
            ["/usr/sbin/nginx", "-e", "/work/error.log", "-c", "/work/nginx.conf", "-g", "daemon off;"],
            _nginx_prepare,
            _nginx_drive,
            signal.SIGQUIT,
        ),
        Workload("go", ["/work/server"], with_binary, _go_drive, signal.SIGTERM),
    ]
    return {item.name: item for item in found}
