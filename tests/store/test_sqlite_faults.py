"""Faults around the store: no room, no permission, a newer version, another process, a kill at any moment."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fathom.errors import StoreBusy, StoreError, StoreNewer, UsageError
from fathom.store.interface import EdgeQuery, Window
from fathom.store.opening import open_store
from fathom.store.sqlite import files

DAY = 1_700_006_400
TODAY = Window(DAY, DAY + 86_400)
ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(sys.path)}


def child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )


def total(store):
    return sum(row.sums.connections for row in store.edges(EdgeQuery(Window(0, 2 * DAY), limit=10_000)).items)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def mount(tmp_path, require):
    """Mounts a tmpfs of some size at a new folder; all are unmounted at the end."""
    mounted = []

    def make(options):
        if os.geteuid() != 0:
            require("root", "this test mounts a file system")
        folder = tmp_path / f"mount{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False)
        if done.returncode:
            require("root", "this machine lets nobody mount a tmpfs")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_files_are_for_their_owner_only(open_sqlite, world, folder):
    old = os.umask(0)
    try:
        store = open_sqlite()
        store.write(world.batch((world.edge(), DAY, {})))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        store.close()
    finally:
        os.umask(old)
    assert {name for name in modes if name.endswith("-wal")}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_written_is_told_at_once(mount, world):
    folder = mount("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    with pytest.raises(StoreError, match="cannot be written"):
        open_store(f"sqlite://{folder}", clock=world.clock)


@pytest.fixture
def bound_by_modes():
    """For root too: no capability is in effect, so that the modes of files hold (capabilities(7), capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    lowered = (ctypes.c_uint32 * 6)(*held)
    lowered[0] = lowered[3] = 0
    assert libc.capset(header, lowered) == 0
    yield
    assert libc.capset(header, held) == 0


@pytest.mark.usefixtures("bound_by_modes")
def test_a_directory_without_permission_is_told_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be made: Permission denied"):
        open_store(f"sqlite://{tmp_path}/store")
    with pytest.raises(StoreError, match="cannot be written"):
        open_store(f"sqlite://{tmp_path}")


def test_a_file_where_the_directory_should_be_is_told(tmp_path):
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreError, match="cannot be made"):
        open_store(f"sqlite://{tmp_path}/store")


def fill(store, world, edges, most):
    """Write until the disk is full; how many batches were taken, and the one that was not."""
    for taken in range(most):
        batch = world.batch(*((edge, DAY + taken, {"connections": 1, "bytes_sent": 2**40 + taken}) for edge in edges))
        try:
            assert store.write(batch)
        except StoreBusy:
            return taken, batch
    pytest.fail(f"{most} batches went into a full disk")


