"""Where the cgroup v2 tree is mounted: on its own, or beside version 1 (hybrid)."""

from __future__ import annotations

import os
from pathlib import Path

from fathom.errors import FeatureMissing


def cgroup2_mount(mounts: Path = Path("/proc/self/mounts")) -> Path:
    """The mount point of cgroup2. Raises FeatureMissing if there is none."""
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1].replace("\\040", " "))
    raise FeatureMissing(
        "mounted cgroup v2 hierarchy",
        affects="the flow probe, and the names of units and containers",
        do="mount it: mount -t cgroup2 none /sys/fs/cgroup/unified (or boot with systemd.unified_cgroup_hierarchy=1)",
    )


def open_root(mounts: Path = Path("/proc/self/mounts")) -> int:
    """A descriptor of the root of cgroup2, which the caller closes. Raises FeatureMissing if there is none."""
    return os.open(cgroup2_mount(mounts), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