def test_a_full_disk_keeps_what_was_taken_and_takes_more_when_there_is_room(mount, world):
    folder = mount("size=3m")
    store = open_store(f"sqlite://{folder}/store", clock=world.clock)
    edges = [world.edge(f"w{i}") for i in range(300)]
    taken, refused = fill(store, world, edges, 1_000)
    assert taken
    assert not store.health().writable
    for _ in range(3):
        with pytest.raises(StoreBusy):
            store.write(refused)
    assert total(store) == taken * 300
    subprocess.run(["mount", "-o", "remount,size=40m", folder], check=True)
    assert store.write(refused)
    assert not store.write(refused)
    assert total(store) == (taken + 1) * 300
    assert store.health().writable
    store.close()
    again = open_store(f"sqlite://{folder}/store", clock=world.clock)
    assert total(again) == (taken + 1) * 300
    assert again.health().notes == ()
    again.close()


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fathom.errors import StoreBusy
from fathom.store.opening import open_store
import importlib.util
spec = importlib.util.spec_from_file_location("made", sys.argv[2] + "/conftest.py")
made = importlib.util.module_from_spec(spec); sys.modules["made"] = made; spec.loader.exec_module(made)
world = made.World()
store = open_store("sqlite://" + sys.argv[1], clock=world.clock)
edges = [world.edge(f"w{i}") for i in range(300)]
def make(n):
    return world.batch(*((e, made.DAY + n, {"connections": 1, "bytes_sent": 2**40}) for e in edges), sequence=n + 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
taken = 0
while True:
    try:
        store.write(make(taken))
    except StoreBusy:
        break
    taken += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(taken, store.write(make(taken)), store.write(make(taken)), flush=True)
store.close()
"""


def test_a_limit_on_file_sizes_is_as_a_full_disk(tmp_path, open_sqlite):
    running = child(LIMITED, tmp_path / "store", Path(__file__).parent)
    taken, first, second = running.communicate()[0].split()
    assert running.returncode == 0
    assert (int(taken) > 0, first, second) == (True, "True", "False")
    store = open_sqlite()
    assert total(store) == (int(taken) + 1) * 300
    store.close()


@pytest.mark.parametrize("name", ["meta.db", "facts-2023-11-15.db"])
def test_a_store_of_a_newer_version_is_left_untouched(open_sqlite, world, folder, name):
    store = open_sqlite()
    store.write(world.batch((world.edge(), DAY, {})))
    store.close()
    with sqlite3.connect(folder / name, isolation_level=None) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = contents(folder)
    for mode in ("rw", "ro"):
        with pytest.raises(StoreNewer, match="newer Fathom") as told:
            open_store(f"sqlite://{folder}?mode={mode}")
        assert told.value.do
    assert contents(folder) == before


def test_a_second_writer_is_told_who_the_first_is(open_sqlite, world):
    store = open_sqlite()
    with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        open_sqlite()
    assert store.write(world.batch((world.edge(), DAY, {})))
    store.close()
    open_sqlite().close()


READER = """
import sys
import tempfile
import threading
from fathom.store.interface import EdgeQuery, Window
from fathom.store.opening import open_store
store = open_store("sqlite://" + sys.argv[1], read_only=True)
seen = []
while not seen or seen[-1] < int(sys.argv[2]):
    sums = [row.sums for row in store.edges(EdgeQuery(Window(0, 2**32))).items]
    assert all(s.connections == s.failures for s in sums), sums
    seen.append(sum(s.connections for s in sums))
assert seen == sorted(seen)
print(len(seen), flush=True)
"""


def test_other_processes_may_read_while_one_writes(open_sqlite, world, folder):
    store, edge = open_sqlite(), world.edge()
    store.write(world.batch((edge, DAY, {"connections": 1, "failures": 1})))
    readers = [child(READER, folder, 200) for _ in range(2)]
    for number in range(1, 200):
        store.write(world.batch((edge, DAY + number % 50, {"connections": 1, "failures": 1})))
    for reader in readers:
        assert int(reader.communicate()[0]) > 0
        assert reader.returncode == 0
    store.close()


def test_a_store_can_be_read_without_a_writer_and_after_a_kill(open_sqlite, world, folder, tmp_path):
    store = open_sqlite()
    store.write(world.batch((world.edge(), DAY, {"connections": 3})))
    shutil.copytree(folder, tmp_path / "as-killed")  # with its logs, as a kill would leave it
    store.close()
    for place in (folder, tmp_path / "as-killed"):
        reader = open_store(f"sqlite://{place}?mode=ro")
        assert total(reader) == 3
        with pytest.raises(StoreError, match="reading only"):
            reader.write(world.batch())
        assert not reader.health().writable
        reader.close()


def test_a_closed_store_says_so(open_sqlite, world):
    store = open_sqlite()
    store.close()
    for use in (lambda: store.write(world.batch()), lambda: store.nodes(), lambda: store.roll(1)):
        with pytest.raises(StoreError, match="closed"):
            use()


WRITER = """
import importlib.util, sys
from fathom.store.opening import open_store
spec = importlib.util.spec_from_file_location("made", sys.argv[2] + "/conftest.py")
made = importlib.util.module_from_spec(spec); sys.modules["made"] = made; spec.loader.exec_module(made)
world = made.World(now=float(made.DAY + 86_400))
store = open_store("sqlite://" + sys.argv[1], clock=world.clock)
for number in range(int(sys.argv[3]), 100_000):
    store.write(made.numbered(world, number))
    print(number, flush=True)
    if number % 20 == 0:
        for hour in store.due(made.DAY + 86_400):
            store.roll(hour)
"""


def test_a_kill_at_any_moment_loses_nothing_acknowledged_and_counts_nothing_twice(open_sqlite, world, folder):
    from_file = sys.modules[type(world).__module__]
    world.now = float(DAY + 86_400)
    first, chance = 1, random.Random(5)
    for _ in range(10):
        running = child(WRITER, folder, Path(__file__).parent, first)
        running.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.4))
        running.kill()
        acknowledged = [first, *(int(line) for line in running.communicate()[0].split("\n") if line)][-1]
        store = open_sqlite()
        assert store.health().notes == ()
        found = total(store)
        for number in range(max(1, acknowledged - 3), acknowledged + 2):  # as an agent that saw no answer
            store.write(from_file.numbered(world, number))
        expected = sum(from_file.connections(number) for number in range(1, acknowledged + 2))
        assert found >= sum(from_file.connections(number) for number in range(1, acknowledged + 1))
        assert total(store) == expected
        assert store.nodes()[0].batches == acknowledged + 1
        assert sum(row.count for row in store.losses(Window(0, 2 * DAY))) == acknowledged + 1
        store.close()
        first = acknowledged + 2
    assert first > 50


def test_a_full_file_table_passes(open_sqlite, world):
    store = open_sqlite()
    store.write(world.batch((world.edge(), DAY, {"connections": 1})))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StoreBusy):
            store.nodes()
        with pytest.raises(StoreBusy):
            store.write(world.batch((world.edge(), DAY - 86_400, {"connections": 1}), sequence=2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.write(world.batch((world.edge(), DAY - 86_400, {"connections": 1}), sequence=2))
    assert total(store) == 2
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store",
        "mysql:///x",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/x",
        "sqlite:///x?mode=fast",
        "sqlite:///x?speed=1",
        "sqlite:///a%00b",
        "sqlite:///x?synchronous=off",
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url):
    with pytest.raises(UsageError):
        open_store(url)


def test_an_old_sqlite_is_told():
    files.check_engine((3, 38, 0))
    with pytest.raises(StoreError, match=r"SQLite is 3\.34\.1; the store needs 3\.38\.0"):
        files.check_engine((3, 34, 1))


def test_reading_a_store_that_is_not_there_is_told(tmp_path):
    for mode in ("ro", "recording"):
        with pytest.raises(StoreError, match="no store"):
            open_store(f"sqlite://{tmp_path}/none?mode={mode}")


def test_odd_directory_names_work(tmp_path, world):
    for name in ("with space", "per%cent", "quo'te", "que?ry", "ha#sh", "日本"):
        from urllib.parse import quote

        store = open_store(f"sqlite://{quote(str(tmp_path / name))}", clock=world.clock)
        store.write(world.batch((world.edge(), DAY, {"connections": 1})))
        for hour in store.due(DAY + 86_400):
            store.roll(hour)
        assert total(store) == 1
        store.close()
        assert (tmp_path / name / "meta.db").exists()


def test_days_may_be_dropped_while_others_read(open_sqlite, world):
    store, edge, stop, answers = open_sqlite(), world.edge(), threading.Event(), set()

    def read():
        while not stop.is_set():
            answers.add(total(store))

    store.write(world.batch((edge, DAY, {"connections": 1})))
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 30):
        world.now = DAY + number * 86_400 + 60
        store.write(world.batch((edge, DAY + number * 86_400, {"connections": 1})))
        store.drop_before(DAY + number * 86_400)
    stop.set()
    for reader in readers:
        reader.join()
    assert answers <= {0, 1, 2}
    assert [row.sums.connections for row in store.edges(EdgeQuery(Window(0, 2**32))).items] == [1]
    store.close()


@pytest.mark.slow
def test_a_million_edges_are_kept_and_one_more_is_counted(mount, world):
    url = f"sqlite://{mount('size=2g')}/store"
    store = open_store(url, clock=world.clock)
    for part in range(100):
        edges = [world.edge(f"w{part}", peer=f"10.{part}.{i >> 8}.{i & 255}") for i in range(10_000)]
        store.write(world.batch(*((edge, DAY, {"bytes_sent": 1}) for edge in edges)))
    more = world.batch((world.edge("one more"), DAY, {"bytes_sent": 5}))
    assert store.write(more)
    assert store.health().edges == 1_000_000
    assert [(row.reason, row.count, row.bytes_sent) for row in store.losses(TODAY)] == [("edges_full", 1, 5)]
    store.close()
    store = open_store(url, clock=world.clock)
    assert store.health().edges == 1_000_000
    found = store.edges(EdgeQuery(TODAY, peer="10.7.1.0/24", workload="unit/w7", limit=1_000)).items
    assert len(found) == 256
    assert sum(row.edges for row in store.workloads(EdgeQuery(TODAY, limit=1_000)).items) == 1_000_000
    assert store.write(world.batch((edges[0], DAY + 10, {"bytes_sent": 1}), edges=()))
    store.close()
